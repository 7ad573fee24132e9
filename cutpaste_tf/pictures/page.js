"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const NORMAL = 0, ANOMALOUS = 1, STEP = 60;
const byId = (id) => document.getElementById(id);
const all = data.scores.map((_, index) => index);
const written = (score) => score.toFixed(data.digits);
const kindOf = (index) => data.defects[index] || "unlabelled";
// Position p of the slider is the threshold levels[p]; the last one is above every score.
const levels = [...new Set(data.scores)].sort((a, b) => a - b);
levels.push(Infinity);
const counts = { normal: 0, anomalous: 0 };
for (const label of data.labels) {
  if (label === NORMAL) counts.normal++;
  if (label === ANOMALOUS) counts.anomalous++;
}
const kinds = [...new Set(all.map(kindOf))].sort((a, b) =>
  (b === "good") - (a === "good") || a.localeCompare(b));
let threshold = Infinity, order = [], shownImages = 0, rows = [], shownRows = 0;

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

/** What the threshold makes of an image: [class, words]. */
function verdict(index) {
  const flagged = data.scores[index] >= threshold, label = data.labels[index];
  if (label === NORMAL) return flagged ? ["false-alarm", "false alarm"] : ["right", "passed"];
  if (label === ANOMALOUS) return flagged ? ["right", "found"] : ["miss", "miss"];
  return ["unknown", flagged ? "called defective" : "passed"];
}

const isWrong = (index) => ["false-alarm", "miss"].includes(verdict(index)[0]);

function percent(part, whole) {
  return `${part} of ${whole} (${(100 * part / whole).toFixed(1)} %)`;
}

function tag(index) {
  const [name, words] = verdict(index);
  return element("span", { className: `tag ${name}`, textContent: words });
}

// ---------------------------------------------------------------- threshold

function setThreshold(position) {
  threshold = levels[position];
  const flagged = all.filter((index) => data.scores[index] >= threshold);
  const value = threshold === Infinity ? `more than ${written(levels[levels.length - 2])}` : written(threshold);
  byId("threshold-value").textContent = value;
  byId("threshold").setAttribute("aria-valuetext", value);
  const falseAlarms = flagged.filter((index) => data.labels[index] === NORMAL).length;
  const misses = counts.anomalous - flagged.filter((index) => data.labels[index] === ANOMALOUS).length;
  const unknown = data.labels.length - counts.normal - counts.anomalous;
  const parts = [];
  if (counts.normal) parts.push(`false alarms: ${percent(falseAlarms, counts.normal)} good images`);
  if (counts.anomalous) parts.push(`misses: ${percent(misses, counts.anomalous)} defective images`);
  if (unknown) {
    const called = flagged.filter((index) => data.labels[index] !== NORMAL && data.labels[index] !== ANOMALOUS).length;
    parts.push(`called defective: ${percent(called, unknown)} unlabelled images`);
  }
  byId("counts").textContent = parts.join("; ");
  byId("counts").dataset.falseAlarms = falseAlarms;
  byId("counts").dataset.misses = misses;
  byId("kinds").tBodies[0].replaceChildren(...kinds.map((kind) => {
    const own = all.filter((index) => kindOf(index) === kind);
    const called = own.filter((index) => data.scores[index] >= threshold).length;
    return element("tr", {}, element("th", { scope: "row", textContent: kind }),
      element("td", { className: "number", textContent: own.length }),
      element("td", { className: "number", textContent: `${called} (${(100 * called / own.length).toFixed(1)} %)` }));
  }));
  moveMarks();
  for (const made of document.querySelectorAll("[data-index]")) judge(made);
}

/** Writes the verdict into a card of the gallery or a row of the table. */
function judge(made) {
  const index = Number(made.dataset.index);
  made.classList.toggle("wrong", isWrong(index));
  made.querySelector(".tag").replaceWith(tag(index));
}

