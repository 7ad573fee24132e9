"""The pages of the manual: every command runs as written, made tiny; the Python page does what it says."""

import csv
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, command, draw_category, write_image
from PIL import Image

import cutpaste_tf
from cutpaste_tf.augmentation.proxy_tasks import TASKS
from cutpaste_tf.backend import keras
from cutpaste_tf.images import reading
from cutpaste_tf.networks import download, efficientnet
from cutpaste_tf.reproduction import speed
from cutpaste_tf.settings.base import leaves
from cutpaste_tf.settings.config import Config
from cutpaste_tf.settings.data import GOOD, DataSettings

PAGES = sorted(
    path.name for path in (ROOT / "docs").glob("*.md") if path.name not in ("results.md", "paper.md", "python.md")
)
# Appended, so that they replace what the page gives: a step or two, at 64 px.
_TINY = ["--image_size=64", "--stem=imagenet", "--steps_per_epoch=1", "--batch_size=6"]


def _commands(page, *, kind="sh"):
    """The mains' commands of a page, each as a list of words."""
    text = (ROOT / page).read_text()
    blocks = re.findall(rf"^```{kind}\n(.*?)^```", text, re.S | re.M)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("python ") and "_main" in line]


def _made_tiny(words, places):
    for name, place in places.items():
        words = [word.replace(name, str(place)) for word in words]
    if words[0] == "export_main.py":
        return [*words, "--false_alarm_rate=0.3"]  # of few images
    if words[0] != "train_main.py" or "--help" in words:
        return words
    given = {word.partition("=")[0] for word in words}
    if not {"--epochs=0", "--preset=quick"} & set(words):
        words = [*words, "--epochs=1"]
    words = [*words, "--head_epochs=1"] if "--head_epochs" in given else words
    if "--backbone=efficientnet_b4" in words:
        words = [*words, "--backbone=efficientnet_b0", "--epochs=1", "--head_epochs=1"]
    elif "--show_augmentations" in words:
        return [*words, "--image_size=64"]
    if not given & {"--weights", "--preset"}:
        words = [*words, "--backbone=toy"]
    return [*words, *_TINY]


def _run(page, places, kind="sh"):
    completed = []
    for words in _commands(page, kind=kind):
        words = _made_tiny(words, places)
        if words not in completed:  # several examples begin with the same training
            command(*words)
            completed.append(words)
    assert completed


@pytest.fixture
def places(tmp_path, monkeypatch, imagenet_like):
    """What the pages name: a category, weights; and a folder to write to."""
    monkeypatch.chdir(tmp_path)
    for index in range(16):
        write_image(tmp_path / f"photos/good/{index}.png", np.full((40, 50, 3), 90 + index, np.uint8))
    for index in range(2):
        write_image(tmp_path / f"photos/scratch/{index}.png", np.full((40, 50, 3), 200 + index, np.uint8))
    category = draw_category(tmp_path / "bottle")
    for index in range(6, 12):  # as many as --choose needs
        with Image.open(category / f"train/good/{index - 6:03d}.png") as picture:
            picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(category / f"train/good/{index:03d}.png")
    write_image(tmp_path / "region.png", np.full((40, 40), 255, np.uint8))
    shutil.copy(imagenet_like, tmp_path / "resnet18.npz")
    monkeypatch.setattr(download, "fetch", lambda remote, flag: imagenet_like)
    monkeypatch.setattr(speed, "measure", lambda runs: {})  # a minute, by `reproduce_main.py --plan`
    write_image(tmp_path / "confirmed/0.png", np.full((40, 40, 3), 90, np.uint8))
    pictures = {"/data/confirmed": tmp_path / "confirmed", "/data/strips": category, "/data/plates": category}
    return {"/data/mvtec_ad/bottle": category, "/data/mvtec_ad": tmp_path, **pictures}


