"""Pictures of hand-made heat maps: what is hot, where the outline is, one scale for all."""

import numpy as np
import pytest
from PIL import Image

from cutpaste_tf.images.reading import Examples
from cutpaste_tf.pictures import drawing, heat_map_files, heat_map_plots

SIDE, TIMES = 32, 4  # panels of 32 px are enlarged four times, to hold what is written above them
TEXT, LEGEND = 17, 29  # heights of a line of text, and of the colors


def _save(folder, count=3, defects=("good", "hole", "hole"), paths=("good/0.png", "hole/0.png", "hole/0.jpg")):
    """Grey images; from the second one on, a square that is hot and masked."""
    maps = np.zeros((count, SIDE, SIDE), np.float32)
    mask = np.zeros((SIDE, SIDE), bool)
    mask[8:20, 10:22] = True
    maps[1:, mask] = 5.0
    images = np.full((count, SIDE, SIDE, 3), 128, np.uint8)
    labels = np.array([0] + [1] * (count - 1))
    masks = [None] + [mask] * (count - 1)
    examples = Examples(images, list(paths), labels, list(defects), masks, "note")
    heat_map_plots.save(folder, examples, maps, [f"{number:.2f}" for number in range(count)])
    return mask


def _panels(path):
    picture = np.asarray(Image.open(path)).astype(int)
    assert picture.shape == (TEXT + TIMES * SIDE + LEGEND, 4 * TIMES * SIDE, 3)
    return np.split(picture[TEXT:-LEGEND:TIMES, ::TIMES], 4, axis=1)


def test_a_picture_shows_image_outline_heat_and_overlay(tmp_path):
    mask = _save(tmp_path)
    image, outlined, heat, overlay = _panels(tmp_path / "heatmaps/hole/0.png")
    assert np.all(image == 128)
    red = (outlined[:, :, 0] > 200) & (outlined[:, :, 1] < 100)
    assert red[8, 10]
    assert red[19, 21]
    assert not red[14, 16]  # inside
    assert not red[~mask].any()
    hot, cold = heat[14, 16], heat[2, 2]
    assert hot[0] > 2 * hot[2]  # red above blue where the score is high
    assert cold[2] > cold[0]
    np.testing.assert_array_equal(np.unique(heat[mask], axis=0), hot[None])
    assert overlay[14, 16, 0] > 2 * overlay[14, 16, 2]
    assert np.abs(overlay[2, 2] - 128).max() < 40  # the image, hardly tinted


def test_one_color_scale_holds_for_all(tmp_path):
    _save(tmp_path)
    normal = _panels(tmp_path / "heatmaps/good/0.png")
    anomalous = _panels(tmp_path / "heatmaps/hole/0.png")
    np.testing.assert_array_equal(normal[2][2, 2], anomalous[2][2, 2])
    np.testing.assert_array_equal(normal[0], normal[1])  # no mask, no outline


def test_images_of_one_name_do_not_take_each_other_s_picture(tmp_path):
    _save(tmp_path)
    written = sorted(path.relative_to(tmp_path).as_posix() for path in (tmp_path / "heatmaps").rglob("*.png"))
    assert written == ["heatmaps/good/0.png", "heatmaps/hole/0.jpg.png", "heatmaps/hole/0.png"]


@pytest.mark.parametrize(("count", "columns"), [(3, 3), (20, 12)])
def test_the_sheet_has_a_column_for_each_of_up_to_twelve_images(tmp_path, count, columns):
    _save(tmp_path, count, ["good"] + ["hole"] * (count - 1), [f"{number}.png" for number in range(count)])
    sheet = np.asarray(Image.open(tmp_path / "heatmaps.png"))
    assert sheet.shape == (TEXT + 4 * TIMES * SIDE + LEGEND, columns * TIMES * SIDE, 3)
    panels = sheet[TEXT:-LEGEND:TIMES, ::TIMES]
    first, last = panels[:, :SIDE], panels[:, -SIDE:]
    assert np.all(first[:SIDE] == 128)  # the normal image comes first
    assert not np.array_equal(first[2 * SIDE : 3 * SIDE], last[2 * SIDE : 3 * SIDE])


