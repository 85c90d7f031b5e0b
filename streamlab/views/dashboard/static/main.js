// The page: a snapshot comes, and each part shows what is its own of it.

import { resizeCharts, showCharts } from "./charts.js";
import { $, Missing, clock, count, el, rate, say, seldom } from "./dom.js";
import { showErrors } from "./errors.js";
import { showGraph } from "./graph.js";
import { missing, showLedger } from "./ledger.js";
import { showNotices } from "./notices.js";
import { follow, hasEnded } from "./stream.js";
import { showTraces } from "./traces.js";
import { showWorkers } from "./workers.js";

const WINDOW = 2; // seconds that a rate is taken over

let event = null;
let link = "wait";
let focus = null;
let past = []; // snapshots of the last seconds, to take rates from

function receive(snapshot) {
  const other = event === null || event.run !== snapshot.run;
  if (other) {
    past = [];
    if (event !== null) choose(null);
  }
  const changed = other || snapshot.stats.lines.received !== event.stats.lines.received || hasEnded(snapshot);
  event = snapshot;
  past.push(snapshot);
  while (past.length > 2 && snapshot.stats.uptime_s - past[1].stats.uptime_s > WINDOW) past.shift();
  show(changed);
}

/** Values per second of an edge over the last seconds; null when that is not known yet. */
function speed(edge) {
  const before = past[0];
  const seconds = event.stats.uptime_s - before.stats.uptime_s;
  if (seconds <= 0) return null;
  const then = before.edges.find((old) => old.from === edge.from && old.to === edge.to);
  return Math.max(edge.count - (then?.count ?? 0), 0) / seconds;
}

function show(changed) {
  showHead();
  showLedger(event.stats);
  showWorkers(event);
  showGraph(event, speed, focus, choose).catch(lost);
  showCharts(event, focus).catch(lost);
  showTraces(event, focus, changed);
  showNotices(event);
  showErrors(event, focus);
}

// A question that is not answered, or that another run has no answer to: the stream, which asks again and again, tells of it.
function lost(error) {
  if (error instanceof Missing) return;
  if (!(error instanceof TypeError && error.message.includes("fetch"))) console.warn(error);
}

function showHead() {
  const { pipeline, state, uptime_s: uptime, lines } = event.stats;
  say($("name"), pipeline);
  say($("state"), state);
  const ended = hasEnded(event);
  $("state").dataset.state = link === "gone" && !ended ? "gone" : state;
  say($("uptime"), clock(uptime));
  say($("speed"), rate(ended ? lines.received / Math.max(uptime, 1e-9) : speed(entry()) ?? 0));
  document.title = `${link === "gone" ? "gone" : state} · ${pipeline} · streamlab`;
  showRuns();
  showNews();
}

const entry = () => event.edges.find((edge) => edge.from === null);

function showNews() {
  const { state, lines, uptime_s: uptime } = event.stats;
  const ended = hasEnded(event);
  const told = `${count(lines.received)} lines in ${clock(uptime)}`;
  const news = {
    starting: ["wait", "Starting."],
    running: ["running", "Running: lines are taken as they come."],
    paused: ["wait", event.reason ? `Waiting: ${event.reason}.` : "Paused: no lines are taken until it is resumed."],
    draining: ["wait", "Ending: lines that were taken are brought to their end."],
    finished: ["finished", `Finished: ${told}.`],
    stopped: ["wait", `Stopped: ${told}.`],
    failed: ["failed", `Failed after ${told}. ${event.reason}`],
  }[state];
  const off = missing(lines) !== 0 ? " The ledger does not balance: please report this." : "";
  const gone = link === "gone" ? "The server is gone; this is how it was when last seen. " : "";
  $("news").dataset.news = gone && !ended ? "gone" : news[0];
  say($("news"), gone + news[1] + off);
}

function showRuns() {
  $("runs").hidden = event.runs.length < 2;
  const options = JSON.stringify(event.runs);
  if ($("run-choice").dataset.options === options) return;
  $("run-choice").dataset.options = options;
  $("run-choice").replaceChildren(
    ...[...event.runs].reverse().map(({ number, pipeline, state }) =>
      el("option", { value: number, selected: number === event.number, textContent: `${number} · ${pipeline} · ${state}` }),
    ),
  );
}

/** Look at one processor alone; at all with null, or with the one that is looked at. */
function choose(name) {
  focus = name === focus ? null : name;
  $("focus").hidden = focus === null;
  $("focus").replaceChildren(focus ?? "", el("span", { textContent: " ×", "aria-label": "show all processors" }));
  if (event) show(false);
}

const THEMES = ["auto", "light", "dark"];

function theme(name) {
  document.documentElement.dataset.theme = name;
  try {
    localStorage.setItem("streamlab-theme", name);
  } catch {
    // a browser that keeps nothing: the theme lasts as long as the page
  }
}

function nextTheme() {
  theme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length]);
}

function keptTheme() {
  try {
    return localStorage.getItem("streamlab-theme") ?? "auto";
  } catch {
    return "auto";
  }
}

function press(key) {
  if (key.ctrlKey || key.metaKey || key.altKey) return;
  const writing = key.target.matches("input, select");
  if (key.key === "Escape") {
    if (writing) key.target.blur();
    choose(null);
  } else if (key.key === "/" && !writing) {
    key.preventDefault();
    $("text").focus();
  } else if (key.key === "t" && !writing) nextTheme();
}

theme(keptTheme());
document.addEventListener("keydown", press);
$("theme").addEventListener("click", nextTheme);
$("focus").addEventListener("click", () => choose(null));
$("run-choice").addEventListener("change", ({ target }) => {
  const root = /\/runs\/\d+\/$/.test(location.pathname) ? "../../" : "";
  location.assign(`${root}runs/${target.value}/`);
});
addEventListener("resize", seldom(() => {
  if (event) showGraph(event, speed, focus, choose).catch(lost);
  resizeCharts();
}, 200));

follow(receive, (now, seconds) => {
  link = now;
  $("link").dataset.link = now;
  say($("link").lastElementChild, now === "live" ? "live" : `trying again in ${seconds} s`);
  if (event) showHead();
  else if (now === "gone") say($("news"), "The server does not answer.");
});
