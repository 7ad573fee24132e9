"""A detector over HTTP: evaluation's scores, prediction's refusals, memory level."""

import base64
import concurrent.futures
import contextlib
import io
import json
import resource
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import requests
import uvicorn
from conftest import command
from models import PATCHES, RUN
from PIL import Image

from cutpaste_tf import ExportOptions, export, load
from cutpaste_tf.serving.server import application

SHARED = PATCHES.replaced(density_mode="shared")


@contextlib.contextmanager
def served(folder, **options):
    """The address of a server for the detector in a folder."""
    server = uvicorn.Server(uvicorn.Config(application(load(folder), **options), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.mark.parametrize(("config", "exported"), [(RUN, False), (SHARED, False), (SHARED, True)])
def test_answers_are_the_predictions_of_the_evaluation_s_detector(config, exported, copied_run, category, tmp_path):
    folder = copied_run(config, category, tmp_path / "run")
    if exported:
        export(folder, tmp_path / "export", options=ExportOptions(false_alarm_rate=0.3))
        folder = tmp_path / "export"
    command(
        "eval_main.py", f"--run_dir={folder}", f"--output_dir={tmp_path / 'eval'}", f"--data={category}", "--nopage"
    )
    with (tmp_path / "eval/scores.csv").open() as file:
        evaluated = dict(line.split(",")[:4:3] for line in file)
    detector = load(folder)
    with served(folder) as address:
        assert requests.get(address).json()["detector"] == detector.description
        for path in sorted(category.glob("test/*/*.png")):
            url = f"{address}/predict?heat_map=true"
            answer = requests.post(url, data=path.read_bytes()).json()
            expected = detector.predict(path, heat_map=True)
            assert answer["score"] == pytest.approx(expected.score, rel=1e-9, abs=1e-9)
            assert answer["score"] == pytest.approx(float(evaluated[str(path.relative_to(category))]), abs=1e-6)
            assert (answer["p_value"], answer["decision"]) == (expected.p_value, expected.decision)
            assert answer.get("boxes", []) == [box._asdict() for box in expected.boxes or ()]
            assert ("boxes" in answer) == (expected.boxes is not None)
            picture = Image.open(io.BytesIO(base64.b64decode(answer["heat_map"])))
            assert picture.size == Image.open(path).size
            heat = np.asarray(picture) * (answer["heat_of_65535"] / 65535)
            np.testing.assert_allclose(heat, expected.heat_map, atol=answer["heat_of_65535"] / 65535)
            assert "heat_map" not in requests.post(f"{address}/predict", data=path.read_bytes()).json()


def test_what_prediction_refuses_is_refused_in_its_words(copied_run, category, tmp_path, capsys):
    run = copied_run(RUN, category, tmp_path / "run")
    (tmp_path / "notes.png").write_text("no picture")
    Image.new("1", (15000, 15000)).save(tmp_path / "vast.png")
    with served(run, max_megabytes=0.5) as address:
        for path in (tmp_path / "notes.png", tmp_path / "vast.png"):
            with pytest.raises(SystemExit):
                command("predict_main.py", f"--detector={run}", f"--images={path}", "--format=jsonl")
            row = capsys.readouterr().out
            answer = requests.post(f"{address}/predict", params={"name": str(path)}, data=path.read_bytes())
            assert answer.status_code == 422
            assert json.loads(row.splitlines()[-1])["error"] == answer.json()["error"]
        large = requests.post(f"{address}/predict", data=bytes(600_000))
        assert (large.status_code, large.json()["error"]) == (413, "the image has more than 0.5 MB.")
        assert requests.post(f"{address}/predict").status_code == 422  # no content


def _load(address, path: Path, seconds, clients=10):
    """Sends one image from all clients for some seconds: statuses, and the process's peak of memory in bytes."""
    end, content = time.monotonic() + seconds, path.read_bytes()

    def send(_):
        statuses = []
        while time.monotonic() < end:
            statuses.append(requests.post(f"{address}/predict?heat_map=true", data=content).status_code)
        return statuses

    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        statuses = [status for each in pool.map(send, range(clients)) for status in each]
    return statuses, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=pytest.mark.slow)])
def test_many_clients_are_served_in_level_memory(seconds, copied_run, category, tmp_path):
    run = copied_run(SHARED, category, tmp_path / "run")
    (path, *_) = sorted(category.glob("test/*/*.png"))
    with served(run) as address:
        statuses, before = _load(address, path, 2)
        more, after = _load(address, path, seconds)
    assert {*statuses, *more} == {200}
    assert len(more) > 10
    assert after - before < 100e6, (before, after)
