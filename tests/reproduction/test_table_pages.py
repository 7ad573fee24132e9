"""A table's page in a real browser."""

import shutil

import pytest
from test_summary import REQUEST, put

from cutpaste_tf.reproduction import summary, writing
from cutpaste_tf.reproduction.tables import TABLES

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.parametrize(("number", "scale"), [(1, "paper"), (1, "short"), (6, "paper"), (8, "paper")])
def test_no_cell_breaks_into_four_lines(tmp_path, number, scale):
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium, to test table1.html")
    request = REQUEST._replace(output_dir=tmp_path, scale=scale, tables=(number,))
    for column in TABLES[number]:
        for category in request.categories[:2]:
            for seed in range(3):
                put(request, number, column, category, seed, 90.0 + seed, [("a", 0, 1.0), ("b", 1, 2.0)])
    writing.write(summary.summarize(number, request), request)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 800, "height": 900}, offline=True)
        page.goto((tmp_path / f"table{number}.html").as_uri())
        heights = page.evaluate("[...document.querySelectorAll('td, th')].map(cell => cell.clientHeight)")
        sides = page.evaluate("[document.documentElement.scrollWidth, document.querySelector('table').clientWidth]")
        browser.close()
    assert max(heights) <= 3 * 20 + 8  # three lines of 14 px at 1.4, and the padding
    assert sides[0] <= 800  # wide tables scroll for themselves
    print(sides[1])
