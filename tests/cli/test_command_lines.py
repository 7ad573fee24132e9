"""The mains as a user meets them: bad input is one line and exit code 2, before TensorFlow is loaded."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, TINY

from cutpaste_tf.augmentation.proxy_tasks import TASKS
from cutpaste_tf.errors import InputError
from cutpaste_tf.networks import weights
from cutpaste_tf.settings.base import leaves
from cutpaste_tf.settings.config import Config
from cutpaste_tf.settings.presets import PRESETS, shown


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Runs a main in a process that cannot import TensorFlow: what it refuses was checked first."""
    offline = {**os.environ, "HTTPS_PROXY": "http://127.0.0.1:9", "KERAS_HOME": str(tmp_path_factory.mktemp("keras"))}
    options = {"cwd": ROOT, "env": offline, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "tests/command_lines.py"], **options) as process:

        def answer(main, *arguments):
            print(json.dumps([main, *map(str, arguments)]), file=process.stdin, flush=True)
            return json.loads(process.stdout.readline())

        yield answer


def test_the_mains_are_the_commands():
    """What the tests below run within one process, once as a user does."""
    for main in ("train_main.py", "eval_main.py"):
        result = subprocess.run([sys.executable, main, "--nothing=1"], cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 2
        assert result.stderr == "error: Unknown command line flag 'nothing'. See --help.\n"


def test_a_module_is_whole_before_it_runs():
    """As `python -m cutpaste_tf.cli.train`: what is defined below the call would be missing."""
    for path in (ROOT / "cutpaste_tf").rglob("*.py"):
        _, guard, rest = path.read_text().partition('\nif __name__ == "__main__":\n')
        assert not guard or all(line.startswith("    ") for line in rest.splitlines()), path


def test_an_installed_command_names_the_installed_ones(tmp_path):
    """As `pip install .` starts it: a script of the command's name."""
    script = tmp_path / "cutpaste-train"
    script.write_text("from cutpaste_tf.cli import train; train.run()")
    options = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(ROOT)}, "capture_output": True, "text": True}
    shown = subprocess.run([sys.executable, script, "--help"], **options).stdout
    assert "\n  cutpaste-train --data=DATA --output_dir=RUN\n" in shown
    assert "_main.py" not in shown
    as_module = subprocess.run([sys.executable, "-m", "cutpaste_tf.cli.train", "--help"], **options).stdout
    assert as_module == shown.replace("cutpaste-train", "python train_main.py")
    code = "from cutpaste_tf import progress; progress.say('Next: python eval_main.py --run_dir=run')"
    script.write_text(code)
    assert subprocess.run([sys.executable, script], **options).stdout == "Next: cutpaste-eval --run_dir=run\n"


