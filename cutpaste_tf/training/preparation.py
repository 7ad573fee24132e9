"""What training checks and reads before it starts: the run's folder, the images and the weight files."""

import collections
import dataclasses
import functools
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from cutpaste_tf import files, runs
from cutpaste_tf.detection import calibration, dense
from cutpaste_tf.detection.calibration_images import CalibrationImages
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import alignment, layouts, reading, regions, sources, unread
from cutpaste_tf.images.reading import Examples, Item
from cutpaste_tf.networks import weights
from cutpaste_tf.networks.backbones import BACKBONES
from cutpaste_tf.progress import Report
from cutpaste_tf.runs import TrainingData
from cutpaste_tf.settings import sizes
from cutpaste_tf.settings.config import Config
from cutpaste_tf.settings.density import DensitySettings
from cutpaste_tf.training import more_images

_COMPARED = 200  # training images at most that say whether the parts are aligned
_MANY = 2**14  # locations; with 100 images and 128 features, 2**14 take 0.8 GB
_ALIGNED = 0.6  # see `alignment.explained_by_location`


def with_size(config: Config, output_dir: Path, tfds_data_dir: str, report: Report) -> Config:
    """The configuration with the size that `--image_size=HEIGHT,auto` or `auto` leaves to the images.

    The files' headers give the size. With `HEIGHT,auto`, the median aspect ratio of the training images gives the
    width; with `auto`, the median height and width give the size. Results are rounded to what patches need, or to
    32 px. A run that has begun keeps its size.

    Args:
        config: the configuration as given.
        output_dir: the run's folder.
        tfds_data_dir: where TensorFlow Datasets keeps prepared sets.

    Raises:
        InputError: there are no images, or one is not an image.
    """
    given = config.resolved().data.image_size
    if sizes.AUTO not in given:
        return config
    if (output_dir / "config.json").is_file():
        begun = Config.read(output_dir / "config.json").resolved().data.image_size
        if given[0] in (begun[0], sizes.AUTO):
            return config.replaced(image_size=begun)
    every = np.array(reading.sizes_of(list_train(config, output_dir, tfds_data_dir, None), config.data))

    def fitting(pixels: float) -> int:
        return config.features.nearest_fitting(round(pixels)) if config.patch_size else max(32, 32 * round(pixels / 32))

    if given[0] == sizes.AUTO:
        height, width = (fitting(float(pixels)) for pixels in np.median(every, axis=0))
    else:
        height, width = given[0], fitting(given[0] * float(np.median(every[:, 1] / every[:, 0])))
    least, most = (sizes.shown((int(rows), int(columns))) for rows, columns in (every.min(axis=0), every.max(axis=0)))
    images = f"of {least} px" if least == most else f"of {least} to {most} px (size from their median)"
    report(f"Images {images} become {sizes.shown((height, width))} px (--image_size={height},{width}).")
    return config.replaced(image_size=(height, width))


def with_begun_mode(config: Config, output_dir: Path) -> Config:
    """The configuration with the density mode of a run that has begun, if the images decided on it."""
    path = output_dir / "config.json"
    if not config.leaves_mode_to_images or not path.is_file():
        return config
    return config.replaced(density_mode=Config.read(path).resolved().density.density_mode)


def with_density_mode(config: Config, images: np.ndarray, report: Report) -> Config:
    """The configuration with the density mode that `--density_mode=auto` leaves to the images.

    Parts that lie in the same place in every image get a density per location (A.5), others one for all. So do images
    with a region each, which a density per location does not support, and images with many locations, for which it
    takes gigabytes.

    Args:
        config: the configuration as given.
        images: the training images, uint8 [count, height, width, 3].
        report: receives a line that says what decided.
    """
    given = config.resolved()
    region = given.data.reading.region
    if not config.leaves_mode_to_images or (region and regions.is_folder(region)):
        return config
    if dense.locations(given.data.size, given.features) > _MANY:
        return config
    compared = np.linspace(0, len(images) - 1, min(len(images), _COMPARED)).round().astype(int)
    share = alignment.explained_by_location(images[index] for index in compared)
    is_aligned = share >= _ALIGNED
    mode, amount = ("per_location", "one per location") if is_aligned else ("shared", "one for all")
    report(
        f"The parts are {'' if is_aligned else 'not '}aligned: location explains {100 * share:.0f} % of the variance "
        f"of local edge strength (aligned: {100 * _ALIGNED:.0f} % or more), so the density is {amount} "
        f"(--density_mode={mode})."
    )
    return config.replaced(density_mode=mode)


