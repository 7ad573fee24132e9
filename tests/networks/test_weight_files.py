"""A ResNet-18's weights from files of every kind, and from the internet: whole, checked, or one clear line."""

import collections
import concurrent.futures
import contextlib
import hashlib
import http.server
import importlib
import io
import os
import pickle
import sys
import threading
import types
import zipfile

import numpy as np
import pytest
from conftest import TINY, command
from safetensors.numpy import save_file

import cutpaste_tf
from cutpaste_tf.errors import InputError
from cutpaste_tf.networks import download, tensor_files, weights
from cutpaste_tf.settings.config import Config


class Storage:
    def __init__(self, array):
        self.array = array


class Tensor:
    """Pickled as PyTorch pickles a tensor."""

    def __init__(self, array):
        self.array, self.storage = array, Storage(array)

    def __reduce__(self):
        strides = tuple(step // self.array.itemsize for step in self.array.strides)
        arguments = (self.storage, 0, self.array.shape, strides, False, collections.OrderedDict())
        return sys.modules["torch._utils"]._rebuild_tensor_v2, arguments


def write_pth(path, state):
    """What `torch.save` writes, by stand-ins for the three names of PyTorch's that it refers to."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    kinds = {np.dtype(np.float32): "FloatStorage", np.dtype(np.int64): "LongStorage"}
    for name in kinds.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2(*arguments):
        raise NotImplementedError

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    numbers = {}

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing):
            if not isinstance(thing, Storage):
                return None
            key = str(len(numbers))
            numbers[key] = np.ascontiguousarray(thing.array).tobytes()
            return "storage", getattr(torch, kinds[thing.array.dtype]), key, "cpu", thing.array.size

    buffer = io.BytesIO()
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, "torch", torch)
        patched.setitem(sys.modules, "torch._utils", utils)
        Pickler(buffer, protocol=2).dump(state)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", buffer.getvalue())
        for key, content in numbers.items():
            archive.writestr(f"archive/data/{key}", content)


@pytest.fixture(scope="module")
def files(tmp_path_factory, imagenet_like):
    """One set of arrays as .npz, .safetensors and .pth."""
    folder = tmp_path_factory.mktemp("kinds")
    arrays = dict(np.load(imagenet_like)) | {"bn1.num_batches_tracked": np.array(7)}
    np.savez(folder / "w.npz", **arrays)
    save_file(arrays, folder / "w.safetensors")
    state = collections.OrderedDict((name, Tensor(array)) for name, array in arrays.items())
    write_pth(folder / "w.pth", state)
    return folder


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_every_kind_of_file_gives_the_same_arrays(files, suffix):
    expected = weights.read_resnet18(str(files / "w.npz"), "imagenet", classifier=True)
    found = weights.read_resnet18(str(files / f"w{suffix}"), "imagenet", classifier=True)
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


def test_a_transposed_tensor_is_read_by_its_strides(tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensor = Tensor(array)
    tensor.array = array.T  # its numbers stay in the order in which they were
    write_pth(tmp_path / "w.pth", {"turned": tensor})
    np.testing.assert_array_equal(tensor_files.read(tmp_path / "w.pth")["turned"], array.T)


class Evil:
    def __reduce__(self):
        return os.system, ("touch was_here",)


def test_a_pth_can_only_hold_tensors(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pth(tmp_path / "evil.pth", {"conv1.weight": Evil()})
    with pytest.raises(InputError, match=r"evil\.pth is not a file of .*it holds posix\.system, which is no tensor"):
        weights.read_resnet18(str(tmp_path / "evil.pth"), "imagenet")
    assert not (tmp_path / "was_here").exists()
    beyond = Tensor(np.zeros(4, np.float32))
    beyond.array = np.lib.stride_tricks.as_strided(np.zeros(4, np.float32), (100, 100), (400, 4))
    write_pth(tmp_path / "beyond.pth", {"conv1.weight": beyond})
    with pytest.raises(tensor_files.NotTensorsError, match="a tensor lies beyond its numbers"):
        tensor_files.read(tmp_path / "beyond.pth")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pth"])
def test_damaged_files_are_named(files, tmp_path, suffix):
    content = (files / f"w{suffix}").read_bytes()
    for name, damaged in (("cut", content[: len(content) // 2]), ("text", b"hello"), ("empty", b"")):
        path = tmp_path / f"{name}{suffix}"
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=rf"{name}\{suffix} is not a file of torchvision's ResNet-18 arrays"):
            weights.read_resnet18(str(path), "imagenet")


@pytest.fixture
def hub(files, tmp_path, monkeypatch):
    """A server of one file in place of the one on the internet; `answer` says how it serves it."""
    content = (files / "w.safetensors").read_bytes()
    state = types.SimpleNamespace(answer="whole", requests=0, content=content)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            state.requests += 1
            sent = {"whole": content, "broken off": content[:1000], "another": b"not found here"}[state.answer]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content if state.answer == "broken off" else sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/model.safetensors"
    remote = download.Remote(url, f"sha256:{hashlib.sha256(content).hexdigest()}", "resnet18.safetensors")
    monkeypatch.setattr(download, "RESNET18", remote)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    state.path = tmp_path / "keras/models/resnet18.safetensors"
    yield state
    server.shutdown()
    server.server_close()


def test_weights_are_downloaded_once(hub):
    first = weights.read_resnet18("imagenet", "imagenet")
    assert hub.path.read_bytes() == hub.content
    assert weights.read_resnet18("imagenet", "imagenet").keys() == first.keys()
    assert hub.requests == 1
    hub.path.write_bytes(b"damaged since")
    weights.read_resnet18("imagenet", "imagenet")
    assert (hub.requests, hub.path.read_bytes()) == (2, hub.content)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("another", "the download has another hash than the published file, and was deleted; try again, or fetch http"),
        ("broken off", "fetch http://127.* by hand and put it at .*resnet18.safetensors, or name a file of weights"),
    ],
)
def test_half_a_file_or_another_is_not_kept(hub, answer, message):
    hub.answer = answer
    with pytest.raises(InputError, match=f"--weights=imagenet.*{message}"):
        weights.read_resnet18("imagenet", "imagenet")
    assert not hub.path.parent.exists() or not list(hub.path.parent.iterdir())
    hub.answer = "whole"
    weights.read_resnet18("imagenet", "imagenet")


def test_without_a_network_one_line_says_what_to_fetch(hub, monkeypatch):
    nobody = download.RESNET18._replace(url="http://127.0.0.1:9/model.safetensors")
    monkeypatch.setattr(download, "RESNET18", nobody)
    with pytest.raises(
        InputError, match=r"could not be downloaded .*; fetch http://127\.0\.0\.1:9/model\.safetensors by"
    ):
        weights.read_resnet18("imagenet", "imagenet")


def test_every_efficientnet_is_where_keras_has_it():
    """Address, name in the cache and hash are Keras' own, so that what it has downloaded is not fetched again."""
    theirs = importlib.import_module("keras.src.applications.efficientnet")
    for size in range(8):
        url, digest, name = download.EFFICIENTNET[f"efficientnet_b{size}"]
        assert url == f"{theirs.BASE_WEIGHTS_PATH}efficientnetb{size}_notop.h5" == f"{theirs.BASE_WEIGHTS_PATH}{name}"
        assert digest == f"md5:{theirs.WEIGHTS_HASHES[f'b{size}'][1]}"


def test_an_efficientnet_is_fetched_before_any_long_work(hub, category, tmp_path, monkeypatch):
    nobody = download.EFFICIENTNET["efficientnet_b4"]._replace(url="http://127.0.0.1:9/b4.h5")
    monkeypatch.setitem(download.EFFICIENTNET, "efficientnet_b4", nobody)
    config = Config.of(data=str(category), backbone="efficientnet_b4", weights="imagenet")
    with pytest.raises(InputError, match=r"could not be downloaded .*b4\.h5 by hand and put it at .*b4_notop"):
        cutpaste_tf.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_two_at_once_both_get_the_whole(hub):
    with concurrent.futures.ThreadPoolExecutor() as pool, contextlib.redirect_stdout(io.StringIO()):
        found = list(pool.map(lambda _: download.fetch(download.RESNET18, "weights").read_bytes(), range(4)))
    assert all(content == hub.content for content in found)
    assert [path.name for path in hub.path.parent.iterdir()] == [hub.path.name]


def test_one_word_trains_from_imagenet(hub, category, tmp_path, monkeypatch):
    """The stem is then ImageNet's at any size; CutSwap takes the same weights where nothing is named."""
    monkeypatch.chdir(tmp_path)
    tiny = ["--image_size=32", "--epochs=0", "--scar_max_length=20"]
    command("train_main.py", f"--data={category}", "--output_dir=run", "--weights=imagenet", *tiny)
    loaded = cutpaste_tf.Detector.load("run")
    assert (loaded.config.network.stem, loaded.config.network.normalization) == ("imagenet", "imagenet")
    backbone = next(layer for layer in loaded.feature.layers if layer.name == "resnet18")
    expected = weights.read_resnet18("imagenet", "imagenet")["conv1.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(backbone.get_layer("conv1").kernel, expected)
    swapped = TINY.replaced(data=str(category), proxy_task="cutswap", epochs=1, steps_per_epoch=1, batch_size=2)
    cutpaste_tf.train(swapped, tmp_path / "swapped")
    assert hub.requests == 1
