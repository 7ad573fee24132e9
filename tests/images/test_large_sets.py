"""Sets beyond memory: arrays in files, and files read by several threads."""

import math
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import write_image
from PIL import Image

from cutpaste_tf import arrays, files, parallel
from cutpaste_tf.backend import keras
from cutpaste_tf.density import density
from cutpaste_tf.density.gaussian import GaussianDensity
from cutpaste_tf.detection import embeddings, image_features
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import decoding, reading, sources
from cutpaste_tf.images.image_set import ImageSet


def test_results_come_in_order_and_little_is_taken_ahead(monkeypatch):
    monkeypatch.setattr(parallel, "cores", lambda: 3)
    taken, at_work, threads = [], threading.Barrier(3, timeout=20), set()

    def items():
        for index in range(40):
            taken.append(index)
            yield index

    def work(index):
        threads.add(threading.get_ident())
        if index < 3:
            at_work.wait()  # three are at work at the same time, or this breaks
        time.sleep(0.002 * (index % 3))
        return 2 * index

    results = parallel.in_order(work, items())
    assert next(results) == 0
    assert len(taken) <= 13
    assert list(results) == list(range(2, 80, 2))
    assert len(threads) == 3


def test_the_cores_of_a_container_are_its_quota_s(tmp_path, monkeypatch):
    self_cgroup = tmp_path / "own"

    def quota(group, **written):
        self_cgroup.write_text(group)
        for name, content in written.items():
            path = tmp_path / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return parallel.quota(tmp_path, self_cgroup)

    assert quota("0::/a/b\n") == math.inf
    assert quota("0::/a/b\n", a__cpu_dot_max="150000 100000\n", a__b__cpu_dot_max="max 100000\n") == 1.5
    assert quota("0::/\n", cpu_dot_max="200000 100000\n") == 2
    quotas = {"cpu__x__cpu_dot_cfs_quota_us": "-1", "cpu__x__cpu_dot_cfs_period_us": "100000"}
    assert quota("4:memory:/x\n1:cpu:/x\n", **quotas) == math.inf
    quotas = {"cpu,cpuacct__cpu_dot_cfs_quota_us": "50000", "cpu,cpuacct__cpu_dot_cfs_period_us": "100000"}
    assert quota("1:cpu,cpuacct:/docker/x\n", **quotas) == 0.5
    assert parallel.quota(tmp_path, tmp_path / "none") == math.inf
    monkeypatch.setattr(parallel, "quota", lambda: 0.5)
    assert parallel.cores() == 1


def test_threads_share_memory(monkeypatch, tmp_path):
    """Pictures of 400 pixels, of which two fit in the room, are decoded by no more than two threads at a time."""
    monkeypatch.setattr(parallel, "cores", lambda: 8)
    monkeypatch.setattr(decoding, "_ROOM", parallel.Room(2 * 400 * 4))
    at_work, most, decode = [], [], decoding.decode

    def counted(*arguments, **options):
        at_work.append(1)
        most.append(len(at_work))
        time.sleep(0.005)
        decoded = decode(*arguments, **options)
        at_work.pop()
        return decoded

    monkeypatch.setattr(decoding, "decode", counted)
    for index in range(20):
        write_image(tmp_path / f"{index:03d}.png", np.full((20, 20, 3), index, np.uint8))
    write_image(tmp_path / "large.png", np.full((90, 90, 3), 7, np.uint8))  # alone, but read
    assert sources.read_train(tmp_path, 32).images[:, 0, 0, 0].tolist() == [*range(20), 7]
    assert max(most) == 2


def test_the_error_is_the_first_item_s(monkeypatch):
    monkeypatch.setattr(parallel, "cores", lambda: 4)

    def work(index):
        if index in (3, 9):
            time.sleep(0.05 if index == 3 else 0)
            raise ValueError(str(index))
        return index

    results, received = parallel.in_order(work, range(20)), []
    with pytest.raises(ValueError, match="3"):
        received.extend(results)
    assert list(parallel.in_order(work, range(3))) == [0, 1, 2]


