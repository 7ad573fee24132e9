"""The paper's figures for any category, drawn from the runs that the tables share.

2 and 5: views of every proxy task. 3: t-SNE of features. 4 and 7 to 21: heat maps from GradCAM and from patches. 6:
samples of synthetic anomalies.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.manifold import TSNE

from cutpaste_tf import runs
from cutpaste_tf.augmentation import pipeline
from cutpaste_tf.detection import loading
from cutpaste_tf.detection.detector import Detector
from cutpaste_tf.files import write_whole
from cutpaste_tf.images import prepared, reading, sources, synthetic
from cutpaste_tf.images.reading import ANOMALOUS, NORMAL, Examples
from cutpaste_tf.pictures import heat_map_plots, plots
from cutpaste_tf.reproduction.plan import Request
from cutpaste_tf.reproduction.tables import SYNTHETIC, TABLES, Column

_IMAGES = 24  # in figures 7 to 21
_POINTS = 200  # at most, of each kind in figure 3
_IMAGE_MODEL, _PATCH_MODEL = TABLES[1]["cutpaste_3way"], TABLES[2]["cutpaste_3way"]
_PROJECTOR = """embeddings {
  tensor_name: "features"
  tensor_path: "tensors.tsv"
  metadata_path: "metadata.tsv"
}
"""
# Figure -> the columns whose runs with seed 0 it is drawn from.
COLUMNS: dict[int, tuple[Column, ...]] = {
    2: (),
    3: (_IMAGE_MODEL,),
    4: (_IMAGE_MODEL, _PATCH_MODEL),
    6: (),
}


def draw(number: int, category: str, place: str | Path, request: Request) -> Path:
    """Draws a figure for a category.

    Args:
        number: a key of COLUMNS.
        category: name of the category.
        place: folder of the category.
        request: the request whose runs to draw from.

    Returns:
        Path of the PNG.
    """
    path = request.output_dir / f"figure{number}_{category.replace('/', '_')}.png"
    draws: dict[int, Callable[[Path, str | Path, str, Request], None]] = {
        2: _views,
        3: _embedded,
        4: _heat_maps,
        6: _synthetic,
    }
    draws[number](path, place, category, request)
    return path


def _detector(column: Column, category: str, request: Request) -> Detector:
    return loading.load(request.output_dir / "runs" / request.run(column, category, 0).name / runs.DETECTOR)


def _spread(indices: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the indices, evenly spaced."""
    return indices[np.linspace(0, len(indices) - 1, min(count, len(indices))).astype(int)]


def _chosen(examples: Examples, count: int) -> Examples:
    """At most `count` test images, a quarter of them normal."""
    normal = _spread(np.flatnonzero(examples.labels == NORMAL), count // 4)
    anomalous = _spread(np.flatnonzero(examples.labels == ANOMALOUS), count - len(normal))
    return examples.part(np.concatenate([normal, anomalous]))


def _views(path: Path, place: str | Path, category: str, request: Request) -> None:
    config = request.run(_IMAGE_MODEL, category, 0).config(request.data_root)
    items = sources.list_train(place, config.data, tfds_data_dir=request.tfds_data_dir)
    chosen = reading.read([items[i] for i in _spread(np.arange(len(items)), 5)], config.data.size, config.data)
    plots.save_sheet(path, pipeline.every_task(np.array(chosen.images), config.augmentation, seed=0))


def _embedded(path: Path, place: str | Path, category: str, request: Request) -> None:
    """t-SNE of the features of normal and anomalous test images, and of CutPaste and Scar views of training images.

    Neither has the base augmentation, whose translation and jitter would set the views apart from the normal images.
    """
    detector = _detector(_IMAGE_MODEL, category, request)
    config = detector.config
    tests = sources.read_test(place, config.data.size, tfds_data_dir=request.tfds_data_dir)
    normal, anomalous = (
        tests.images[_spread(np.flatnonzero(tests.labels == label), _POINTS)] for label in (NORMAL, ANOMALOUS)
    )
    trained = sources.read_train(place, config.data.size, tfds_data_dir=request.tfds_data_dir).images[:_POINTS]
    plain = dataclasses.replace(config.augmentation, translate=0.0, base_jitter=0.0)
    views = pipeline.augmentations(np.array(trained), plain, seed=0)
    kinds = {name: images for name, images in (("normal", normal), ("anomalous", anomalous)) if len(images)}
    kinds |= {name: np.round(255 * pictures).astype(np.uint8) for name, pictures in views.items()}
    features = np.concatenate([detector.embed(images) for images in kinds.values()])
    names = np.repeat([*kinds], [len(images) for images in kinds.values()])
    perplexity = min(30.0, (len(features) - 1) / 3)
    points = TSNE(init="pca", perplexity=perplexity, random_state=0).fit_transform(features)
    plots.save_points(path, points, names, f"{category}: features by t-SNE")
    # Files for TensorBoard's projector (`tensorboard --logdir=FOLDER`) or projector.tensorflow.org.
    folder = path.with_suffix("")
    folder.mkdir(exist_ok=True)
    write_whole(folder / "tensors.tsv", "".join("\t".join(f"{x:.6g}" for x in row) + "\n" for row in features).encode())
    write_whole(folder / "metadata.tsv", "".join(f"{name}\n" for name in names).encode())
    write_whole(folder / "projector_config.pbtxt", _PROJECTOR.encode())


def _heat_maps(path: Path, place: str | Path, category: str, request: Request) -> None:
    by_image, by_patches = (_detector(column, category, request) for column in COLUMNS[4])
    examples = _chosen(
        sources.read_test(place, by_image.config.data.size, tfds_data_dir=request.tfds_data_dir), _IMAGES
    )
    gradcam, patches = (
        detector.score(examples.images, heat_maps=True).heat_maps for detector in (by_image, by_patches)
    )
    assert gradcam is not None
    assert patches is not None
    heat_map_plots.save_comparison(path, examples, {"GradCAM": gradcam, "patches": patches})


def _synthetic(path: Path, place: str | Path, category: str, request: Request) -> None:
    size = request.run(_IMAGE_MODEL, category, 0).config(request.data_root).data.size
    tests = sources.read_test(place, size, tfds_data_dir=request.tfds_data_dir)
    normal = tests.part(np.flatnonzero(tests.labels == NORMAL)[:3])
    digits, _ = synthetic.read_digits(prepared.data_dir(request.tfds_data_dir))
    natural, _ = synthetic.read_natural("")
    columns = {}
    for shape, fill in SYNTHETIC:
        anomalies = synthetic.make(normal, shape, fill, seed=0, natural=natural, digits=digits)
        columns[f"{shape}\n{fill}"] = anomalies.images[len(normal.images) :].astype(np.float32) / 255
    plots.save_sheet(path, columns)
