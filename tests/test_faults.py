"""The benchmark of faults made short: it finds nothing, and it would find something."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from benchmarks.faults import mangling, tally

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, limits and /proc")


def _count(folder, *flags):
    """The rows of a benchmark, in a process of its own: it forks before TensorFlow starts threads."""
    command = [sys.executable, "-m", "benchmarks.faults", f"--folder={folder}", *flags]
    completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=580, env=os.environ)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    rows = json.loads((folder / "faults.json").read_text())
    failures = [failure for row in rows for failure in row["failures"]]
    assert not failures, failures
    return {(row["kind"], row["what"]): row for row in rows}


def test_mangled_files_in_every_role(tmp_path):
    rows = _count(tmp_path, "--kinds=inputs", "--share=0.001")
    assert len(rows) == 15
    assert all(row["trials"] == 1 for row in rows.values())


@pytest.mark.slow
def test_kills(tmp_path):
    rows = _count(tmp_path, "--kinds=kills", "--share=0.01")
    assert sum(row["trials"] for row in rows.values()) == 8


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["disk", "memory", "settings", "bits", "together", "long", "degenerate"])
def test_other_faults(tmp_path, kind):
    if kind == "settings":
        pytest.importorskip("hypothesis")
    assert _count(tmp_path, f"--kinds={kind}", "--share=0.01")


def test_what_is_mangled_is_mangled(category):
    """The same seed mangles alike, and every way of mangling changes something."""
    content = next((category / "train/good").iterdir()).read_bytes()
    for change in mangling.ANY:
        results = [change(np.random.default_rng(seed), content) for seed in (1, 1, *range(20))]
        assert results[0] == results[1]
        assert any(result != content for result in results)


def test_native_code_that_gives_up_ends_in_one_line():
    """As TensorFlow's does without memory."""
    code = (
        "import ctypes; from cutpaste_tf import progress; from cutpaste_tf.cli import main\n"
        "def run():\n    progress.say('Fitting.')\n    ctypes.CDLL(None).abort()\n"
        "main.run_main(run)"
    )
    completed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert completed.returncode == 2
    assert completed.stderr == (
        "error: Out of memory (native code ended the process) after: Fitting. Free some, or lower --batch_size or "
        "--image_size.\n"
    )


def test_failures_are_counted_and_rows_are_kept(tmp_path, capsys):
    counts = tally.Tally(tmp_path)
    row = tally.Row("kills", "training")
    row.count()
    row.count("ended with code 1")
    counts.add(row)
    again = tally.Tally(tmp_path)
    again.add(tally.Row("disk", "full", trials=3))
    again.add(tally.Row("kills", "training", trials=5))
    assert again.table().splitlines()[2:] == [
        "| disk | full | 3 | 0 |  |",
        "| kills | training | 5 | 0 |  |",
        "| **All** | | **8** | **0** | |",
    ]
    assert "FAILED training: ended with code 1" in capsys.readouterr().out


def test_a_failure_is_seen(tmp_path):
    """A command that ends in a traceback counts as a failure."""
    place = tmp_path / "place"
    place.mkdir()
    code = (
        "import sys; from pathlib import Path; from benchmarks.faults import forked\n"
        "def fail(): raise ValueError('odd')\n"
        "ended = forked.run(fail, Path(sys.argv[1])); assert not ended.is_refusal; print(ended.last_line)\n"
        "def wait():\n    import time; time.sleep(60)\n"
        "ended = forked.run(wait, Path(sys.argv[1]), limit=0.2); assert ended.code is None\n"
    )
    completed = subprocess.run(
        [sys.executable, "-c", code, place], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert completed.stdout == "code 1: ValueError: odd\n", completed.stderr
    shutil.rmtree(place)
