"""The figures of a category, from small runs."""

from pathlib import Path

import numpy as np
import pytest
from conftest import TINY
from PIL import Image

import cutpaste_tf
from cutpaste_tf.augmentation import pipeline
from cutpaste_tf.reproduction import figures
from cutpaste_tf.reproduction.plan import Request, plan
from cutpaste_tf.reproduction.tables import Column

SMALL = {
    name: value
    for name, value in TINY.replaced(epochs=0, image_size=64).flat().items()
    if name in ("backbone", "image_size", "batch_size", "epochs", "scar_max_length", "head_dims", "stem")
}
PATCHES = {**SMALL, "patch_size": 32, "extract_size": 32, "stride": 8}


@pytest.fixture
def request_(category, tmp_path, monkeypatch):
    models = Column(SMALL), Column(PATCHES)
    monkeypatch.setattr(figures, "_IMAGE_MODEL", models[0])
    monkeypatch.setattr(figures, "_PATCH_MODEL", models[1])
    monkeypatch.setitem(figures.COLUMNS, 3, models[:1])
    monkeypatch.setitem(figures.COLUMNS, 4, models)
    request = Request((), (), (category.name,), 5, "paper", str(category.parent), "", tmp_path / "repro", models)
    for task in plan(request):
        place = request.output_dir / "runs" / task.run.name
        cutpaste_tf.train(task.run.config(request.data_root), place)
    return request


def test_figures_take_runs_of_one_seed(request_):
    assert [task.run.seed for task in plan(request_)] == [0, 0]


@pytest.mark.parametrize("number", figures.COLUMNS)
def test_a_figure_is_drawn(number, request_, category, monkeypatch):
    settings, augmentations = [], pipeline.augmentations
    monkeypatch.setattr(
        pipeline,
        "augmentations",
        lambda *arguments, seed: settings.append(arguments[1]) or augmentations(*arguments, seed=seed),
    )
    path = figures.draw(number, category.name, category, request_)
    assert path == request_.output_dir / f"figure{number}_category.png"
    picture = np.asarray(Image.open(path).convert("RGB"))
    assert picture.std() > 10
    if number == 4:
        # six images of 128 px: input, mask, GradCAM, patches; a line of text, two legends
        assert picture.shape[1] == 6 * 128
        assert picture.shape[0] == 17 + 4 * 128 + 2 * (17 + 29)
        rows = [picture[17 + 128 * row : 17 + 128 * (row + 1), -128:] for row in range(4)]
        assert all(not np.array_equal(rows[0], row) for row in rows[1:])
    if number == 3:
        assert [(augmentation.translate, augmentation.base_jitter) for augmentation in settings] == [
            (0.0, 0.0)
        ]  # as the images beside the views
        folder = Path(str(path)[:-4])
        names = (folder / "metadata.tsv").read_text().split()
        features = np.loadtxt(folder / "tensors.tsv")
        # three normal and three anomalous test images, a patch and a scar of each of six training images
        assert names == ["normal"] * 3 + ["anomalous"] * 3 + ["cutpaste"] * 6 + ["scar"] * 6
        assert features.shape == (18, 16)
        # as `tensorboard --logdir` looks for it
        assert 'tensor_path: "tensors.tsv"' in (folder / "projector_config.pbtxt").read_text()


def test_a_category_further_down_has_a_figure(request_, category):
    path = figures.draw(2, "demo/own", category, request_)
    assert path == request_.output_dir / "figure2_demo_own.png"
    assert path.is_file()
