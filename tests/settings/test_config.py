"""What is left open in a configuration stays open, through files too; the tables of settings are those of the wings."""

import json
import random

import pytest
from conftest import TINY

from cutpaste_tf.density.densities import DENSITIES
from cutpaste_tf.errors import InputError
from cutpaste_tf.images.sources import SOURCES
from cutpaste_tf.networks.backbones import BACKBONES
from cutpaste_tf.settings.base import leaves
from cutpaste_tf.settings.config import Config
from cutpaste_tf.settings.data import IMAGE_SIZES
from cutpaste_tf.settings.density import DENSITY_NAMES
from cutpaste_tf.settings.network import BACKBONE_FACTS

# Values that decide others, and values that others decide; the first is the default, most of them open.
VALUES = {
    "data": ["parts", "/x/bottle", "cifar10/cat", "demo/gear"],
    "proxy_task": ["cutpaste_3way", "cutpaste", "rotation"],
    "backbone": ["resnet18", "efficientnet_b0"],
    "weights": ["", "imagenet", "own.npz"],
    "patch_size": [0, 32, 64],
    "image_size": [(), 64, "96", (64, 96), "64,auto"],
    "stem": ["auto", "small", "imagenet"],
    "normalization": ["auto", "none", "imagenet"],
    "freeze_batch_norm": ["auto", "yes", "no"],
    "epochs": [-1, 0, 3],
    "head_epochs": [-1, 0, 2],
    "batch_size": [0, 24, 48],
    "learning_rate": [0.0, 0.01, 1],
    "density_mode": ["auto", "shared", "per_location"],
    "stride": [4, 8],
    "false_alarm_rate": [0.0, 0.1],
    "head_dims": [(512, 128), (8,)],
}


def _random_config(draw):
    while True:
        values = {name: draw.choice(choices) for name, choices in VALUES.items() if draw.random() < 0.4}
        try:
            return Config.of(scar_max_length=20, **values)
        except InputError:  # they contradict each other
            continue


def _replaced(config, name, value):
    """With another value, as given and resolved; or why that cannot be."""
    try:
        changed = config.replaced(**{name: value})
    except InputError as error:
        return str(error)
    return changed, changed.resolved()


def test_a_configuration_that_was_read_back_behaves_as_the_fresh_one(tmp_path):
    draw, path, compared = random.Random(0), tmp_path / "config.json", 0
    for _ in range(300):
        fresh = _random_config(draw)
        path.write_text(fresh.to_json())
        read = Config.read(path)
        assert (read, read.resolved()) == (fresh, fresh.resolved())
        assert fresh.resolved().resolved() == fresh.resolved()
        name = draw.choice(list(VALUES))
        value = draw.choice(VALUES[name])
        changed = _replaced(fresh, name, value)
        assert _replaced(read, name, value) == changed
        compared += isinstance(changed, tuple)
    assert compared > 150


def test_a_file_says_what_was_given_and_what_was_filled_in(tmp_path):
    config = Config.of(data="parts", patch_size=64)
    values = json.loads(config.to_json())
    assert (values["network"]["stem"], values["resolved"]["stem"]) == ("auto", "small")
    resolved = {name: config.resolved().flat()[name] for name in values["resolved"]}
    assert values["resolved"] == {**resolved, "image_size": [256, 256]}
    left = {name for name, value in config.flat().items() if config.resolved().flat()[name] != value}
    assert set(values["resolved"]) == left
    (tmp_path / "config.json").write_text(config.resolved().to_json())
    assert Config.read(tmp_path / "config.json") == config.resolved()


def test_values_of_another_version_are_pinned(tmp_path):
    """Also where one that is pinned would decide another: head epochs freeze batch norm."""
    values, path = json.loads(TINY.to_json()), tmp_path / "config.json"
    assert (values["resolved"]["head_epochs"], values["resolved"]["freeze_batch_norm"]) == (0, "no")
    values["resolved"] |= {"head_epochs": 5, "learning_rate": 1}
    path.write_text(json.dumps(values))
    read = Config.read(path)
    assert read == TINY.replaced(head_epochs=5, learning_rate=1.0, freeze_batch_norm="no")
    assert read.resolved().flat() == TINY.resolved().flat() | {"head_epochs": 5, "learning_rate": 1.0}
    for wrong, message in (
        ({"speed": 1}, "unknown settings"),
        ({"epochs": "ten"}, "epochs is 'ten', which is not of type int"),
    ):
        path.write_text(json.dumps(values | {"resolved": wrong}))
        with pytest.raises(InputError, match=message):
            Config.read(path)


def test_a_file_of_version_0_2_is_explicit(tmp_path):
    """It holds what was filled in, without saying so."""
    values = json.loads(TINY.resolved().to_json())
    del values["resolved"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert Config.read(tmp_path / "config.json") == TINY.resolved()


def test_what_is_left_open_decides_whether_settings_fit():
    with pytest.raises(InputError, match="the nearest is --image_size=257"):
        Config.of(patch_size=64, stride=5)
    with pytest.raises(InputError, match="not divisible by the 3 classes"):
        Config.of(backbone="efficientnet_b0", batch_size=25)


def test_every_open_value_is_a_default():
    """`filled_in` takes a default for what is left open."""
    defaults = {field.name: field.default for field, _ in leaves(Config)}
    filled = Config.of(patch_size=64).filled_in()
    assert {defaults[name] for name in filled} <= {"auto", 0, -1, ()}


@pytest.mark.parametrize(
    ("names", "known"), [(BACKBONE_FACTS, BACKBONES), (DENSITY_NAMES, DENSITIES), (IMAGE_SIZES, SOURCES)]
)
def test_what_settings_name_is_there(names, known):
    assert set(names) <= set(known)
    assert set(names) == set(known) or names is IMAGE_SIZES
