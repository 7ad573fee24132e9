"""Runs in processes of their own: tried again, divided, resumed; mostly of a command that stands in for ours."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from urllib.parse import unquote

import pytest
import stand_in
from conftest import ROOT, command, draw_category
from tfds_sets import write_cifar10

from cutpaste_tf import files
from cutpaste_tf.backend import keras
from cutpaste_tf.commands import reproducing
from cutpaste_tf.errors import InputError
from cutpaste_tf.reproduction import carrying_out, checks, executors, figures, live, tables
from cutpaste_tf.reproduction.plan import CLAIMS, Request, plan
from cutpaste_tf.reproduction.runner import Commands, Job
from cutpaste_tf.reproduction.tables import TABLES

COMMANDS = Commands(stand_in.COMMAND, stand_in.COMMAND)


def carry_out(work, request, *, jobs, tries, report=lambda line: None):
    return carrying_out.carry_out(work, Job(request, COMMANDS, tries), executors.local(jobs), report=report)


@pytest.fixture
def request_(tmp_path):
    return Request((5,), (), ("bottle",), 2, "paper", str(tmp_path), "", tmp_path / "repro")


def _trained(request, one):
    return (request.output_dir / "runs" / one.run.name / "trained").read_text().splitlines()


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_run_is_carried_out_once(request_, jobs):
    work, lines = plan(request_), []
    for _ in range(2):  # the second time there is nothing to do
        assert carry_out(work, request_, jobs=jobs, tries=1, report=lines.append) == []
    assert all(len(_trained(request_, one)) == 1 for one in work)
    assert len(work) == 8
    log = (request_.output_dir / "runs" / work[0].run.name / "log.txt").read_text().splitlines()
    data = f"--data={request_.data_root}/bottle"
    assert [data in line for line in log] == [True, True]  # the evaluation as well: it may lie elsewhere by then
    assert lines[0] == "0 of 8 runs are done."
    assert lines[-1] == "8 of 8 runs are done."


def test_a_run_that_fails_is_tried_again_then_given_up(request_):
    work, lines = plan(request_), []
    for one, failures in zip(work, (1, 5), strict=False):
        place = request_.output_dir / "runs" / one.run.name
        place.mkdir(parents=True)
        (place / "failures").write_text(str(failures))
    failures = carry_out(work, request_, jobs=2, tries=2, report=lines.append)
    assert [(one.name, one.reason) for one in failures] == [(work[1].run.name, "error: the disk is full")]
    assert [len(_trained(request_, one)) for one in work] == [2, 2, 1, 1, 1, 1, 1, 1]
    assert sum(line.startswith("done") for line in lines) == 7
    log = (request_.output_dir / "runs" / work[1].run.name / "log.txt").read_text()
    assert log.count("error: the disk is full") == 2


def test_several_coordinators_divide_the_runs(request_):
    work = plan(request_)
    threads = [
        threading.Thread(
            target=carry_out,
            args=(work, request_),
            kwargs={"jobs": 2, "tries": 1},
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(one.is_done(request_.output_dir) for one in work)
    assert all(len(_trained(request_, one)) == 1 for one in work)


def test_a_claimed_run_is_waited_for(request_, monkeypatch):
    monkeypatch.setattr(carrying_out, "_PAUSE", 0.05)
    work = plan(request_)[:1]
    claim = files.locked(request_.output_dir / CLAIMS, work[0].claim)
    claim.__enter__()
    thread = threading.Thread(
        target=carry_out,
        args=(work, request_),
        kwargs={"jobs": 1, "tries": 1},
    )
    thread.start()
    time.sleep(0.5)
    assert not work[0].is_done(request_.output_dir)
    claim.__exit__(None, None, None)  # as when its process dies
    thread.join(20)
    assert work[0].is_done(request_.output_dir)


def test_the_page_shows_how_far_every_run_is(request_):
    work = plan(request_)
    root = request_.output_dir
    carry_out(work[:1], request_, jobs=1, tries=1)
    running = root / "runs" / work[1].run.name
    running.mkdir(parents=True)
    (running / "train_log.csv").write_text("epoch,cross_entropy\n1,0.69\n2,0.5\n3,0.4\n")
    work[2].give_up(root, "error: <b>no</b> space")
    with files.locked(root / CLAIMS, work[1].claim):
        live.write(work, request_)
    text = (root / "index.html").read_text()
    cells = re.findall(r'<td class="(\w+)">\w+</td>\n<th scope="row">(?:<a href="([^"]*)">)?bottle', text)
    assert [state for state, _ in cells] == ["done", "running", "failed"] + ["waiting"] * (len(work) - 3)
    assert [unquote(folder) for _, folder in cells[:3]] == [f"runs/{one.run.name}/" for one in work[:3]]
    assert "now 0.4000" in text
    assert "error: &lt;b&gt;no&lt;/b&gt; space" in text
    assert text.count("<polyline") == 1


def test_the_page_says_once_what_all_runs_have(request_):
    """Else what tells them apart is off the screen, and their state with it."""
    live.write(plan(request_._replace(scale="short")), request_)
    text = (request_.output_dir / "index.html").read_text()
    assert text.count("learning_rate=0.003, steps_per_epoch=128.") == text.count("learning_rate=0.003, ") == 1
    assert text.count("bottle proxy_task=cutpaste_scar</th>\n<td>1</td>") == 1
    assert text.count("bottle </th>") == 2  # 3-way, of two seeds


def test_the_page_links_a_folder_whose_name_is_not_utf_8(request_):
    (work, *_) = plan(request_._replace(categories=("fl\udce4che",)))  # as Python reads the byte 0xe4
    (request_.output_dir / CLAIMS).mkdir(parents=True)
    work.give_up(request_.output_dir, "error")
    live.write([work], request_)
    assert 'href="runs/fl%E4che/' in (request_.output_dir / "index.html").read_text()


def _coordinator(root, *, tries, jobs=1):
    """A process that carries out `request_` with the stand-in; a group of its own, as a terminal's commands are."""
    code = (
        "import signal, sys; from pathlib import Path\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background has it ignored
        "from cutpaste_tf.reproduction import carrying_out, executors, plan, runner\n"
        "request = plan.Request((5,), (), ('bottle',), 2, 'paper', sys.argv[1], '', Path(sys.argv[1]) / 'repro')\n"
        "words = (sys.executable, sys.argv[2])\n"
        "job = runner.Job(request, runner.Commands(words, words), int(sys.argv[3]))\n"
        "executor = executors.local(int(sys.argv[4]))\n"
        "carrying_out.carry_out(plan.plan(request), job, executor, report=print)\n"
    )
    words = [sys.executable, "-c", code, str(root), stand_in.__file__, str(tries), str(jobs)]
    return subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def _wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()


