"""What TensorBoard's own reader finds in a run's files."""

import pytest
from conftest import TINY
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import cutpaste_tf
from cutpaste_tf.errors import InputError
from cutpaste_tf.evaluation.options import EvaluationOptions


def _read(folder):
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    return events


def test_a_run_and_its_evaluation_are_there(category, tmp_path):
    config = TINY.replaced(data=str(category))
    cutpaste_tf.train(config, tmp_path / "run")
    cutpaste_tf.evaluate(tmp_path / "run", options=EvaluationOptions(tensorboard_images=True))
    training = _read(tmp_path / "run/tensorboard")
    tags = set(training.Tags()["tensors"])
    assert {f"augmentations/{view}" for view in config.augmentation.views} <= tags
    assert {"learning_rate", "cross_entropy", "l2", "accuracy", "images_per_second"} <= tags
    assert [event.step for event in training.Tensors("learning_rate")] == [3, 6]
    # width, height, then up to eight pictures
    assert len(training.Tensors("augmentations/normal")[0].tensor_proto.string_val) == 2 + 2

    from tensorboard.plugins.hparams import plugin_data_pb2

    content = training.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert start.hparams["learning_rate"].number_value == config.resolved().schedule.learning_rate
    assert start.hparams["backbone"].string_value == "toy"
    assert set(start.hparams) == set(config.flat())
    assert start.group_name == str(tmp_path / "run")  # what the page HParams calls it

    evaluation = _read(tmp_path / "run/tensorboard/eval")
    assert set(evaluation.Tags()["tensors"]) == {"image_auroc", "pixel_auroc", "aupro", "heat_maps"}
    assert evaluation.Tensors("image_auroc")[0].step == 6


def test_images_without_heat_maps_are_refused(tiny_run):
    with pytest.raises(InputError, match="shows heat maps, but there are none; add --heat_maps"):
        cutpaste_tf.evaluate(
            tiny_run,
            options=EvaluationOptions(heat_maps=False, tensorboard_images=True),
        )
