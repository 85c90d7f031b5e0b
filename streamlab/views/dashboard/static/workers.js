// The workers of a cluster, and how far they are, about. Without a cluster there is nothing to see.

import { $, el, say } from "./dom.js";

let drawn = "";

function card({ name, here, lines, share, work, memory, errors, told }) {
  const bar = el("i");
  bar.style.width = `${share * 100}%`;
  const [number, what] = lines.split(" ");
  return el(
    "li",
    { className: "worker", title: told, "data-worker": name, "data-here": String(here) },
    el(
      "span",
      { className: "head" },
      el("span", { className: "title", textContent: name }),
      here ? "" : el("span", { className: "gone", textContent: "gone" }),
      el("span", { className: "work", textContent: work }),
    ),
    el(
      "span",
      { className: "io" },
      el("span", {}, el("b", { textContent: number }), ` ${what}`),
      memory ? el("span", { textContent: memory }) : "",
      errors ? el("span", { className: "bad", textContent: errors }) : "",
    ),
    el("span", { className: "bar", "aria-hidden": "true" }, bar),
  );
}

/** Show a snapshot. */
export function showWorkers({ run, workers: { cards, counted, estimated } }) {
  $("estimate").hidden = estimated === "";
  say($("estimate"), estimated);
  const now = JSON.stringify([run, cards]);
  if (now === drawn) return;
  drawn = now;
  $("workers").hidden = cards.length === 0;
  say($("workers-count"), cards.length ? `${counted}: lines committed, and share of the work.` : "");
  $("crew").replaceChildren(...cards.map(card));
}
