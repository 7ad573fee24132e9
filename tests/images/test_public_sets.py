"""Public sets as they are unpacked: the official split, labels and masks, in imitations of their trees."""

import csv
import io
import json

import numpy as np
import pytest
from conftest import TINY, draw_category
from PIL import Image

import cutpaste_tf
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import public_sets, sources, unread
from cutpaste_tf.progress import no_report
from cutpaste_tf.settings.data import DataSettings


def picture(value, size=(2, 2)):
    buffer = io.BytesIO()
    Image.fromarray(np.full(size, value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


IMAGE, EMPTY, MARK = picture(90), picture(0), picture(255)


def write(root, content, paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)


def counted(root, **settings):
    """(training images, normal and anomalous test images, test images with a mask), after checks of all of them."""
    given = DataSettings.of(**settings)
    train, test = sources.list_train(root, given), sources.list_test(root, given)
    assert all(item.label == 0 and not item.masks for item in train)
    assert not {item.path for item in train} & {item.path for item in test}
    assert all(path.is_file() for item in (*train, *test) for path in (item.image, *item.masks))
    labels = [item.label for item in test]
    return len(train), labels.count(0), labels.count(1), sum(bool(item.masks) for item in test)


def visa(root):
    """Candle: 900 and 100 normal images, 100 anomalous ones."""
    rows = []
    for index in range(1000):
        rows.append(["candle", "train" if index < 900 else "test", "normal", f"Normal/{index:04d}.JPG", ""])
    rows += [["candle", "test", "anomaly", f"Anomaly/{index:03d}.JPG", f"{index:03d}.png"] for index in range(100)]
    table = [
        [*row[:3], f"candle/Data/Images/{row[3]}", row[4] and f"candle/Data/Masks/Anomaly/{row[4]}"] for row in rows
    ]
    table.append(["pcb1", "train", "normal", "pcb1/Data/Images/Normal/0.JPG", ""])
    write(root, IMAGE, [row[3] for row in table[:-1]])
    write(root, MARK, [row[4] for row in table if row[4]])
    (root / "split_csv").mkdir()
    with (root / "split_csv/1cls.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["object", "split", "label", "image", "mask"], *table])
    return root / "candle"


def kolektor_sdd2(root):
    """2,085 normal and 246 defective training images, 894 and 110 for testing."""
    for part, normal, defective in (("train", 2085, 246), ("test", 894, 110)):
        names = [f"{part}/{index}" for index in range(normal + defective)]
        write(root, IMAGE, [f"{name}.png" for name in names])
        write(root, EMPTY, [f"{name}_GT.png" for name in names[:normal]])
        write(root, MARK, [f"{name}_GT.png" for name in names[normal:]])
    return root


def kolektor_sdd(root):
    """399 images of 50 items, 52 of them defective."""
    names = [f"kos{item:02d}/Part{part}" for item in range(1, 51) for part in range(8)][:399]
    write(root, IMAGE, [f"{name}.jpg" for name in names])
    marked = set(names[::7][:52])
    write(root, EMPTY, [f"{name}_label.bmp" for name in names if name not in marked])
    write(root, MARK, [f"{name}_label.bmp" for name in marked])
    return root


def btad(root):
    """Product 01: 400 training images, 21 normal and 49 defective ones for testing."""
    write(root, IMAGE, [f"01/train/ok/{index:04d}.bmp" for index in range(400)])
    write(root, IMAGE, [f"01/test/ok/{index:04d}.bmp" for index in range(21)])
    write(root, IMAGE, [f"01/test/ko/{index:04d}.bmp" for index in range(49)])
    write(root, MARK, [f"01/ground_truth/ko/{index:04d}.png" for index in range(49)])
    return root / "01"


def labelled(root, train, tests, mask="{:03d}_mask.png"):
    """A category in MVTec AD's folders: kind -> number of test images, the anomalous ones with masks."""
    write(root, IMAGE, [f"train/good/{index:03d}.png" for index in range(train)])
    for kind, count in tests.items():
        write(root, IMAGE, [f"test/{kind}/{index:03d}.png" for index in range(count)])
        if kind != "good":
            write(root, MARK, [f"ground_truth/{kind}/{mask.format(index)}" for index in range(count)])
    return root


def loco(root):
    """Breakfast box: 351 training, 62 validation images; 102 normal, 83 and 90 anomalous ones."""
    write(root, IMAGE, [f"box/validation/good/{index:03d}.png" for index in range(62)])
    tests = {"good": 102, "logical_anomalies": 83, "structural_anomalies": 90}
    return labelled(root / "box", 351, tests, mask="{:03d}/000.png")


def mvtec_ad(root):
    """Bottle: 209 training images; 20 normal ones, and 20, 22 and 21 of three defects."""
    tests = {"good": 20, "broken_large": 20, "broken_small": 22, "contamination": 21}
    return labelled(root / "bottle", 209, tests)


def mpdd(root):
    """Bracket black: 289 training images; 32 normal ones, 12 and 35 of two defects."""
    return labelled(root / "bracket", 289, {"good": 32, "hole": 12, "scratches": 35})


def mvtec_ad_2(root):
    """Names of files as unpacked; the counts are not the set's."""
    write(root, IMAGE, [f"can/train/good/{index:03d}_regular.png" for index in range(9)])
    write(root, IMAGE, [f"can/validation/good/{index:03d}_regular.png" for index in range(3)])
    write(root, IMAGE, [f"can/test_public/good/{index:03d}_{light}.png" for index in range(2) for light in ("a", "b")])
    write(root, IMAGE, [f"can/test_public/bad/{index:03d}_regular.png" for index in range(5)])
    write(root, MARK, [f"can/test_public/ground_truth/bad/{index:03d}_regular_mask.png" for index in range(5)])
    write(root, IMAGE, [f"can/test_private/{index:03d}_regular.png" for index in range(4)])
    return root / "can"


def dagm(root):
    """Names of files as unpacked; the counts are not the set's."""
    write(root, IMAGE, [f"Class1/{part}/{index:04d}.PNG" for part in ("Train", "Test") for index in range(9)])
    write(root, MARK, [f"Class1/{part}/Label/{index:04d}_label.PNG" for part in ("Train", "Test") for index in (2, 5)])
    for part in ("Train", "Test"):
        (root / f"Class1/{part}/Label/Labels.txt").write_text("1\n")
    return root / "Class1"


def real_iad(root):
    """Names of files as unpacked; the counts are not the set's."""
    normal = [f"OK/S{index:04d}/audiojack_{index:04d}_OK_C1.jpg" for index in range(8)]
    defective = [f"NG/AK/S{index:04d}/audiojack_{index:04d}_NG_AK_C1" for index in range(3)]
    write(root / "realiad_1024/audiojack", IMAGE, [*normal, *(f"{name}.jpg" for name in defective)])
    write(root / "realiad_1024/audiojack", MARK, [f"{name}_mask.png" for name in defective])

    def row(path, kind, mask=None):
        return {"category": "audiojack", "anomaly_class": kind, "image_path": path, "mask_path": mask}

    (root / "realiad_jsons").mkdir()
    test = [row(path, "OK") for path in normal[5:]]
    test += [row(f"{name}.jpg", "AK", f"{name}_mask.png") for name in defective]
    values = {"meta": {"prefix": "audiojack", "normal_class": "OK"}, "train": [row(path, "OK") for path in normal[:5]]}
    (root / "realiad_jsons/audiojack.json").write_text(json.dumps({**values, "test": test}))
    return root / "realiad_1024/audiojack"


SETS = {
    mvtec_ad: (209, 20, 63, 63),
    mvtec_ad_2: (9, 4, 5, 5),
    loco: (351, 102, 173, 173),
    visa: (900, 100, 100, 100),
    btad: (400, 21, 49, 49),
    mpdd: (289, 32, 47, 47),
    kolektor_sdd2: (2085, 894, 110, 110),
    dagm: (7, 7, 2, 2),
    real_iad: (5, 3, 3, 3),
}


@pytest.mark.parametrize("unpack", SETS)
def test_the_official_split_is_read_as_unpacked(unpack, tmp_path):
    assert counted(unpack(tmp_path)) == SETS[unpack]


def test_items_of_kolektor_sdd_are_learnt_or_tested(tmp_path):
    root = kolektor_sdd(tmp_path)
    train, normal, anomalous, masks = counted(root)
    assert anomalous == masks == 52
    assert 0.1 < normal / (train + normal) < 0.3
    assert train + normal <= 399 - 52
    items = [{item.path.split("/")[0] for item in part} for part in (sources.list_train(root), sources.list_test(root))]
    tested = {item.path.split("/")[0] for item in sources.list_test(root) if item.label == 0}
    assert not items[0] & tested
    assert "10 of 50 items are held out" in unread.lines(root, testing=False)[0]
    assert counted(root, split_seed=1) != (train, normal, anomalous, masks)


def test_what_is_not_computed_or_read_is_told(tmp_path):
    (line,) = unread.lines(loco(tmp_path / "loco"), testing=True)  # validation is read, so nothing is said of it
    assert "sPRO, is not computed" in line
    root = mvtec_ad_2(tmp_path / "ad2")
    text = " ".join(unread.lines(root, testing=False))
    assert "AUPRO is integrated up to .05" in text
    assert "test_private, whose images have no labels" in text
    assert (public_sets.pro_limit(root), public_sets.pro_limit(tmp_path / "loco/box")) == (0.05, 0.3)


def test_a_damaged_split_is_named(tmp_path):
    root = visa(tmp_path / "visa")
    (root / "Data/Images/Normal/0003.JPG").unlink()
    with pytest.raises(InputError, match=r"1cls\.csv lists .*0003\.JPG, which is missing"):
        sources.list_train(root)
    root = real_iad(tmp_path / "iad")
    (tmp_path / "iad/realiad_jsons/audiojack.json").write_text("{")
    with pytest.raises(InputError, match=r"audiojack\.json is damaged"):
        sources.list_train(root)


def test_a_run_on_mvtec_ad_2(tmp_path):
    """From the folder to AUPRO up to .05, and the threshold by validation."""
    drawn = draw_category(tmp_path / "drawn")
    root = tmp_path / "can"
    for place, name in (
        ("train/good", "train/good"),
        ("test/good", "test_public/good"),
        ("test/square", "test_public/bad"),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (drawn / place).rename(root / name)
    (root / "test_public/ground_truth").mkdir()
    (drawn / "ground_truth/square").rename(root / "test_public/ground_truth/bad")
    for index in range(3):
        source = root / f"train/good/{index:03d}.png"
        (root / "validation/good").mkdir(parents=True, exist_ok=True)
        pixels = np.asarray(Image.open(source)).astype(int) + 1
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / f"validation/good/{index:03d}.png")
    lines = []
    cutpaste_tf.train(TINY.replaced(data=str(root), epochs=0), tmp_path / "run", report=lines.append)
    validation = root / "validation/good"
    assert f"Scoring 3 normal images in {validation} to set the threshold." in lines
    result = cutpaste_tf.evaluate(tmp_path / "run", report=no_report)
    options = cutpaste_tf.EvaluationOptions(calibration_data=validation)
    given = cutpaste_tf.evaluate(tmp_path / "run", options=options, output_dir=tmp_path / "given", report=no_report)
    assert (given["threshold"], given["false_alarms"]) == (result["threshold"], result["false_alarms"])
    refitted = cutpaste_tf.evaluate(tmp_path / "run", settings={"density": "ledoit_wolf"}, report=no_report)
    exported = cutpaste_tf.export(tmp_path / "run", tmp_path / "export", report=no_report)
    counts = result["calibration_images"], refitted["calibration_images"], exported["calibration_images"]
    assert counts == (3, 3, 3)
    with pytest.raises(InputError, match=r"false_alarm_rate=0\.1 is below 0\.25, the least that 3 normal images"):
        cutpaste_tf.train(
            TINY.replaced(data=str(root), epochs=0, false_alarm_rate=0.1), tmp_path / "rate", report=no_report
        )
    (validation / "001.png").write_bytes((root / "train/good/001.png").read_bytes())
    with pytest.raises(
        InputError,
        match=r"^/.*validation/good: 1 of 3 images have the same pixels.*good\. Remove them\.$",
    ):
        cutpaste_tf.train(TINY.replaced(data=str(root), epochs=0), tmp_path / "same", report=no_report)
    assert result["pro_limit"] == 0.05
    assert (result["test_normal"], result["test_anomalous"]) == (3, 3)
    assert result["aupro"] is not None