def test_ctrl_c_ends_the_processes_and_tries_nothing_again(tmp_path, request_, monkeypatch):
    monkeypatch.setenv("STAND_IN_SECONDS", "600")
    process = _coordinator(tmp_path, tries=3, jobs=2)
    logs = [request_.output_dir / "runs" / one.run.name / "trained" for one in plan(request_)]
    _wait_for(lambda: all(log.is_file() for log in logs[:2]))
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) != 0
    assert [len(log.read_text().splitlines()) for log in logs if log.is_file()] == [1, 1]
    assert not list((request_.output_dir / CLAIMS).glob("*.failed"))
    children = [int(log.read_text().split()[0]) for log in logs[:2]]
    _wait_for(lambda: not any(os.path.exists(f"/proc/{child}") for child in children))


def test_what_one_coordinator_gave_up_the_others_leave(tmp_path, request_):
    """Until the command is given again."""
    work = plan(request_)[:1]
    place = request_.output_dir / "runs" / work[0].run.name
    place.mkdir(parents=True)
    (place / "failures").write_text("2")
    job = Job(request_, COMMANDS, 1)
    before = {work[0].run.name: work[0].given_up(request_.output_dir)}
    (first,) = executors.local(1)(work, job, before)
    (second,) = executors.local(1)(work, job, before)  # began when the first did
    assert first.state == second.state == "failed"
    assert first.said == second.said == "error: the disk is full"
    assert len(_trained(request_, work[0])) == 1
    live.write(work, request_)
    assert "error: the disk is full" in (request_.output_dir / "index.html").read_text()
    assert len(carry_out(work, request_, jobs=1, tries=1)) == 1
    assert carry_out(work, request_, jobs=1, tries=1) == []
    assert len(_trained(request_, work[0])) == 3


def test_the_user_s_gpus_are_the_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert executors.gpus() == ["2", "3"]
    assert [executors.share(slot, 4, ["2", "3"]).environment["CUDA_VISIBLE_DEVICES"] for slot in range(3)] == [
        "2",
        "3",
        "2",
    ]