_LONG = ("data.md", "localization.md", "proxy_tasks.md", "start.md", "training.md")


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        *(
            f"docs/{page}"
            for page in PAGES
            if page not in ("deploy.md", "predict.md", "reliability.md", "runs.md", "transfer.md", *_LONG)
        ),
        *(pytest.param(f"docs/{page}", marks=pytest.mark.slow) for page in _LONG),
    ],
)
def test_every_command_of_a_page_runs(page, places):
    _run(page, places)


def test_the_page_on_runs_names_every_file_and_column(places):
    _run("docs/runs.md", places)
    rows = re.findall(r"^\| (`.*?`) \| (.*) \|$", (ROOT / "docs/runs.md").read_text(), re.M)
    named = {name.rstrip("/") for files, _ in rows for name in re.findall(r"`(.*?)`", files)}
    for folder, prefix in ((Path("runs/bottle"), ""), (Path("runs/bottle/eval"), "eval/")):
        present = {prefix + path.name for path in folder.iterdir() if not path.name.startswith(("eval", "."))}
        assert present <= named | {"eval"}, present - named
    for table in ("train_log.csv", "eval/scores.csv"):
        (content,) = [content for files, content in rows if files == f"`{table}`"]
        with open(Path("runs/bottle") / table, newline="") as file:
            columns = next(csv.reader(file))
        assert set(columns) <= set(re.findall(r"`(\w+)`", content)), table


def test_the_page_on_prediction_names_every_column(places):
    _run("docs/predict.md", places)
    page = (ROOT / "docs/predict.md").read_text()
    with open("rows.csv", newline="") as file:
        columns = next(csv.reader(file))
    assert "heat_map" in columns
    assert all(f"`{name}`" in page for name in columns)


def test_the_list_of_changes_names_version_and_commands():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(r"^## (.*)$", changes, re.M)[1] == cutpaste_tf.__version__
    assert all(f"`{name}`" in changes for name in project["scripts"])


@pytest.mark.slow
def test_fine_tuning_runs(places):
    _run("docs/transfer.md", places)


def _program(kind):
    """One of the programs of the page on deployment."""
    (code,) = re.findall(rf"^```{kind}\n(.*?)^```", (ROOT / "docs/deploy.md").read_text(), re.S | re.M)
    return compile(code, "docs/deploy.md", "exec")


@pytest.fixture
def read_image(monkeypatch):
    """The page's module of that name."""
    module = types.ModuleType("read_image")
    exec(_program("python read"), vars(module))
    monkeypatch.setitem(sys.modules, "read_image", module)
    return module


@pytest.mark.usefixtures("read_image")
def test_the_page_on_deployment_does_what_it_says(places, tmp_path, monkeypatch, capsys):
    _run("docs/deploy.md", places)
    write_image(tmp_path / "deep.png", np.full((40, 40), 60000, np.uint16))
    files = sorted(map(str, places["/data/mvtec_ad/bottle"].glob("test/*/*.png")))
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["score.py", "exports/bottle", *files, "none.png", "deep.png"])
    exec(_program("python"), {})
    first, *lines = capsys.readouterr().out.splitlines()
    assert re.match(r"threshold \S+, for 30% false alarms", first)
    with open("exports/bottle/eval/scores.csv", newline="") as file:
        scores = {row["path"]: float(row["score"]) for row in csv.DictReader(file)}
    for file, line in zip(files, lines, strict=False):
        shown = re.match(rf"{re.escape(file)} (normal|anomalous) score (\S+) p \S+, hottest at \d+% from the top", line)
        expected = next(score for path, score in scores.items() if file.endswith(path))
        assert float(shown[2]) == pytest.approx(expected, rel=1e-3)
    missing, deep = lines[len(files) :]
    assert re.fullmatch(r"none\.png cannot be read: .*No such file or directory.*", missing)
    assert re.fullmatch(r"deep\.png cannot be read: brighter than white .*", deep)


