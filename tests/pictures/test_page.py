"""report.html in a real browser: counts as in the CSV, keyboard, names that are markup, many images, two widths."""

import csv
import functools
import json
import re
import shutil

import numpy as np
import pytest
from conftest import write_image

import cutpaste_tf
from cutpaste_tf.detection.calibration import Calibration
from cutpaste_tf.images.reading import Examples
from cutpaste_tf.pictures import drawing, page
from cutpaste_tf.settings.scoring import DecisionSettings

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium, to test report.html")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def opened(browser):
    """Opens a page at a width; whatever its console says is an error."""
    messages, pages = [], []

    def open_page(path, width=1600):
        shown = browser.new_page(viewport={"width": width, "height": 900}, offline=True)
        shown.on("console", lambda message: messages.append(message.text))
        shown.on("pageerror", lambda error: messages.append(str(error)))
        shown.goto(path.as_uri())
        shown.wait_for_selector("#gallery li")
        pages.append(shown)
        return shown

    yield open_page
    for shown in pages:
        shown.close()
    assert messages == []


def drawn(folder, count, *, labels=None, paths=None, heat=True, **options):
    """A page of drawn images, half of them anomalous."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2 if labels is None else np.array(labels)
    images = np.broadcast_to(rng.integers(0, 255, (1, 16, 16, 3), np.uint8), (count, 16, 16, 3))
    paths = paths or [f"test/{'good' if label == 0 else 'hole'}/{i}.png" for i, label in enumerate(labels)]
    defects = [{0: "good", 1: "hole", -1: ""}[int(label)] for label in labels]
    scores = rng.normal(labels, 1.0)
    folder.mkdir(exist_ok=True)
    columns = ["this evaluation", "runs/a_folder_with_a_long_name", "Gaussian on 32 x 32 pixels"]
    figures = [page.Figure("image AUROC", "a chance", ["76.00 %", "75.00 %", "74.00 %"])] if max(labels) >= 0 else []
    maps = np.broadcast_to(rng.random((1, 16, 16), np.float32), (count, 16, 16)) if heat else None
    results = page.Results(scores, maps, options.pop("p_values", None), options.pop("boxes", None))
    page.save(
        folder,
        page.Summary("drawn", columns, figures, {"seed": "0"}),
        Examples(images, paths, labels, defects, [None] * count, ""),
        results,
        page.Limits(**options),
    )
    return folder / page.NAME, scores, labels


def counts(shown):
    return tuple(int(shown.get_attribute("#counts", f"data-{name}")) for name in ("false-alarms", "misses"))


def test_the_slider_counts_what_the_csv_says(tiny_run, category, opened, capsys):
    cutpaste_tf.evaluate(tiny_run, category)
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"{tiny_run}/eval/report.html")
    with (tiny_run / "eval/scores.csv").open() as file:
        rows = [(float(row["score"]), row["label"]) for row in csv.DictReader(file)]
    shown = opened(tiny_run / "eval/report.html")
    levels = [*sorted({score for score, _ in rows}), np.inf]
    assert shown.get_attribute("#threshold", "max") == str(len(levels) - 1)
    for position, level in enumerate(levels):
        shown.evaluate(
            "position => { const slider = document.getElementById('threshold'); slider.value = position;"
            " slider.dispatchEvent(new Event('input')); }",
            position,
        )
        alarms = sum(score >= level for score, label in rows if label == "0")
        misses = sum(score < level for score, label in rows if label == "1")
        assert counts(shown) == (alarms, misses)
        assert shown.locator("#gallery .false-alarm").count() == alarms
        assert shown.locator("#scores .miss").count() == misses
    auroc = json.loads((tiny_run / "eval/metrics.json").read_text())["image_auroc"]
    assert f"{auroc:.2f} %" in shown.inner_text("#figures")


def at(shown, position):
    """What the page says where the slider stands at a position: the threshold, and the flags that give it."""
    shown.evaluate(
        "position => { const slider = document.getElementById('threshold'); slider.value = position;"
        " slider.dispatchEvent(new Event('input')); }",
        position,
    )
    flags = dict(flag[2:].split("=") for flag in shown.locator("#rate code").all_inner_texts())
    return float(shown.inner_text("#threshold-value")), {name: float(value) for name, value in flags.items()}


def test_the_threshold_shown_decides_as_counted_and_its_flags_as_it(tmp_path, opened):
    rng = np.random.default_rng(1)
    calibration = Calibration(np.sort(rng.normal(0, 1, 48)), np.empty(0))
    suggested = calibration.threshold(0.05)
    path, scores, labels = drawn(tmp_path, 30, threshold=suggested, normal_scores=calibration.scores)
    shown = opened(path)
    assert shown.inner_text("#threshold-value") == f"{suggested:.6f}".rstrip("0")
    assert "normal images: 4.1 %" in shown.inner_text("#rate")  # 2 of 49
    assert "--false_alarm_rate=0.05" in shown.inner_text("#rate")
    rates = 0
    for position in range(31):
        threshold, flags = at(shown, position)
        called = scores > threshold
        assert np.sum(called) == 30 - position
        assert counts(shown) == (np.sum(called & (labels == 0)), np.sum(~called & (labels == 1)))
        assert flags["threshold"] == threshold
        if "false_alarm_rate" in flags:
            rates += 1
            decided = calibration.decide(scores, DecisionSettings(flags["false_alarm_rate"]))
            np.testing.assert_array_equal(decided.anomalous, called)
    assert rates > 10
    shown.focus("#threshold")
    shown.keyboard.press("Home")
    shown.keyboard.press("ArrowRight")
    assert float(shown.inner_text("#threshold-value")) == at(shown, 1)[0]
    assert shown.get_attribute("#threshold", "aria-valuetext") == shown.inner_text("#threshold-value")


def test_the_keyboard_reaches_everything(tmp_path, opened):
    path, scores, labels = drawn(tmp_path, 30)
    shown = opened(path)
    shown.focus("#threshold")
    shown.keyboard.press("End")
    assert counts(shown) == (0, 15)
    shown.keyboard.press("ArrowLeft")
    highest = int(np.argmax(scores))
    assert counts(shown) == (int(labels[highest] == 0), 15 - int(labels[highest] == 1))
    shown.keyboard.press("Home")
    assert counts(shown) == (15, 0)
    heat = shown.locator("#gallery li").first.locator(".heat")
    opacity = functools.partial(heat.evaluate, "one => getComputedStyle(one).opacity")
    assert opacity() == "0"
    shown.focus("#all-heat")
    shown.keyboard.press("Tab")  # from the last tool to the first image
    assert opacity() == "1"
    shown.keyboard.press("Tab")
    assert opacity() == "0"
    shown.focus("#scores [data-by=name]")
    shown.keyboard.press("Enter")
    assert shown.locator("#scores th[aria-sort]").count() == 1


def test_an_image_opens_large_with_its_heat_map_and_boxes(tmp_path, opened):
    path, scores, _ = drawn(tmp_path, 30, boxes=[[(4, 8, 2, 4)]] * 30, pixel_threshold=0.1)
    shown = opened(path)
    order = np.argsort(-scores)
    first = shown.locator("#gallery button").first
    first.focus()
    outline = first.bounding_box()
    assert (
        first.evaluate("one => getComputedStyle(one.parentElement).overflow") == "visible"
    )  # nothing clips its outline
    shown.keyboard.press("Enter")
    picture = shown.locator("#large-picture").bounding_box()
    assert picture["width"] > 3 * outline["width"]
    box = shown.locator("#large .box.hot").bounding_box()
    assert [round(100 * (box[k] - picture[k]) / picture["width"]) for k in ("x", "y")] == [25, 50]
    assert round(16 * box["height"] / picture["height"]) == 4
    assert f"{order[0]}.png" in shown.inner_text("#large-name")
    shown.keyboard.press("ArrowRight")
    shown.keyboard.press("ArrowRight")
    shown.keyboard.press("ArrowLeft")
    assert f"/{order[1]}.png" in shown.inner_text("#large-name")
    shown.uncheck("#large-heat")
    assert shown.is_hidden("#large .heat")
    shown.uncheck("#large-boxes")
    assert shown.is_hidden("#large .box")
    shown.keyboard.press("Escape")
    assert shown.is_hidden("#large")
    assert shown.evaluate("document.activeElement.closest('li').dataset.index") == str(order[1])


def test_images_are_sorted_and_filtered(tmp_path, opened):
    path, scores, labels = drawn(tmp_path, 40, threshold=0.5)
    shown = opened(path)
    assert "Suggested" in shown.inner_text("#threshold-note")
    order = "[...document.querySelectorAll('#gallery li')].map(one => Number(one.dataset.index))"
    assert shown.evaluate(order) == np.argsort(-scores).tolist()
    shown.select_option("#sort", "errors")
    excess = np.where(labels == 0, scores - 0.5, 0.5 - scores)
    assert shown.evaluate(order)[:3] == np.argsort(-excess)[:3].tolist()
    shown.select_option("#decision", "wrong")
    assert len(shown.evaluate(order)) == sum(counts(shown)) > 0
    shown.select_option("#decision", "normal")
    shown.select_option("#kind", "kind hole")
    rows = "[...document.querySelectorAll('#scores [data-index]')].map(one => Number(one.dataset.index))"
    misses = set(np.flatnonzero((labels == 1) & (scores <= 0.5)))
    assert set(shown.evaluate(order)) == set(shown.evaluate(rows)) == misses
    shown.select_option("#kind", "all")
    shown.select_option("#decision", "all")
    shown.fill("#search", "HOLE/1")
    assert sorted(shown.evaluate(order)) == [1, 11, 13, 15, 17, 19]


def test_a_name_that_is_markup_is_a_name(tmp_path, category, tiny_run, opened):
    name = "<script>alert(1)<!--.png"
    write_image(category / "test/square" / name, np.full((40, 40, 3), 255, np.uint8))
    data = tmp_path / "<b>x"
    (category / "test").rename(data)
    cutpaste_tf.evaluate(tiny_run, data, output_dir=tmp_path / "evaluation")
    shown = opened(tmp_path / "evaluation/report.html")
    assert name in shown.inner_text("#scores")
    assert "<b>x" in shown.inner_text("h1")
    assert shown.locator("script").count() == 2


def test_without_labels_there_is_no_curve(tmp_path, opened):
    path, *_ = drawn(tmp_path, 12, labels=[-1] * 12, paths=[f"{i}.png" for i in range(12)], heat=False)
    shown = opened(path)
    assert shown.is_hidden("#roc-figure")
    assert "unlabeled images" in shown.inner_text("#counts")
    assert "false alarms" not in shown.inner_text("#counts")
    assert shown.locator("#figures-title").count() == 0
    assert shown.locator("#gallery .heat").count() == 0
    assert shown.locator("#decision option").all_inner_texts() == ["all", "called anomalous", "called normal"]
    shown.locator("#gallery button").first.click()
    assert shown.is_hidden("#heat-tool")
    assert shown.is_hidden("#boxes-tool")


def test_five_thousand_images_open_at_once(tmp_path, opened):
    path, *_ = drawn(tmp_path, 5000)
    assert path.stat().st_size < 2e6
    assert len(list((tmp_path / page.FOLDER).iterdir())) == 10000
    shown = opened(path)
    timing = "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
    assert shown.evaluate(timing) < 10_000  # it takes .3 s; this is no timed test, but no hang either
    assert shown.locator("#gallery li").count() == 60
    shown.click("#more-images")
    assert shown.locator("#gallery li").count() == 120
    assert "120 of 5000" in shown.inner_text("#shown")
    shown.click("#all-images")
    assert shown.locator("#gallery li").count() == 5000
    shown.click("#all-rows")
    assert shown.locator("#scores tbody tr").count() == 5000
    shown.fill("#search", "good/4998.")
    assert shown.locator("#gallery li").count() == 1
    shown.wait_for_function("document.querySelector('#gallery img').naturalWidth > 0")
    assert "MB, are in report_images/" in shown.inner_text("#about ~ p")


def test_an_outlier_leaves_the_others_their_room(tmp_path, opened):
    """Of 1,200 images 1,199 would share one bar of forty, and the threshold lie on its edge."""
    scores = np.r_[np.random.default_rng(0).normal(100, 1, 1199), 5000]
    axis = drawing.ScoreAxis.of(scores, np.arange(1200) < 1199, 101.6)
    assert len(set((40 * axis.places(scores)).astype(int))) > 8
    assert 0.1 < axis.places(101.6) < 0.5
    places, values = axis.ticks()
    np.testing.assert_allclose(axis.places(values), places, atol=1e-12)
    straight = drawing.ScoreAxis.of(scores[:-1], np.arange(1199) < 0)
    np.testing.assert_allclose(straight.ticks()[1], np.linspace(scores[:-1].min(), scores[:-1].max(), 5))
    path, scores, _ = drawn(tmp_path, 60, paths=[f"{i}.png" for i in range(60)], threshold=0.5)
    text = path.read_text()
    data = json.loads(text.partition('type="application/json">')[2].partition("</script>")[0])
    data["scores"][0] = data["axis"]["high"] = 5000.0
    data["axis"] |= {"middle": 0.5, "width": 1.0}
    path.write_text(re.sub(r'(?s)(type="application/json">).*?(</script>)', rf"\1{json.dumps(data)}\2", text, count=1))
    shown = opened(path)
    assert len({bar["x"] for bar in shown.evaluate(_BARS)}) > 8
    assert min(bar["height"] for bar in shown.evaluate(_BARS)) >= 2
    share = (np.arcsinh(0) - np.arcsinh(scores.min() - 0.5)) / (np.arcsinh(4999.5) - np.arcsinh(scores.min() - 0.5))
    assert float(shown.get_attribute("#histogram-mark", "x1")) == pytest.approx(46 + 504 * share, abs=0.1)


_BARS = """[...document.querySelectorAll('#histogram rect')].map((one) =>
  ({ x: one.getAttribute('x'), height: Number(one.getAttribute('height')) }))"""


def test_many_pictures_lie_beside_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "_INLINE_BYTES", 10_000)
    assert drawn(tmp_path / "few", 4)[0].stat().st_size > 5000
    assert not (tmp_path / "few" / page.FOLDER).exists()
    drawn(tmp_path / "many", 40)
    assert len(list((tmp_path / "many" / page.FOLDER).iterdir())) == 80


@pytest.mark.parametrize("width", [400, 1600])
def test_it_fits_and_is_accessible(tmp_path, width, opened):
    path, *_ = drawn(tmp_path, 30, paths=[f"test/{'x' * 80}/{i}.png" for i in range(30)], p_values=np.full(30, 0.5))
    shown = opened(path, width)
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    assert shown.evaluate(_SCROLLS) == []
    shown.locator("#gallery button").first.click()
    assert shown.evaluate(_SCROLLS) == []
    shown.keyboard.press("Escape")
    text = shown.inner_text("main")
    assert text.index("p-value (p): the fraction of normal images") < text.index(
        " p 0.5"
    )  # explained where it first stands
    # No heading reaches into the next.
    assert shown.evaluate("[...document.querySelectorAll('th')].filter(t => t.scrollWidth > t.clientWidth).length") == 0
    assert shown.evaluate("document.documentElement.lang") == "en"
    # Every control has a name, every picture a text or none to tell.
    assert (
        shown.evaluate("[...document.querySelectorAll('input, select')].filter(one => !one.labels.length).length") == 0
    )
    assert shown.evaluate("[...document.images].filter(one => !one.hasAttribute('alt')).length") == 0
    assert (
        shown.evaluate(
            "[...document.querySelectorAll('button')].filter(one => !one.ariaLabel && !one.innerText).length"
        )
        == 0
    )
    assert shown.evaluate(_CONTRAST) == []


# What scrolls sideways.
_SCROLLS = """[...document.querySelectorAll('body *')].filter((one) => one.scrollWidth > one.clientWidth + 1 &&
  ['auto', 'scroll'].includes(getComputedStyle(one).overflowX)).map((one) => one.outerHTML.slice(0, 80))"""

# Texts whose contrast with what lies behind them is below 4.5, as WCAG 2.2 AA asks for.
_CONTRAST = """() => {
  const channels = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const color = channels(getComputedStyle(one).backgroundColor);
      if (color.length === 3 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const one of document.querySelectorAll("body *")) {
    const holdsText = [...one.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (!holdsText || one.closest("svg, script, noscript")) continue;
    const [a, b] = [light(channels(getComputedStyle(one).color)), light(behind(one))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) poor.push(one.outerHTML.slice(0, 80));
  }
  return poor;
}"""
