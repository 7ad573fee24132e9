"""The notebooks run from their first cell to the last."""

import os

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient

NOTEBOOKS = sorted(path.name for path in (ROOT / "docs").glob("*.ipynb"))
# Cell of the notebook -> shorter.
SHORTER = {
    "steps_per_epoch=48": "steps_per_epoch=2",
    'weights = "imagenet"': "weights = {weights!r}",
}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_one(name):
    notebook = nbformat.read(ROOT / "docs" / name, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not any(output.output_type == "error" for output in cell.get("outputs", ()))


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs(name, imagenet_like, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    notebook, shortened = nbformat.read(ROOT / "docs" / name, as_version=4), False
    for cell in notebook.cells:
        for whole, shorter in SHORTER.items():
            shortened |= whole in cell.source
            cell.source = cell.source.replace(whole, shorter.format(weights=str(imagenet_like)))
    assert shortened
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()))
    assert "error" not in said
    assert ("Figures: image AUROC" if name == "first_hour.ipynb" else "patch_jitter  0.0") in said