def test_reading_by_threads_names_the_first_bad_file_and_keeps_pillow_s_limit(monkeypatch, tmp_path):
    monkeypatch.setattr(parallel, "cores", lambda: 8)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)  # Pillow alone would refuse every one of these
    for index in range(60):
        write_image(tmp_path / f"{index:03d}.png", np.full((20, 20, 3), index, np.uint8))
    examples = sources.read_train(tmp_path, 32)
    assert examples.images[:, 5, 5, 0].tolist() == list(range(60))
    assert Image.MAX_IMAGE_PIXELS == 50
    for index in (17, 31, 44):
        (tmp_path / f"{index:03d}.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"017\.png cannot be read"):
        sources.read_train(tmp_path, 32)
    assert Image.MAX_IMAGE_PIXELS == 50


def test_an_image_turned_by_exif_is_upright(tmp_path):
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, 20:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.jpg"
    Image.fromarray(pixels).save(path, quality=95, exif=exif)
    decoded = decoding.decode(path, "turned", white=255, background=(0, 0, 0), max_megapixels=1)
    assert decoded.turned
    assert decoded.image.size == (20, 40)
    assert np.asarray(decoded.image)[35, 10, 0] > 200


def _resident(kind):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(kind)) * 1024


def test_an_array_in_a_file_leaves_memory_and_keeps_its_content(monkeypatch):
    monkeypatch.setattr(arrays, "MEMORY_LIMIT", 0)
    filed = arrays.allocate(64, (1000, 1000))
    filed[:] = np.arange(64, dtype=np.uint8)[:, None, None]
    try:
        before = _resident("VmRSS:")
        arrays.release(filed[3:5])
        assert before - _resident("VmRSS:") > 50e6
    except FileNotFoundError:
        pass  # no Linux; what follows holds everywhere
    assert [int(row[7, 7]) for row in arrays.rows(filed)] == list(range(64))
    assert [len(batch) for batch in arrays.batches(filed, 30)] == [30, 30, 4]
    arrays.release(np.zeros(3))  # in memory: stays as it is


def test_images_and_masks_of_a_large_set_lie_in_files(monkeypatch, category):
    small = sources.read_test(category, 32)
    monkeypatch.setattr(arrays, "MEMORY_LIMIT", 100)
    monkeypatch.setattr(arrays, "_IN_USE", 2 * 32 * 32 * 3)
    large = sources.read_test(category, 32)
    assert isinstance(large.images, np.memmap)
    np.testing.assert_array_equal(large.images, small.images)
    assert [mask is None for mask in large.masks] == [mask is None for mask in small.masks]
    for ours, theirs in zip(large.masks[-3:], small.masks[-3:], strict=True):
        assert isinstance(ours, np.memmap)
        assert ours.any()
        np.testing.assert_array_equal(ours, theirs)
    assert large.hashes == small.hashes


def test_hashes_are_those_of_the_pixels(category):
    examples = sources.read_train(category, 32)
    assert examples.hashes == [reading.pixel_hash(image) for image in examples.images]
    assert len(set(examples.hashes)) == 6
    assert examples.part(np.array([4, 1])).hashes == [examples.hashes[4], examples.hashes[1]]


def test_moments_in_parts_are_scikit_learn_s(monkeypatch):
    rng = np.random.default_rng(0)
    features = (5 + rng.normal(size=(500, 12)) @ rng.normal(size=(12, 12))).astype(np.float32)
    for l2_normalize in (False, True):
        undivided = GaussianDensity(l2_normalize=l2_normalize).fit(features)
        scores = undivided.score_samples(features)
        with monkeypatch.context() as changed:
            changed.setattr(density, "ROWS", 64)
            changed.setattr("cutpaste_tf.density.gaussian.ROWS", 64)
            parted = GaussianDensity(l2_normalize=l2_normalize).fit(features)
            np.testing.assert_allclose(parted.mean_, undivided.mean_, rtol=1e-12)
            np.testing.assert_allclose(parted.covariance_, undivided.covariance_, rtol=1e-8, atol=1e-10)
            np.testing.assert_allclose(parted.score_samples(features), scores, rtol=1e-7)


