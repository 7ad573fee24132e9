"""The mains as a user meets them: bad input is one line and exit code 2, before TensorFlow is loaded."""

import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from cutpaste_tf import weights
from cutpaste_tf.config import CHOICES, VIEWS, Config
from cutpaste_tf.errors import InputError

# Runs a main with TensorFlow made impossible to import: proves that the check came first.
_GUARD = """
import runpy, sys
sys.modules["tensorflow"] = None
sys.modules["keras"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(main, *arguments):
    result = subprocess.run(
        [sys.executable, "-c", _GUARD, main, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )
    return result.returncode, result.stdout, result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output_dir=OUT"], "--data is missing"),
        (["--data=CATEGORY"], "--output_dir is missing"),
        (["--data=demo/nothing", "--output_dir=OUT"], "these are: demo/fabric, demo/gear"),
        (["--data=OUT", "--output_dir=OUT"], "is not a folder"),
        (["--data=CATEGORY", "--output_dir=OUT", "--proxy_task=x"], "must be one of: cutpaste_3way, cutpaste,"),
        (["--data=CATEGORY", "--output_dir=OUT", "--backbone=vgg"], "must be one of: resnet18"),
        (["--data=CATEGORY", "--output_dir=OUT", "--batch_size=64"], "not divisible by the 3 classes"),
        (["--data=CATEGORY", "--output_dir=OUT", "--head_dims=a"], "must be whole numbers, as in 512,128"),
        (["--data=CATEGORY", "--output_dir=OUT", "--weights=none.npz"], "none.npz does not exist"),
        (
            ["--data=CATEGORY", "--output_dir=OUT", "--weights=imagenet"],
            "is for EfficientNet; a ResNet-18 needs a file",
        ),
        (
            ["--data=CATEGORY", "--output_dir=OUT", "--backbone=efficientnet_b4", "--weights=x.h5"],
            "does not exist; give",
        ),
        (["--data=CATEGORY", "--output_dir=OUT", "--test_data=nowhere"], "nowhere is not a folder"),
        (["--data=mvtec_ad/mug", "--output_dir=OUT"], "mvtec_ad/NAME has: bottle, cable"),
        (["--data=cifar10/cat", "--output_dir=OUT", "--tfds_data_dir=OUT"], "tfds.load('cifar10', data_dir="),
        (["--data=CATEGORY", "--output_dir=OUT", "--proxy_task=cutswap"], "--saliency_weights"),
        (["--data=CATEGORY", "--output_dir=OUT", "--epochs=many"], "flag --epochs=many"),
        (["--data=CATEGORY", "--output_dir=OUT", "--nothing=1"], "Unknown command line flag 'nothing'"),
        (["--data=CATEGORY", "--output_dir=OUT", "stray"], "Stray arguments: stray"),
        (["--data=CATEGORY", "--output_dir=/proc/run"], "cannot be written"),
        (["--data=CATEGORY", "--output_dir=CATEGORY/test/run"], "lies among the images"),
        (["--data=CATEGORY", "--output_dir=OUT", "--learning_rate=nan"], "must be a finite number"),
        (["--data=CATEGORY", "--output_dir=CATEGORY/ground_truth/square/000_mask.png"], "is a file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(category, tmp_path, arguments, message):
    places = {"CATEGORY": str(category), "OUT": str(tmp_path / "out")}
    for name, place in places.items():
        arguments = [argument.replace(name, place) for argument in arguments]
    code, _, error = run("train_main.py", *arguments)
    assert code == 2, error
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_weights_of_another_network_are_refused(category, tmp_path):
    arrays = {name: np.zeros(shape, np.float32) for name, shape in weights.resnet18_shapes("imagenet").items()}
    arrays["layer2.0.conv1.weight"] = np.zeros((128, 64, 1, 1), np.float32)
    np.savez(tmp_path / "resnet50.npz", **arrays)
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "empty.npz").touch()
    arrays["layer2.0.conv1.weight"] = np.zeros((128, 64, 3, 3), np.float32)
    arrays["layer1.2.conv1.weight"] = np.zeros((64, 64, 3, 3), np.float32)
    np.savez(tmp_path / "resnet34.npz", **arrays)
    np.save(tmp_path / "array.npy", np.zeros(3))
    common = [f"--data={category}", f"--output_dir={tmp_path / 'out'}"]
    for name, message in [
        ("resnet50.npz", "layer2.0.conv1.weight has the shape (128, 64, 1, 1)"),
        ("resnet34.npz", "a ResNet-18 has no array layer1.2.conv1.weight"),
        ("text.npz", "is not an .npz file"),
        ("empty.npz", "is not an .npz file"),
        ("", "is not an .npz file"),
        ("array.npy", "is not an .npz file"),
    ]:
        code, _, error = run("train_main.py", *common, f"--weights={tmp_path / name}")
        assert (code, message in error) == (2, True), error
    code, _, error = run("train_main.py", *common, f"--weights={tmp_path / 'resnet50.npz'}", "--image_size=64")
    assert "try --stem=imagenet" in error


def test_evaluation_of_what_is_no_run(tmp_path):
    code, _, error = run("eval_main.py", f"--run_dir={tmp_path}")
    assert (code, "has no config.json" in error) == (2, True), error
    (tmp_path / "config.json").write_text(Config(data="demo/gear").to_json())
    code, _, error = run("eval_main.py", f"--run_dir={tmp_path}")
    assert (code, "is not complete" in error) == (2, True), error
    (tmp_path / "config.json").write_text("{")
    code, _, error = run("eval_main.py", f"--run_dir={tmp_path}")
    assert (code, "is not JSON" in error) == (2, True), error
    (tmp_path / "config.json").write_text("[]")
    code, _, error = run("eval_main.py", f"--run_dir={tmp_path}")
    assert (code, "holds no settings" in error) == (2, True), error
    (tmp_path / "config.json").write_text(Config(data="demo/gear").to_json())
    code, _, error = run("eval_main.py", f"--run_dir={tmp_path}", "--synthetic_fill=image")
    assert (code, "need --synthetic=SHAPE" in error) == (2, True), error
    code, _, error = run("eval_main.py", "--run_dir=README.md")
    assert (code, "README.md has no config.json" in error) == (2, True), error


@pytest.mark.parametrize("main", ["train_main.py", "eval_main.py"])
def test_help_reads_well(main):
    _, out, _ = run(main, "--helpshort")
    assert f"python {main} --" in out
    assert "--data:" in out


def test_every_setting_is_a_flag_with_its_default():
    _, out, _ = run("train_main.py", "--help")
    for name in vars(Config()):
        assert f"-{name}:" in out or f"-[no]{name}:" in out, name
    assert "(default: '0.03')" in out
    assert "(default: '512,128')" in out


def test_defaults_are_the_papers():
    config = Config()
    assert (config.total_steps, config.batch_size, config.image_size) == (65_536, 96, 256)
    assert (config.learning_rate, config.momentum, config.l2) == (0.03, 0.9, 0.00003)
    assert (config.min_patch_area, config.max_patch_area) == (0.02, 0.15)
    assert config.proxy_task in VIEWS
    assert Config(proxy_task="cutpaste").batch_size == 64
    assert Config(proxy_task="rotation").batch_size == 128
    assert all(getattr(config, name) in known for name, known in CHOICES.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": -0.1}, "greater than 0"),
        ({"epochs": -2}, "at least 0"),
        ({"translate": 1.0}, r"must lie in \[0, 1\)"),
        ({"base_jitter": 0.7}, "at most 0.5"),
        ({"min_patch_area": 0.3}, "min_patch_area"),
        ({"scar_min_width": 20}, "smallest width"),
        ({"image_size": 16}, "at least 32"),
        ({"momentum": 1.5}, "less than 1"),
        ({"seed": 2**31}, "at most 2147483647"),
        ({"head_dims": ()}, "one or more positive widths"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        Config(**change)


def test_a_configuration_survives_json():
    config = Config(data="x", head_dims=(8,), seed=3)
    assert Config.from_mapping(json.loads(config.to_json())) == config
    with pytest.raises(InputError, match="Unknown settings speed"):
        Config.from_mapping({"speed": 1})
    with pytest.raises(InputError, match="epochs is 'ten', which is no int"):
        Config.from_mapping({"epochs": "ten"})