def test_a_folder_that_cannot_be_written_ends_it(request_):
    (request_.output_dir).mkdir()
    (request_.output_dir / CLAIMS).write_text("a file")
    with pytest.raises(InputError, match="cannot be written"):
        carry_out(plan(request_), request_, jobs=1, tries=1)


def test_jobs_share_the_cores(request_):
    work, mine = plan(request_)[:2], os.sched_getaffinity(0)
    carry_out(work, request_, jobs=2, tries=1)
    lines = [_trained(request_, one)[0].split() for one in work]
    held = [{int(core) for core in line[2].split(",")} for line in lines]
    assert [line[1] for line in lines] == [str(len(cores)) for cores in held]
    assert held[0] | held[1] == mine
    assert len(mine) == 1 or held[0].isdisjoint(held[1])


def test_no_core_is_left_over(monkeypatch):
    monkeypatch.setattr(executors.os, "sched_getaffinity", lambda _: set(range(2, 17)))
    shares = [executors.share(slot, 8, []).cores for slot in range(8)]
    assert sorted(core for cores in shares for core in cores) == [*range(2, 17)]
    monkeypatch.setattr(executors.os, "sched_getaffinity", lambda _: {5, 7})
    assert [executors.share(slot, 3, []).cores for slot in range(3)] == [(5,), (5,), (7,)]


def test_a_job_that_starts_later_leaves_what_was_given_up_since(request_, monkeypatch):
    (one, *_) = plan(request_)
    monkeypatch.setenv(carrying_out.BEGAN, str(time.time_ns()))  # as a script of Slurm has it
    (request_.output_dir / CLAIMS).mkdir(parents=True)
    one.give_up(request_.output_dir, "error: the disk is full")
    (failure,) = carry_out([one], request_, jobs=1, tries=1)
    assert failure.reason == "error: the disk is full"
    assert not (request_.output_dir / "runs" / one.run.name).exists()
    monkeypatch.delenv(carrying_out.BEGAN)
    assert carry_out([one], request_, jobs=1, tries=1) == []  # the command given anew


def test_tables_that_cannot_be_written_for_a_while_end_nothing(request_, monkeypatch):
    monkeypatch.setattr(live, "REFRESH", 0.01)
    monkeypatch.setenv("STAND_IN_SECONDS", "0.5")
    calls, lines = [], []

    def write_tables():
        calls.append(1)
        if len(calls) < 6 and len(calls) != 3:
            raise OSError(28, "No space left on device", f"/repro/.{len(calls)}.partial")

    job, work = Job(request_, COMMANDS, 1), plan(request_)[:1]
    executor = executors.local(1)
    assert carrying_out.carry_out(work, job, executor, report=lines.append, write_tables=write_tables) == []
    assert len(calls) > 6
    told = [line for line in lines if line.startswith("Warning: the page and the tables stay as they are for now")]
    assert len(told) == 2  # once each time, not at every look
    assert "No space left on device: '/repro/.1.partial'" in told[0]


def test_a_damaged_evaluation_is_made_again(request_):
    (one, *_) = plan(request_)
    carry_out([one], request_, jobs=1, tries=1)
    metrics = request_.output_dir / "runs" / one.run.name / "eval/metrics.json"
    metrics.write_text(metrics.read_text()[:10])
    assert not one.is_done(request_.output_dir)
    carry_out([one], request_, jobs=1, tries=1)
    assert "image_auroc" in json.loads(metrics.read_text())
    assert len(_trained(request_, one)) == 1


def test_a_killed_coordinator_loses_nothing(tmp_path, request_):
    """Killed in the middle, then started again: no run twice but the one that was cut off."""
    process = _coordinator(tmp_path, tries=1)
    work = plan(request_)
    deadline = time.monotonic() + 60
    while not work[2].is_done(request_.output_dir) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not all(one.is_done(request_.output_dir) for one in work)
    time.sleep(0.5)  # a child may outlive it
    carry_out(work, request_, jobs=1, tries=1)
    assert all(one.is_done(request_.output_dir) for one in work)
    assert sum(len(_trained(request_, one)) for one in work) <= len(work) + 1


