// The pipeline, drawn: places come from the server, numbers from each snapshot.

import { $, ask, compact, count, el, micros, percent, rate, say, svg } from "./dom.js";
import { hasEnded } from "./stream.js";

const NARROW = 720;
const SMALLEST = 0.62;
const MOVING = 60; // edges that may be animated; more would keep the browser busy

const WHERE = { one: "in one place", "by key": "by key" }; // on a cluster it matters

const key = (from, to) => JSON.stringify([from, to]);

let nodes = new Map();
let edges = new Map();
let drawn = null; // what was drawn: of which run, in which direction
let drawing = null;
let size = null;
let spots = new Map(); // the processors on the map

const isNarrow = () => $("graph").clientWidth < NARROW;

/** Draw the graph anew; `choose` is called with the name of a processor that was chosen. */
async function draw(run, down, choose) {
  const plan = await ask("drawing", { down });
  nodes = new Map();
  edges = new Map();
  const lines = svg("svg", { width: plan.width, height: plan.height, "aria-hidden": "true" });
  lines.append(arrow());
  const plane = el("div", { className: "plane" }, lines);
  for (const edge of plan.edges) addEdge(edge, lines, plane);
  for (const place of plan.nodes) plane.append(place.name === null ? end(place) : node(place, choose));
  plane.style.width = `${plan.width}px`;
  plane.style.height = `${plan.height}px`;
  size = plan;
  drawn = { run, down };
  $("graph").replaceChildren(el("div", { className: "frame" }, plane));
  drawMap(plan);
  fit();
}

/** Draw the whole graph small, for one that must be scrolled: where failures are, and which part is seen. */
function drawMap(plan) {
  const view = svg("svg", { viewBox: `0 0 ${plan.width} ${plan.height}`, preserveAspectRatio: "none", class: "map" });
  const middle = ({ x, y, width, height }) => [x + width / 2, y + height / 2];
  const source = plan.nodes.find((place) => place.end === "source");
  const output = plan.nodes.find((place) => place.end === "output");
  const at = (name, end) => middle(plan.nodes.find((place) => place.name !== null && place.name === name) ?? end);
  for (const edge of plan.edges) {
    const [[x1, y1], [x2, y2]] = [at(edge.from, source), at(edge.to, output)];
    view.append(svg("line", { x1, y1, x2, y2 }));
  }
  spots = new Map();
  for (const { name, x, y, width, height, colour } of plan.nodes.filter((place) => place.name !== null)) {
    const spot = svg("rect", { x, y, width, height, rx: 12, fill: colour });
    spots.set(name, spot);
    view.append(spot);
  }
  view.append(svg("rect", { class: "window" }));
  const go = (event) => {
    if (event.type === "pointermove" && event.buttons === 0) return;
    const room = $("graph");
    const box = view.getBoundingClientRect();
    room.scrollLeft = ((event.clientX - box.left) / box.width) * room.scrollWidth - room.clientWidth / 2;
    room.scrollTop = ((event.clientY - box.top) / box.height) * room.scrollHeight - room.clientHeight / 2;
  };
  view.addEventListener("pointerdown", go);
  view.addEventListener("pointermove", go);
  $("map").replaceChildren(view);
  $("graph").onscroll = showWindow;
}

function showWindow() {
  const room = $("graph");
  const seen = $("map").querySelector(".window");
  const [across, along] = [size.width / room.scrollWidth, size.height / room.scrollHeight];
  seen.setAttribute("x", room.scrollLeft * across);
  seen.setAttribute("y", room.scrollTop * along);
  seen.setAttribute("width", Math.min(room.clientWidth * across, size.width));
  seen.setAttribute("height", Math.min(room.clientHeight * along, size.height));
}

function arrow() {
  const head = svg("path", { d: "M0 0 L7 3.5 L0 7 z" });
  const marker = { id: "arrow", viewBox: "0 0 7 7", refX: 6, refY: 3.5, markerWidth: 7, markerHeight: 7 };
  return svg("defs", {}, svg("marker", { ...marker, orient: "auto", markerUnits: "userSpaceOnUse" }, head));
}

function addEdge(edge, lines, plane) {
  const line = svg("path", { d: edge.path, class: edge.back ? "edge back" : "edge", "marker-end": "url(#arrow)" });
  const flow = svg("path", { d: edge.path, class: "pulse" });
  const label = el("span", { className: "rate", "data-edge": key(edge.from, edge.to) });
  label.style.left = `${edge.x}px`;
  label.style.top = `${edge.y}px`;
  lines.append(line, flow);
  plane.append(label);
  edges.set(key(edge.from, edge.to), { line, flow, label });
}

function put(node, place) {
  node.style.left = `${place.x}px`;
  node.style.top = `${place.y}px`;
  node.style.width = `${place.width}px`;
  node.style.height = `${place.height}px`;
  return node;
}

