"""Folders in which not all is an image to learn from: masks, what programs leave behind, defects; and public sets."""

import numpy as np
import pytest
from conftest import write_image

from cutpaste_tf.errors import InputError
from cutpaste_tf.images import folders, named_files, names, reading, sources, unread
from cutpaste_tf.settings.data import DataSettings

EMPTY = np.zeros((20, 20), np.uint8)
MARK = EMPTY.copy()
MARK[3:8, 4:9] = 255


def draw(root, *paths, masks=(), empty=()):
    """Noise at some paths, masks at others."""
    for path in paths:
        write_image(root / path, np.random.default_rng(len(path)).integers(0, 256, (20, 20, 3), np.uint8))
    for path in masks:
        write_image(root / path, MARK)
    for path in empty:
        write_image(root / path, EMPTY)
    return root


def learnt(root, **settings):
    return [item.path for item in sources.list_train(root, DataSettings.of(**settings))]


def scored(root, **settings):
    items = sources.list_test(root, DataSettings.of(**settings))
    return {item.path: (item.label, len(item.masks)) for item in items}


def reported(root, *, testing, **settings):
    return "\n".join(unread.lines(root, DataSettings.of(**settings), testing=testing))


def test_kolektor_sdd2(tmp_path):
    root = draw(*(tmp_path, "1.png", "2.png", "3.png"), masks=["3_GT.png"], empty=["1_GT.png", "2_GT.png"])
    assert learnt(root) == ["1.png", "2.png"]
    lines = reported(root, testing=False)
    assert "3 masks among the images" in lines
    assert "1 of 3 images, whose masks mark a defect, such as" in lines
    assert scored(root) == {"1.png": (0, 1), "2.png": (0, 1), "3.png": (1, 1)}
    assert "1 of 3 images are anomalous" in reported(root, testing=True)
    (root / "2_GT.png").unlink()
    assert set(scored(root).values()) == {(reading.UNKNOWN, 0)}
    assert "1 of 3 images have none, such as" in reported(root, testing=True)


def test_kolektor_sdd(tmp_path):
    draw(tmp_path, *(f"kos0{n}/Part{n}.jpg" for n in range(4)), masks=["kos03/Part3_label.bmp"])
    draw(tmp_path, empty=[f"kos0{n}/Part{n}_label.bmp" for n in range(3)])
    assert learnt(tmp_path, test_split=0.0) == [f"kos0{n}/Part{n}.jpg" for n in range(3)]
    assert len(learnt(tmp_path)) == 2  # one is held out
    assert [label for label, _ in scored(tmp_path).values()] == [0, 1]


def test_visa(tmp_path):
    draw(tmp_path, *(f"Data/Images/{kind}/{n}.JPG" for kind in ("Normal", "Anomaly") for n in range(5)))
    draw(tmp_path, masks=[f"Data/Masks/Anomaly/{n}.png" for n in range(5)])
    (tmp_path / "image_anno.csv").write_text("")
    for root in (tmp_path / "Data", tmp_path):
        with pytest.raises(InputError, match=r"Anomaly has the name .*--data=.*Images --normal_name=Normal"):
            learnt(root)
    root = tmp_path / "Data/Images"
    assert len(learnt(root, normal_name="Normal")) == 4
    assert sorted(scored(root, normal_name="Normal").values()) == [(0, 0)] * 5 + [(1, 1)] * 5


@pytest.mark.parametrize("mask", ["{}_mask.png", "{}.png"])
def test_real_iad(tmp_path, mask):
    draw(tmp_path, *(f"OK/S1/{n}.jpg" for n in range(5)), *(f"NG/AK/S1/{n}.jpg" for n in range(3)))
    draw(tmp_path, masks=[f"NG/AK/S1/{mask.format(n)}" for n in range(3)])
    assert len(learnt(tmp_path, normal_name="OK")) == 4
    assert sorted(scored(tmp_path, normal_name="OK").values()) == [(0, 0)] * 5 + [(1, 1)] * 3


def test_btad(tmp_path):
    draw(tmp_path, "train/ok/0.bmp", "train/ok/1.bmp", "test/ok/0.bmp", "test/ko/1.bmp")
    draw(tmp_path, masks=["ground_truth/ko/1.png"])
    assert len(learnt(tmp_path, normal_name="ok")) == 2
    assert scored(tmp_path, normal_name="ok") == {"test/ok/0.bmp": (0, 0), "test/ko/1.bmp": (1, 1)}


def test_dagm(tmp_path):
    draw(tmp_path, "Class1/Train/1.PNG", "Class1/Train/2.PNG", "Class1/Train/3.PNG", "Class1/Test/4.PNG")
    draw(tmp_path, masks=["Class1/Train/Label/3_label.PNG"])
    (tmp_path / "Class1/Train/Label/Labels.txt").write_text("")
    assert learnt(tmp_path / "Class1/Train") == ["1.PNG", "2.PNG"]
    with pytest.raises(InputError, match=r"--data=.*Class1/Train"):
        learnt(tmp_path / "Class1")
    with pytest.raises(InputError, match=r"holds categories: try --data=.*Class1"):
        learnt(tmp_path)


@pytest.mark.parametrize(
    "mask", ["scratch/0_mask.png", "scratch/0-GT.bmp", "scratch/masks/0.png", "masks/scratch/0.png"]
)
def test_masks_among_labelled_images(tmp_path, mask):
    draw(tmp_path, "good/0.png", "good/1.png", "good/2.png", "scratch/0.png", "scratch/1.png", masks=[mask])
    assert len(learnt(tmp_path)) == 2
    assert [item.path for item in sources.list_test(tmp_path) if item.masks] == ["scratch/0.png"]
    assert len(scored(tmp_path)) == 5