function startingPosition() {
  if (data.threshold !== null) {
    byId("threshold-note").textContent = `Suggested from good images alone: ${written(data.threshold)}.`;
    return levels.findIndex((level) => level > data.threshold);
  }
  byId("threshold-note").textContent = counts.normal
    ? "It starts where one in twenty good images would be called defective: a place to look from, not a suggestion."
    : "It starts where one in twenty images would be called defective: a place to look from, not a suggestion.";
  const base = (counts.normal ? all.filter((index) => data.labels[index] === NORMAL) : all)
    .map((index) => data.scores[index]).sort((a, b) => a - b);
  const allowed = base[base.length - 1 - Math.floor(base.length / 20)];
  return levels.findIndex((level) => level > allowed);
}

// ---------------------------------------------------------------- curves

const HISTOGRAM = { left: 46, right: 550, top: 14, bottom: 276 }, ROC = { left: 46, right: 346, top: 14, bottom: 276 };
const PAINT = ["#1d6b34", "#b3261e", "#0b57a4", "#8a5a00", "#6b2fa0", "#006a6a", "#8c1d5b", "#4a5560"];
const lowest = levels[0], highest = levels[levels.length - 2];
const x = (score) => HISTOGRAM.left + (HISTOGRAM.right - HISTOGRAM.left) *
  (highest > lowest ? Math.min(Math.max((score - lowest) / (highest - lowest), 0), 1) : 0.5);

function axes(svg, box, below, beside, ticksX, ticksY) {
  svg.append(drawn("path", { d: `M${box.left},${box.top}V${box.bottom}H${box.right}`, fill: "none", stroke: "#555d66" }));
  for (const [place, text, anchor] of ticksX) {
    svg.append(drawn("text", { x: place, y: box.bottom + 16, "text-anchor": anchor }, text));
  }
  for (const [place, text] of ticksY) {
    svg.append(drawn("text", { x: box.left - 5, y: place + 4, "text-anchor": "end" }, text));
  }
  svg.append(drawn("text", { x: (box.left + box.right) / 2, y: box.bottom + 34, "text-anchor": "middle" }, below));
  svg.append(drawn("text", { x: 12, y: (box.top + box.bottom) / 2, "text-anchor": "middle",
    transform: `rotate(-90 12 ${(box.top + box.bottom) / 2})` }, beside));
}

function drawHistogram() {
  const svg = byId("histogram"), bins = 40;
  const heights = kinds.map(() => new Array(bins).fill(0));
  for (const index of all) {
    const part = highest > lowest ? (data.scores[index] - lowest) / (highest - lowest) : 0.5;
    heights[kinds.indexOf(kindOf(index))][Math.min(Math.floor(part * bins), bins - 1)]++;
  }
  const tallest = Math.max(...heights[0].map((_, bin) => heights.reduce((sum, own) => sum + own[bin], 0)));
  const width = (HISTOGRAM.right - HISTOGRAM.left) / bins, unit = (HISTOGRAM.bottom - HISTOGRAM.top) / tallest;
  for (let bin = 0; bin < bins; bin++) {
    let y = HISTOGRAM.bottom;
    kinds.forEach((kind, number) => {
      const height = heights[number][bin] * unit;
      y -= height;
      if (height) {
        svg.append(drawn("rect", { x: HISTOGRAM.left + bin * width, y, width: width - 0.5, height,
          fill: PAINT[number % PAINT.length] }));
      }
    });
  }
  kinds.slice(0, 14).forEach((kind, number) => {
    const y = HISTOGRAM.top + 14 * number;
    svg.append(drawn("rect", { x: HISTOGRAM.right - 12, y, width: 10, height: 10, fill: PAINT[number % PAINT.length] }));
    const name = kind.length > 30 ? `${kind.slice(0, 29)}…` : kind;
    svg.append(drawn("text", { x: HISTOGRAM.right - 17, y: y + 9, "text-anchor": "end" }, name));
  });
  axes(svg, HISTOGRAM, "anomaly score", "images",
    [[HISTOGRAM.left, written(lowest), "start"], [HISTOGRAM.right, written(highest), "end"]],
    [[HISTOGRAM.bottom, "0"], [HISTOGRAM.top, String(tallest)]]);
  svg.append(drawn("line", { id: "histogram-mark", y1: HISTOGRAM.top, y2: HISTOGRAM.bottom, stroke: "#0b57a4",
    "stroke-width": 2, "stroke-dasharray": "5 3" }));
}

