// ---------------------------------------------------------------- gallery

const STEP = 60;
let chosen = [], order = [], shownImages = 0, rows = [], shownRows = 0, opened = 0;

/** How far on the wrong side of the threshold an image is; negative on the right side. */
function excess(index) {
  if (data.labels[index] === NORMAL) return data.scores[index] - threshold;
  return data.labels[index] === ANOMALOUS ? threshold - data.scores[index] : -Infinity;
}

const SORTS = {
  high: (a, b) => data.scores[b] - data.scores[a],
  low: (a, b) => data.scores[a] - data.scores[b],
  errors: (a, b) => excess(b) - excess(a) || 0,
  name: (a, b) => data.paths[a].localeCompare(data.paths[b]),
};

const DECISIONS = {
  all: ["all", () => true],
  anomalous: ["called anomalous", isCalled],
  normal: ["called normal", (index) => !isCalled(index)],
  wrong: ["errors", (index) => ["false-alarm", "miss"].includes(verdict(index)[0])],
  "false-alarm": ["false alarms", (index) => verdict(index)[0] === "false-alarm"],
  miss: ["misses", (index) => verdict(index)[0] === "miss"],
};

function scoreWords(index) {
  return [element("b", { textContent: written(data.scores[index]) }),
    data.pValues ? ` p ${data.pValues[index]} ` : " ", tag(index)];
}

function nameOf(index) {
  return data.paths[index].includes(`${kindOf(index)}/`) ? data.paths[index] : `${kindOf(index)}: ${data.paths[index]}`;
}

function card(index) {
  const size = { loading: "lazy", decoding: "async", width: 160, height: Math.round(160 / data.aspect) };
  const picture = element("button", { type: "button", className: "picture" },
    element("img", { src: data.photographs[index], alt: "", ...size }));
  if (data.overlays.length) {
    picture.append(element("img", { src: data.overlays[index], alt: "", className: "heat", ...size }));
  }
  picture.setAttribute("aria-label", `Open ${data.paths[index]}, score ${written(data.scores[index])}`);
  picture.addEventListener("click", () => openLarge(index));
  const made = element("li", {}, picture,
    element("div", { className: "about" }, ...scoreWords(index), element("br"), nameOf(index)));
  made.dataset.index = index;
  made.classList.toggle("wrong", DECISIONS.wrong[1](index));
  return made;
}

function moreImages(count) {
  const next = order.slice(shownImages, shownImages + count);
  byId("gallery").append(...next.map(card));
  shownImages += next.length;
  byId("more-images").hidden = byId("all-images").hidden = shownImages >= order.length;
  byId("all-images").textContent = `Show all ${order.length} images`;
  byId("shown").textContent = `${shownImages} of ${order.length} images shown` +
    (order.length < all.length ? `, chosen from ${all.length}` : "");
}

/** Chooses images by name, kind and decision, for the gallery and the table. */
function refill() {
  const kind = byId("kind").value, fits = DECISIONS[byId("decision").value][1];
  const name = byId("search").value.trim().toLowerCase();
  chosen = all.filter((index) => (kind === "all" || `kind ${kindOf(index)}` === kind) && fits(index) &&
    data.paths[index].toLowerCase().includes(name));
  order = [...chosen].sort(SORTS[byId("sort").value]);
  byId("gallery").replaceChildren();
  shownImages = 0;
  moreImages(STEP);
  sortRows();
}

// ---------------------------------------------------------------- table

let sortedBy = "score", isDescending = true;

function row(index) {
  const made = element("tr", {}, element("th", { scope: "row", textContent: data.paths[index] }),
    element("td", { textContent: kindOf(index) }),
    element("td", { className: "number", textContent: written(data.scores[index]) }),
    ...(data.pValues ? [element("td", { className: "number", textContent: data.pValues[index] })] : []),
    element("td", {}, tag(index)));
  made.dataset.index = index;
  return made;
}

function moreRows(count) {
  const next = rows.slice(shownRows, shownRows + count);
  byId("scores").tBodies[0].append(...next.map(row));
  shownRows += next.length;
  byId("more-rows").hidden = byId("all-rows").hidden = shownRows >= rows.length;
  byId("all-rows").textContent = `Show all ${rows.length} rows`;
}

