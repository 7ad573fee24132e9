"""What each choice of a short schedule from scratch changes.

    python -m benchmarks.schedules --output_dir=FOLDER --data=DIR [--seeds=0,1,2] [--variants=...] [train_main's flags]

A variant changes one thing; `base` changes nothing. A fifth of the training images is held out. Each network is
measured after its last step, and again with batch norm's statistics of the fitted images: by the AUROC of the test
images, which decides nothing; by the AUROC of made-up anomalies on held-out images (training/candidates.py); and by the
mean log density of the held-out images minus that of the fitted ones. `untrained` is the network as initialized, and
`base, GROUP initial` the network of `base` with a group of layers set back to its initial weights. If the command is
repeated, it skips what schedules.csv already has.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from absl import app, flags

from cutpaste_tf import files
from cutpaste_tf.augmentation import pipeline, proxy_tasks
from cutpaste_tf.backend import keras, tf
from cutpaste_tf.cli.flags import config_from_flags, define_config_flags
from cutpaste_tf.detection import loading
from cutpaste_tf.evaluation import metrics
from cutpaste_tf.images import sources
from cutpaste_tf.networks import batch_norm, build
from cutpaste_tf.networks.build import Networks
from cutpaste_tf.runs import TrainingData
from cutpaste_tf.settings import sizes
from cutpaste_tf.settings.config import Config
from cutpaste_tf.training import candidates, fitting

# Variant -> changed settings. Those without any change `_train`, or the base augmentation (`_changed`).
_VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "jitter 0": {"base_jitter": 0.0},
    "jitter .3": {"base_jitter": 0.3},
    "DROC's jitter": {},
    "learning rate / 10": {},
    "learning rate x 10": {},
    "warm-up": {},
    "conv1 frozen": {},
    "conv1 / 10": {},
    "batches of 96": {"batch_size": 96},
    "independent views": {"share_base_augmentation": False},
}
_GROUPS = ("conv1", "layer1", "layer2", "layer3", "layer4")

_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder of schedules.csv.", required=True)
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds.")
_CHOSEN = flags.DEFINE_list("variants", [*_VARIANTS], "Variants to train.")
define_config_flags()


def main(argv: list[str]) -> None:
    """Trains every variant with every seed."""
    del argv
    path = Path(_OUTPUT_DIR.value) / "schedules.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = files.read_csv(path) if path.is_file() else []
    given = config_from_flags("paper")
    for seed in map(int, _SEEDS.value):
        for variant in _CHOSEN.value:
            key = {
                "data": given.data.data,
                "view_size": sizes.as_flag(given.resolved().view_size),
                "steps": given.resolved().schedule.total_steps,
                "variant": variant,
                "seed": seed,
            }
            if any({name: str(value) for name, value in key.items()}.items() <= row.items() for row in rows):
                continue
            config = given.replaced(seed=seed, **_VARIANTS[variant])
            for name, values in _measured(config.resolved(), variant):
                rows.append({name: str(value) for name, value in {**key, "variant": name, **values}.items()})
                print(rows[-1], flush=True)
            files.write_csv(path, rows)


def _measured(config: Config, variant: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Trains a variant; yields names of networks and their measures."""
    place, size, schedule = config.data.data, config.data.size, config.schedule
    examples, tests = sources.read_train(place, size, config.data), sources.read_test(place, size, config.data)
    order = np.random.default_rng(config.seed).permutation(len(examples.images))
    held_out = examples.images[np.sort(order[: len(order) // 5])]
    fitted = examples.part(np.sort(order[len(order) // 5 :]))
    normal = held_out[:30]
    anomalies = np.concatenate([*candidates.made_up(normal, config.seed).values()])
    nets = fitting.initial_networks(config)

    def measures(prefix: str) -> dict[str, Any]:
        detector = loading.make(nets.feature, config, TrainingData.of(fitted)).fit(fitted.images)
        of_normal, of_made_up = detector.score(held_out).scores, detector.score(anomalies).scores
        labels = np.repeat([0, 1], [len(of_normal), len(of_made_up)])
        gap = float(detector.score(fitted.images).scores.mean() - of_normal.mean())
        return {
            f"{prefix}auroc": metrics.auroc(tests.labels, detector.score(tests.images).scores),
            f"{prefix}made_up": metrics.auroc(labels, np.concatenate([of_normal, of_made_up])),
            f"{prefix}held_out": round(gap, 3),
        }

    def both(accuracy: float) -> dict[str, Any]:
        values = {"accuracy": round(accuracy, 4), **measures("")}
        before = nets.backbone.get_weights()
        batch_norm.calibrate_batch_norm(
            nets.feature, batch_norm.batches(fitted.images, config.view_size, schedule.batch_size, config.seed)
        )
        values |= measures("calibrated_")
        nets.backbone.set_weights(before)
        return values

    initial = [np.array(weights) for weights in nets.backbone.get_weights()]
    if variant == "base":
        yield "untrained", both(0.0)
    accuracy = _train(nets, fitted.images, config, variant)
    yield variant, both(accuracy)
    if variant == "base":
        trained = nets.backbone.get_weights()
        owners = [variable.path.split("/")[-2] for variable in nets.backbone.weights]
        for group in _GROUPS:
            chosen = [owner.replace("bn1", "conv1").startswith(group) for owner in owners]
            nets.backbone.set_weights(
                [old if is_chosen else new for old, new, is_chosen in zip(initial, trained, chosen, strict=True)]
            )
            yield f"base, {group} initial", both(accuracy)


def _train(nets: Networks, images: np.ndarray, config: Config, variant: str) -> float:
    """Trains to the last step; returns the accuracy over the last quarter of the steps."""
    schedule = config.schedule
    (phase,) = schedule.phases
    build.set_trainable(nets.backbone, head_only=False, freezes_batch_norm=False)
    first = [layer for layer in nets.backbone.layers if layer.name in ("conv1", "bn1")]
    for layer in first:
        layer.trainable = variant != "conv1 frozen"
    rate = {"learning rate / 10": 0.1, "learning rate x 10": 10.0}.get(variant, 1.0)
    phase = phase._replace(learning_rate=phase.learning_rate * rate)
    fitting.compile_classifier(nets.classifier, schedule, phase)
    if variant == "warm-up":
        steps = schedule.total_steps
        nets.classifier.optimizer.learning_rate = keras.optimizers.schedules.CosineDecay(
            0.0, steps // 2, warmup_target=phase.learning_rate, warmup_steps=steps // 2
        )
    if variant == "conv1 / 10":
        slow = {
            id(variable.value) for layer in first for variable in layer.trainable_variables
        }  # what TensorFlow passes
        update = nets.classifier.optimizer.update_step

        def slower(gradient: Any, variable: Any, learning_rate: Any) -> None:
            update(gradient, variable, learning_rate * (0.1 if id(variable) in slow else 1.0))

        nets.classifier.optimizer.update_step = slower
    with _changed(variant):
        stream: Any = pipeline.stream(images, config.augmentation, batch_size=schedule.batch_size, seed=config.seed)
        quarter = schedule.total_steps // 4
        history: Any = nets.classifier.fit(stream, steps_per_epoch=quarter, epochs=4, shuffle=False, verbose=0)  # pyright: ignore[reportArgumentType]
    return history.history["accuracy"][-1]


@contextlib.contextmanager
def _changed(variant: str) -> Iterator[None]:
    """With DROC's jitter, replaces the base augmentation's."""
    if variant != "DROC's jitter":
        yield
        return
    plain = proxy_tasks.base_augment

    def jittered(image: tf.Tensor, seed: tf.Tensor, settings: Any, size: Any) -> tf.Tensor:
        view = plain(image, seed, dataclasses.replace(settings, base_jitter=0.0), size)
        seeds = tf.random.split(tf.random.fold_in(seed, 3), 3)  # pyright: ignore[reportArgumentType]
        view = tf.image.stateless_random_brightness(view, 0.125, seeds[0])
        view = tf.image.stateless_random_contrast(view, 0.6, 1.4, seeds[1])
        view = tf.image.stateless_random_saturation(tf.clip_by_value(view, 0.0, 1.0), 0.6, 1.4, seeds[2])
        return tf.clip_by_value(view, 0.0, 1.0)

    with mock.patch.object(proxy_tasks, "base_augment", jittered):
        yield


if __name__ == "__main__":
    app.run(main)
