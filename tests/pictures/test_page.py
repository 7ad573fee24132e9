"""report.html in a real browser: counts as in the CSV, keyboard, names that are markup, many images, two widths."""

import csv
import functools
import json
import shutil

import numpy as np
import pytest
from conftest import write_image

import cutpaste_tf
from cutpaste_tf.images.reading import Examples
from cutpaste_tf.pictures import page

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
    said, pages = [], []

    def open_page(path, width=1600):
        shown = browser.new_page(viewport={"width": width, "height": 900}, offline=True)
        shown.on("console", lambda message: said.append(message.text))
        shown.on("pageerror", lambda error: said.append(str(error)))
        shown.goto(path.as_uri())
        shown.wait_for_selector("#gallery li")
        pages.append(shown)
        return shown

    yield open_page
    for shown in pages:
        shown.close()
    assert said == []


def drawn(folder, count, *, labels=None, paths=None, heat=True, threshold=None):
    """A page of drawn images, half of them anomalous."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2 if labels is None else np.array(labels)
    images = np.broadcast_to(rng.integers(0, 255, (1, 16, 16, 3), np.uint8), (count, 16, 16, 3))
    paths = paths or [f"test/{'good' if label == 0 else 'hole'}/{i}.png" for i, label in enumerate(labels)]
    defects = [{0: "good", 1: "hole", -1: ""}[int(label)] for label in labels]
    scores = rng.normal(labels, 1.0)
    folder.mkdir(exist_ok=True)
    page.save(
        folder,
        title="drawn",
        columns=["this evaluation", "runs/a_folder_with_a_long_name", "Gaussian on 32 x 32 pixels"],
        figures=[page.Figure("image AUROC", "a chance", ["76.00 %", "75.00 %", "74.00 %"])],
        facts={"seed": "0"},
        examples=Examples(images, paths, labels, defects, [None] * count, ""),
        scores=scores,
        maps=np.broadcast_to(rng.random((1, 16, 16), np.float32), (count, 16, 16)) if heat else None,
        threshold=threshold,
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
    shown.keyboard.press("Enter")
    shown.keyboard.press("Tab")
    assert opacity() == "1"  # pressed, it stays
    shown.focus("#scores [data-by=name]")
    shown.keyboard.press("Enter")
    assert shown.locator("#scores th[aria-sort]").count() == 1


def test_images_are_sorted_and_filtered(tmp_path, opened):
    path, scores, labels = drawn(tmp_path, 40, threshold=0.5)
    shown = opened(path)
    assert "Suggested" in shown.inner_text("#threshold-note")
    order = "[...document.querySelectorAll('#gallery li')].map(one => Number(one.dataset.index))"
    assert shown.evaluate(order) == np.argsort(-scores).tolist()
    shown.select_option("#sort", "errors")
    level = min(score for score in scores if score >= 0.5)
    excess = np.where(labels == 0, scores - level, level - scores)
    assert shown.evaluate(order)[:3] == np.argsort(-excess)[:3].tolist()
    shown.select_option("#kind", "wrong")
    assert len(shown.evaluate(order)) == sum(counts(shown)) > 0
    shown.select_option("#kind", "kind hole")
    assert set(labels[shown.evaluate(order)]) == {1}


def test_a_name_that_is_markup_is_a_name(tmp_path, category, tiny_run, opened):
    name = "<script>alert(1)<!--.png"
    write_image(category / "test/square" / name, np.full((40, 40, 3), 255, np.uint8))
    data = tmp_path / "</script><b>x"
    data.parent.mkdir()
    (category / "test").rename(data)
    cutpaste_tf.evaluate(tiny_run, data, output_dir=tmp_path / "evaluation")
    shown = opened(tmp_path / "evaluation/report.html")
    assert name in shown.inner_text("#scores")
    assert "</script><b>x" in shown.inner_text("h1")
    assert shown.locator("script").count() == 2


def test_without_labels_there_is_no_curve(tmp_path, opened):
    path, *_ = drawn(tmp_path, 12, labels=[-1] * 12, paths=[f"{i}.png" for i in range(12)], heat=False)
    shown = opened(path)
    assert shown.is_hidden("#roc-figure")
    assert "unlabelled images" in shown.inner_text("#counts")
    assert "false alarms" not in shown.inner_text("#counts")
    assert shown.locator("button.picture").count() == 0


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
    shown.wait_for_function("document.querySelector('#gallery img').naturalWidth > 0")
    assert "MB, are in report_images/" in shown.inner_text("#about ~ p")


@pytest.mark.parametrize("width", [400, 1600])
def test_it_fits_and_is_accessible(tmp_path, width, opened):
    path, *_ = drawn(tmp_path, 30, paths=[f"test/{'x' * 80}/{i}.png" for i in range(30)])
    shown = opened(path, width)
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
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