function sortRows() {
  const by = sortedBy === "name" ? (index) => data.paths[index] : kindOf;
  rows = [...chosen].sort(sortedBy === "score" ? SORTS.low : (a, b) => by(a).localeCompare(by(b)));
  if (isDescending) rows.reverse();
  for (const button of document.querySelectorAll("#scores th button")) {
    const heading = button.closest("th");
    if (button.dataset.by === sortedBy) heading.setAttribute("aria-sort", isDescending ? "descending" : "ascending");
    else heading.removeAttribute("aria-sort");
  }
  byId("scores").tBodies[0].replaceChildren();
  shownRows = 0;
  moreRows(2 * STEP);
}

// ---------------------------------------------------------------- one image, large

function boxes(found, name) {
  return (found ?? []).map(([left, top, width, height]) => {
    const made = element("div", { className: `box ${name}` });
    Object.assign(made.style, { left: `${left}%`, top: `${top}%`, width: `${width}%`, height: `${height}%` });
    return made;
  });
}

function openLarge(index) {
  opened = index;
  const picture = [element("img", { src: data.photographs[index], alt: data.paths[index] })];
  if (data.overlays.length) picture.push(element("img", { src: data.overlays[index], alt: "", className: "heat" }));
  byId("large-picture").replaceChildren(...picture, ...boxes(data.boxes[index], "hot"), ...boxes(data.marked[index], "marked"));
  byId("large-name").textContent = nameOf(index);
  byId("large-about").replaceChildren("score ", ...scoreWords(index), ` image ${order.indexOf(index) + 1} of ${order.length}`);
  showLayers();
  if (!byId("large").open) byId("large").showModal();
}

function showLayers() {
  for (const one of document.querySelectorAll("#large .heat")) one.hidden = !byId("large-heat").checked;
  for (const one of document.querySelectorAll("#large .box")) one.hidden = !byId("large-boxes").checked;
}

function turn(step) {
  const place = order.indexOf(opened) + step;
  if (order[place] !== undefined) openLarge(order[place]);
}

// ---------------------------------------------------------------- the page

byId("kind").append(element("option", { value: "all", textContent: "all" }),
  ...kinds.map((kind) => element("option", { value: `kind ${kind}`, textContent: kind })));
byId("kind").parentElement.hidden = kinds.length < 2;
const hasLabels = counts.normal + counts.anomalous > 0;
for (const [value, [words]] of Object.entries(DECISIONS)) {
  if (hasLabels || ["all", "anomalous", "normal"].includes(value)) {
    byId("decision").append(element("option", { value, textContent: words }));
  }
}
if (!hasLabels) byId("sort").querySelector("[value=errors]").remove();
byId("heat-tool").hidden = !data.overlays.length;
byId("boxes-tool").hidden = ![...data.boxes, ...data.marked].some((found) => found.length);
drawHistogram();
drawRoc();
const slider = byId("threshold");
slider.max = levels.length;
slider.value = startingPosition();
setThreshold(Number(slider.value));
if (data.threshold !== null) byId("marks").append(element("option", { value: slider.value }));
refill();
slider.addEventListener("input", () => setThreshold(Number(slider.value)));
slider.addEventListener("change", () => {
  if (byId("sort").value === "errors" || byId("decision").value !== "all") refill();
});
for (const id of ["sort", "kind", "decision"]) byId(id).addEventListener("change", refill);
byId("search").addEventListener("input", refill);
byId("more-images").addEventListener("click", () => moreImages(STEP));
byId("all-images").addEventListener("click", () => moreImages(order.length));
byId("more-rows").addEventListener("click", () => moreRows(2 * STEP));
byId("all-rows").addEventListener("click", () => moreRows(rows.length));
for (const button of document.querySelectorAll("#scores th button")) {
  button.addEventListener("click", () => {
    isDescending = button.closest("th").getAttribute("aria-sort") === "ascending";
    sortedBy = button.dataset.by;
    sortRows();
  });
}
byId("all-heat")?.addEventListener("change", (event) =>
  byId("gallery").classList.toggle("all-heat", event.target.checked));
byId("previous").addEventListener("click", () => turn(-1));
byId("next").addEventListener("click", () => turn(1));
byId("close").addEventListener("click", () => byId("large").close());
byId("large-heat").addEventListener("change", showLayers);
byId("large-boxes").addEventListener("change", showLayers);
byId("large").addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (step) turn(step);
});
byId("large").addEventListener("click", (event) => {
  if (event.target === byId("large")) byId("large").close(); // outside what it shows
});
byId("large").addEventListener("close", () => document.querySelector(`#gallery [data-index="${opened}"] button`)?.focus());