/** [false alarms, defects found], as parts, at a threshold. */
function rates(level) {
  let alarms = 0, found = 0;
  for (const index of all) {
    if (data.scores[index] >= level) {
      if (data.labels[index] === NORMAL) alarms++;
      if (data.labels[index] === ANOMALOUS) found++;
    }
  }
  return [alarms / counts.normal, found / counts.anomalous];
}

const rocX = (part) => ROC.left + part * (ROC.right - ROC.left), rocY = (part) => ROC.bottom - part * (ROC.bottom - ROC.top);

function drawRoc() {
  if (!counts.normal || !counts.anomalous) {
    byId("roc-figure").hidden = true;
    return;
  }
  const sorted = all.filter((index) => data.labels[index] >= 0).sort((a, b) => data.scores[b] - data.scores[a]);
  let alarms = 0, found = 0, line = `M${rocX(0)},${rocY(0)}`;
  sorted.forEach((index, place) => {
    if (data.labels[index] === NORMAL) alarms++; else found++;
    if (place === sorted.length - 1 || data.scores[sorted[place + 1]] !== data.scores[index]) {
      line += `L${rocX(alarms / counts.normal)},${rocY(found / counts.anomalous)}`;
    }
  });
  const svg = byId("roc");
  svg.append(drawn("path", { d: `M${rocX(0)},${rocY(0)}L${rocX(1)},${rocY(1)}`, stroke: "#b4bac0" }));
  svg.append(drawn("path", { d: line, fill: "none", stroke: "#0b57a4", "stroke-width": 2 }));
  const ends = [[0, "0"], [1, "1"]];
  axes(svg, ROC, "false alarms / good images", "defects found / defective images",
    ends.map(([part, text]) => [rocX(part), text, "middle"]), ends.map(([part, text]) => [rocY(part), text]));
  svg.append(drawn("circle", { id: "roc-mark", r: 6, fill: "#0b57a4" }));
}

function moveMarks() {
  const place = x(threshold);
  byId("histogram-mark").setAttribute("x1", place);
  byId("histogram-mark").setAttribute("x2", place);
  const dot = byId("roc-mark");
  if (dot) {
    const [alarms, found] = rates(threshold);
    dot.setAttribute("cx", rocX(alarms));
    dot.setAttribute("cy", rocY(found));
  }
}

// ---------------------------------------------------------------- gallery

/** How far on the wrong side of the threshold an image is; negative on the right side. */
function excess(index) {
  const level = threshold === Infinity ? highest : threshold;
  if (data.labels[index] === NORMAL) return data.scores[index] - level;
  return data.labels[index] === ANOMALOUS ? level - data.scores[index] : -Infinity;
}

const SORTS = {
  high: (a, b) => data.scores[b] - data.scores[a],
  low: (a, b) => data.scores[a] - data.scores[b],
  errors: (a, b) => excess(b) - excess(a) || 0,
  name: (a, b) => data.paths[a].localeCompare(data.paths[b]),
};

