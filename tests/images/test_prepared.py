"""Sets of TensorFlow Datasets: our builder of MVTec AD, and CIFAR-10 with one normal class."""

import shutil
import tarfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from conftest import TINY
from PIL import Image
from tfds_sets import write_cifar10, write_set

import cutpaste_tf
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import prepared, sources, synthetic
from cutpaste_tf.settings.data import GOOD
from data import mvtec_ad


@pytest.fixture
def source(category, tmp_path, monkeypatch):
    """A folder of two small categories, whose counts are taken as the published ones."""
    root = tmp_path / "mvtec"
    for name in ("bottle", "cable"):
        shutil.copytree(category, root / name)
        monkeypatch.setitem(mvtec_ad.PUBLISHED, name, mvtec_ad.Counts(6, 3, 3, 3))
    return root


def test_the_counts_add_up_to_the_published_totals():
    """3,629 training and 1,725 test images: Bergmann et al., CVPR 2019."""
    assert tuple(mvtec_ad.PUBLISHED) == prepared.MVTEC_AD
    counts = mvtec_ad.PUBLISHED.values()
    assert sum(c.train for c in counts) == 3629
    assert sum(c.test_normal + c.test_anomalous for c in counts) == 1725


def test_a_prepared_category_trains_as_its_folder_does(source, tmp_path):
    mvtec_ad.prepare(source, ["bottle"], tmp_path / "tfds")
    place = str(tmp_path / "tfds")
    for read in (sources.read_train, sources.read_test):
        folder, stored = read(source / "bottle", 32), read("mvtec_ad/bottle", 32, tfds_data_dir=place)
        assert (folder.paths, folder.hashes) == (stored.paths, stored.hashes)
        assert folder.defects == stored.defects
        np.testing.assert_array_equal(folder.labels, stored.labels)
        for mask, other in zip(folder.masks, stored.masks, strict=True):
            assert (mask is None) == (other is None)
            assert mask is None or np.array_equal(mask, other)
    runs = tmp_path / "a", tmp_path / "b"
    config = TINY.replaced(epochs=1, data=str(source / "bottle"))
    cutpaste_tf.train(config, runs[0], checkpoint_minutes=5)
    config = config.replaced(data="mvtec_ad/bottle")
    cutpaste_tf.train(config, runs[1], checkpoint_minutes=5, tfds_data_dir=place)
    features = [np.load(run / "train_embeddings.npz")["features"] for run in runs]
    np.testing.assert_allclose(features[0], features[1], atol=1e-5)


def test_tfds_gives_the_documented_features(source, tmp_path):
    mvtec_ad.prepare(source, ["bottle"], tmp_path / "tfds")
    dataset = tfds.load("mvtec_ad/bottle", split="test", data_dir=tmp_path / "tfds")
    records = {record["file_name"].decode(): record for record in tfds.as_numpy(dataset)}
    assert sorted(records) == sorted(item.path for item in mvtec_ad.layouts.list_test(source / "bottle"))
    bad = records["test/square/001.png"]
    assert (bad["image"].shape, bad["mask"].shape, bad["label"], bad["defect"]) == (
        (40, 40, 3),
        (40, 40, 1),
        1,
        b"square",
    )
    np.testing.assert_array_equal(bad["mask"][10:20, 12:22], 255)
    assert records["test/good/000.png"]["mask"].max() == 0


@pytest.mark.parametrize("inside", ["", "mvtec_anomaly_detection"])
def test_reads_the_archive_and_leaves_only_the_result(source, tmp_path, inside):
    with tarfile.open(tmp_path / "mvtec.tar.xz", "w:xz") as archive:
        archive.add(source, arcname=inside)
    mvtec_ad.prepare(tmp_path / "mvtec.tar.xz", ["bottle", "cable"], tmp_path / "tfds")
    for name in ("bottle", "cable"):
        assert len(sources.read_test(f"mvtec_ad/{name}", 32, tfds_data_dir=str(tmp_path / "tfds")).paths) == 6
    assert not list((tmp_path / "tfds").glob("*partial*"))


def test_what_is_not_whole_is_refused_and_nothing_is_prepared(source, tmp_path):
    place = tmp_path / "tfds"
    (source / "cable/test/good/000.png").unlink()
    (source / "cable/ground_truth/square/001_mask.png").unlink()
    expected = r"cable: test_normal 2 of 3, masks 2 of 3\).* only complete categories, give --categories=bottle"
    with pytest.raises(InputError, match=expected):
        mvtec_ad.prepare(source, ["bottle", "cable"], place)
    with pytest.raises(InputError, match="carpet: no folder"):
        mvtec_ad.prepare(source, ["carpet"], place)
    with pytest.raises(InputError, match="--categories=mug is unknown; the categories are: bottle, cable"):
        mvtec_ad.prepare(source, ["mug"], place)
    with pytest.raises(InputError, match="does not exist"):
        mvtec_ad.prepare(source / "none", ["bottle"], place)
    assert not place.exists()
    path = source / "bottle/test/good/000.png"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match=r"good/000\.png cannot be read as an image"):
        mvtec_ad.prepare(source, ["bottle"], place)
    with pytest.raises(InputError, match="is not prepared"):
        prepared.find(place / "mvtec_ad/bottle", "bottle", "")
    assert not list(place.glob("mvtec_ad/bottle/*"))


