"""Configurations travel: a run again from its config.json, flags from a file, two runs compared."""

import json
import shutil

import numpy as np
import pytest
from conftest import TINY, command

from cutpaste_tf import Config, load


def test_a_config_makes_the_same_run_again(copied_run, category, tmp_path):
    again, other, trained = tmp_path / "again", tmp_path / "other", copied_run(TINY, category, tmp_path / "trained")
    shutil.copy(trained / "config.json", tmp_path / "sent.json")
    command("train_main.py", f"--config={tmp_path / 'sent.json'}", f"--output_dir={again}")
    assert Config.read(again / "config.json") == Config.read(trained / "config.json")
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    np.testing.assert_array_equal(load(again).score(images).scores, load(trained).score(images).scores)
    (tmp_path / "flags.txt").write_text(f"--config={trained}\n--seed=3\n# a comment\n--output_dir={other}\n")
    command("train_main.py", f"--flagfile={tmp_path / 'flags.txt'}", "--density=ledoit_wolf")
    expected = Config.read(trained / "config.json").replaced(seed=3, density="ledoit_wolf")
    assert Config.read(other / "config.json") == expected


def test_runs_are_compared_by_what_differs(tiny_run, tmp_path, capsys):
    other = tmp_path / "other run"
    (other / "eval").mkdir(parents=True)
    config = Config.read(tiny_run / "config.json").replaced(seed=3)
    (other / "config.json").write_text(config.to_json())
    (other / "eval/metrics.json").write_text(json.dumps({"image_auroc": 97.5, "pixel_auroc": None}))
    command("reproduce_main.py", f"--compare_runs={tiny_run},{other}")
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    shown = {words[0]: [word.strip() for word in words[1:] if word] for words in lines}
    assert shown == {
        "setting": [str(tiny_run), str(other)],
        "seed": ["0", "3"],
        "image AUROC": ["-", "97.50"],
        "pixel AUROC": ["-", "-"],
        "AUPRO": ["-", "-"],
    }
    (other / "eval/metrics.json").write_text('{"image_auroc": 97.')  # cut off
    command("reproduce_main.py", f"--compare_runs={tiny_run},{other}")
    assert "97" not in capsys.readouterr().out
    command("reproduce_main.py", f"--compare_runs={tiny_run},{tiny_run}")
    assert capsys.readouterr().out.endswith("All settings are the same.\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--config=nowhere"], "--config=nowhere does not exist; name a run's folder"),
        (["--config=tests"], "tests has no config.json"),
        (["--config=tests", "--preset=quick"], "--config and --preset both name settings"),
    ],
)
def test_a_config_that_is_not_there_is_refused(options, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        command("train_main.py", *options, f"--output_dir={tmp_path / 'run'}")
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
