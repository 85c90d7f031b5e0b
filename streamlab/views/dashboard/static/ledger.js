// The books: received + forked = emitted + filtered + absorbed + dead-lettered + in flight.

import { $, count, el, percent, say } from "./dom.js";

const BOOKS = [
  ["received", "received", ""],
  ["forked", "forked", "+"],
  ["emitted", "emitted", "="],
  ["filtered", "filtered", "+"],
  ["absorbed", "absorbed", "+"],
  ["dead_lettered", "dead-lettered", "+"],
  ["in_flight", "in flight", "+"],
];
const FATES = BOOKS.slice(2).map(([key]) => key);

const amounts = {};
const shares = {};

for (const [key, name, sign] of BOOKS) {
  amounts[key] = el("b", { id: `ledger-${key}`, textContent: "0" });
  const book = el("div", { className: "book", "data-book": key }, amounts[key], el("span", { textContent: name }));
  if (sign) $("books").append(el("i", { textContent: sign, "aria-hidden": "true" }));
  $("books").append(book);
}
for (const key of FATES) {
  shares[key] = el("i", { "data-book": key });
  $("shares").append(shares[key]);
}

/** Tell whether all lines are accounted for, and by how many not. */
export function missing(lines) {
  return lines.received + lines.forked - FATES.reduce((sum, key) => sum + lines[key], 0);
}

export function showLedger(stats) {
  const lines = stats.lines;
  const whole = Math.max(lines.received + lines.forked, 1);
  for (const [key] of BOOKS) say(amounts[key], count(lines[key]));
  for (const key of FATES) {
    shares[key].style.flexGrow = lines[key] / whole;
    shares[key].title = `${percent(lines[key] / whole)} ${key.replace("_", " ")}`;
  }
  const off = missing(lines);
  $("balance").dataset.balance = off === 0 ? "balanced" : "off";
  say($("balance"), off === 0 ? "✓ balances" : `✗ off by ${count(Math.abs(off))}`);
}