def test_a_photograph_of_a_label_is_a_photograph(tmp_path):
    draw(tmp_path, "good/0.png", "good/1_label.png", "label/0.png", "label/1.png", "good/2.jpg", "good/2.png")
    assert len(scored(tmp_path)) == 6
    assert "label is tested as a kind of defect" in reported(tmp_path, testing=True)


@pytest.mark.parametrize("name", ["NG", "bad", "defective", "2024_rejects", "Not OK", "partsAnomaly"])
def test_a_folder_named_as_defects_is_not_learnt(tmp_path, name):
    root = draw(tmp_path / "bad", "parts/0.png", "parts/1.png", f"{name}/0.png")
    with pytest.raises(
        InputError, match=rf"{name} has the name of a folder of images that are defective.*=parts, so that"
    ):
        learnt(root)
    assert len(learnt(root, normal_name="parts")) == 2


def test_names_that_only_look_like_defects():
    harmless = ("no_defects", "defect-free", "kos01", "king", "badge", "lot_3", "default", "good", "mango")
    assert not any(map(names.is_defective, harmless))
    assert not any(map(names.says_masks, ("unmasked", "lot", "gtx")))
    assert not names.without_mask_suffix("unmask")[0]


def test_masks_that_match_nothing_are_not_learnt(tmp_path):
    draw(tmp_path, "0.png", "1.png", masks=["masks/7.png"])
    with pytest.raises(
        InputError, match=r"masks has the name of a folder of masks, but 1 of its files, .* match no image"
    ):
        learnt(tmp_path)


def test_litter_is_passed_over(tmp_path):
    draw(
        tmp_path, "good/0.png", "good/1.png", "good/@eaDir/0.png/THUMB_M.jpg", "scratch/0.png", "scratch/#recycle/0.png"
    )
    assert len(learnt(tmp_path)) == 2
    assert len(scored(tmp_path)) == 3
    assert "1 images in 1 folders" in reported(tmp_path, testing=False)
    assert "(#recycle, @eaDir)" in reported(tmp_path, testing=True)
    passed = []
    assert len(list(named_files.listed(str(tmp_path), passed_over=passed))) == 3
    assert sorted(path.name for path in passed) == ["#recycle", "@eaDir"]
    assert len(list(named_files.listed(f"{tmp_path}/**/*.*", passed_over=passed))) == 3


def test_sidecars_are_named(tmp_path):
    draw(tmp_path, "0.png", "1.png")
    for name in ("anno.csv", "README"):
        (tmp_path / name).write_text("")
    assert len(learnt(tmp_path)) == 2
    assert "2 files that are not images, such as" in reported(tmp_path, testing=False)
    (tmp_path / "2.heic").write_bytes(b"")
    if ".heic" not in folders.EXTENSIONS:
        with pytest.raises(InputError, match="pip install pillow-heif"):
            learnt(tmp_path)


@pytest.mark.parametrize("name", ["0.webp", "0.avif", "0.gif", "0.jfif"])
def test_more_formats(tmp_path, name):
    if f".{name.partition('.')[2]}" not in folders.EXTENSIONS:
        pytest.skip("Pillow is built without it")
    draw(tmp_path, "1.png", *([] if name.endswith("jfif") else [name]))
    if name.endswith("jfif"):
        draw(tmp_path, "a.jpg")
        (tmp_path / "a.jpg").rename(tmp_path / name)
    assert len(sources.read_train(tmp_path, 32).images) == 2


def test_predictions_leave_masks_out(tmp_path):
    draw(tmp_path, "0.png", "1.jpg", "7_mask.png", masks=["0_mask.png", "1.png", "Label/0_label.png", "gt/0.png"])
    below = {str(file.path.relative_to(tmp_path)): file.error for file in named_files.listed(str(tmp_path))}
    assert [name for name, error in below.items() if not error] == ["0.png", "1.jpg", "7_mask.png"]
    assert "is the mask of 0.png" in below["0_mask.png"]
    assert "is the mask of 1.jpg" in below["1.png"]
    assert "is a folder of masks" in below["Label"]
    assert "is a folder of masks" in below["gt"]
    fit = [file.path.name for file in named_files.listed(f"{tmp_path}/*.*") if not file.error]
    assert fit == ["0.png", "1.jpg", "7_mask.png"]


def test_names_between_zero_bytes(tmp_path):
    def listed(*lines):
        return [str(file.path) for file in named_files.listed("-", lines)]

    assert listed(b"a/x.png\0a/y.png\0") == ["a/x.png", "a/y.png"]
    assert listed(b"a.png\0new\n", b"line.png\0") == ["a.png", "new\nline.png"]
    assert listed(b"a.png\n", b"b.png") == ["a.png", "b.png"]


def test_a_pattern_below_a_folder_with_brackets(tmp_path):
    draw(tmp_path, "lot[1]/0.png")
    with pytest.raises(InputError, match=r"write \[\[\], as in --images='.*lot\[\[\]1\]/\*\.png'"):
        named_files.check(f"{tmp_path}/lot[1]/*.png")
    named_files.check(f"{tmp_path}/lot[[]1]/*.png")


def test_copies_are_counted():
    groups, copies = reading.duplicate_groups(["a", "b", "a", "c", "b", "a"])
    assert (groups.tolist(), copies) == ([0, 1, 0, 2, 1, 0], 3)
