// The latest lines, with a search; and one line's story.

import { $, Missing, ask, count, el, micros, seldom, shown } from "./dom.js";

const LATEST = 100;

let focus = null;
let run = null;
let chosen = null; // number of the line whose story is shown
let kept = true;
let asked = 0;

const FATES = new Map([["dead_letter", "dead letter"], ["in_flight", "in flight"]]);

const fateName = (fate) => FATES.get(fate) ?? fate;
const fateChip = (fate) => el("span", { className: "fate", "data-fate": fate, textContent: fateName(fate) });

async function list() {
  const mine = ++asked;
  const parameters = { limit: LATEST, search: $("text").value.trim(), fate: $("fate").value, processor: focus };
  const { traces } = await ask("trace", parameters);
  if (mine !== asked) return; // another search has begun since
  const searched = parameters.search || parameters.fate || focus;
  const none = searched ? "No kept line matches." : kept ? "No lines yet." : "This run keeps no traces: run it with trace=True (--trace).";
  $("rows").replaceChildren(...(traces.length ? traces.map(row) : [el("p", { className: "faint", textContent: none })]));
}

const relist = seldom(() => list().catch(() => {}), 250);
const follow = seldom(() => list().catch(() => {}), 1000);

function row(trace) {
  const button = el(
    "button",
    { type: "button", role: "option", className: "row", "data-line": trace.line_no, onclick: () => open(trace.line_no) },
    el("span", { className: "number", textContent: count(trace.line_no) }),
    fateChip(trace.fate),
    el("code", { className: "line", textContent: trace.line }),
    el("span", { className: "way", textContent: trace.path.join(" › ") }),
    el("span", { className: "time", textContent: trace.duration_us === null ? "" : micros(trace.duration_us) }),
  );
  button.ariaSelected = String(trace.line_no === chosen);
  return button;
}

/** Show one line's story. */
export async function open(number) {
  chosen = number;
  for (const other of $("rows").querySelectorAll(".row")) other.ariaSelected = String(other.dataset.line === String(number));
  try {
    const story = await ask(`trace/${number}`);
    if (chosen !== number) return;
    $("story").replaceChildren(...told(story));
  } catch (error) {
    if (chosen !== number) return;
    const why = error instanceof Missing ? error.message : "The server does not answer.";
    $("story").replaceChildren(el("p", { className: "faint", textContent: why }));
  }
}

function told(story) {
  const parts = [
    el("h3", {}, "Line ", el("b", { textContent: count(story.line_no) })),
    el("pre", { className: "text", textContent: story.line }),
    el("ul", { className: "branches" }, ...story.branches.map(branch)),
  ];
  if (story.hops.length) parts.push(el("ol", { className: "hops" }, ...story.hops.map(hop)));
  if (story.note) parts.push(el("p", { className: "faint", textContent: story.note }));
  return parts;
}

function branch(row) {
  const way = el("span", { className: "way", textContent: row.path.join(" › ") || "before the pipeline" });
  const item = el("li", {}, fateChip(row.fate), way);
  if (row.duration_us !== null) item.append(el("span", { className: "time", textContent: micros(row.duration_us) }));
  if (row.fate === "emitted") item.append(el("pre", { className: "text", textContent: shown(row.output) }));
  return item;
}

function hop(visit) {
  const outs = visit.outputs.map((out) =>
    el("div", { className: "out" }, el("span", { className: "to", textContent: `→ ${fateName(out.to)}` }), out.value === null ? "" : el("pre", { textContent: shown(out.value) })),
  );
  const attempts = visit.attempts > 1 ? `${visit.attempts} attempts` : "";
  return el(
    "li",
    { className: visit.error ? "hop failed" : "hop", "data-hop": visit.processor },
    el("header", {}, el("b", { textContent: visit.processor }), el("span", { className: "time", textContent: [micros(visit.duration_us), attempts].filter(Boolean).join(" · ") })),
    el("pre", { className: "in", textContent: shown(visit.value) }),
    ...outs,
    visit.error ? el("p", { className: "bad", textContent: visit.error }) : "",
  );
}

/** Another run: its lines have the same numbers. */
function forget() {
  chosen = null;
  $("story").replaceChildren(el("p", { className: "faint", textContent: "Choose a line to see what each processor made of it." }));
}

/** Show a snapshot: the list is asked for again when lines have come, unless somebody reads it. */
export function showTraces(event, only, changed) {
  if (run !== null && run !== event.run) forget();
  run = event.run;
  const other = only !== focus;
  focus = only;
  kept = event.traced;
  if (other) relist();
  else if (changed && $("follow").checked && !$("rows").matches(":focus-within")) follow();
}

$("search").addEventListener("submit", (event) => event.preventDefault());
$("text").addEventListener("input", relist);
$("fate").addEventListener("change", relist);
$("follow").addEventListener("change", () => $("follow").checked && relist());
$("rows").addEventListener("keydown", (event) => {
  const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
  const next = step && document.activeElement[step];
  if (!next) return;
  event.preventDefault();
  next.focus();
  next.click();
});
