// Charts over time, and the flow of lines. Figures come from the server whole, and then grow with each snapshot.

import { $, ask, el, seldom } from "./dom.js";

const CHARTS = ["throughput", "latency", "problems"];
const POINTS = 600;
const NARROW = 600;
const COLUMN = 64; // pixels that a column of the flow needs at least
const CONFIG = { displayModeBar: false, responsive: true, doubleClick: "reset" };

let ready = null; // plotly.js, once it is there
let busy = null; // the drawing that goes on
let waiting = []; // snapshots that came meanwhile
let drawn = null; // what is shown: run, focus, and which lines
let last = 0; // time of the last moment that is shown
let flow = null;
let layouts = {};

function load(name) {
  return new Promise((resolve, reject) => {
    document.head.append(el("script", { src: name, onload: resolve, onerror: () => reject(new Error(name)) }));
  });
}

function plotly() {
  ready ??= load("plotly-policy.js")
    .then(() => load("plotly.js"))
    .catch(() => {
      for (const id of [...CHARTS, "sankey"]) $(id).textContent = "Charts need plotly: pip install plotly";
      return new Promise(() => {});
    });
  return ready;
}

/** What charts are of; who has had errors or retries has lines in them that others do not. */
function content(event, focus) {
  const rows = Object.entries(event.stats.processors);
  return JSON.stringify([event.run, focus, rows.map(([name, row]) => [name, row.errors > 0, row.retries > 0])]);
}

/** Show a snapshot; what comes while the charts are drawn is shown thereafter. */
export function showCharts(event, focus) {
  waiting.push([event, focus]);
  busy ??= catchUp().finally(() => (busy = null));
  return busy;
}

async function catchUp() {
  await plotly();
  while (waiting.length > 0) {
    const taken = waiting;
    waiting = [];
    await showAll(taken);
  }
}

/** Show snapshots: draw anew when the run, the focus or the lines of a chart are others, else add what is new. */
async function showAll(snapshots) {
  const [event, focus] = snapshots.at(-1);
  const now = content(event, focus);
  // one moment is drawn as a point, several as a line
  const young = last === 0 || $("throughput").data?.[0]?.x.length === 1;
  if (now !== drawn || (young && snapshots.some(([{ history }]) => history.ticks.length > 0))) {
    await drawAll(focus);
    drawn = now;
  }
  for (const [{ run, history }] of snapshots) if (run === event.run) grow(history);
  flow = event.flow;
  showFlow();
}

async function drawAll(focus) {
  const figures = await ask("figures", { focus });
  last = figures.until;
  for (const id of CHARTS) {
    const { data, layout } = figures[id];
    $(id).dataset.empty = String(data.length === 0);
    await Plotly.react($(id), data, layout, CONFIG);
  }
  layouts = { flow: figures.flow.layout };
}

function grow({ columns, processors, ticks }) {
  const fresh = ticks.filter(([time]) => time > last);
  if (fresh.length === 0) return;
  for (const id of CHARTS) {
    const traces = $(id).data ?? [];
    if (traces.length === 0) continue;
    const x = traces.map(() => fresh.map(([, text]) => text));
    const y = traces.map((trace) => values(trace, fresh, columns, processors));
    Plotly.extendTraces($(id), { x, y }, [...traces.keys()], POINTS);
  }
  last = fresh.at(-1)[0];
}

function values(trace, fresh, columns, processors) {
  const { processor, column, change } = trace.meta;
  const [row, at] = [processors.indexOf(processor), columns.indexOf(column)];
  return fresh.map(([, , rows]) => {
    const value = rows[row]?.[at] ?? null;
    if (!change) return value;
    const more = value - trace.meta.last;
    trace.meta.last = value;
    return more;
  });
}

const showFlow = seldom(() => {
  if (!flow || flow.link.value.length === 0) return;
  const narrow = $("sankey").parentNode.clientWidth < NARROW; // then lines flow down, and what is small needs room for its label
  $("sankey").style.minWidth = narrow ? "" : `${flow.meta.columns * COLUMN}px`;
  const trace = narrow ? { ...flow, orientation: "v", node: { ...flow.node, pad: 46 }, textfont: { ...flow.textfont, size: 10 } } : flow;
  Plotly.react($("sankey"), [trace], layouts.flow, CONFIG);
}, 2000);

/** Forget the shape of charts that have been hidden or turned. */
export function resizeCharts() {
  if (!window.Plotly) return;
  for (const id of [...CHARTS, "sankey"]) if ($(id).data) Plotly.Plots.resize($(id));
}