function card(index) {
  const name = `${data.paths[index]}, score ${written(data.scores[index])}`;
  const image = element("img", { src: data.thumbnails[index], alt: name, loading: "lazy", width: 160, height: 160 });
  let picture;
  if (data.overlays.length) {
    const heat = element("img", { src: data.overlays[index], alt: "", className: "heat", loading: "lazy",
      width: 160, height: 160 });
    picture = element("button", { type: "button", className: "picture" }, image, heat);
    picture.setAttribute("aria-pressed", "false");
    picture.setAttribute("aria-label", `Heat map of ${name}`);
    picture.addEventListener("click", () =>
      picture.setAttribute("aria-pressed", String(picture.getAttribute("aria-pressed") !== "true")));
  } else {
    picture = element("div", { className: "picture" }, image);
  }
  const about = element("div", { className: "about" }, element("b", { textContent: written(data.scores[index]) }),
    data.pValues ? ` p ${data.pValues[index]} ` : " ", tag(index), element("br"),
    data.paths[index].includes(`${kindOf(index)}/`) ? data.paths[index] : `${kindOf(index)}: ${data.paths[index]}`);
  const made = element("li", {}, picture, about);
  made.dataset.index = index;
  made.classList.toggle("wrong", isWrong(index));
  return made;
}

function moreImages() {
  const next = order.slice(shownImages, shownImages + STEP);
  byId("gallery").append(...next.map(card));
  shownImages += next.length;
  byId("more-images").hidden = shownImages >= order.length;
  byId("shown").textContent = `${shownImages} of ${order.length} images shown`;
}

function refill() {
  const kind = byId("kind").value;
  order = all.filter((index) => kind === "all" || (kind === "wrong" ? isWrong(index) : `kind ${kindOf(index)}` === kind));
  order.sort(SORTS[byId("sort").value]);
  byId("gallery").replaceChildren();
  shownImages = 0;
  moreImages();
}

// ---------------------------------------------------------------- table

function row(index) {
  const made = element("tr", {}, element("th", { scope: "row", textContent: data.paths[index] }),
    element("td", { textContent: kindOf(index) }),
    element("td", { className: "number", textContent: written(data.scores[index]) }),
    ...(data.pValues ? [element("td", { className: "number", textContent: data.pValues[index] })] : []),
    element("td", {}, tag(index)));
  made.dataset.index = index;
  return made;
}

function moreRows() {
  const next = rows.slice(shownRows, shownRows + 2 * STEP);
  byId("scores").tBodies[0].append(...next.map(row));
  shownRows += next.length;
  byId("more-rows").hidden = shownRows >= rows.length;
}

function sortRows(by, descending) {
  const values = { name: data.paths, defect: all.map(kindOf), score: data.scores }[by];
  rows = [...all].sort((a, b) => (by === "score" ? values[a] - values[b] : values[a].localeCompare(values[b])));
  if (descending) rows.reverse();
  for (const button of document.querySelectorAll("#scores th button")) {
    const heading = button.closest("th");
    if (button.dataset.by === by) heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
    else heading.removeAttribute("aria-sort");
  }
  byId("scores").tBodies[0].replaceChildren();
  shownRows = 0;
  moreRows();
}

// ---------------------------------------------------------------- the page

byId("kind").append(element("option", { value: "all", textContent: "all kinds" }),
  element("option", { value: "wrong", textContent: "errors at this threshold" }),
  ...kinds.map((kind) => element("option", { value: `kind ${kind}`, textContent: kind })));
drawHistogram();
drawRoc();
const slider = byId("threshold");
slider.max = levels.length - 1;
slider.value = startingPosition();
setThreshold(Number(slider.value));
if (data.threshold !== null) byId("marks").append(element("option", { value: slider.value }));
refill();
sortRows("score", true);
slider.addEventListener("input", () => setThreshold(Number(slider.value)));
slider.addEventListener("change", () => {
  if (byId("sort").value === "errors" || byId("kind").value === "wrong") refill();
});
byId("sort").addEventListener("change", refill);
byId("kind").addEventListener("change", refill);
byId("more-images").addEventListener("click", moreImages);
byId("more-rows").addEventListener("click", moreRows);
for (const button of document.querySelectorAll("#scores th button")) {
  button.addEventListener("click", () =>
    sortRows(button.dataset.by, button.closest("th").getAttribute("aria-sort") === "ascending"));
}
if (byId("all-heat")) {
  byId("all-heat").addEventListener("change", (event) =>
    byId("gallery").classList.toggle("all-heat", event.target.checked));
}
