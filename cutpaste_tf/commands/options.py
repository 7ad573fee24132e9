"""What an evaluation is asked to show, beside its settings."""

from typing import NamedTuple


class HeatMapOptions(NamedTuple):
    """How `eval_main.py` localizes.

    Attributes:
        wanted: whether to make heat maps; None: for a patch model, where there are masks, and with `gradcam_layer`.
        gradcam_layer: of an image model, see `gradcam.GradCam`.
    """

    wanted: bool | None = None
    gradcam_layer: str = ""


class Presentation(NamedTuple):
    """What `eval_main.py` shows beside scores and figures.

    Attributes:
        page: whether to write report.html, which takes the images; scores on kept features need only the features.
        beside: folders of evaluations, or of runs, whose figures stand beside.
        tensorboard_images: whether TensorBoard gets the sheet of heat maps.
    """

    page: bool = True
    beside: tuple[str, ...] = ()
    tensorboard_images: bool = False
