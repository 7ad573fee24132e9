// ---------------------------------------------------------------- curves

const HISTOGRAM = { left: 46, right: 550, top: 14, bottom: 276 }, ROC = { left: 46, right: 346, top: 14, bottom: 276 };
const PAINT = ["#1d6b34", "#b3261e", "#0b57a4", "#8a5a00", "#6b2fa0", "#006a6a", "#8c1d5b", "#4a5560"];
// As `ScoreAxis` of drawing.py: straight, or logarithmic far from the middle.
const stretched = (score) => (data.axis.width ? Math.asinh((score - data.axis.middle) / data.axis.width) : score);
const begin = stretched(data.axis.low), extent = stretched(data.axis.high) - begin;
const partOf = (score) => (extent > 0 ? Math.min(Math.max((stretched(score) - begin) / extent, 0), 1) : 0.5);
const x = (score) => HISTOGRAM.left + (HISTOGRAM.right - HISTOGRAM.left) * partOf(score);

function scoreTicks() {
  return (extent > 0 ? [0, 0.25, 0.5, 0.75, 1] : [0.5]).map((part) => {
    const place = begin + part * extent;
    const score = data.axis.width ? data.axis.middle + data.axis.width * Math.sinh(place) : place;
    return [HISTOGRAM.left + part * (HISTOGRAM.right - HISTOGRAM.left), written(extent > 0 ? score : data.axis.low),
      part === 1 ? "end" : part ? "middle" : "start"];
  });
}

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
    heights[kinds.indexOf(kindOf(index))][Math.min(Math.floor(partOf(data.scores[index]) * bins), bins - 1)]++;
  }
  const tallest = Math.max(...heights[0].map((_, bin) => heights.reduce((sum, row) => sum + row[bin], 0)));
  const width = (HISTOGRAM.right - HISTOGRAM.left) / bins, unit = (HISTOGRAM.bottom - HISTOGRAM.top) / tallest;
  for (let bin = 0; bin < bins; bin++) {
    let y = HISTOGRAM.bottom;
    kinds.forEach((kind, number) => {
      const height = heights[number][bin] && Math.max(heights[number][bin] * unit, 2); // a single image is seen
      y -= height;
      if (height) {
        svg.append(drawn("rect", { x: HISTOGRAM.left + bin * width, y, width: width - 0.5, height,
          fill: PAINT[number % PAINT.length] }));
      }
    });
  }
  byId("legend").append(...kinds.flatMap((kind, number) => { // below the bars, which it would hide
    const swatch = element("span", { className: "swatch" });
    swatch.style.background = PAINT[number % PAINT.length];
    return [swatch, `${kind} `];
  }));
  axes(svg, HISTOGRAM, "anomaly score", "images",
    scoreTicks(), [[HISTOGRAM.bottom, "0"], [HISTOGRAM.top, String(tallest)]]);
  svg.append(drawn("line", { id: "histogram-mark", y1: HISTOGRAM.top, y2: HISTOGRAM.bottom, stroke: "#0b57a4",
    "stroke-width": 2, "stroke-dasharray": "5 3" }));
}

/** [false alarms, anomalous images found], as parts, at the threshold. */
function rates() {
  let alarms = 0, found = 0;
  for (const index of all) {
    if (isCalled(index)) {
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
  axes(svg, ROC, "false alarms / normal images", "found / anomalous images",
    ends.map(([part, text]) => [rocX(part), text, "middle"]), ends.map(([part, text]) => [rocY(part), text]));
  svg.append(drawn("circle", { id: "roc-mark", r: 6, fill: "#0b57a4" }));
}

function moveMarks() {
  const place = x(threshold);
  byId("histogram-mark").setAttribute("x1", place);
  byId("histogram-mark").setAttribute("x2", place);
  const dot = byId("roc-mark");
  if (dot) {
    const [alarms, found] = rates();
    dot.setAttribute("cx", rocX(alarms));
    dot.setAttribute("cy", rocY(found));
  }
}
