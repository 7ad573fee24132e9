"""RUN/eval/report.html: metrics, curves, and images by score, on a page that works offline and without a server."""

import base64
import io
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from PIL import Image
from scipy import ndimage

from cutpaste_tf import arrays
from cutpaste_tf.images.reading import NORMAL, Examples
from cutpaste_tf.pictures import drawing, heat_map_plots
from cutpaste_tf.progress import Report, no_report, track

NAME, FOLDER = "report.html", "report_images"
INLINE, _INLINE_BYTES = 300, 12_000_000  # most images, and bytes, in the page itself; otherwise they are next to it
_SIDE = 512  # largest side in pixels of an image on the page
_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
)


class Figure(NamedTuple):
    """A row in the page's table of metrics.

    Attributes:
        name: name of the metric.
        meaning: its meaning in a sentence.
        values: values as text, by column: this evaluation, then those it is compared with.
    """

    name: str
    meaning: str
    values: list[str]


class Summary(NamedTuple):
    """The page's summary of the evaluation.

    Attributes:
        title: title of the page.
        columns: columns of the table of metrics, this evaluation first.
        figures: rows of the table; none without labels.
        facts: more about the evaluation, by displayed name.
    """

    title: str
    columns: list[str]
    figures: list[Figure]
    facts: Mapping[str, str]


class Results(NamedTuple):
    """The detector's results for each test image; None if it has none.

    Attributes:
        scores: [count].
        maps: heat maps [count, height, width].
        p_values: [count].
        boxes: (left, top, width, height), in pixels of the test images, around heat above the pixel threshold.
    """

    scores: np.ndarray
    maps: np.ndarray | None = None
    p_values: np.ndarray | None = None
    boxes: Sequence[Iterable[tuple[int, int, int, int]]] | None = None


class Limits(NamedTuple):
    """Thresholds; None if unknown.

    Attributes:
        threshold: the score above which images are called anomalous.
        normal_scores: [n], scores of the normal images that set the threshold, in any order; the page uses them to
            show the false alarm rate of a threshold.
        pixel_threshold: the heat above which pixels are anomalous, see `Scale.of`.
    """

    threshold: float | None = None
    normal_scores: np.ndarray | None = None
    pixel_threshold: float | None = None


def save(
    folder: Path,
    summary: Summary,
    examples: Examples,
    results: Results,
    limits: Limits = Limits(),  # noqa: B008  immutable
    *,
    report: Report = no_report,
) -> None:
    """Writes the page, and next to it the images if there are too many for one file.

    Args:
        folder: folder to write to, which is itself written atomically.
        summary: summary of the evaluation.
        examples: the test images, [count, height, width, 3], with masks.
        results: results for the test images.
        limits: the thresholds.
    """
    size, photographs, overlays = _pictures(folder, examples, results.maps, limits.pixel_threshold, report)
    scores, p_values, threshold = results.scores, results.p_values, limits.threshold
    labels, image_size = np.asarray(examples.labels), examples.images.shape[1:3]
    data: dict[str, Any] = {
        "aspect": round(image_size[1] / image_size[0], 4),
        "paths": [drawing.label(path) for path in examples.paths],
        "labels": labels.tolist(),
        "defects": [drawing.label(defect) for defect in examples.defects],
        "scores": [_written(score) for score in scores],
        "digits": drawing.digits(scores),
        "axis": drawing.ScoreAxis.of(scores, labels == NORMAL, threshold)._asdict(),
        "photographs": photographs,
        "overlays": overlays,
        "boxes": [_parts(boxes, image_size) for boxes in results.boxes] if results.boxes is not None else [],
        "marked": [_parts(_marked(mask), image_size) for mask in examples.masks],
        "threshold": None if threshold is None else _written(threshold),
        "normalScores": [] if limits.normal_scores is None else sorted(map(_written, limits.normal_scores)),
        "pValues": None if p_values is None else [f"{p_value:.2g}" for p_value in p_values],
    }
    place = f"in {FOLDER}/, which must stay next to this file" if (folder / FOLDER).is_dir() else "in this file"
    text = _ENVIRONMENT.get_template("page.html").render(
        **summary._replace(title=drawing.label(summary.title))._asdict(),
        note=f"The pictures of {len(scores)} images, {size / 1e6:.1f} MB, are {place}.",
        data=data,
        has_heat=bool(overlays),
        has_p_values=p_values is not None,
    )
    (folder / NAME).write_text(text, encoding="utf-8", errors="backslashreplace")


def _pictures(
    folder: Path, examples: Examples, maps: np.ndarray | None, pixel_threshold: float | None, report: Report
) -> tuple[int, list[str], list[str]]:
    """Bytes of all pictures, and the addresses of the photographs and of their overlays, if there are heat maps.

    Addresses are files in `folder`/FOLDER, or, for few small pictures, their contents.
    """
    (folder / FOLDER).mkdir()
    scale = None if maps is None else heat_map_plots.Scale.of(maps, pixel_threshold)
    files: dict[str, list[Path]] = {"": [], "_heat": []}
    images = enumerate(arrays.rows(examples.images))
    for index, image in track(images, len(examples.paths), "Drawing the page's pictures", report):
        small = heat_map_plots.reduced(image, 2 * _SIDE)  # larger than needed, for the filter below
        pictures = {"": small}
        if maps is not None and scale is not None:
            heat = heat_map_plots.reduced(maps[index], 2 * _SIDE)
            arrays.release(maps)
            pictures["_heat"] = heat_map_plots.colored(small, heat, scale)[1]
        for kind, picture in pictures.items():
            path = folder / FOLDER / f"{index:06d}{kind}.jpg"
            path.write_bytes(_jpeg(picture))
            files[kind].append(path)
    size = sum(path.stat().st_size for paths in files.values() for path in paths)
    if len(examples.paths) > INLINE or size > _INLINE_BYTES:
        places = {kind: [f"{FOLDER}/{path.name}" for path in paths] for kind, paths in files.items()}
    else:
        places = {kind: list(map(_inline, paths)) for kind, paths in files.items()}
        shutil.rmtree(folder / FOLDER)
    return size, places[""], places["_heat"]


def _inline(path: Path) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _jpeg(picture: np.ndarray) -> bytes:
    image, buffer = Image.fromarray(picture), io.BytesIO()
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    image.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def _written(score: float) -> float:
    """A score, rounded as in scores.csv."""
    return float(f"{score:.6f}")


def _marked(mask: np.ndarray | None) -> list[tuple[int, int, int, int]]:
    """Boxes (left, top, width, height) around the regions of a mask [height, width]."""
    if mask is None:
        return []
    regions: Any = ndimage.label(mask, np.ones((3, 3)))
    slices = ndimage.find_objects(regions[0])
    return [(x.start, y.start, x.stop - x.start, y.stop - y.start) for y, x in slices]


def _parts(boxes: Iterable[tuple[int, int, int, int]], size: tuple[int, int]) -> list[list[float]]:
    """Converts boxes from pixels to percentages of the image's width and height."""
    height, width = size
    whole = width, height, width, height
    return [[round(100 * int(n) / pixels, 2) for n, pixels in zip(box, whole, strict=True)] for box in boxes]
