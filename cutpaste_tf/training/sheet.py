"""A sheet with every proxy task's views of a data set, made without training."""

import functools
from pathlib import Path

import numpy as np

from cutpaste_tf import environment
from cutpaste_tf.augmentation import pipeline
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import reading
from cutpaste_tf.networks import saliency, weights
from cutpaste_tf.progress import say
from cutpaste_tf.settings.config import Config
from cutpaste_tf.training import preparation

_ROWS = 5


def show_augmentations(config: Config, output_dir: Path, *, tfds_data_dir: str = "") -> None:
    """Writes OUTPUT_DIR/proxy_tasks.png with every task's augmentations of a few training images.

    Arguments and errors as for `train.train`.
    """
    environment.check()
    config = config.resolved()
    from cutpaste_tf.pictures import plots  # matplotlib is slow to load

    arrays = None
    items = preparation.list_train(config, output_dir, tfds_data_dir, None)  # before weights are downloaded
    try:
        arrays = weights.read_saliency_network(config.saliency_weights)
    except InputError as error:
        if config.augmentation.saliency_weights:
            raise
        say(f"Skipping cutswap, since there is no network for its saliency: {error}")
    preparation.check_weights(config)
    examples = reading.read(items, config.data.size, config.data)
    output_dir.mkdir(parents=True, exist_ok=True)
    rows = np.linspace(0, len(examples.images) - 1, min(_ROWS, len(examples.images))).astype(int)
    chosen = np.array(examples.images[rows])
    mark = functools.partial(saliency.mark, arrays=arrays) if arrays else None
    columns = pipeline.every_task(chosen, config.augmentation, seed=config.seed, mark=mark)
    plots.save_sheet(output_dir / "proxy_tasks.png", columns)
    say(f"Sheet: {output_dir}/proxy_tasks.png")