def with_canonical_names(config: Config) -> Config:
    """The configuration with canonical names of folders and sets."""
    data = config.data
    return config.replaced(
        data=sources.canonical(data.data),
        add_normal=tuple(map(sources.canonical, data.add_normal)),
        test_data=sources.canonical(data.test_data),
        network_of=sources.canonical(config.network.network_of),
    )


def checked_items(given: Config, output_dir: Path, tfds_data_dir: str, report: Report) -> list[Item]:
    """The training images and those that are added, after all checks that need neither pixels nor TensorFlow.

    Args:
        given: the unresolved configuration; if the data have moved, their original name still determines the defaults.
        output_dir: the run's folder.
        tfds_data_dir: where TensorFlow Datasets keeps prepared sets.

    Raises:
        InputError: the folder is in use, or the images or weight files are unusable.
    """
    config = given.resolved()
    regions.check(config.data.reading.region)
    runs.check(output_dir, given)
    files.check_writable(output_dir, locks=True)
    if config.network.network_of:
        runs.check_network_of(given)
    is_started = (output_dir / "config.json").is_file()
    known = TrainingData.read(output_dir) if is_started else more_images.trained_on(config)
    trained = None if known is None else known.images
    if not is_started:
        _check_density(config.density)
    if config.schedule.head_epochs and not config.network.weights:
        report("Warning: without --weights, the frozen backbone keeps its random weights.")
    items = list_train(config, output_dir, tfds_data_dir, trained)
    if added := list_added(config, output_dir):
        tested = test_items(config, {item.path for item in items}, tfds_data_dir)
        more_images.refuse_tested(added, tested)
        items += added
    if test_data := config.data.test_data:
        tested = sources.list_test(test_data, config.data, tfds_data_dir=tfds_data_dir)
        sources.refuse_overlap(items, tested, test_data)
    if not config.network.network_of:
        check_weights(config)  # last, since they may be downloaded
    return items


def _check_density(settings: DensitySettings) -> None:
    """Refuses values that would have no effect or an unintended one."""
    values, defaults = settings.flat(), DensitySettings().flat()
    if useless := ", ".join(f"--{name}" for name in settings.unused if values[name] != defaults[name] != "auto"):
        raise InputError(f"{useless}: --density={settings.density} does not use this; omit it.")
    if settings.density == "nearest" and settings.neighbors > settings.coreset:
        raise InputError(f"--neighbors={settings.neighbors} is more than the --coreset={settings.coreset} patches.")


def list_train(config: Config, output_dir: Path, tfds_data_dir: str, trained: Collection[str] | None) -> list[Item]:
    """The training images; `trained` as in `layouts.list_train`."""
    root = sources.folder(config.data.data)
    if root.is_dir():
        places = [root / "train", root / "test"] if (root / "train").is_dir() else [root]
        _refuse_inside(output_dir, places, config.data.data)
    return sources.list_train(config.data.data, config.data, trained=trained, tfds_data_dir=tfds_data_dir)


def list_added(config: Config, output_dir: Path) -> list[Item]:
    """The images of --add_normal; raises what `sources.list_added` raises."""
    for place in config.data.add_normal:
        _refuse_inside(output_dir, [sources.folder(place)], place)
    return sources.list_added(config.data)


def _refuse_inside(output_dir: Path, places: Sequence[Path], data: str) -> None:
    if any(output_dir.resolve().is_relative_to(place.resolve()) for place in places):
        raise InputError(f"--output_dir={output_dir} is inside the image folders of {data}; give another folder.")


