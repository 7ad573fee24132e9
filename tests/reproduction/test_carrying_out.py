"""Runs in processes of their own: tried again, ended, resumed; mostly of a command that stands in for ours."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import stand_in
from conftest import ROOT, command, draw_category, write_image
from tfds_sets import write_cifar10

from cutpaste_tf import files
from cutpaste_tf.backend import keras
from cutpaste_tf.errors import InputError
from cutpaste_tf.reproduction import carrying_out, checks, figures, runner, speed, tables
from cutpaste_tf.reproduction import reproduce as reproducing
from cutpaste_tf.reproduction.plan import Request, plan
from cutpaste_tf.reproduction.runner import Commands, Job
from cutpaste_tf.reproduction.tables import TABLES

COMMANDS = Commands(stand_in.COMMAND, stand_in.COMMAND)


def carry_out(work, request, *, jobs, tries, report=lambda line: None):
    return carrying_out.carry_out(work, Job(request, COMMANDS, tries), carrying_out.local(jobs), report=report)


@pytest.fixture
def request_(tmp_path):
    return Request((5,), (), ("bottle",), 2, "paper", str(tmp_path), "", tmp_path / "repro")


def _trained(request, task):
    return (request.output_dir / "runs" / task.run.name / "trained").read_text().splitlines()


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_run_is_carried_out_once(request_, jobs):
    work, lines = plan(request_), []
    for _ in range(2):  # the second time there is nothing to do
        assert carry_out(work, request_, jobs=jobs, tries=1, report=lines.append) == []
    assert all(len(_trained(request_, task)) == 1 for task in work)
    assert len(work) == 8
    log = (request_.output_dir / "runs" / work[0].run.name / "log.txt").read_text().splitlines()
    data = f"--data={request_.data_root}/bottle"
    assert [data in line for line in log] == [True, True]  # the evaluation as well: it may lie elsewhere by then
    assert lines[0] == "0 of 8 runs are done."
    assert lines[-1] == "8 of 8 runs are done."


def test_a_run_that_fails_is_tried_again_then_given_up(request_):
    work, lines = plan(request_), []
    for task, failures in zip(work, (1, 5), strict=False):
        place = request_.output_dir / "runs" / task.run.name
        place.mkdir(parents=True)
        (place / "failures").write_text(str(failures))
    failures = carry_out(work, request_, jobs=2, tries=2, report=lines.append)
    assert [(task.work, task.failure) for task in failures] == [(work[1], "error: the disk is full")]
    assert [len(_trained(request_, task)) for task in work] == [2, 2, 1, 1, 1, 1, 1, 1]
    assert sum(line.startswith("done") for line in lines) == 7
    log = (request_.output_dir / "runs" / work[1].run.name / "log.txt").read_text()
    assert log.count("error: the disk is full") == 2


def _coordinator(root, *, tries, jobs=1):
    """A process that carries out `request_` with the stand-in; a group of its own, as a terminal's commands are."""
    code = (
        "import signal, sys; from pathlib import Path\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background has it ignored
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # as nohup has
        "from cutpaste_tf.reproduction import carrying_out, plan, runner\n"
        "request = plan.Request((5,), (), ('bottle',), 2, 'paper', sys.argv[1], '', Path(sys.argv[1]) / 'repro')\n"
        "words = (sys.executable, sys.argv[2])\n"
        "job = runner.Job(request, runner.Commands(words, words), int(sys.argv[3]))\n"
        "executor = carrying_out.local(int(sys.argv[4]))\n"
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_processes_and_tries_nothing_again(tmp_path, request_, monkeypatch, number):
    """They may save a checkpoint before they end, and none outlives the command."""
    monkeypatch.setenv("STAND_IN_SECONDS", "600")
    process = _coordinator(tmp_path, tries=3, jobs=2)
    places = [request_.output_dir / "runs" / task.run.name for task in plan(request_)]
    started = [place / "trained" for place in places[:2]]
    _wait_for(lambda: all(path.is_file() and path.read_text().endswith("\n") for path in started))
    os.killpg(process.pid, number)
    if number != signal.SIGINT:
        os.killpg(process.pid, number)  # a closing terminal sends it twice
    assert process.wait(60) != 0
    assert [(place / "trained").read_text().count("\n") for place in places if place.is_dir()] == [1, 1]
    assert all((place / "saved").is_file() for place in places[:2])
    children = [int((place / "trained").read_text().split()[0]) for place in places[:2]]
    assert not any(os.path.exists(f"/proc/{child}") for child in children)


def test_a_process_that_outlives_its_coordinator_is_waited_for(tmp_path, request_, monkeypatch, capsys):
    monkeypatch.setenv("STAND_IN_SECONDS", "8")
    process, work = _coordinator(tmp_path, tries=1), plan(request_)
    started = request_.output_dir / "runs" / work[0].run.name / "trained"
    _wait_for(lambda: started.is_file() and started.read_text().endswith("\n"))
    process.kill()
    process.wait()
    monkeypatch.delenv("STAND_IN_SECONDS")
    assert carry_out(work, request_, jobs=1, tries=1) == []
    assert all(len(_trained(request_, task)) == 1 for task in work)
    assert f"left running in {started.parent}." in capsys.readouterr().out


def test_a_process_that_does_not_end_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "GRACE", 0.2)
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(9)"
    )
    processes = runner.Processes()
    with ThreadPoolExecutor(1) as pool, processes.log(tmp_path) as file:
        future = pool.submit(processes.run, [sys.executable, "-c", code], file, runner.Share())
        log = tmp_path / runner.LOG
        _wait_for(lambda: log.is_file() and "ready" in log.read_text().splitlines())
        processes.__exit__(KeyboardInterrupt)
        with pytest.raises(runner.StoppedError):
            future.result(10)