@pytest.mark.parametrize("name", ["a_rather_long_kind_of_defect_in_one_word", "a long kind in " + "several words " * 9])
def test_no_label_is_cut_off(tmp_path, name):
    """In a column of 128 px: every letter is written, in as many lines as it takes."""
    _save(tmp_path, defects=("good", name, name))
    lines = drawing.wrapped(f"{name}: hole/0.png  1.00", 122)
    assert "".join(lines).replace(" ", "") == f"{name}:hole/0.png1.00".replace(" ", "")
    assert all(drawing.font(line).getlength(line) <= 122 for line in lines)
    sheet = np.asarray(Image.open(tmp_path / "heatmaps.png"))
    strip = sheet[: sheet.shape[0] - 4 * TIMES * SIDE - LEGEND, 128:256]
    rows = [strip[2 + 13 * row : 15 + 13 * row] for row in range(len(lines))]
    assert all((row < 128).any() for row in rows)
    assert (strip[:, -1] == 255).all()  # nothing reaches the edge


def test_the_legend_says_which_score_a_color_stands_for(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(heat_map_plots.ImageDraw.ImageDraw, "text", lambda self, at, text, **_: written.append(text))
    _save(tmp_path)
    assert written[-3:] == ["heat 0", "1.25", "5"]  # the root's middle is a quarter
    colors = np.asarray(Image.open(tmp_path / "heatmaps/hole/0.png"))[-LEGEND + 6].astype(int)
    heat = _panels(tmp_path / "heatmaps/hole/0.png")[2]
    np.testing.assert_array_equal(colors[12], heat[2, 2])
    np.testing.assert_array_equal(colors[12 + 359], heat[14, 16])


def test_scores_have_the_digits_that_tell_them_apart():
    assert [drawing.digits(np.array([0, extent])) for extent in (0.002, 1, 30, 99, 5000, 0)] == [5, 3, 1, 1, 0, 1]


def _examples(count, mask=None):
    images = np.full((count, SIDE, SIDE, 3), 128, np.uint8)
    names = [f"test/hole/{number}.png" for number in range(count)]
    return Examples(images, names, np.ones(count, int), ["hole"] * count, [mask] * count, "")


def test_evaluation_and_prediction_paint_a_pixel_threshold_alike(tmp_path, monkeypatch):
    heat = np.full((SIDE, SIDE), 0.2, np.float32)
    heat[8:16, 8:16] = 1.0
    assert heat_map_plots.Scale.of(heat[None], 0.5).level(np.array([0.0, 0.5, 4.5])) == pytest.approx([0, 1 / 3, 1])
    examples = _examples(1)
    heat_map_files.write(tmp_path / "0", examples.images[0], heat, (), pixel_threshold=0.5, format="npy")
    predicted = np.asarray(Image.open(tmp_path / "0.overlay.jpg")).astype(int)
    written = []
    monkeypatch.setattr(heat_map_plots.ImageDraw.ImageDraw, "text", lambda self, at, text, **_: written.append(text))
    heat_map_plots.save(tmp_path, examples, heat[None], ["1.00"], pixel_threshold=0.5)
    assert written[1:4] == ["heat 0", "threshold 0.5", "4.5"]
    drawn = np.asarray(Image.open(tmp_path / "heatmaps/hole/0.png")).astype(int)[TEXT:-LEGEND, -TIMES * SIDE :]
    assert np.abs(drawn[::TIMES, ::TIMES] - predicted)[10:14, 10:14].max() < 12  # JPEG


def test_the_sheet_names_its_files_and_repeats_no_row(tmp_path, monkeypatch):
    """Without a mask there is no outline to show."""
    written = []
    monkeypatch.setattr(heat_map_plots.ImageDraw.ImageDraw, "text", lambda self, at, text, **_: written.append(text))
    maps = np.zeros((2, SIDE, SIDE), np.float32)
    heat_map_plots.save(tmp_path, _examples(2), maps, ["1.00", "2.00"])
    assert written[-5:-3] == ["hole/0.png 1.00", "hole/1.png 2.00"]
    rows = (np.asarray(Image.open(tmp_path / "heatmaps.png")).shape[0] - TEXT - LEGEND) // (TIMES * SIDE)
    assert rows == 3