def test_a_damaged_archive_is_named(source, tmp_path):
    intact = tmp_path / "mvtec.tar.xz"
    with tarfile.open(intact, "w:xz") as archive:
        archive.add(source, arcname="")
    (tmp_path / "cut.tar.xz").write_bytes(intact.read_bytes()[:-5000])
    (tmp_path / "text.tar").write_text("hello")
    for name in ("cut.tar.xz", "text.tar"):
        with pytest.raises(InputError, match=f"{name} is not a complete tar archive"):
            mvtec_ad.prepare(tmp_path / name, ["bottle"], tmp_path / "tfds")
    assert not list((tmp_path / "tfds").iterdir())


def test_missing_and_damaged_files_of_a_prepared_set(source, tmp_path):
    mvtec_ad.prepare(source, ["bottle"], tmp_path / "tfds")
    folder = prepared.find(tmp_path / "tfds/mvtec_ad/bottle", "bottle", "")
    record = next(folder.glob("*test.tfrecord*"))
    content = record.read_bytes()
    record.write_bytes(content[:2000] + b"xxxx" + content[2004:])
    with pytest.raises(InputError, match="is damaged"):
        sources.read_test("mvtec_ad/bottle", 32, tfds_data_dir=str(tmp_path / "tfds"))
    record.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="is damaged"):
        sources.read_test("mvtec_ad/bottle", 32, tfds_data_dir=str(tmp_path / "tfds"))
    record.unlink()
    with pytest.raises(InputError, match=r"test\.tfrecord.* is missing; delete"):
        sources.read_test("mvtec_ad/bottle", 32, tfds_data_dir=str(tmp_path / "tfds"))


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
def test_damaged_descriptions_of_a_prepared_set(source, tmp_path, name):
    mvtec_ad.prepare(source, ["bottle"], tmp_path / "tfds")
    (prepared.find(tmp_path / "tfds/mvtec_ad/bottle", "bottle", "") / name).write_text('{"a')
    with pytest.raises(InputError, match="is damaged"):
        sources.read_test("mvtec_ad/bottle", 32, tfds_data_dir=str(tmp_path / "tfds"))


def test_a_prepared_set_in_the_working_directory_is_no_folder_of_images(source, tmp_path, monkeypatch):
    mvtec_ad.prepare(source, ["bottle"], tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    assert len(sources.read_train("mvtec_ad/bottle", 32, tfds_data_dir=".").paths) == 6


def test_unknown_and_unprepared_names(tmp_path):
    with pytest.raises(InputError, match="mvtec_ad/NAME has: bottle, cable"):
        sources.read_train("mvtec_ad/mug", 32, tfds_data_dir=str(tmp_path))
    with pytest.raises(InputError, match="cifar10/NAME has: airplane"):
        sources.read_train("cifar10/mug", 32, tfds_data_dir=str(tmp_path))
    with pytest.raises(InputError, match=r"prepare it with: python -m data\.mvtec_ad .*--categories=bottle"):
        sources.read_train("mvtec_ad/bottle", 32, tfds_data_dir=str(tmp_path))
    with pytest.raises(InputError, match=r"cifar10 is not prepared in .*tfds\.load\('cifar10', data_dir='"):
        sources.read_train("cifar10/cat", 32, tfds_data_dir=str(tmp_path))


def test_cifar10_has_one_normal_class(tmp_path):
    pixels = write_cifar10(tmp_path, 20)
    train = sources.read_train("cifar10/bird", 32, tfds_data_dir=str(tmp_path))
    assert train.paths == ["x_02.png", "x_12.png"]
    np.testing.assert_array_equal(train.images, pixels[[2, 12]])
    test = sources.read_test("cifar10/bird", 32, tfds_data_dir=str(tmp_path))
    np.testing.assert_array_equal(test.images, pixels)
    assert np.sum(test.labels == 0) == 2
    assert test.defects[:4] == ["airplane", "automobile", GOOD, "cat"]


def test_digits_are_mnists_where_it_is_prepared(tmp_path):
    digits, note = synthetic.read_digits(tmp_path)
    assert (digits.shape, digits.max()) == ((1797, 8, 8), 255)
    assert "scikit-learn" in note
    assert "tfds.load('mnist'" in note
    pixels = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 1), np.uint8)
    features = {"image": tfds.features.Image(shape=(28, 28, 1)), "label": tfds.features.ClassLabel(num_classes=10)}
    write_set("mnist", features, {"test": [{"image": image, "label": 1} for image in pixels]}, tmp_path)
    digits, note = synthetic.read_digits(tmp_path)
    assert (digits.shape, note) == ((5, 28, 28), "5 MNIST digits")
    assert sorted(map(bytes, digits)) == sorted(map(bytes, pixels[..., 0]))


def test_the_stored_pictures_are_the_files_themselves(source, tmp_path):
    """Not decoded and encoded again: grey stays grey, and nothing is lost."""
    for path in (source / "bottle/train/good").iterdir():
        Image.open(path).convert("L").save(path)
    mvtec_ad.prepare(source, ["bottle"], tmp_path / "tfds")
    folder = prepared.find(tmp_path / "tfds/mvtec_ad/bottle", "bottle", "")
    stored = {record["file_name"].decode(): record["image"] for record in prepared.records(folder, "train", ("image",))}
    assert stored == {item.path: item.image.read_bytes() for item in mvtec_ad.layouts.list_train(source / "bottle")}