def test_nohup_keeps_the_command_alive():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with carrying_out._ended_by_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_command_in_the_folder_is_refused(tmp_path, request_):
    draw_category(tmp_path / "bottle")
    with (
        files.locked(request_.output_dir),
        pytest.raises(InputError, match=r"Another process is using .*/repro; wait for it"),
    ):
        reproducing.reproduce(request_, COMMANDS)
    assert not (request_.output_dir / "runs").exists()


def test_what_was_given_up_is_tried_by_the_next_command(request_):
    (task, *_) = plan(request_)
    place = request_.output_dir / "runs" / task.run.name
    place.mkdir(parents=True)
    (place / "failures").write_text("1")
    assert [task.failure for task in carry_out([task], request_, jobs=1, tries=1)] == ["error: the disk is full"]
    assert carry_out([task], request_, jobs=1, tries=1) == []


def test_a_run_whose_folder_cannot_be_made_fails_alone(request_):
    work = plan(request_)[:2]
    place = request_.output_dir / "runs" / work[0].run.name
    place.parent.mkdir(parents=True)
    place.write_text("a file")
    (failure,) = carry_out(work, request_, jobs=1, tries=1)
    assert "File exists" in failure.failure
    assert work[1].is_done(request_.output_dir)


def test_the_user_s_gpus_are_the_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert carrying_out.gpus() == ["2", "3"]
    assert [carrying_out.share(slot, 4, ["2", "3"]).environment["CUDA_VISIBLE_DEVICES"] for slot in range(3)] == [
        "2",
        "3",
        "2",
    ]


def test_jobs_share_the_cores(request_):
    work, mine = plan(request_)[:2], os.sched_getaffinity(0)
    carry_out(work, request_, jobs=2, tries=1)
    lines = [_trained(request_, task)[0].split() for task in work]
    core_sets = [{int(core) for core in line[2].split(",")} for line in lines]
    assert [line[1] for line in lines] == [str(len(cores)) for cores in core_sets]
    assert core_sets[0] | core_sets[1] == mine
    assert len(mine) == 1 or core_sets[0].isdisjoint(core_sets[1])


def test_no_core_is_left_over(monkeypatch):
    monkeypatch.setattr(carrying_out.os, "sched_getaffinity", lambda _: set(range(2, 17)))
    shares = [carrying_out.share(slot, 8, []).cores for slot in range(8)]
    assert sorted(core for cores in shares for core in cores) == [*range(2, 17)]
    monkeypatch.setattr(carrying_out.os, "sched_getaffinity", lambda _: {5, 7})
    assert [carrying_out.share(slot, 3, []).cores for slot in range(3)] == [(5,), (5,), (7,)]


def test_tables_that_cannot_be_written_for_a_while_end_nothing(request_):
    calls, lines = [], []

    def write_tables():
        calls.append(1)
        if len(calls) == 1:
            raise OSError(28, "No space left on device", "/repro/.1.partial")

    job, work = Job(request_, COMMANDS, 1), plan(request_)[:2]
    executor = carrying_out.local(1)
    assert carrying_out.carry_out(work, job, executor, report=lines.append, write_tables=write_tables) == []
    assert len(calls) == 3  # after each run, and at the end
    (warning,) = [line for line in lines if line.startswith("Warning: the tables cannot be updated for now")]
    assert "No space left on device: '/repro/.1.partial'" in warning


def test_a_damaged_evaluation_is_made_again(request_):
    (task, *_) = plan(request_)
    carry_out([task], request_, jobs=1, tries=1)
    metrics = request_.output_dir / "runs" / task.run.name / "eval/metrics.json"
    metrics.write_text(metrics.read_text()[:10])
    assert not task.is_done(request_.output_dir)
    carry_out([task], request_, jobs=1, tries=1)
    assert "image_auroc" in json.loads(metrics.read_text())
    assert len(_trained(request_, task)) == 1


