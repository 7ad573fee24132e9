"""The built-in data set: layout, reproducibility, defects where the masks say."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from cutpaste_tf.images import demo, demo_drawing, sources


@pytest.fixture
def demo_root(monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "FOLDER", tmp_path / "demo")
    for name in ("TRAIN", "TEST_GOOD", "TEST_PER_DEFECT"):
        monkeypatch.setattr(demo, name, 2)
    return tmp_path / "demo"


@pytest.mark.parametrize("name", sorted(demo.CATEGORIES))
def test_draws_a_category_in_mvtec_layout(demo_root, name):
    folder = sources.folder(f"demo/{name}")
    assert folder == demo_root / name
    drawn = (folder / "train/good/000.png").stat().st_mtime_ns
    sources.folder(f"demo/{name}/")  # drawn once ...
    assert (folder / "train/good/000.png").stat().st_mtime_ns == drawn
    (folder / ".drawn_by_sha256").write_text("an older version of the file")
    sources.folder(f"demo/{name}")  # ... and again when the drawing has changed
    assert (folder / "train/good/000.png").stat().st_mtime_ns > drawn
    assert not list(demo_root.glob(".*"))
    test = sources.read_test(folder, 64)
    defects = demo.CATEGORIES[name].defects
    assert len(defects) >= 4
    assert sorted(test.defects) == sorted(2 * ["good", *defects])
    assert all((mask is None) == (defect == "good") for mask, defect in zip(test.masks, test.defects, strict=True))


@pytest.mark.parametrize("name", sorted(demo.CATEGORIES))
def test_the_mask_is_where_the_defect_is(name):
    category = demo.CATEGORIES[name]
    for defect in category.defects:
        for index in range(4):
            rng = np.random.default_rng([9, index])
            image, mask = category.draw(rng, defect)
            # The same seed draws the same normal image up to the defect's own draws, which come last.
            normal, _ = category.draw(np.random.default_rng([9, index]), "good")
            changed = np.abs(image - normal).max(axis=-1) > 0.05
            assert 10 < mask.sum() < 0.15 * mask.size, (defect, index)
            assert np.mean(changed[~mask]) < 1e-3, (defect, index)
            assert changed[mask].mean() > 0.15, (defect, index)
            if name == "gear":  # a defect is one place, not every edge
                rows, columns = np.nonzero(mask)
                assert max(np.ptp(rows), np.ptp(columns)) < 0.75 * demo_drawing.SIZE, (defect, index)


def test_normal_images_vary():
    for category in demo.CATEGORIES.values():
        first, second = (category.draw(np.random.default_rng([0, index]), "good")[0] for index in range(2))
        assert np.abs(first - second).mean() > 0.02


def test_pixels_are_the_same_on_every_machine():
    pictures = {
        name: np.floor(category.draw(np.random.default_rng([1, 2]), category.defects[0])[0] * 255 + 0.5)
        for name, category in sorted(demo.CATEGORIES.items())
    }
    digests = {n: hashlib.sha256(p.astype(np.uint8).tobytes()).hexdigest()[:16] for n, p in pictures.items()}
    assert digests == {"fabric": "9fc793b6732d3d5a", "gear": "f410cef51f24d30c"}


def test_masks_are_saved_as_0_and_255(demo_root):
    folder = sources.folder("demo/gear")
    mask = np.asarray(Image.open(folder / "ground_truth/rust/000_mask.png"))
    assert set(np.unique(mask)) == {0, 255}


@pytest.mark.parametrize(("words", "drawn"), [(["gear"], {"gear"}), ([], {"fabric", "gear"})])
def test_the_command_draws_what_it_names_or_all(demo_root, monkeypatch, capsys, words, drawn):
    monkeypatch.setattr("sys.argv", ["demo", *words])
    assert demo.main() == 0
    assert {path.name for path in demo_root.iterdir()} == drawn
