"""Whose folder it is, and what is left open in a run's configuration."""

import pytest
from conftest import TINY

from cutpaste_tf import runs
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import sources
from cutpaste_tf.training import preparation

PATCHES = TINY.replaced(epochs=0, patch_size=32)


def test_what_is_left_open_goes_by_the_first_name_of_data(category, tmp_path):
    """A.5's densities for each location belong to a bottle, wherever it lies now and however it is named."""
    folder, bottle = tmp_path / "run", category.rename(tmp_path / "bottle")
    folder.mkdir()
    data = runs.TrainingData.of(sources.read_train(bottle, 32))
    first = runs.open_run(folder, PATCHES.replaced(data=str(bottle)), data)
    assert first.resolved().density.density_mode == "per_location"
    moved = PATCHES.replaced(data=str(tmp_path / "moved"))
    assert moved.resolved().density.density_mode == "shared"
    assert runs.open_run(folder, moved, data) == first
    (folder / "detector").mkdir()
    runs.check(folder, moved)
    with pytest.raises(InputError, match=r"holds a run with density_mode=per_location \(now shared\)"):
        runs.check(folder, moved.replaced(density_mode="shared"))


def test_the_working_directory_has_a_name(category, tmp_path, monkeypatch):
    monkeypatch.chdir(category.rename(tmp_path / "bottle"))
    config = preparation.with_canonical_names(PATCHES.replaced(data=".")).resolved()
    assert (config.data.data, config.density.density_mode) == (str(tmp_path / "bottle"), "per_location")
