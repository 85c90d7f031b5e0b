// What happened beside the lines: files that were truncated, brokers that were away, buffers that were full.

import { $, count, el } from "./dom.js";

let drawn = "";

const plural = (n, what) => `${count(n)} ${what}${n === 1 ? "" : "s"}`;

function lost({ lost_lines: lines, lost_bytes: bytes }) {
  const parts = [lines && plural(lines, "line"), bytes && plural(bytes, "byte")].filter(Boolean);
  return parts.length ? [el("b", { textContent: `${parts.join(", ")} lost` })] : [];
}

/** Show a snapshot. */
export function showNotices({ run, notices }) {
  const now = JSON.stringify([run, notices]);
  if (now === drawn) return;
  drawn = now;
  $("notices").hidden = notices.length === 0;
  $("told").replaceChildren(
    ...notices.map((notice) =>
      el(
        "li",
        { "data-kind": notice.kind },
        el("time", { className: "faint", textContent: new Date(notice.time * 1000).toLocaleTimeString() }),
        el("code", { textContent: notice.kind }),
        el("span", { className: "message", textContent: notice.message }),
        ...lost(notice),
        el("span", { className: "faint", textContent: notice.count > 1 ? `${count(notice.count)} times` : "" }),
      ),
    ),
  );
}
