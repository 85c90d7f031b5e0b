// Elements and numbers for people. All text goes in as text: what lines, names and errors say is never markup.

export const $ = (id) => document.getElementById(id);

/** Make an element: `props` are properties, `data-*` and `aria-*` attributes; children are elements or text. */
export function el(tag, props = {}, ...children) {
  return filled(document.createElement(tag), props, children);
}

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function filled(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (name.includes("-")) node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children);
  return node;
}

/** Set text only where it differs: the browser then has nothing to lay out. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const whole = new Intl.NumberFormat("en-US");
const short = new Intl.NumberFormat("en-US", { notation: "compact", maximumSignificantDigits: 3 });

export const count = (n) => whole.format(n);
export const compact = (n) => (n < 100000 ? whole.format(n) : short.format(n));
export const rate = (n) => (n === 0 ? "0" : n < 10 ? n.toFixed(1) : short.format(n));
export const percent = (share) => (share > 0 && share < 0.01 ? "<1%" : `${Math.round(share * 100)}%`);

/** Microseconds in the unit that suits. */
export function micros(us) {
  if (us === null || us === undefined) return "–";
  if (us >= 1e6) return `${(us / 1e6).toPrecision(3)} s`;
  if (us >= 1e3) return `${(us / 1e3).toPrecision(3)} ms`;
  return `${us < 10 ? us.toFixed(1) : us.toFixed(0)} µs`;
}

/** Seconds as a clock. */
export function clock(seconds) {
  if (seconds < 1) return `${(seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, Math.floor(seconds) % 60];
  return h ? `${h} h ${m} min` : `${m} min ${s} s`;
}

const LONG = 2000;

/** A value as text: what JSON has for it, or the text itself; very long ones are cut, and say so. */
export function shown(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 1);
  return text.length > LONG ? `${text.slice(0, LONG)}… (${count(text.length - LONG)} more characters)` : text;
}

/** What was asked for is not there. */
export class Missing extends Error {}

/** Ask the server, with parameters that are neither null nor empty; what it does not have it says in the error. */
export async function ask(path, parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== null && value !== ""));
  const answer = await fetch(query.size ? `${path}?${query}` : path);
  if (answer.status === 404) throw new Missing((await answer.json()).detail);
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

/** Call at most once in so many milliseconds; the last call is not lost. */
export function seldom(call, milliseconds) {
  let last = -Infinity;
  let waiting = null;
  return () => {
    if (waiting !== null) return;
    const left = Math.max(last + milliseconds - performance.now(), 0);
    waiting = setTimeout(() => {
      waiting = null;
      last = performance.now();
      call();
    }, left);
  };
}