def test_features_of_a_large_set_lie_in_a_file(tmp_path, monkeypatch, category):
    images = sources.read_train(category, 32).images
    feature = keras.Sequential([keras.layers.Input((32, 32, 3)), keras.layers.GlobalAveragePooling2D()])
    small = image_features.embed(feature, images)
    monkeypatch.setattr(arrays, "MEMORY_LIMIT", 0)
    large = image_features.embed(feature, images)
    assert isinstance(large, np.memmap)
    np.testing.assert_array_equal(large, small)
    written = {"large": large, "small": small, "names": np.array(list("abc")), "step": np.array(7), "none": small[:0]}
    written["by columns"] = np.arange(6.0).reshape(2, 3).T
    files.write_arrays(tmp_path / "features.npz", written)
    read = files.read_arrays(tmp_path / "features.npz")
    with np.load(tmp_path / "features.npz") as by_numpy:
        assert set(read) == set(by_numpy) == set(written)
        for name, array in written.items():
            np.testing.assert_array_equal(read[name], array)
            np.testing.assert_array_equal(by_numpy[name], array)
    assert isinstance(read["small"], np.memmap)
    assert read["by columns"].flags.f_contiguous  # so that sums over it are the same to the last bit
    np.savez(tmp_path / "numpy.npz", **written)
    np.testing.assert_array_equal(files.read_arrays(tmp_path / "numpy.npz")["large"], large)


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory as Linux counts it")
def test_features_in_a_file_are_never_all_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "MEMORY_LIMIT", 0)
    features = arrays.allocate(100_000, (64,), np.float32)
    features[:] = np.random.default_rng(0).normal(size=features.shape)
    arrays.release(features)
    before, fitted = _resident("RssFile:"), GaussianDensity()
    for use in (fitted.fit, fitted.score_samples, fitted.held_out, _written(tmp_path / "features.npz")):
        use(features)
        assert _resident("RssFile:") - before < 5e6, use  # of 26 MB
    again = files.read_arrays(tmp_path / "features.npz")["features"]
    assert _resident("RssFile:") - before < 5e6
    np.testing.assert_array_equal(again, features)


def _written(path):
    return lambda features: files.write_arrays(path, {"features": features})


def test_no_room_is_no_damage(tmp_path, monkeypatch):
    path, features = tmp_path / "kept.npz", np.zeros((3, 4), np.float32)
    some = embeddings.Embeddings(features, np.zeros((3, 2, 2, 3), np.uint8), list("abc"), np.zeros(3), list("xyz"), [])
    embeddings.write(path, some)
    monkeypatch.setattr(arrays, "MEMORY_LIMIT", 0)
    monkeypatch.setattr(arrays.os, "posix_fallocate", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(InputError, match="has no room for"):
        files.cached(path, embeddings.read, lambda: pytest.fail("it would be computed anew"), embeddings.write, print)
    assert path.is_file()


def test_thumbnails_of_training_images_are_few(monkeypatch, category):
    examples = sources.read_train(category, 32)
    monkeypatch.setattr(embeddings, "THUMBNAILS", 4)
    features = np.zeros((6, 3), np.float32)
    images = ImageSet.of(examples)
    every, reduced = embeddings.describe(features, images), embeddings.describe(features, images, trained=True)
    assert (len(every.thumbnails), len(reduced.thumbnails)) == (6, 3)
    np.testing.assert_array_equal(reduced.thumbnails, every.thumbnails[::2])
