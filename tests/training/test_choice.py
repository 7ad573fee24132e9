"""What suits a set of normal images is found without an anomalous one."""

import shutil

import numpy as np
import pytest
from conftest import TINY, command, draw_category, write_image
from PIL import Image

import cutpaste_tf
from cutpaste_tf.detection import loading
from cutpaste_tf.errors import InputError
from cutpaste_tf.files import read_csv
from cutpaste_tf.progress import no_report
from cutpaste_tf.settings.config import Config
from cutpaste_tf.training import candidates
from cutpaste_tf.training.candidates import made_up
from cutpaste_tf.training.choice import CHOSEN, choose

SETTINGS = TINY.replaced(image_size=64, epochs=0, scar_max_length=25)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Nothing but fifteen normal images: no test image is there to be read."""
    root = draw_category(tmp_path_factory.mktemp("data") / "category")
    shutil.rmtree(root / "test")
    rng = np.random.default_rng(1)
    for index in range(9):
        coarse = Image.fromarray(rng.integers(60, 160, (4, 4, 3), np.uint8))
        picture = np.asarray(coarse.resize((40, 40), Image.Resampling.BICUBIC))
        write_image(root / f"train/good/more{index}.png", picture)
    return root


@pytest.fixture(scope="module")
def chosen(parts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("choice") / "run"
    return folder, *choose(SETTINGS.replaced(data=str(parts)), folder, report=no_report)


def test_candidates_are_ranked_by_the_anomalies_that_they_find(chosen):
    folder, config, ranked = chosen
    rows = read_csv(folder / "choice.csv")
    assert len(rows) == len(ranked) == 5 + 2 * 4 * 3  # features of whole images; of patches stages, densities, scores
    powers = [float(row["power"]) for row in rows]
    assert powers == sorted(powers, reverse=True)
    assert powers[0] > powers[-1]
    for row, candidate in zip(rows, ranked, strict=True):
        assert (row["feature"], row["density"]) == (candidate.settings["feature"], candidate.density)
        kinds = [float(row[kind]) for kind in candidate.power]
        assert float(row["power"]) == pytest.approx(np.mean(kinds), abs=0.1)
        assert 0 <= min(kinds) <= max(kinds) <= 100
    used = [part.flat() for part in config.parts]
    assert len(used) == 3
    every = [candidate.settings for candidate in ranked]
    places = [next(i for i, one in enumerate(every) if one.items() <= part.items()) for part in used]
    assert min(places) == 0
    assert len({(part["feature"], part["density"], part["density_mode"]) for part in used}) == 3
    with Image.open(folder / "choice.png") as picture:
        assert min(picture.size) > 300


def test_the_same_images_give_the_same_choice(chosen, parts, tmp_path):
    _, config, ranked = chosen
    again, other = choose(SETTINGS.replaced(data=str(parts)), tmp_path / "run", report=no_report)
    assert again == config
    assert [candidate.power for candidate in other] == [candidate.power for candidate in ranked]


def test_a_run_is_made_of_what_is_chosen_and_keeps_it(chosen, parts, tmp_path, capsys):
    _, config, _ = chosen
    flags = [f"--data={parts}", "--backbone=toy", "--stem=imagenet", "--image_size=64", "--epochs=0", "--choose"]
    words = ["train_main.py", *flags, "--head_dims=16,8", "--batch_size=6", f"--output_dir={tmp_path / 'run'}"]
    command(*words)
    made = Config.read(tmp_path / "run/config.json").flat()
    assert {name: made[name] for name in CHOSEN} == {name: config.flat()[name] for name in CHOSEN}
    assert "Chosen from 29 by how much they find" in capsys.readouterr().out
    assert cutpaste_tf.load(tmp_path / "run").calibration is not None
    command(*words)  # the choice stands
    shown = capsys.readouterr().out
    assert "Chosen" not in shown
    assert "already complete" in shown
    with pytest.raises(SystemExit):
        command(*words, "--feature=layer1")
    assert "--feature cannot be given with --choose" in capsys.readouterr().err


def test_the_quick_preset_chooses_unless_it_is_told_what_to_take(chosen, parts, category, tmp_path, capsys):
    _, config, _ = chosen
    flags = ["--preset=quick", "--weights=", "--backbone=toy", "--image_size=64", "--head_dims=16,8", "--batch_size=6"]
    command("train_main.py", *flags, f"--data={parts}", f"--output_dir={tmp_path / 'chosen'}")
    made = Config.read(tmp_path / "chosen/config.json").flat()
    assert {name: made[name] for name in CHOSEN} == {name: config.flat()[name] for name in CHOSEN}
    capsys.readouterr()
    command("train_main.py", *flags, f"--data={category}", f"--output_dir={tmp_path / 'few'}")
    assert "without a choice: --choose needs at least 12 normal images" in capsys.readouterr().out
    command("train_main.py", *flags, "--feature=layer1", f"--data={parts}", f"--output_dir={tmp_path / 'given'}")
    command("train_main.py", *flags, "--nochoose", f"--data={parts}", f"--output_dir={tmp_path / 'not'}")
    for name, feature in (("few", "layer2"), ("given", "layer1"), ("not", "layer2")):
        made = Config.read(tmp_path / name / "config.json")
        assert (made.features.feature, made.patch_size, made.features.dense) == (feature, 64, "fast")
        assert not (tmp_path / name / "choice.csv").exists()


def test_the_network_of_a_finished_run_can_be_chosen_for(parts, tmp_path, capsys):
    """It trained on whole images; what is chosen scores patches."""
    run, scored = tmp_path / "run", tmp_path / "scored"
    trained = SETTINGS.replaced(data=str(parts), epochs=1, seed=3)
    cutpaste_tf.train(trained, run, report=no_report)
    command("train_main.py", f"--config={run}", f"--network_of={run}", "--choose", f"--output_dir={scored}")
    assert "Chosen from 29" in capsys.readouterr().out
    made, rows = Config.read(scored / "config.json"), read_csv(scored / "choice.csv")
    assert (made.features.feature, made.schedule.epochs) == (rows[0]["feature"], 1)
    networks = [loading.load(folder).members[0].network.model for folder in (run, scored)]
    for before, after in zip(*(network.get_weights() for network in networks), strict=True):
        np.testing.assert_array_equal(before, after)
    fresh = choose(SETTINGS.replaced(data=str(parts), seed=3), tmp_path / "fresh", report=no_report)
    assert read_csv(tmp_path / "fresh/choice.csv") != rows
    assert fresh[0].schedule.epochs == 0


@pytest.mark.parametrize(("powers", "outcome"), [((70.0, 60.0), "Training pays"), ((60.0, 60.0), "does not pay")])
def test_training_is_kept_only_if_it_pays(parts, tmp_path, monkeypatch, capsys, powers, outcome):
    values = iter([50.0, 50.0, *powers])  # two are only reported
    monkeypatch.setattr(candidates, "power_together", lambda ranked: next(values))
    words = ["train_main.py", f"--data={parts}", "--preset=quarter_hour", "--weights=", "--backbone=toy", "--epochs=1"]
    words += ["--steps_per_epoch=3", "--batch_size=6", "--image_size=64", "--head_dims=16,8", "--head_epochs=0"]
    words += ["--scar_max_length=25", "--learning_rate=1", f"--output_dir={tmp_path / 'run'}"]
    command(*words)
    assert outcome in capsys.readouterr().out
    made = Config.read(tmp_path / "run/config.json")
    is_trained = outcome == "Training pays"
    assert (made.schedule.epochs, made.network.network_of) == (
        (1, str(tmp_path / "run/trained")) if is_trained else (0, "")
    )
    used = read_csv(tmp_path / "run" / ("trained_choice.csv" if is_trained else "choice.csv"))
    assert made.features.feature in [row["feature"] for row in used[:3]]
    trained, scored = (loading.load(tmp_path / name).members[0].network.model for name in ("run/trained", "run"))
    assert is_trained == all(np.array_equal(*pair) for pair in zip(trained.weights, scored.weights, strict=True))
    assert (tmp_path / "run/train_log.csv").is_file() == is_trained
    command(*words)  # what was decided stands
    assert "is already complete" in capsys.readouterr().out


def test_anomalies_of_a_choice_end_at_the_region(parts, tmp_path, monkeypatch):
    region = np.zeros((40, 40), np.uint8)
    region[:, :20] = 1
    config = SETTINGS.replaced(data=str(parts), region=str(write_image(tmp_path / "region.png", region)))
    measured, seen = candidates.measured, {}

    def measure(config, images, groups, report):
        seen.update(images)
        return measured(config, images, groups, report)

    monkeypatch.setattr(candidates, "measured", measure)
    best, ranked = choose(config, tmp_path / "run", report=no_report)
    assert best.data.reading.region
    assert ranked[0].mean_power > 0
    assert len(seen) == 10
    for images in seen.values():
        assert not images[:, :, 32:].any()
        assert images[:, :, :32].any(axis=-1).all()


def test_anomalies_are_small_or_faint_and_on_every_image():
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    kinds, again = made_up(images, seed=0), made_up(images, seed=0)
    assert len(kinds) == 8
    for kind, changed in kinds.items():
        differs = (changed != images).any(axis=3).mean(axis=(1, 2))
        assert differs.min() > 0, kind
        assert differs.max() < 0.35, kind
        np.testing.assert_array_equal(changed, again[kind])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 1}, "add --epochs=0"),
        ({"feature": "layer1"}, "--feature cannot be given with --choose"),
        ({"patch_size": 64, "tile_size": 256}, "--choose needs whole images"),
    ],
)
def test_what_cannot_be_chosen_is_refused(parts, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        choose(SETTINGS.replaced(data=str(parts), **changes), tmp_path / "run")


def test_copies_of_an_image_are_on_one_side():
    """A held-out image whose copy was fitted to would vouch for itself; of copies one is held out."""
    groups = np.repeat(np.arange(15), 2)
    held_out, fitted = candidates.split(groups, seed=0)
    assert len(held_out) == 5
    assert not set(groups[held_out]) & set(groups[fitted])
    assert len(fitted) == 20
    alone, others = candidates.split(np.arange(15), seed=0)
    assert sorted([*alone, *others]) == [*range(15)]


def test_too_few_images_are_refused(category, tmp_path):
    with pytest.raises(InputError, match="at least 12 normal images, to hold out a third of them; there are 6"):
        choose(SETTINGS.replaced(data=str(category)), tmp_path / "run")