@pytest.mark.usefixtures("read_image")
def test_the_page_on_deployment_runs_onnx_and_litert(places, tmp_path, capsys):
    for package in ("tf2onnx", "onnxruntime", "ai_edge_litert"):
        pytest.importorskip(package)
    command(*_made_tiny(_commands("docs/deploy.md")[0], places))
    _run("docs/deploy.md", places, kind="sh export")
    shutil.copy(places["/data/mvtec_ad/bottle"] / "test/square/000.png", tmp_path / "part.png")
    capsys.readouterr()
    exec(_program("python export"), {})
    assert re.match(r"(normal|anomalous) \S+ \S+\n", capsys.readouterr().out)


def _files_of_many_kinds(folder):
    """Name -> file: as cameras, phones and painting programs write them."""
    rng = np.random.default_rng(0)
    grey, color = rng.integers(0, 256, (40, 60), np.uint8), rng.integers(0, 256, (40, 60, 4), np.uint8)
    turned = Image.Exif()
    turned[0x112] = 6
    pictures = {
        "grey.png": (Image.fromarray(grey), {}),
        "deep.png": (Image.fromarray(grey.astype(np.uint16) * 16), {}),
        "deep.tif": (Image.fromarray(grey.astype(np.uint16) * 16), {}),
        "too_bright.png": (Image.fromarray(grey.astype(np.uint16) * 200), {}),
        "transparent.png": (Image.fromarray(color), {}),
        "palette.png": (Image.fromarray(color[..., :3]).quantize(8), {"transparency": 0}),
        "turned.jpg": (Image.fromarray(color[..., :3]), {"exif": turned}),
        "cmyk.jpg": (Image.fromarray(color[..., :3]).convert("CMYK"), {}),
        "lab.tif": (Image.fromarray(color[..., :3], "LAB"), {}),
        "float.tif": (Image.fromarray(grey.astype(np.float32)), {}),
        "frames.gif": (Image.fromarray(grey), {"save_all": True, "append_images": [Image.fromarray(255 - grey)]}),
    }
    for name, (picture, options) in pictures.items():
        picture.save(folder / name, **options)
    return [folder / name for name in pictures]


def test_the_page_on_deployment_reads_files_as_the_evaluation_does(read_image, tmp_path):
    """Or refuses them; LAB is the one kind that only the evaluation reads."""
    settings = DataSettings(white=4095, background=(10, 200, 90))
    record = {"white": settings.white, "background": settings.background}
    refused = []
    for file in _files_of_many_kinds(tmp_path):
        try:
            pixels = read_image.resized(read_image.read_image(file, record), (32, 48))
        except ValueError:
            refused.append(file.name)
            continue
        item = reading.Item(file.name, file, (), reading.NORMAL, GOOD)
        np.testing.assert_array_equal(pixels, reading.read([item], (32, 48), settings).images[0], err_msg=file.name)
    assert refused == ["too_bright.png", "lab.tif", "float.tif", "frames.gif"]


