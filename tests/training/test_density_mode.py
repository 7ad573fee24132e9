"""`--density_mode=auto` for data that A.5 does not name: the training images decide."""

import numpy as np
import pytest
from conftest import TINY, write_image

import cutpaste_tf
from cutpaste_tf.errors import InputError
from cutpaste_tf.settings.config import Config
from cutpaste_tf.training import preparation

PATCHES = TINY.replaced(
    epochs=0, image_size=64, patch_size=32, extract_size=16, stride=16, dense="fast", feature="layer1"
)


def _draw(folder, shifts):
    rng = np.random.default_rng(0)
    part = np.zeros((64, 64, 3), np.int64)
    part[16:48, 16:48] = rng.integers(0, 200, (32, 32, 1))
    for index, shift in enumerate(shifts):
        picture = np.roll(part, shift, (0, 1)) + rng.integers(0, 20, part.shape)
        write_image(folder / f"good/{index:02d}.png", picture.astype(np.uint8))
    return folder


@pytest.mark.parametrize(("is_aligned", "mode"), [(True, "per_location"), (False, "shared")])
def test_the_training_images_decide(tmp_path, is_aligned, mode):
    shifts = np.random.default_rng(1).integers(0, 64, (24, 2)) * (not is_aligned)
    config, run, lines = PATCHES.replaced(data=str(_draw(tmp_path / "parts", shifts))), tmp_path / "run", []
    cutpaste_tf.train(config, run, report=lines.append)
    (line,) = [line for line in lines if "aligned" in line]
    assert line.startswith("The parts are aligned" if is_aligned else "The parts are not aligned")
    assert line.endswith(f"(--density_mode={mode}).")
    assert Config.read(run / "config.json").density.density_mode == mode
    cutpaste_tf.train(config, run, report=lines.append)  # the same command again
    assert lines[-2] == f"The run in {run} is already complete."
    other = "shared" if is_aligned else "per_location"
    with pytest.raises(InputError, match=rf"holds a run with density_mode={mode} \(now {other}\)"):
        cutpaste_tf.train(config.replaced(density_mode=other), run)


def test_a_run_that_left_it_to_the_name_keeps_what_the_name_gave(tmp_path):
    """As runs of earlier versions did."""
    config, run = PATCHES.replaced(data=str(_draw(tmp_path / "parts", [(0, 0)] * 24))), tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text(config.to_json())
    (run / "training_data.json").write_text('{"images": {}, "white": 255}')
    with pytest.raises(InputError, match="The training images have changed"):
        cutpaste_tf.train(config, run)
    lines = []
    cutpaste_tf.train(config, tmp_path / "new", report=lines.append)
    images = (tmp_path / "new/training_data.json").read_text()
    (run / "training_data.json").write_text(images)
    cutpaste_tf.train(config, run, report=lines.append)
    assert Config.read(run / "config.json").density.density_mode == "shared"
    assert Config.read(tmp_path / "new/config.json").density.density_mode == "per_location"


def test_one_density_for_all_if_another_cannot_be(tmp_path, monkeypatch):
    config, lines = PATCHES.replaced(data=str(_draw(tmp_path / "parts", [(0, 0)] * 24))), []
    for path in (tmp_path / "parts/good").iterdir():
        write_image(tmp_path / "regions" / path.name, np.full((64, 64), 255, np.uint8))
    regions = config.replaced(region=str(tmp_path / "regions"))
    cutpaste_tf.train(regions, tmp_path / "regions_run", report=lines.append)
    monkeypatch.setattr(preparation, "_MANY", 15)  # there are 4 x 4
    cutpaste_tf.train(config, tmp_path / "many", report=lines.append)
    for name in ("regions_run", "many"):
        assert Config.read(tmp_path / name / "config.json").resolved().density.density_mode == "shared"
    assert not [line for line in lines if "aligned" in line]


def test_arrays_are_looked_at_like_files():
    rng = np.random.default_rng(0)
    part = np.tile(rng.integers(0, 200, (64, 64, 1)), 3)
    images = np.stack([part + rng.integers(0, 9, part.shape) for _ in range(24)]).astype(np.uint8)
    detector = cutpaste_tf.OutlierDetector(PATCHES).fit(images)
    assert detector.detector_.config.density.density_mode == "per_location"


@pytest.mark.parametrize(("name", "mode"), [("bottle", "per_location"), ("screw", "shared")])
def test_a5_decides_for_its_own_categories(tmp_path, name, mode):
    lines, run = [], tmp_path / "run"
    data = _draw(tmp_path / name, [(0, 0)] * 24)
    cutpaste_tf.train(PATCHES.replaced(data=str(data)), run, report=lines.append)
    assert not [line for line in lines if "aligned" in line]
    assert Config.read(run / "config.json").resolved().density.density_mode == mode
