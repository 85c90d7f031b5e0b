// What failed, by processor and kind: counts are exact, the last failures of a group are asked for when it is opened.

import { $, ask, count, el, say, seldom } from "./dom.js";
import { open } from "./traces.js";

const LAST = 20;

const groups = new Map();
let drawn = null;

function grouped(failures) {
  const sums = new Map();
  for (const { processor, kind, fate, count: n } of failures) {
    const key = JSON.stringify([processor, kind]);
    const group = sums.get(key) ?? { processor, kind, total: 0, fates: {} };
    group.total += n;
    group.fates[fate] = (group.fates[fate] ?? 0) + n;
    sums.set(key, group);
  }
  return [...sums.entries()].sort(([, a], [, b]) => b.total - a.total);
}

const OUTCOME = { dead_letter: "dead letters", filtered: "skipped", in_flight: "handled", absorbed: "absorbed", emitted: "emitted" };

/** Show a snapshot. */
export function showErrors(event, focus) {
  if (drawn !== event.run) {
    drawn = event.run;
    groups.clear();
    $("groups").replaceChildren();
  }
  const now = grouped(event.failures);
  const total = now.reduce((sum, [, group]) => sum + group.total, 0);
  $("error-count").hidden = total === 0;
  say($("error-count"), count(total));
  for (const [key, group] of now) {
    const view = groups.get(key) ?? add(key, group);
    const changed = view.total !== group.total;
    view.total = group.total;
    say(view.count, count(group.total));
    const fates = Object.entries(group.fates).map(([fate, n]) => `${count(n)} ${OUTCOME[fate]}`);
    say(view.fates, fates.join(", "));
    view.details.hidden = focus !== null && group.processor !== focus;
    if (changed && view.details.open) view.renew();
  }
  const none = [...groups.values()].every((view) => view.details.hidden);
  $("groups").dataset.none = String(none);
}

function add(key, { processor, kind }) {
  const view = { total: 0, count: el("b"), fates: el("span", { className: "faint" }), list: el("div", { className: "failures" }) };
  view.details = el(
    "details",
    { className: "group", "data-group": key },
    el("summary", {}, view.count, el("span", { className: "title", textContent: processor ?? "before the pipeline" }), el("code", { textContent: kind }), view.fates),
    view.list,
  );
  view.renew = seldom(() => renew(view, processor, kind).catch(() => {}), 1000);
  view.details.addEventListener("toggle", () => view.details.open && view.renew());
  groups.set(key, view);
  $("groups").append(view.details);
  return view;
}

async function renew(view, processor, kind) {
  const { errors } = await ask("errors", { limit: LAST, processor, kind });
  const opened = new Set([...view.list.querySelectorAll("details[open]")].map((details) => details.dataset.error));
  view.list.replaceChildren(...errors.map((error) => failure(error, opened)));
}

function failure(error, opened) {
  const id = `${error.line_no} ${error.time}`;
  const line = error.line_no === null ? el("span", { textContent: "at end of input" }) : lineButton(error.line_no);
  const parts = [
    el("header", {}, line, el("time", { textContent: new Date(error.time * 1000).toLocaleTimeString() }), error.attempts > 1 ? el("span", { textContent: `${error.attempts} attempts` }) : ""),
    el("p", { className: "bad" }, el("b", { textContent: error.error }), `: ${error.message}`),
    el("pre", { className: "text", textContent: error.line }),
  ];
  if (error.traceback) {
    const trace = el("details", { "data-error": id, open: opened.has(id) }, el("summary", { textContent: "traceback" }), el("pre", { className: "traceback", textContent: error.traceback }));
    parts.push(trace);
  }
  return el("article", { className: "failure" }, ...parts);
}

function lineButton(number) {
  return el("button", {
    type: "button",
    className: "chip",
    textContent: `line ${count(number)}`,
    onclick: () => {
      $("traces").scrollIntoView();
      open(number);
    },
  });
}