def test_bad_input_is_told_before_the_first_run(tmp_path, request_):
    def start(**changes):
        reproducing.reproduce(request_._replace(**changes), COMMANDS)

    with pytest.raises(InputError, match=r"has no category bottle: expected a folder .*--categories"):
        start()
    draw_category(tmp_path / "bottle")
    start(seeds=1)
    assert (request_.output_dir / "table5.md").is_file()
    shutil.copytree(tmp_path / "bottle", tmp_path / "other/bottle")
    start(seeds=1, data_root=str(tmp_path / "other"))  # the same images in another place, as on another machine
    (tmp_path / "other/bottle/train/good").joinpath("added.png").write_bytes(
        next((tmp_path / "bottle/train/good").iterdir()).read_bytes()
    )
    with pytest.raises(InputError, match=r"holds runs of other images of bottle, by their names and sizes; name"):
        start(data_root=str(tmp_path / "other"))
    record = request_.output_dir / "data/bottle.json"
    record.write_text('{"version": 3}')
    with pytest.raises(InputError, match=r"holds runs of another version .*\(3, this is 2\); name another"):
        start()
    record.unlink()
    (request_.output_dir / "reproduction.json").write_text('{"version": 1, "data_root": "/data"}')
    with pytest.raises(InputError, match=r"holds runs of an earlier version .*; delete .*/reproduction.json if they"):
        start()
    (request_.output_dir / "reproduction.json").unlink()
    with pytest.raises(InputError, match=r"--weights=none\.h5 is not a file; leave --weights out"):
        start(tables=(3,), weights="none.h5")
    start(weights="none.h5", seeds=1)  # of no use to Table 5
    shutil.rmtree(tmp_path / "bottle/ground_truth")
    with pytest.raises(InputError, match=r"/bottle has no masks .* no pixel AUROC, which Table 2 is of"):
        start(tables=(2,))
    with pytest.raises(SystemExit):
        command("reproduce_main.py", f"--data_root={tmp_path}", f"--output_dir={tmp_path}/x", "--table=9")
    with pytest.raises(SystemExit):
        command("reproduce_main.py", f"--data_root={tmp_path}", f"--output_dir={tmp_path}/x")


def test_no_room_is_told_before_the_first_run(tmp_path, request_, monkeypatch):
    draw_category(tmp_path / "bottle")
    usage = SimpleNamespace(free=400e6)
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InputError, match=r"has 0.4 GB left; 8 runs take about 0.5 GB\. Make room"):
        reproducing.reproduce(request_, COMMANDS)
    assert not request_.output_dir.exists()  # nor is it claimed for these images
    usage.free = 500e6
    assert reproducing.reproduce(request_, COMMANDS, report=lambda line: None) == []
    usage.free = 0.0  # nothing is left to do
    assert reproducing.reproduce(request_, COMMANDS, report=lambda line: None) == []


def test_a_category_that_can_have_no_auroc_is_told(tmp_path, request_):
    draw_category(tmp_path / "bottle")
    shutil.rmtree(tmp_path / "bottle/test/good")
    with pytest.raises(InputError, match="/bottle has no normal test images, so that it can have no AUROC"):
        reproducing.reproduce(request_, COMMANDS)


