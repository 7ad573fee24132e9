"""Curves whose words are never cut off or overprinted."""

import numpy as np
import pytest
from PIL import Image

from cutpaste_tf.pictures import plots

LONG = "a_very_long_kind_of_defect_that_somebody_wrote_down_in_one_word_without_any_space_at_all_really"
TITLE = f"/a/rather/long/path/{'x' * 120}: image AUROC 93.2 %"


@pytest.mark.parametrize("name", ["short", LONG, "several words " * 12])
def test_no_word_is_cut_off(tmp_path, name):
    rng = np.random.default_rng(0)
    defects = ["good"] * 20 + [name] * 30
    labels, scores = np.repeat([0, 1], [20, 30]), np.r_[rng.normal(0, 1, 20), rng.normal(3, 1, 30)]
    plots.save_histogram(tmp_path / "histogram.png", defects, scores, TITLE)
    plots.save_roc(tmp_path / "roc.png", labels, scores, TITLE)
    for path in tmp_path.iterdir():
        pixels = np.asarray(Image.open(path).convert("L"))
        assert np.all(pixels[:, :2] == 255), path.name  # nothing reaches an edge
        assert np.all(pixels[:, -2:] == 255), path.name
        assert np.all(pixels[:2] == 255), path.name
        assert np.all(pixels[-2:] == 255), path.name


def test_a_kind_s_name_stands_above_its_bars(tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr(plots.drawing, "save", lambda figure, path: titles.extend(
        axis.get_title(loc="left") for axis in figure.axes))  # fmt: skip
    plots.save_histogram(tmp_path / "x.png", ["good", LONG, ""], np.arange(3.0), "t")
    assert ["".join(title.split()) for title in titles] == ["good(1)", "unlabeled(1)", f"{LONG}(1)"]


def test_one_score_far_away_leaves_the_others_their_room(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(plots.drawing, "save", lambda figure, path: figures.append(figure))
    scores = np.r_[np.random.default_rng(0).normal(100, 1, 1199), 5000]
    plots.save_histogram(tmp_path / "x.png", ["good"] * 1199 + ["hole"], scores, "t", threshold=101.6)
    good, hole = figures[0].axes
    assert sum(bar.get_height() > 0 for bar in good.patches) > 8
    assert 0.1 < good.lines[0].get_xdata()[0] < 0.5  # the threshold, of an axis from 0 to 1
    assert float(hole.get_xticklabels()[-1].get_text()) == 5000
