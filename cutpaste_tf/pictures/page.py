"""RUN/eval/report.html: figures, curves, and the images by score, on a page that needs no server and no network."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from PIL import Image

from cutpaste_tf import arrays
from cutpaste_tf.images.reading import Examples
from cutpaste_tf.pictures import drawing, heat_map_plots
from cutpaste_tf.progress import Report, hush, track

NAME, FOLDER = "report.html", "report_images"
INLINE = 300  # images at most whose thumbnails are in the page itself; those of more lie beside it
_SIDE = 160  # of a thumbnail, in pixels
_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
)


class Figure(NamedTuple):
    """A row of the page's table of figures.

    Attributes:
        name: of the figure.
        meaning: of it, in a sentence.
        values: as text, by column: the evaluation, and what it is compared with.
    """

    name: str
    meaning: str
    values: list[str]


def save(
    folder: Path,
    *,
    title: str,
    columns: list[str],
    figures: list[Figure],
    facts: Mapping[str, str],
    examples: Examples,
    scores: np.ndarray,
    maps: np.ndarray | None,
    threshold: float | None = None,
    p_values: np.ndarray | None = None,
    report: Report = hush,
) -> None:
    """Writes the page, and beside it the thumbnails, where they are too many for one file.

    Args:
        folder: to write to, one that is put in place as a whole.
        title: of the page.
        columns: of the table of figures, the evaluation first.
        figures: its rows.
        facts: more about the evaluation, by name.
        examples: the test images.
        scores: [count], of the images.
        maps: heat maps [count, side, side], if there are any.
        threshold: that is suggested, if there is one; images that score above it are called defective.
        p_values: [count], of the images, if there are any.
        report: takes a line for the user.
    """
    inline = len(scores) <= INLINE
    if not inline:
        (folder / FOLDER).mkdir()
    scale = None if maps is None else heat_map_plots.Scale.of(maps)
    size, thumbnails, overlays = 0, [], []
    images = enumerate(arrays.rows(examples.images))
    for index, image in track(images, len(scores), "Drawing thumbnails", report):
        mask, pictures = examples.masks[index], [image]
        if maps is not None and scale is not None:
            *_, overlay = heat_map_plots.panels(image, mask, maps[index], scale)
            pictures.append(overlay)
        for kind, picture, kept in zip(("", "_heat"), pictures, (thumbnails, overlays), strict=False):
            content = _jpeg(picture)
            size += len(content)
            if inline:
                kept.append(f"data:image/jpeg;base64,{base64.b64encode(content).decode()}")
            else:
                name = f"{FOLDER}/{index:06d}{kind}.jpg"
                (folder / name).write_bytes(content)
                kept.append(name)
    data: dict[str, Any] = {
        "paths": [drawing.label(path) for path in examples.paths],
        "labels": examples.labels.tolist(),
        "defects": [drawing.label(defect) for defect in examples.defects],
        "scores": [float(f"{score:.6f}") for score in scores],  # as in scores.csv
        "digits": drawing.digits(scores),
        "thumbnails": thumbnails,
        "overlays": overlays,
        "threshold": threshold,
        "pValues": None if p_values is None else [f"{p_value:.2g}" for p_value in p_values],
    }
    place = "in this file" if inline else f"in {FOLDER}/, which must stay beside this file"
    text = _ENVIRONMENT.get_template("page.html").render(
        title=drawing.label(title),
        columns=columns,
        figures=figures,
        facts=facts,
        note=f"{len(scores)} images; their thumbnails, {size / 1e6:.1f} MB, are {place}.",
        data=data,
        has_heat=bool(overlays),
        has_p_values=p_values is not None,
    )
    (folder / NAME).write_text(text, encoding="utf-8", errors="backslashreplace")


def _jpeg(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
