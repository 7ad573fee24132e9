"""A ResNet-18's weights from files of every kind, and from the internet: whole, checked, or one clear line."""

import concurrent.futures
import contextlib
import hashlib
import http.server
import importlib
import io
import threading
import types

import numpy as np
import pytest
from conftest import TINY, command
from safetensors.numpy import save_file

import cutpaste_tf
from cutpaste_tf.detection import loading
from cutpaste_tf.errors import InputError
from cutpaste_tf.networks import download, weights
from cutpaste_tf.settings.config import Config
from cutpaste_tf.training import sheet


@pytest.fixture(scope="module")
def files(tmp_path_factory, imagenet_like):
    """One set of arrays as .npz and .safetensors."""
    folder = tmp_path_factory.mktemp("kinds")
    arrays = dict(np.load(imagenet_like)) | {"bn1.num_batches_tracked": np.array(7)}
    np.savez(folder / "w.npz", **arrays)
    save_file(arrays, folder / "w.safetensors")
    return folder


def test_both_kinds_of_file_give_the_same_arrays(files):
    expected = weights.read_resnet18(str(files / "w.npz"), "imagenet", classifier=True)
    actual = weights.read_resnet18(str(files / "w.safetensors"), "imagenet", classifier=True)
    assert expected.keys() == actual.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array)


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
def test_a_pickle_of_pytorch_is_refused_with_what_converts_it(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    with pytest.raises(InputError, match="does not exist"):
        weights.read_resnet18(str(path), "imagenet")
    path.write_bytes(b"PK")
    with pytest.raises(InputError) as refused:
        weights.read_resnet18(str(path), "imagenet")
    expected = f"save_file(torch.load('{path}', weights_only=True), '{tmp_path}/w.safetensors'); then give that file."
    assert expected in str(refused.value)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
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
    state.url = url
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
        (
            "another",
            "file's hash does not match the published one, so it was deleted; try again, or download http",
        ),
        ("broken off", "download http://127.* by hand and put it at .*resnet18.safetensors, or give a weights file"),
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
        InputError, match=r"could not be downloaded .*; download http://127\.0\.0\.1:9/model\.safetensors by"
    ):
        weights.read_resnet18("imagenet", "imagenet")


def test_a_mirror_of_hugging_face_is_asked_and_offline_nobody_is(hub, monkeypatch):
    mirror = hub.url.removesuffix("/model.safetensors")
    published = download.RESNET18._replace(url="https://huggingface.co/model.safetensors")
    monkeypatch.setattr(download, "RESNET18", published)
    monkeypatch.setenv("HF_ENDPOINT", mirror + "/")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="is not in the cache, and HF_HUB_OFFLINE forbids downloads; download http"):
        weights.read_resnet18("imagenet", "imagenet")
    assert hub.requests == 0
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    weights.read_resnet18("imagenet", "imagenet")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    weights.read_resnet18("imagenet", "imagenet")  # from the cache
    assert hub.requests == 1


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


def test_data_that_are_not_there_are_refused_before_a_download(hub, tmp_path):
    config = Config.of(data=str(tmp_path / "nowhere"), weights="imagenet", proxy_task="cutswap")
    with pytest.raises(InputError, match="nowhere is not a folder"):
        cutpaste_tf.train(config, tmp_path / "run")
    with pytest.raises(InputError, match="nowhere is not a folder"):
        sheet.show_augmentations(config, tmp_path / "run")
    assert hub.requests == 0


def test_two_at_once_both_get_the_whole(hub):
    with concurrent.futures.ThreadPoolExecutor() as pool, contextlib.redirect_stdout(io.StringIO()):
        contents = list(pool.map(lambda _: download.fetch(download.RESNET18, "weights").read_bytes(), range(4)))
    assert all(content == hub.content for content in contents)
    assert [path.name for path in hub.path.parent.iterdir()] == [hub.path.name]


def test_one_word_trains_from_imagenet(hub, category, tmp_path, monkeypatch):
    """The stem is then ImageNet's at any size; CutSwap takes the same weights where nothing is named."""
    monkeypatch.chdir(tmp_path)
    tiny = ["--image_size=32", "--epochs=0", "--scar_max_length=20"]
    command("train_main.py", f"--data={category}", "--output_dir=run", "--weights=imagenet", *tiny)
    loaded = loading.load("run")
    assert (loaded.config.network.stem, loaded.config.network.normalization) == ("imagenet", "imagenet")
    backbone = next(layer for layer in loaded.feature.layers if layer.name == "resnet18")
    expected = weights.read_resnet18("imagenet", "imagenet")["conv1.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(backbone.get_layer("conv1").kernel, expected)
    swapped = TINY.replaced(data=str(category), proxy_task="cutswap", epochs=1, steps_per_epoch=1, batch_size=2)
    cutpaste_tf.train(swapped, tmp_path / "swapped")
    assert hub.requests == 1
