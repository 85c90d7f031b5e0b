// Charts over time, and the flow of lines. Figures come from the server whole, and then grow with each snapshot.

import { $, ask, el, seldom } from "./dom.js";

const CHARTS = ["throughput", "latency", "problems"];
const POINTS = 600;
const NARROW = 600;
const COLUMN = 64; // pixels that a column of the flow needs at least
const CONFIG = { displayModeBar: false, responsive: true, doubleClick: "reset" };

let ready = null; // plotly.js, once it is there
let of = null; // what is shown: run, focus
let last = 0; // time of the last moment that is shown
let troubled = "";
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

/** Who has had errors or retries: they have lines in a chart that others do not. */
function troubles(stats) {
  const rows = Object.entries(stats.processors);
  return JSON.stringify(rows.map(([name, row]) => [name, row.errors > 0, row.retries > 0]));
}

/** Show a snapshot: draw anew when the run, the focus or the lines of a chart are others, else add what is new. */
export async function showCharts(event, focus) {
  await plotly();
  const now = JSON.stringify([event.run, focus]);
  const ticks = event.history.ticks;
  // one moment is drawn as a point, several as a line
  const began = ticks.length > 0 && (last === 0 || $("throughput").data?.[0]?.x.length === 1);
  if (now !== of || began || troubles(event.stats) !== troubled) {
    of = now;
    troubled = troubles(event.stats);
    await drawAll(focus);
  } else {
    grow(event.history);
  }
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
