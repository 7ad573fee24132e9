"""Loading a file executes nothing: what could is refused by name."""

import json
import pickle
import re
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import TINY, command

import cutpaste_tf
from cutpaste_tf import files, runs
from cutpaste_tf.detection import network, record
from cutpaste_tf.errors import InputError
from cutpaste_tf.networks import tensor_files


class _Touches:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return open, (str(self._path), "w")


def _changed(source, target, change):
    """A copy of a network's file with another description."""
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(target, "w") as after:
        for name in before.namelist():
            content = before.read(name)
            after.writestr(name, json.dumps(change(json.loads(content))) if name == "config.json" else content)


def test_a_network_with_code_is_refused(tmp_path):
    image = keras.Input((8, 8, 3))
    path, touched = tmp_path / "model.keras", tmp_path / "touched"
    keras.Model(image, keras.layers.Lambda(lambda x: x + 1)(image)).save(path)
    with pytest.raises(InputError, match=r"it has a keras\.layers\.Lambda, of which networks here have none"):
        network.load(path)
    assert not touched.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("os", "system"),
        ("keras.utils", "get_file"),
        ("keras.config", "enable_unsafe_deserialization"),
    ],
)
def test_a_network_that_names_a_function_is_refused(tiny_run, tmp_path, module, name):
    def change(described):
        described["config"]["layers"][1] = {"module": module, "class_name": name, "config": {"x": "1"}}
        return described

    path = tiny_run / "detector/model.keras"
    _changed(path, tmp_path / "model.keras", change)
    with pytest.raises(InputError, match=rf"it has a {re.escape(module)}\.{name}, of which"):
        network.load(tmp_path / "model.keras")
    assert network.load(path)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".npy", ""])
def test_weights_are_not_unpickled(tmp_path, suffix):
    touched, path = tmp_path / "touched", tmp_path / f"weights{suffix}"
    path.write_bytes(pickle.dumps(_Touches(touched)))
    with pytest.raises(tensor_files.NotTensorsError):
        tensor_files.read(path)
    assert not touched.exists()


def test_pickled_objects_in_archives_are_not_unpickled(tmp_path):
    touched = tmp_path / "touched"
    array = np.empty(1, object)
    array[0] = _Touches(touched)
    np.savez(tmp_path / "arrays.npz", array)
    with pytest.raises(ValueError, match="pickled objects"):
        files.read_arrays(tmp_path / "arrays.npz")
    with pytest.raises(tensor_files.NotTensorsError, match="pickled objects"):
        tensor_files.read(tmp_path / "arrays.npz")
    assert not touched.exists()


def test_an_archive_that_claims_too_much_takes_no_memory(tmp_path):
    with zipfile.ZipFile(tmp_path / "arrays.npz", "w") as archive, archive.open("a.npy", "w") as member:
        header = {"descr": "<f8", "fortran_order": False, "shape": (2**40, 2**10)}
        np.lib.format.write_array_header_1_0(member, header)
    with pytest.raises(ValueError, match="does not have as many bytes as its shape"):
        files.read_arrays(tmp_path / "arrays.npz")


def test_names_in_an_archive_lead_nowhere(tmp_path):
    """They are names of arrays, and nothing is unpacked."""
    inside = tmp_path / "inside"
    inside.mkdir()
    with zipfile.ZipFile(inside / "arrays.npz", "w") as archive, archive.open("../../a.npy", "w") as member:
        np.lib.format.write_array(member, np.arange(3))
    assert [*files.read_arrays(inside / "arrays.npz")] == ["../../a"]
    assert [path.name for path in tmp_path.rglob("*")] == ["inside", "arrays.npz"]


def test_an_export_that_lists_files_elsewhere_is_refused(tiny_run, tmp_path):
    command("export_main.py", f"--run_dir={tiny_run}", f"--output={tmp_path}/export")
    path = tmp_path / "export" / runs.EXPORT
    values = json.loads(path.read_text())
    values["files"] = {"../../../dev/zero": "0"}
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match="which is not in its folder"):
        cutpaste_tf.load(tmp_path / "export")


def test_an_export_that_writes_files_is_refused(tiny_run, tmp_path):
    """Even if export.json has its digests."""
    command("export_main.py", f"--run_dir={tiny_run}", f"--output={tmp_path}/export")
    path, touched = tmp_path / "export" / runs.EXPORT, tmp_path / "touched"

    class Hostile(tf.Module):
        @tf.function(input_signature=[])
        def __call__(self):
            tf.io.write_file(str(touched), "x")
            return tf.constant(1)

    tf.saved_model.save(Hostile(), tmp_path / "export/1")
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "files": record.digests(tmp_path / "export/1")}))
    with pytest.raises(InputError, match="has the operation WriteFile, which no export has"):
        cutpaste_tf.load(tmp_path / "export").score(np.zeros((1, 32, 32, 3), np.uint8))
    assert not touched.exists()


def test_a_density_of_another_network_is_named(tiny_run, category):
    other = TINY.replaced(data=str(category), epochs=0, feature="layer1")
    cutpaste_tf.train(other, tiny_run.parent / "other")
    (tiny_run / "detector/density.npz").write_bytes((tiny_run.parent / "other/detector/density.npz").read_bytes())
    with pytest.raises(InputError, match=r"features with 8 dimensions, but the network's have 16"):
        cutpaste_tf.load(tiny_run).score(np.zeros((1, 32, 32, 3), np.uint8))
