"""A cluster of two nodes, really started, of which one dies in the middle."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import stand_in

from cutpaste_tf.errors import InputError
from cutpaste_tf.reproduction import carrying_out, ray_cluster
from cutpaste_tf.reproduction.plan import Request, plan
from cutpaste_tf.reproduction.runner import Commands, Job

ray = pytest.importorskip("ray")


def start_node(folder, *words):
    """A node in a session of its own, so that all of it can be killed at once, as when a machine loses its power."""
    command = [Path(sys.executable).parent / "ray", "start", *words, "--block", "--num-cpus=1", "--disable-usage-stats"]
    command += ["--node-ip-address=127.0.0.1", "--object-store-memory=80000000"]
    with (folder / "node.txt").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def kill(session):
    """Every process of a session, -9; an orphan of it, too."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                os.kill(int(process.name), signal.SIGKILL)


def listens(address):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(address.split(":")[1]))):
        return True
    return False


def alive():
    return sum(node["Alive"] for node in ray.nodes())


def wait_for(condition):
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.fixture
def cluster(tmp_path):
    """(address, the process of the second node)."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    # A socket's name may have 107 letters, too few for a test's folder.
    head = start_node(tmp_path, "--head", f"--port={address.split(':')[1]}", "--include-dashboard=false")
    started = [head]
    try:
        wait_for(lambda: listens(address))
        started.append(start_node(tmp_path, f"--address={address}"))
        ray.init(address=address, log_to_driver=False)
        wait_for(lambda: alive() == 2)
        yield address, started[1]
    finally:
        ray.shutdown()
        for process in started:
            kill(process.pid)
            process.wait(30)


def test_a_node_that_dies_loses_nothing(tmp_path, cluster, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    address, second = cluster
    tasks = ("rotation", "cutout", "scar", "cutpaste", "cutpaste_scar", "cutpaste_3way")
    request = Request((1,), tasks, ("bottle",), 2, "paper", str(tmp_path), "", tmp_path / "repro")
    slow = ("env", "STAND_IN_SECONDS=1.5", *stand_in.COMMAND)
    work, lines = plan(request), []

    def report(line):
        lines.append(line)
        if sum(line.startswith("done") for line in lines) == 4:
            kill(second.pid)

    execute = ray_cluster.executor(address, 0)
    job = Job(request, Commands(slow, stand_in.COMMAND), 2)
    assert carrying_out.carry_out(work, job, execute, report=report) == []
    wait_for(lambda: alive() == 1)
    times = [len((request.output_dir / "runs" / task.run.name / "trained").read_text().splitlines()) for task in work]
    assert len(times) == 12
    assert sorted(times)[:-1] == [1] * 11  # the one that the dead node was at was begun again
    assert times.count(2) <= 1
    assert all(task.is_done(request.output_dir) for task in work)


def test_a_signal_ends_the_tasks(tmp_path, cluster, monkeypatch):
    """Each training, on whichever node, has time to save a checkpoint."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    request = Request((1,), ("cutpaste", "cutout"), ("bottle",), 1, "paper", str(tmp_path), "", tmp_path / "repro")
    work = plan(request)
    places = [request.output_dir / "runs" / task.run.name for task in work]

    def stop():
        wait_for(lambda: all((place / "trained").is_file() for place in places))
        os.kill(os.getpid(), signal.SIGTERM)

    slow = ("env", "STAND_IN_SECONDS=600", *stand_in.COMMAND)
    job, execute = Job(request, Commands(slow, stand_in.COMMAND), 2), ray_cluster.executor(cluster[0], 0)
    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(KeyboardInterrupt):
        carrying_out.carry_out(work, job, execute, report=lambda line: None)
    stopper.join()
    assert all((place / "saved").is_file() for place in places)


def test_a_cluster_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setattr(ray, "init", lambda **_: (_ for _ in ()).throw(ConnectionError("Could not find any Ray\nat x")))
    with pytest.raises(InputError, match=r"--ray_address=auto: .*no Ray cluster to join \(Could not find any Ray"):
        ray_cluster.executor("auto", 0)


def test_a_cluster_is_shared_among_the_tasks():
    assert ray_cluster._share([{"CPU": 16.0}, {"CPU": 8.0}], 0) == (8, 0)
    assert ray_cluster._share([{"CPU": 16.0}, {"CPU": 8.0}], 6) == (4, 0)
    assert ray_cluster._share([{"CPU": 2.0}], 8) == (1, 0)
    assert ray_cluster._share([{}, {"CPU": 64.0}], 0) == (64, 0)  # a head that has given none of its cores
    with pytest.raises(InputError, match="No node of the Ray cluster has cores"):
        ray_cluster._share([{}], 0)
    assert ray_cluster._share([{"CPU": 4.0}, {"CPU": 64.0, "GPU": 8.0}], 0) == (8, 1)