@pytest.mark.parametrize(("options", "is_heard"), [((), False), (("--verbosity=0",), True)])
def test_libraries_say_what_they_do_only_when_asked(options, is_heard):
    """As TensorFlow Datasets on each set that it reads."""
    code = (
        "from absl import logging; from cutpaste_tf.cli.main import run_main\n"
        "run_main(lambda: (logging.info('a set is read'), logging.warning('a set is old')))"
    )
    result = subprocess.run([sys.executable, "-c", code, *options], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0
    assert "a set is old" in result.stderr
    assert ("a set is read" in result.stderr) == is_heard


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output_dir=OUT"], "--data is missing"),
        (["--data=CATEGORY"], "--output_dir is missing"),
        (["--data=demo/nothing", "--output_dir=OUT"], "sets are: demo/fabric, demo/gear"),
        (["--data=OUT", "--output_dir=OUT"], "is not a folder"),
        (["--data=CATEGORY", "--output_dir=OUT", "--proxy_task=x"], "must be one of: cutpaste_3way, cutpaste,"),
        (["--data=CATEGORY", "--output_dir=OUT", "--backbone=vgg"], "must be one of: resnet18"),
        (["--data=CATEGORY", "--output_dir=OUT", "--batch_size=64"], "not divisible by the 3 classes"),
        (["--data=CATEGORY", "--output_dir=OUT", "--head_dims=a"], "must be whole numbers, such as 512,128"),
        (["--data=CATEGORY", "--output_dir=OUT", "--weights=none.npz"], "none.npz does not exist"),
        (
            ["--data=CATEGORY", "--output_dir=OUT", "--weights=imagenet"],
            "could not be downloaded",
        ),
        (
            ["--data=CATEGORY", "--output_dir=OUT", "--backbone=efficientnet_b4", "--weights=x.h5"],
            "does not exist; give",
        ),
        (["--data=CATEGORY", "--output_dir=OUT", "--test_data=nowhere"], "nowhere is not a folder"),
        (["--data=mvtec_ad/mug", "--output_dir=OUT"], "mvtec_ad/NAME has: bottle, cable"),
        (["--data=cifar10/cat", "--output_dir=OUT", "--tfds_data_dir=OUT"], "tfds.load('cifar10', data_dir="),
        (["--data=CATEGORY", "--output_dir=OUT", "--proxy_task=cutswap"], "--saliency_weights=imagenet could not be"),
        (["--data=CATEGORY", "--output_dir=OUT", "--epochs=many"], "flag --epochs=many"),
        (["--data=CATEGORY", "--output_dir=OUT", "--nothing=1"], "Unknown command line flag 'nothing'"),
        (["--data=CATEGORY", "--output_dir=OUT", "stray"], "Stray arguments: stray"),
        (["--data=CATEGORY", "--output_dir=/proc/run"], "cannot be written"),
        (["--data=CATEGORY", "--output_dir=CATEGORY/test/run"], "is inside the image folders"),
        (["--data=CATEGORY", "--output_dir=OUT", "--learning_rate=nan"], "must be a finite number"),
        (["--data=CATEGORY", "--output_dir=CATEGORY/ground_truth/square/000_mask.png"], "is a file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(category, tmp_path, arguments, message, run):
    places = {"CATEGORY": str(category), "OUT": str(tmp_path / "out")}
    for name, place in places.items():
        arguments = [argument.replace(name, place) for argument in arguments]
    code, _, error = run("train_main.py", *arguments)
    assert code == 2, error
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_weights_of_another_network_are_refused(category, tmp_path, run):
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
        ("text.npz", "is not a file of torchvision"),
        ("empty.npz", "is not a file of torchvision"),
        ("", "is not a file of torchvision"),
        ("array.npy", "is not a file of torchvision"),
    ]:
        code, _, error = run("train_main.py", *common, f"--weights={tmp_path / name}")
        assert (code, message in error) == (2, True), error
    code, _, error = run("train_main.py", *common, f"--weights={tmp_path / 'resnet50.npz'}", "--image_size=64")
    assert "try --stem=imagenet" in error


def test_evaluation_of_what_is_no_run(tmp_path, run):
    code, _, error = run("eval_main.py", f"--run_dir={tmp_path}")
    assert (code, "has no config.json" in error) == (2, True), error
    (tmp_path / "config.json").write_text(Config.of(data="demo/gear").to_json())
    code, _, error = run("eval_main.py", f"--run_dir={tmp_path}")
    assert (code, "is not complete" in error) == (2, True), error
    (tmp_path / "config.json").write_text("{")
    code, _, error = run("eval_main.py", f"--run_dir={tmp_path}")
    assert (code, "config.json is damaged (Expecting" in error) == (2, True), error
    (tmp_path / "config.json").write_text("[]")
    code, _, error = run("eval_main.py", f"--run_dir={tmp_path}")
    assert (code, "holds no settings" in error) == (2, True), error
    (tmp_path / "config.json").write_text(Config.of(data="demo/gear").to_json())
    code, _, error = run("eval_main.py", f"--run_dir={tmp_path}", "--synthetic_fill=image")
    assert (code, "need --synthetic=SHAPE" in error) == (2, True), error
    code, _, error = run("eval_main.py", "--run_dir=README.md")
    assert (code, "README.md has no config.json" in error) == (2, True), error


def test_predictions_refuse_before_the_network_is_loaded(category, tmp_path, run, copied_run):
    detector = copied_run(TINY.replaced(epochs=0), category, tmp_path / "run")
    for config in detector.rglob("config.json"):  # the tests' own backbone is not known to another process
        config.write_text(config.read_text().replace('"toy"', '"resnet18"'))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/a.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    test = category / "test"
    for arguments, message in [
        ([], "--detector is missing"),
        ([f"--detector={detector}"], "--images is missing"),
        ([f"--detector={tmp_path / 'full'}", f"--images={test}"], "has no config.json"),
        ([f"--images={category}"], "is a data set's folder (it holds train, test, ground_truth/)"),
        ([f"--images={test}/none*.png"], "there is no such file or folder"),
        ([f"--images={tmp_path / 'empty'}"], "holds no images"),
        ([f"--images={test}", f"--output={category / 'test/rows.csv'}"], "would be scored as well"),
        ([f"--images={test}", f"--output={tmp_path / 'full/a.txt'}"], "already exists"),
        ([f"--images={test}", f"--heat_maps={tmp_path / 'full'}"], "not an empty folder"),
        ([f"--images={test}", f"--heat_maps={category / 'test/maps'}"], "would be scored as well"),
        ([f"--images={test}", "--false_alarm_rate=0.1"], "is below 0.1429, the least that 6 normal images can resolve"),
        ([f"--images={test}", "--format=xml"], "should be one of <csv|jsonl>"),
    ]:
        names = {argument.partition("=")[0] for argument in arguments}
        more = [f"--detector={detector}"] if arguments and "--detector" not in names else []
        more += [f"--output={tmp_path / 'new/rows.csv'}"] if "--output" not in names else []
        code, out, error = run("predict_main.py", *more, *arguments)
        assert (code, out, message in error, error.count("\n")) == (2, "", True, 1), error
    assert not (tmp_path / "new/rows.csv").exists()
    assert not (category / "test/rows.csv").exists()


@pytest.mark.parametrize(
    ("main", "flag"), [("train_main.py", "data"), ("eval_main.py", "data"), ("predict_main.py", "images")]
)
def test_help_reads_well(main, flag, run):
    _, out, _ = run(main, "--help")
    assert f"python {main} --" in out
    assert out.count(f"  --{flag}\n") == 1


def test_every_setting_is_a_flag_with_its_default(run):
    _, out, _ = run("train_main.py", "--help")
    for field, _ in leaves(Config):
        assert f"\n  --{field.name}" in out, field.name
        assert field.metadata["source"] in out.replace("\n      ", " ")
    assert "--head_learning_rate=0.03\n" in out
    assert "--head_dims=512,128\n" in out
    positions = [out.index(f"\n  --{field.name}") for field, group in leaves(Config) if group is not Config]
    assert positions == sorted(positions)  # the settings stand together, group by group


def test_defaults_are_the_papers():
    config = Config().resolved()
    assert (config.schedule.total_steps, config.schedule.batch_size, config.data.size) == (65_536, 96, (256, 256))
    assert (config.schedule.learning_rate, config.schedule.momentum, config.schedule.l2) == (0.03, 0.9, 0.00003)
    assert (config.augmentation.min_patch_area, config.augmentation.max_patch_area) == (0.02, 0.15)
    assert config.augmentation.proxy_task in TASKS
    assert Config.of(proxy_task="cutpaste").resolved().schedule.batch_size == 64
    assert Config.of(proxy_task="rotation").resolved().schedule.batch_size == 128


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": -0.1}, "greater than 0"),
        ({"epochs": -2}, "at least -1"),
        ({"translate": 1.0}, r"must be in \[0, 1\)"),
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
        Config.of(**change)


def test_a_configuration_survives_json(tmp_path):
    config = Config.of(data="x", head_dims=(8,), seed=3)
    (tmp_path / "config.json").write_text(config.to_json())
    assert Config.read(tmp_path / "config.json") == config
    with pytest.raises(InputError, match="Unknown settings speed"):
        Config.from_mapping({"speed": 1})
    with pytest.raises(InputError, match="epochs is 'ten', which is not of type int"):
        Config.from_mapping({"schedule": {"epochs": "ten"}})
    with pytest.raises(InputError, match="The settings schedule are 3, which is not a group"):
        Config.from_mapping({"schedule": 3})


def test_a_flat_configuration_of_before_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"data": "x", "epochs": 3}))
    with pytest.raises(InputError, match=r"config\.json was written by cutpaste_tf 0\.1.*train it again"):
        Config.read(tmp_path / "config.json")