const end = (place) => put(el("span", { className: "end", textContent: place.end === "source" ? "lines" : "output" }), place);

function node(place, choose) {
  const parts = {
    share: el("span", { className: "share" }),
    received: el("b", { "data-field": "received" }),
    emitted: el("b", { "data-field": "emitted" }),
    time: el("span", { "data-field": "time" }),
    errors: el("span", { className: "failed", "data-field": "errors" }),
    bar: el("i"),
  };
  const button = el(
    "button",
    { type: "button", className: "node", "data-node": place.name, "aria-pressed": "false", onclick: () => choose(place.name) },
    el("span", { className: "head" }, el("span", { className: "title", textContent: place.name }), parts.share),
    el("span", { className: "io" }, parts.received, " in · ", parts.emitted, " out"),
    el("span", { className: "io" }, parts.time),
    parts.errors,
    el("span", { className: "bar" }, parts.bar),
  );
  button.style.setProperty("--own", place.colour);
  nodes.set(place.name, { button, ...parts });
  return put(button, place);
}

/** Let the whole graph be seen, unless that would make it too small to read: then it scrolls. */
function fit() {
  if (!size) return;
  const room = $("graph").clientWidth - 32;
  const scale = Math.max(Math.min(room / size.width, 1), SMALLEST);
  const [frame] = $("graph").children;
  frame.style.width = `${size.width * scale}px`;
  frame.style.height = `${size.height * scale}px`;
  frame.firstChild.style.transform = `scale(${scale})`;
  $("map").hidden = size.width * scale <= room + 1;
  showWindow();
}

/** Show a snapshot; `speed` gives the values per second of an edge, or null when there is nothing to compare with. */
export async function showGraph(event, speed, focus, choose) {
  const down = isNarrow();
  const known = event.edges.every((edge) => edges.has(key(edge.from, edge.to)));
  if (!drawn || drawn.run !== event.run || drawn.down !== down || !known) {
    drawing ??= draw(event.run, down, choose).finally(() => (drawing = null));
    await drawing;
  }
  fit();
  showNodes(event, focus);
  showEdges(event, speed);
}

function showNodes(event, focus) {
  const metrics = event.stats.processors;
  const whole = Object.values(metrics).reduce((sum, row) => sum + row.time_s, 0);
  for (const [name, node] of nodes) {
    const row = metrics[name];
    if (!row) continue;
    const share = whole ? row.time_s / whole : 0;
    say(node.received, compact(row.received));
    say(node.emitted, compact(row.emitted));
    say(node.time, row.received ? `${micros(row.mean_us)} · p99 ${micros(row.p99_us)}` : "idle");
    say(node.errors, row.errors ? `${compact(row.errors)} failed` : "");
    say(node.share, percent(share));
    spots.get(name).dataset.failed = String(row.errors > 0);
    node.bar.style.width = `${share * 100}%`;
    node.button.ariaPressed = String(name === focus);
    node.button.dataset.faded = String(focus !== null && name !== focus);
    node.button.title = told(name, row, share, event.timed[name], WHERE[event.kept[name]]);
    for (const field of ["received", "emitted", "errors"]) node[field].dataset.value = row[field];
  }
}

function told(name, row, share, timed, where) {
  const counts = ["received", "forked", "emitted", "filtered", "absorbed", "dead_lettered", "in_flight", "errors", "retries"];
  const said = counts.filter((field) => row[field]).map((field) => `${field.replace("_", " ")} ${count(row[field])}`);
  return [
    where ? `${name}, keeps state ${where}` : name,
    said.join(", ") || "nothing yet",
    `${row.time_s.toFixed(3)} s, ${percent(share)} of the run's time`,
    `p50 ${micros(row.p50_us)}, p95 ${micros(row.p95_us)}, p99 ${micros(row.p99_us)} of ${count(timed)} timed`,
  ].join("\n");
}

function showEdges(event, speed) {
  const ended = hasEnded(event);
  const rates = event.edges.map((edge) => (ended ? edge.count : speed(edge)));
  const most = Math.max(...rates.map((r) => r ?? 0), 1e-9);
  event.edges.forEach((edge, at) => {
    const { line, flow, label } = edges.get(key(edge.from, edge.to)) ?? {};
    if (!line) return;
    const now = rates[at];
    const moving = !ended && now > 0 && event.edges.length <= MOVING;
    line.style.strokeWidth = 1.5 + 4.5 * Math.sqrt((now ?? 0) / most);
    line.dataset.idle = String(edge.count === 0);
    flow.style.display = moving ? "" : "none";
    flow.style.animationDuration = `${2.4 - 1.6 * Math.sqrt((now ?? 0) / most)}s`;
    say(label, edge.count === 0 ? "" : ended || now === null ? compact(edge.count) : `${rate(now)}/s`);
    label.title = `${count(edge.count)} in all`;
    label.dataset.count = edge.count;
  });
}
