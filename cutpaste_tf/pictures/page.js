"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const NORMAL = 0, ANOMALOUS = 1;
const byId = (id) => document.getElementById(id);
const all = data.scores.map((_, index) => index);
const written = (score) => score.toFixed(data.digits);
const kindOf = (index) => data.defects[index] || "unlabeled";
// At position p of the slider the p lowest of these are normal, and those above are anomalous.
const levels = [...new Set(data.scores)].sort((a, b) => a - b);
const counts = { normal: 0, anomalous: 0 };
for (const label of data.labels) {
  if (label === NORMAL) counts.normal++;
  if (label === ANOMALOUS) counts.anomalous++;
}
const kinds = [...new Set(all.map(kindOf))].sort((a, b) =>
  (b === "good") - (a === "good") || a.localeCompare(b));
let threshold = Infinity;

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function drawn(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

const isCalled = (index) => data.scores[index] > threshold;

/** What the threshold makes of an image: [class, words]. */
function verdict(index) {
  const called = isCalled(index), label = data.labels[index];
  if (label === NORMAL) return called ? ["false-alarm", "false alarm"] : ["right", "normal"];
  if (label === ANOMALOUS) return called ? ["right", "anomalous"] : ["miss", "miss"];
  return ["unknown", called ? "called anomalous" : "called normal"];
}

function percent(part, whole) {
  return `${part} of ${whole} (${(100 * part / whole).toFixed(1)} %)`;
}

function tag(index) {
  const [name, words] = verdict(index);
  return element("span", { className: `tag ${name}`, textContent: words });
}

// ---------------------------------------------------------------- threshold

const span = levels[levels.length - 1] - levels[0] || 1;
const lowEnd = (position) => (position ? levels[position - 1] : levels[0] - span / 10);
const highEnd = (position) => (position < levels.length ? levels[position] : levels[levels.length - 1] + span / 10);

/** The number of fewest decimals between two others, near their middle. */
function shortest(low, high) {
  for (let digits = 0; digits < 10; digits++) {
    const made = Number(((low + high) / 2).toFixed(digits));
    if (low < made && made < high) return made;
  }
  return (low + high) / 2;
}

const suggested = data.threshold === null ? -1 : levels.filter((level) => level <= data.threshold).length;

/** The threshold at a position: the suggested one, one that a false alarm rate gives, or any. */
function thresholdAt(position) {
  if (position === suggested) return data.threshold;
  const low = lowEnd(position), high = highEnd(position);
  const inside = data.normalScores.filter((score) => low <= score && score < high);
  if (!inside.length) return shortest(low, high);
  const chosen = inside[inside.length >> 1], next = data.normalScores.find((score) => score > chosen) ?? high;
  return shortest(chosen, Math.min(next, high));
}

/** The false alarm rate in words, and the flags that decide the same at this position. */
function rateWords(position) {
  const flags = [`--threshold=${threshold}`], count = data.normalScores.length;
  const rank = data.normalScores.filter((score) => score <= threshold).length, part = (count + 1 - rank) / (count + 1);
  const gives = rank && (!position || data.normalScores[rank - 1] >= levels[position - 1]);
  for (let digits = 1; gives && digits < 9; digits++) {
    const rate = Math.ceil(part * 10 ** digits - 1e-9) / 10 ** digits;
    if (Math.ceil((count + 1) * (1 - rate) - 1e-9) === rank) { // as the program counts
      flags.unshift(`--false_alarm_rate=${rate}`);
      break;
    }
  }
  const words = count ? `Expected false alarm rate, from ${count} other normal images: ${rank === count ? "at most " : ""}` +
    `${(100 * part).toPrecision(2)} %. ` : "";
  return [words, "Set it with ", ...flags.flatMap((flag, number) =>
    [number ? " or " : "", element("code", { textContent: flag })])];
}

function setThreshold(position) {
  threshold = thresholdAt(position);
  byId("threshold-value").textContent = threshold;
  byId("threshold").setAttribute("aria-valuetext", threshold);
  byId("rate").replaceChildren(...rateWords(position));
  const called = all.filter(isCalled);
  const falseAlarms = called.filter((index) => data.labels[index] === NORMAL).length;
  const found = called.filter((index) => data.labels[index] === ANOMALOUS).length;
  const unknown = data.labels.length - counts.normal - counts.anomalous;
  const parts = [];
  if (counts.normal) parts.push(`false alarms: ${percent(falseAlarms, counts.normal)} normal images`);
  if (counts.anomalous) parts.push(`misses: ${percent(counts.anomalous - found, counts.anomalous)} anomalous images`);
  if (unknown) parts.push(`called anomalous: ${percent(called.length - falseAlarms - found, unknown)} unlabeled images`);
  byId("counts").textContent = parts.join("; ");
  byId("counts").dataset.falseAlarms = falseAlarms;
  byId("counts").dataset.misses = counts.anomalous - found;
  const images = {}, anomalous = {};
  for (const index of all) images[kindOf(index)] = (images[kindOf(index)] ?? 0) + 1;
  for (const index of called) anomalous[kindOf(index)] = (anomalous[kindOf(index)] ?? 0) + 1;
  byId("kinds").tBodies[0].replaceChildren(...kinds.map((kind) =>
    element("tr", {}, element("th", { scope: "row", textContent: kind }),
      element("td", { className: "number", textContent: images[kind] }),
      element("td", { className: "number", textContent: percent(anomalous[kind] ?? 0, images[kind]) }))));
  moveMarks();
  for (const made of document.querySelectorAll("[data-index]")) show(made);
}

/** Writes the verdict into a card of the gallery or a row of the table. */
function show(made) {
  const index = Number(made.dataset.index), [name, words] = verdict(index), before = made.querySelector(".tag");
  if (before.className === `tag ${name}` && before.textContent === words) return;
  made.classList.toggle("wrong", ["false-alarm", "miss"].includes(name));
  before.replaceWith(tag(index));
}

function startingPosition() {
  if (data.threshold !== null) {
    byId("threshold-note").textContent = `Suggested from normal images alone: ${data.threshold}.`;
    return suggested;
  }
  const what = counts.normal ? "normal images" : "images";
  byId("threshold-note").textContent =
    `It starts where one in twenty ${what} would be called anomalous: a starting point, not a suggestion.`;
  const base = (counts.normal ? all.filter((index) => data.labels[index] === NORMAL) : all)
    .map((index) => data.scores[index]).sort((a, b) => a - b);
  return levels.indexOf(base[base.length - 1 - Math.floor(base.length / 20)]) + 1;
}