def test_every_setting_has_a_name_of_its_own_and_is_found_by_it():
    names = [field.name for field, _ in leaves(Config)]
    assert len(names) == len(set(names))
    assert list(Config().flat()) == names
    with pytest.raises(InputError, match="There is no setting epoch; did you mean epochs"):
        Config.of(epoch=3)


EPOCHS = {"paper": 256, "paper_patches": 256, "transfer": 64, "quick": 0, "quarter_hour": 4}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_sets_flags_and_flags_come_before_it(run, tmp_path, name):
    config = Config.of(**PRESETS[name]).resolved()
    code, out, _ = run("train_main.py", "--help")
    assert f"{name}: {shown(name)}." in " ".join(out.split())
    assert config.schedule.epochs == EPOCHS[name]
    # A run whose settings differ is refused by their names: so one sees what the command would have used.
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text(config.replaced(data=str(tmp_path), seed=3, epochs=7).to_json())
    flags = [f"--preset={name}", f"--data={tmp_path}", f"--output_dir={tmp_path / 'run'}", "--epochs=7"]
    code, _, error = run("train_main.py", *flags)
    assert (code, "holds a run with seed=3 (now 0); give" in error) == (2, True), error


def test_what_is_left_open_is_filled_in_anew():
    unresolved = Config.of(epochs=3)
    config = unresolved.resolved()
    assert (config.schedule.batch_size, config.network.normalization) == (96, "none")
    other = unresolved.replaced(proxy_task="cutpaste", weights="resnet18.npz").resolved()
    assert (other.schedule.batch_size, other.network.normalization, other.schedule.epochs) == (64, "imagenet", 3)
