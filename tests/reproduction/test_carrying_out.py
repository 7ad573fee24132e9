"""Runs in processes of their own: tried again, divided, resumed; mostly of a command that stands in for ours."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import ROOT, command, draw_category

from cutpaste_tf import files
from cutpaste_tf.commands import reproducing
from cutpaste_tf.errors import InputError
from cutpaste_tf.reproduction import carrying_out, live
from cutpaste_tf.reproduction.carrying_out import Commands
from cutpaste_tf.reproduction.plan import CLAIMS, Request, plan

# Trains in no time: notes that it was there; fails as often as the file `failures` beside the runs says.
STAND_IN = """
import json, os, pathlib, sys, time
flags = dict(word[2:].partition("=")[::2] for word in sys.argv[1:])
if "run_dir" in flags:
    place = pathlib.Path(flags["output_dir"])
    place.mkdir(parents=True, exist_ok=True)
    (place / "metrics.json").write_text(json.dumps({"image_auroc": 90.0 + len(place.parent.name), "pixel_auroc": 80.0}))
    (place / "scores.csv").write_text("path,label,defect,score\\na,0,good,1\\nb,1,hole,2\\n")
else:
    place = pathlib.Path(flags["output_dir"])
    left = place / "failures"
    count = int(left.read_text()) if left.exists() else 0
    with (place / "trained").open("a") as file:
        file.write(f"{os.getpid()} {os.environ.get('TF_NUM_INTRAOP_THREADS')}\\n")
    time.sleep(0.05)
    if count:
        left.write_text(str(count - 1))
        sys.exit("error: the disk is full")
    (place / "detector").mkdir()