def check_weights(config: Config) -> None:
    """Checks that weight files exist and fit, and downloads weights if necessary.

    Raises:
        InputError: a file is missing or does not fit.
    """
    network, augmentation = config.network, config.augmentation
    if network.weights:
        BACKBONES[network.backbone].check_weights(network.weights, network.stem)
    if augmentation.saliency_weights or augmentation.needs_saliency:
        weights.read_saliency_network(config.saliency_weights)


def read(items: list[Item], config: Config, report: Report) -> Examples:
    """Reads the training images and checks that they suffice for the requested density and threshold.

    Raises:
        InputError: a file is damaged, or the images do not suffice.
    """
    own = items[: len(items) - len(sources.list_added(config.data))]
    white = reading.white_of(own, config.data, report=report)  # images that are added leave the others as they were
    examples = reading.read(items, config.data.size, dataclasses.replace(config.data, white=white), report=report)
    if config.density.density == "mixture" and config.density.mixture_components > len(examples.images):
        raise InputError(
            f"--mixture_components={config.density.mixture_components} exceeds the number of training images."
        )
    calibration.groups(TrainingData.of(examples), config.density.group_by)
    return examples


def validation(config: Config, examples: Examples, report: Report) -> CalibrationImages | None:
    """The images in the folder `validation` of the data, already read; None if there are none.

    Without them, `examples` set the threshold.

    Raises:
        InputError: a file is damaged, a training image is among them, or the images that set the threshold are too few
            for the false alarm rate.
    """
    place = sources.validation(config.data.data, config.data)
    if place is None:
        calibration.check(config.decision, len(examples.images))
        return None
    check = functools.partial(TrainingData.of(examples).refuse, mend="Remove them.")
    settings = dataclasses.replace(config.data, white=examples.white)
    images = CalibrationImages(place, config.data.size, settings, check=check, is_given=False, report=report)
    images.read(config.decision)
    return images


def notes(root: Path, items: list[Item], config: Config, examples: Examples) -> list[str]:
    """What the user should know about the training images: folders, duplicates, held-out images.

    Args:
        root: their folder; for a prepared set, a path that is not a folder.
        items: the images.
        config: configuration of the run.
        examples: the images after reading.
    """
    places = [root, *map(sources.folder, config.data.add_normal)]
    lines = [line for place in places for line in unread.lines(place, config.data, testing=False)]
    lines += examples.notices
    groups, copies = reading.duplicate_groups(examples.hashes)
    if copies:
        copy = next(index for index, group in enumerate(groups) if group in groups[:index])
        first = list(groups).index(groups[copy])
        lines.append(
            f"{copies} of {len(groups)} training images are copies of others (same pixels), such as "
            f"{examples.paths[copy]} of {examples.paths[first]}; for the threshold, copies count as one image."
        )
    counts = collections.Counter(str(Path(item.path).parent) for item in items)
    if len(counts) > 1:
        listed = ", ".join(f"{name} ({count})" for name, count in counts.most_common(8))
        lines.append(f"all of these folders are learned as normal: {listed}.")
    held_out = layouts.held_out(root, config.data, examples.paths)
    if held_out:
        normal, part = config.data.reading.normal_name, config.data.test_split
        lines.append(
            f"{held_out} of {held_out + len(items)} images in {normal}/ are held out for testing "
            f"(--test_split={part:g})."
        )
    return lines


def has_test_images(config: Config, trained: Collection[str]) -> bool:
    """Whether the run's data have test images besides the training images."""
    return sources.is_named(config.data.test_data or config.data.data) or bool(test_items(config, trained, ""))


def test_items(config: Config, trained: Collection[str], tfds_data_dir: str) -> list[Item]:
    """The run's test images besides the training images; empty if it has none, or if their layout is wrong."""
    try:
        items = sources.list_test(
            config.data.test_data or config.data.data, config.data, trained=trained, tfds_data_dir=tfds_data_dir
        )
    except InputError:
        return []
    return items if config.data.test_data or items[0].label != reading.UNKNOWN else []