def test_a_killed_coordinator_loses_nothing(tmp_path, request_):
    """Killed in the middle, then started again: no run twice but the one that was cut off."""
    process = _coordinator(tmp_path, tries=1)
    work = plan(request_)
    deadline = time.monotonic() + 60
    while not work[2].is_done(request_.output_dir) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not all(task.is_done(request_.output_dir) for task in work)
    time.sleep(0.5)  # a child may outlive it
    carry_out(work, request_, jobs=1, tries=1)
    assert all(task.is_done(request_.output_dir) for task in work)
    assert sum(len(_trained(request_, task)) for task in work) <= len(work) + 1


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
    with pytest.raises(InputError, match=r"holds runs on other images of bottle, judging by names and sizes; give"):
        start(data_root=str(tmp_path / "other"))
    with pytest.raises(InputError, match=r"--weights=none\.h5 is not a file; omit --weights"):
        start(tables=(3,), weights="none.h5")
    start(weights="none.h5", seeds=1)  # of no use to Table 5
    shutil.rmtree(tmp_path / "bottle/ground_truth")
    with pytest.raises(InputError, match=r"/bottle has no masks .* so the pixel AUROC for Table 2 cannot be computed"):
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
    with pytest.raises(InputError, match="/bottle has no normal test images, so no AUROC can be computed"):
        reproducing.reproduce(request_, COMMANDS)


def test_a_gpu_that_is_not_there_is_told(tmp_path, request_, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    draw_category(tmp_path / "bottle")
    with pytest.raises(InputError, match=r"--gpu: \w+ finds no GPU here \(.* lists 0\)\. Install"):
        reproducing.reproduce(request_, COMMANDS, machines=reproducing.Machines(gpu=True))
    assert not (request_.output_dir / "runs").exists()


def test_tables_take_categories_of_other_sets(tmp_path, request_):
    """By their official split, without a paper's column; here VisA's, as unpacked."""
    rows = ["object,split,label,image,mask"]
    for index in range(8):
        kind, part = ("Anomaly", "test") if index > 5 else ("Normal", "train" if index < 4 else "test")
        image = f"candle/Data/Images/{kind}/{index}.JPG"
        write_image(tmp_path / image, np.full((8, 8, 3), index, np.uint8))
        mask = f"candle/Data/Masks/Anomaly/{index}.png" if kind == "Anomaly" else ""
        if mask:
            write_image(tmp_path / mask, np.full((8, 8), 255, np.uint8))
        rows.append(f"candle,{part},{'anomaly' if mask else 'normal'},{image},{mask}")
    (tmp_path / "split_csv").mkdir()
    (tmp_path / "split_csv/1cls.csv").write_text("\n".join(rows))
    request = request_._replace(tables=(1, 2), columns=("cutpaste_3way",), categories=("candle",), seeds=1)
    columns = {table: [*request._replace(columns=()).columns_of(table)] for table in (1, 2)}
    request = request._replace(columns=(columns[1][0], columns[2][0]))
    assert reproducing.reproduce(request, COMMANDS, report=lambda line: None) == []
    for table in (1, 2):
        with (request.output_dir / f"table{table}.csv").open() as file:
            made = [row for row in csv.DictReader(file) if row["row"] == "candle" and row["ours"]]
        assert {row["verdict"] for row in made} == {"not in the paper"}


@pytest.mark.slow
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


def test_a_figure_without_its_run_is_told(tmp_path, request_):
    draw_category(tmp_path / "bottle")
    request, lines = request_._replace(tables=()), []
    (task,) = plan(request._replace(drawn=figures.COLUMNS[3]))
    place = request.output_dir / "runs" / task.run.name
    place.mkdir(parents=True)
    (place / "failures").write_text("9")
    assert len(reproducing.reproduce(request, COMMANDS, drawings=(3,), report=lines.append)) == 1
    assert lines[-1] == f"Warning: figure 3 for bottle is not drawn, since it needs {task.run.name}."
    assert lines[-2] == f"Warning: {task.run.name} was given up: error: the disk is full"


def test_tables_and_figures_have_the_papers_numbers(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(speed, "measure", lambda runs: {})
    draw_category(tmp_path / "bottle")
    words = [f"--data_root={tmp_path}", f"--output_dir={tmp_path}/repro", "--categories=bottle", "--seeds=1", "--plan"]

    def planned(*flags):
        capsys.readouterr()
        command("reproduce_main.py", *words, *flags)
        return capsys.readouterr().out

    assert planned("--table=4..5") == planned("--table=4,5") != planned("--table=4")
    assert planned("--figure=5,7..21") == planned("--figure=2,4") != planned("--figure=5")
    for flag, message in [
        ("--table=1,9", "--table=9 is unknown; give some of 1, 2, 3, 4, 5, 6, 7, 8, cifar10, or all"),
        ("--table=2..1", "--table=2..1 is unknown; give some of 1, 2, 3"),
        ("--figure=22", "--figure=22 is unknown; give some of 2, 3, 4, 6, 5, 7, 8"),
    ]:
        with pytest.raises(SystemExit):
            command("reproduce_main.py", *words, flag)
        assert message in capsys.readouterr().err


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
        requested = [
            cell for cell in cells if "bottle" in cell["row"] or "cut" in cell["row"] or "cifar10" in cell["row"]
        ]
        assert requested
        assert all(cell["ours"] for cell in requested)
    for number in (2, 3, 4, 6):
        assert (tmp_path / f"repro/figure{number}_bottle.png").stat().st_size > 10_000
