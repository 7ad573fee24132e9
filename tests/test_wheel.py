"""`pip install .` gives the commands, from any folder."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv

import pytest
from conftest import ROOT
from PIL import Image

import cutpaste_tf
from cutpaste_tf.images import demo


def test_every_wing_is_in_the_wheel():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    wings = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "cutpaste_tf").glob("*/**/__init__.py")}
    assert set(listed) == {"cutpaste_tf", "cutpaste_tf.data", *wings}


def test_the_version_is_one():
    """In the package, the changes and the citation."""
    done = subprocess.run(
        [sys.executable, "train_main.py", "--version"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"cutpaste_tf {cutpaste_tf.__version__}\n"
    assert f"## {cutpaste_tf.__version__}\n" in (ROOT / "CHANGELOG.md").read_text()
    assert f"\nversion: {cutpaste_tf.__version__}\n" in (ROOT / "CITATION.cff").read_text()


@pytest.mark.slow
def test_the_wheel_trains_the_demo(tmp_path):
    """Built, installed into an environment of its own, and run far from the checkout."""
    source = tmp_path / "source"  # building leaves files behind
    skipped = shutil.ignore_patterns(".*", "demo", "runs", "build", "shared", "tests", "__pycache__", "*.egg-info")
    shutil.copytree(ROOT, source, ignore=skipped)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", f"--wheel-dir={tmp_path}", str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("cutpaste_tf-*.whl")
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)
    (site,) = environment.glob("lib/python*/site-packages")
    # What it depends on is taken from here: installing TensorFlow once more would take minutes.
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    install = [sys.executable, "-m", "pip", "--python", str(environment / "bin/python"), "install", "--quiet"]
    subprocess.run([*install, "--no-deps", "--ignore-installed", str(wheel)], check=True, capture_output=True)
    place = tmp_path / "elsewhere"
    place.mkdir()
    if (ROOT / "demo/gear").is_dir():  # else it is drawn, which takes half a minute
        (place / "demo").symlink_to(ROOT / "demo")
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    flags = ["--image_size=32", "--stem=imagenet", "--epochs=0", "--scar_max_length=20"]
    for command in (
        ["cutpaste-train", "--data=demo/gear", "--output_dir=run", *flags],
        ["cutpaste-eval", "--run_dir=run", "--noheat_maps"],
    ):
        run = [str(environment / "bin" / command[0]), *command[1:]]
        subprocess.run(run, cwd=place, env=clean, check=True, capture_output=True)
    result = json.loads((place / "run/eval/metrics.json").read_text())
    assert (result["train_images"], result["test_anomalous"]) == (demo.TRAIN, 5 * demo.TEST_PER_DEFECT)
    assert Image.open(place / "run/eval/roc.png").size[0] > 100
    installed = subprocess.run(
        [environment / "bin/python", "-c", "import cutpaste_tf.images.demo as d; print(d.__file__)"],
        cwd=place, env=clean, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert str(site) in installed.stdout
    assert (site / "cutpaste_tf/py.typed").is_file()
    (notice,) = site.glob("cutpaste_tf-*.dist-info/licenses/NOTICE")
    assert notice.read_text() == (ROOT / "NOTICE").read_text()
    assert not (site / "data").exists()