def test_the_demo_of_the_makefile_runs(places, tmp_path, capsys):
    plan = subprocess.run(["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines = [shlex.split(line)[1:] for line in plan.replace("\\\n", " ").splitlines() if "_main.py" in line]
    assert len(lines) == 4
    for words in lines:
        command(*_made_tiny([word.replace("demo/gear", places["/data/mvtec_ad/bottle"].name) for word in words], {}))
    figures, picture, page = capsys.readouterr().out.splitlines()[-3:]
    assert re.match(
        r"Figures: image AUROC [\d.]+ % \(runs/demo_untrained [\d.]+ %; Gaussian on 32 x 32 pixels", figures
    )
    assert (tmp_path / picture.split()[-1]).is_file()
    assert (tmp_path / page.split()[-1]).is_file()


def test_the_workflow_runs_the_demo_of_the_makefile_without_make():
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()
    (demo,) = re.findall(r"DEMO: >-\n((?: {8}.*\n)+)", workflow)
    commands = re.findall(r"- run: python (\S+_main\.py .*)", workflow)
    plan = subprocess.run(["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    expected = [shlex.split(line)[1:] for line in plan.replace("\\\n", " ").splitlines() if "_main.py" in line]
    assert [shlex.split(line.replace("$DEMO", demo)) for line in commands] == expected


@pytest.mark.slow
def test_fine_tuning_an_efficientnet_runs(places, tmp_path, monkeypatch):
    """With B0 in B4's place, and without the download."""
    weights = keras.applications.EfficientNetB0(weights=None, include_top=False)
    weights.save_weights(tmp_path / "b0.weights.h5")
    monkeypatch.setattr(efficientnet, "fetch", lambda remote, flag: tmp_path / "b0.weights.h5")
    _run("docs/transfer.md", places, kind="sh no-test")


def test_the_python_page_does_what_it_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for index in range(8):
        write_image(tmp_path / f"parts/good/{index:03d}.png", rng.integers(0, 256, (50, 60, 3), np.uint8))
    write_image(tmp_path / "parts/dent/000.png", np.zeros((50, 60, 3), np.uint8))
    code = "".join(re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/python.md").read_text(), re.S | re.M))
    made_tiny = code.replace(
        "steps_per_epoch=8", "steps_per_epoch=1, batch_size=6, dense='fast', density_mode='shared'"
    )
    assert made_tiny != code
    exec(compile(made_tiny, "docs/python.md", "exec"), {})
    said = capsys.readouterr().out
    assert all(f"{word}: " in said for word in ("anomaly score", "predictions", "margins", "views"))
    assert (tmp_path / "heat.png").is_file()


def test_what_can_be_chosen_is_on_its_page():
    page = (ROOT / "docs/proxy_tasks.md").read_text()
    assert all(f"`{name}`" in page for name in TASKS)


def test_nothing_is_left_to_fill_in():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        assert not re.findall(r"\b[A-Z]+_(?:TIME|QUICK|TRAIN)\b|TODO", page.read_text()), page.name


def _anchors(page):
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_somewhere():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for link, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page.read_text()):
            if link.startswith("http"):
                continue
            target = page.parent / link if link else page
            assert target.exists(), (page.name, link)
            assert not anchor or anchor in _anchors(target), (page.name, link, anchor)


def test_the_log_lists_its_pages_and_the_results_stay_short():
    log = ROOT / "docs/log"
    listed = re.findall(r"\]\(([\w-]+\.md)\)", (log / "README.md").read_text())
    assert sorted([*listed, "README.md"]) == sorted(path.name for path in log.glob("*.md"))
    assert len((ROOT / "docs/results.md").read_text().splitlines()) <= 120


def test_cited_tests_exist():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for name in re.findall(r"\btests/[\w/]+\.py", page.read_text()):
            assert (ROOT / name).is_file(), (page.name, name)


def test_the_page_on_the_paper_names_code_flags_and_tests_that_exist():
    rows = re.findall(
        r"^\| (?!paper|-)(.*?) \| (.*?) \| (.*?) \| (.*?) \|$", (ROOT / "docs/paper.md").read_text(), re.M
    )
    assert 15 <= len(rows) <= 24
    settings = {field.name for field, _ in leaves(Config)}
    for _, code, options, tests in rows:
        for folder, cell in (("cutpaste_tf", code), ("tests", tests)):
            for named in cell.split("; "):
                path, *names = re.findall(r"`(.*?)`", named)
                defined = re.findall(r"^(?:def |class )?(\w+)", (ROOT / folder / path).read_text(), re.M)
                assert names, named
                assert set(names) <= set(defined), (path, names)
        for name in re.findall(r"`--(\w+)", options):
            assert name in {*settings, "preset"}, name
        for main, name in re.findall(r"`(\w+)_main.py --(\w+)", options):
            cli = {"eval": "evaluate"}.get(main, main)
            assert f'"{name}"' in (ROOT / f"cutpaste_tf/cli/{cli}.py").read_text()


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120