def test_a_gpu_that_is_not_there_is_told(tmp_path, request_, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    draw_category(tmp_path / "bottle")
    with pytest.raises(InputError, match=r"--gpu: \w+ finds no GPU here \(.* names 0\)\. Install"):
        reproducing.reproduce(request_, COMMANDS, gpu=True)
    assert not (request_.output_dir / "runs").exists()


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
    assert "0 of 1 runs are done." in done.stdout
    assert "bottle,cutpaste," in (tmp_path / "a repro/table5.csv").read_text()
    sbatch.write_text("#!/bin/bash\necho invalid partition >&2\nexit 1\n")
    with pytest.raises(SystemExit):
        command("reproduce_main.py", *words, "--executor=slurm")


def test_cifar10_takes_its_images_from_tensorflow_datasets(tmp_path, request_):
    write_cifar10(tmp_path / "tfds", 40)
    request = request_._replace(tables=("cifar10",), data_root="", seeds=1, tfds_data_dir=str(tmp_path / "tfds"))
    lines = []
    assert reproducing.reproduce(request, COMMANDS, report=lines.append) == []
    assert f"{request.output_dir}/cifar10.md" in lines[-1]
    with (request.output_dir / "cifar10.csv").open() as file:
        rows = {(row["row"], row["column"]): row for row in csv.DictReader(file)}
    assert len(rows) == (10 + 1) * 3
    assert rows["all", "cutpaste"]["paper"] == "69.4"
    assert rows["cifar10/ship", "rotation"]["verdict"] == "not in the paper"
    with pytest.raises(InputError, match="has no category bottle"):  # a figure is of MVTec AD's categories
        reproducing.reproduce(request._replace(data_root=str(tmp_path)), COMMANDS, drawings=(2,))
    with pytest.raises(InputError, match="cifar10 is not prepared in"):
        reproducing.reproduce(request._replace(tfds_data_dir=str(tmp_path / "none")), COMMANDS)


def test_tables_keep_what_another_command_has_made(tmp_path, request_):
    draw_category(tmp_path / "bottle")
    draw_category(tmp_path / "demo/own")
    kept = request_._replace(columns=("cutpaste",))
    reproducing.reproduce(kept._replace(seeds=3), COMMANDS, report=lambda line: None)
    reproducing.reproduce(kept._replace(seeds=1, categories=("demo/own",)), COMMANDS, report=lambda line: None)
    with (request_.output_dir / "table5.csv").open() as file:
        rows = {(row["row"], row["column"]): row for row in csv.DictReader(file)}
    assert rows["bottle", "cutpaste"]["seeds"] == "3"
    assert rows["demo/own", "cutpaste"]["seeds"] == "1"
    reproducing.reproduce(kept._replace(seeds=1), COMMANDS, report=lambda line: None)
    assert "demo/own,cutpaste" in (request_.output_dir / "table5.csv").read_text()


def test_a_figure_without_its_run_is_told(tmp_path, request_):
    draw_category(tmp_path / "bottle")
    request, lines = request_._replace(tables=()), []
    (one,) = plan(request._replace(drawn=figures.COLUMNS[3]))
    place = request.output_dir / "runs" / one.run.name
    place.mkdir(parents=True)
    (place / "failures").write_text("9")
    assert len(reproducing.reproduce(request, COMMANDS, drawings=(3,), report=lines.append)) == 1
    assert lines[-1] == f"Warning: figure 3 of bottle is not drawn without {one.run.name}."
    assert lines[-2] == f"Warning: {one.run.name} was given up: error: the disk is full"


def test_tables_and_figures_have_the_papers_numbers(tmp_path, capsys):
    draw_category(tmp_path / "bottle")
    words = [f"--data_root={tmp_path}", f"--output_dir={tmp_path}/repro", "--categories=bottle", "--seeds=1", "--plan"]

    def planned(*flags):
        capsys.readouterr()
        command("reproduce_main.py", *words, *flags)
        return capsys.readouterr().out

    assert planned("--table=4..5") == planned("--table=4,5") != planned("--table=4")
    assert planned("--figure=5,7..21") == planned("--figure=2,4") != planned("--figure=5")
    for flag, said in [
        ("--table=1,9", "--table=9 is not of 1, 2, 3, 4, 5, 6, 7, 8, cifar10, or all"),
        ("--table=2..1", "--table=2..1 is not of 1, 2, 3"),
        ("--figure=22", "--figure=22 is not of 2, 3, 4, 6, 5, 7, 8"),
    ]:
        with pytest.raises(SystemExit):
            command("reproduce_main.py", *words, flag)
        assert said in capsys.readouterr().err


@pytest.mark.slow
def test_all_tables_and_figures_come_out_whole(tmp_path):
    """Every column and figure, trained and evaluated for a step or two; takes half an hour."""
    draw_category(tmp_path / "data/bottle")
    write_cifar10(tmp_path / "tfds", 200)
    efficientnet = keras.applications.EfficientNetB4(weights=None, include_top=False)
    efficientnet.save_weights(tmp_path / "b4.weights.h5")
    numbers = [str(table) for table in TABLES]
    command(
        "reproduce_main.py",
        f"--table={','.join(numbers)}",
        "--figure=all",
        f"--data_root={tmp_path}/data",
        f"--tfds_data_dir={tmp_path}/tfds",
        f"--weights={tmp_path}/b4.weights.h5",
        f"--output_dir={tmp_path}/repro",
        "--categories=bottle",
        "--seeds=1",
        "--scale=tiny",
        "--jobs=2",
    )
    for table in TABLES:
        with (tmp_path / f"repro/{tables.name(table)}.csv").open() as file:
            cells = [*csv.DictReader(file)]
        asked = [cell for cell in cells if "bottle" in cell["row"] or "cut" in cell["row"] or "cifar10" in cell["row"]]
        assert asked
        assert all(cell["ours"] for cell in asked)
    for number in (2, 3, 4, 6):
        assert (tmp_path / f"repro/figure{number}_bottle.png").stat().st_size > 10_000