"""


@pytest.fixture
def commands(tmp_path):
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    return Commands((sys.executable, str(script)), (sys.executable, str(script)))


@pytest.fixture
def request_(tmp_path):
    return Request((5,), (), ("bottle",), 2, "paper", str(tmp_path), "", tmp_path / "repro")


def _trained(request, one):
    return (request.output_dir / "runs" / one.run.name / "trained").read_text().splitlines()


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_run_is_carried_out_once(request_, commands, jobs):
    work, lines = plan(request_), []
    for _ in range(2):  # the second time there is nothing to do
        assert carrying_out.carry_out(work, request_, commands, jobs=jobs, tries=1, report=lines.append) == []
    assert all(len(_trained(request_, one)) == 1 for one in work)
    assert len(work) == 8
    assert lines[0] == f"0 of 8 runs are done; {jobs} at a time."
    assert lines[-1].startswith("8 of 8 runs are done")


def test_a_run_that_fails_is_tried_again_then_given_up(request_, commands):
    work, lines = plan(request_), []
    for one, failures in zip(work, (1, 5), strict=False):
        place = request_.output_dir / "runs" / one.run.name
        place.mkdir(parents=True)
        (place / "failures").write_text(str(failures))
    failures = carrying_out.carry_out(work, request_, commands, jobs=2, tries=2, report=lines.append)
    assert [(one.name, one.reason) for one in failures] == [(work[1].run.name, "error: the disk is full")]
    assert [len(_trained(request_, one)) for one in work] == [2, 2, 1, 1, 1, 1, 1, 1]
    assert sum(line.startswith("done") for line in lines) == 7
    log = (request_.output_dir / "runs" / work[1].run.name / "log.txt").read_text()
    assert log.count("error: the disk is full") == 2


def test_several_coordinators_divide_the_runs(request_, commands):
    work = plan(request_)
    threads = [
        threading.Thread(
            target=carrying_out.carry_out,
            args=(work, request_, commands),
            kwargs={"jobs": 2, "tries": 1, "report": lambda line: None},
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(one.is_done(request_.output_dir) for one in work)
    assert all(len(_trained(request_, one)) == 1 for one in work)


def test_a_claimed_run_is_waited_for(request_, commands, monkeypatch):
    monkeypatch.setattr(carrying_out, "_PAUSE", 0.05)
    work = plan(request_)[:1]
    claim = files.locked(request_.output_dir / CLAIMS, work[0].claim)
    claim.__enter__()
    thread = threading.Thread(
        target=carrying_out.carry_out,
        args=(work, request_, commands),
        kwargs={"jobs": 1, "tries": 1, "report": lambda line: None},
    )
    thread.start()
    time.sleep(0.5)
    assert not work[0].is_done(request_.output_dir)
    claim.__exit__(None, None, None)  # as when its process dies
    thread.join(20)
    assert work[0].is_done(request_.output_dir)


def test_the_page_shows_how_far_every_run_is(request_, commands):
    work = plan(request_)
    root = request_.output_dir
    carrying_out.carry_out(work[:1], request_, commands, jobs=1, tries=1, report=lambda line: None)
    running = root / "runs" / work[1].run.name
    running.mkdir(parents=True)
    (running / "train_log.csv").write_text("epoch,cross_entropy\n1,0.69\n2,0.5\n3,0.4\n")
    with files.locked(root / CLAIMS, work[1].claim):
        live.write(work, request_, {work[2].run.name: "error: <b>no</b> space"})
    text = (root / "index.html").read_text()
    cells = re.findall(r'scope="row">([^<]*)</th><td class="(\w+)"', text)
    assert [name for name, _ in cells] == [one.run.name for one in work]
    assert [state for _, state in cells[:4]] == ["done", "running", "failed", "waiting"]
    assert "now 0.4000" in text
    assert "error: &lt;b&gt;no&lt;/b&gt; space" in text
    assert text.count("<polyline") == 1


def test_ctrl_c_tries_nothing_again(tmp_path, commands, request_):
    """The child gets the signal as well, and ends; the coordinator must not start it anew."""
    script = tmp_path / "stand_in.py"
    script.write_text(script.read_text().replace("time.sleep(0.05)", "time.sleep(30)"))
    code = (
        "import sys; from pathlib import Path; from cutpaste_tf.reproduction import carrying_out, plan\n"
        "request = plan.Request((5,), (), ('bottle',), 1, 'paper', sys.argv[1], '', Path(sys.argv[1]) / 'repro')\n"
        "commands = carrying_out.Commands((sys.executable, sys.argv[2]), (sys.executable, sys.argv[2]))\n"
        "carrying_out.carry_out(plan.plan(request), request, commands, jobs=1, tries=3, report=print)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), str(script)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    work = plan(request_)
    log = request_.output_dir / "runs" / work[0].run.name / "trained"
    deadline = time.monotonic() + 60
    while not log.is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    process.wait(20)
    assert len(log.read_text().splitlines()) == 1


def test_the_user_s_gpus_are_the_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert carrying_out.default_jobs() == 2
    assert [carrying_out._environment(slot, 4, ["2", "3"])["CUDA_VISIBLE_DEVICES"] for slot in range(3)] == [
        "2",
        "3",
        "2",
    ]


def test_a_folder_that_cannot_be_written_ends_it(request_, commands):
    (request_.output_dir).mkdir()
    (request_.output_dir / CLAIMS).write_text("a file")
    with pytest.raises(InputError, match="cannot be written"):
        carrying_out.carry_out(plan(request_), request_, commands, jobs=1, tries=1, report=lambda line: None)


def test_jobs_share_the_cores(request_, commands, monkeypatch):
    monkeypatch.setattr(carrying_out.os, "cpu_count", lambda: 8)
    work = plan(request_)[:2]
    carrying_out.carry_out(work, request_, commands, jobs=2, tries=1, report=lambda line: None)
    assert [_trained(request_, one)[0].split()[1] for one in work] == ["4", "4"]


def test_a_killed_coordinator_loses_nothing(tmp_path, commands, request_):
    """Killed in the middle, then started again: no run twice but the one that was cut off."""
    code = (
        "import sys; from pathlib import Path; from cutpaste_tf.reproduction import carrying_out, plan\n"
        "request = plan.Request((5,), (), ('bottle',), 2, 'paper', sys.argv[1], '', Path(sys.argv[1]) / 'repro')\n"
        "commands = carrying_out.Commands((sys.executable, sys.argv[2]), (sys.executable, sys.argv[2]))\n"
        "carrying_out.carry_out(plan.plan(request), request, commands, jobs=1, tries=1, report=print)\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path), str(tmp_path / "stand_in.py")]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL)
    work = plan(request_)
    deadline = time.monotonic() + 60
    while not work[2].is_done(request_.output_dir) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not all(one.is_done(request_.output_dir) for one in work)
    time.sleep(0.5)  # a child may outlive it
    carrying_out.carry_out(work, request_, commands, jobs=1, tries=1, report=lambda line: None)
    assert all(one.is_done(request_.output_dir) for one in work)
    assert sum(len(_trained(request_, one)) for one in work) <= len(work) + 1


def test_bad_input_is_told_before_the_first_run(tmp_path, commands, request_):
    def start(**changes):
        reproducing.reproduce(request_._replace(**changes), commands, str, report=lambda line: None)

    with pytest.raises(InputError, match=r"has no category bottle: expected a folder .*--categories"):
        start()
    draw_category(tmp_path / "bottle")
    start(seeds=1)
    assert (request_.output_dir / "table5.md").is_file()
    draw_category(tmp_path / "other/bottle")
    with pytest.raises(InputError, match=r"holds the runs of .*; name another --output_dir"):
        start(data_root=str(tmp_path / "other"))
    assert json.loads((request_.output_dir / "reproduction.json").read_text())["data_root"] == str(tmp_path)
    with pytest.raises(SystemExit):
        command("reproduce_main.py", f"--data_root={tmp_path}", f"--output_dir={tmp_path}/x", "--table=9")
    with pytest.raises(SystemExit):
        command("reproduce_main.py", f"--data_root={tmp_path}", f"--output_dir={tmp_path}/x")


def test_slurm_gets_an_array_of_coordinators(tmp_path, monkeypatch):
    """A stand-in for sbatch runs the array's jobs one after another, as Slurm would side by side."""
    draw_category(tmp_path / "data/bottle")
    (tmp_path / "bin").mkdir()
    sbatch = tmp_path / "bin/sbatch"
    sbatch.write_text('#!/bin/bash\ncp "$1" "$(dirname "$0")/submitted"\necho Submitted batch job 7\n')
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    words = [f"--data_root={tmp_path}/data", f"--output_dir={tmp_path}/a repro", "--categories=bottle", "--seeds=1"]
    words += ["--table=5", "--columns=cutpaste", "--scale=tiny"]
    command(
        "reproduce_main.py", *words, "--executor=slurm", "--jobs=3", "--sbatch=--partition=gpu", "--sbatch=--gres=gpu:1"
    )
    text = (tmp_path / "bin/submitted").read_text()
    assert text == (tmp_path / "a repro/slurm.sh").read_text()
    lines = text.splitlines()
    assert {"#SBATCH --array=0-2", "#SBATCH --partition=gpu", "#SBATCH --gres=gpu:1"} <= set(lines)
    done = subprocess.run(["bash", str(tmp_path / "bin/submitted")], capture_output=True, text=True, check=True)
    assert "0 of 1 runs are done; 1 at a time." in done.stdout
    assert "bottle,cutpaste," in (tmp_path / "a repro/table5.csv").read_text()
    sbatch.write_text("#!/bin/bash\necho invalid partition >&2\nexit 1\n")
    with pytest.raises(SystemExit):
        command("reproduce_main.py", *words, "--executor=slurm")


@pytest.mark.slow
def test_all_tables_come_out_whole(tmp_path):
    """Every column of every table but EfficientNet's, trained and evaluated for a step or two; takes 20 minutes."""
    draw_category(tmp_path / "data/bottle")
    command(
        "reproduce_main.py",
        "--table=1,2,4,5,6,7,8",
        f"--data_root={tmp_path}/data",
        f"--output_dir={tmp_path}/repro",
        "--categories=bottle",
        "--seeds=1",
        "--scale=tiny",
        "--jobs=2",
    )
    for number in (1, 2, 4, 5, 6, 7, 8):
        assert "not yet" not in (tmp_path / f"repro/table{number}.csv").read_text().replace("not yet whole", "")
