"""Which runs a table takes: each once, whichever tables it is for."""

import re

import pytest
from conftest import command

from cutpaste_tf.errors import InputError
from cutpaste_tf.reproduction import speed
from cutpaste_tf.reproduction.costs import described, size
from cutpaste_tf.reproduction.plan import Request, plan
from cutpaste_tf.reproduction.speed import Speed
from cutpaste_tf.reproduction.tables import CATEGORIES, CIFAR10, SCALES, TABLES
from cutpaste_tf.settings.config import Config


def request_of(root, **changes):
    request = Request((*TABLES,), (), ("bottle",), 5, "paper", "/data", "", root)
    return request._replace(**changes)


def test_a_run_belongs_to_no_table(tmp_path):
    """The default 3-way run of Tables 1, 2 (GradCAM), 5, 6, and of the defaults of Tables 7 and 8, is one run."""
    numbered = tuple(table for table in TABLES if table != CIFAR10)
    work = plan(request_of(tmp_path, tables=numbered, seeds=1))
    (default,) = [task for task in work if not task.run.settings]
    assert {"eval", "eval_localized", "eval_mnist_color", "eval_heart_image"} <= set(default.evaluations)
    assert default.run.name == "bottle/default/seed0"
    assert default.run.config("/data").schedule.total_steps == 65536
    # 11 tasks, patches, EfficientNet before and after, 3 learning rates, 4 numbers of epochs, 3 jitters, 3 areas; but
    # rotation, cutout, cutout_mean, cutout_color, scar, confetti, cutpaste, cutpaste_scar, union: nine; the default;
    # two untrained baselines of images, and two of patches.
    assert len(work) == 9 + 1 + 1 + 2 + 3 + 4 + 3 + 3 + 4


def test_cifar10_needs_no_folder_and_is_never_enlarged(tmp_path):
    """Its rows are the ten classes, whatever categories of MVTec AD are asked for."""
    work = plan(request_of(tmp_path, tables=(CIFAR10,), seeds=1, data_root="", scale="short"))
    assert len(work) == 10 * 3
    first = work[0].run
    assert not {"image_size", "stem"} & dict(first.settings).keys()
    assert first.flags("")[0] == "--data=cifar10/airplane"
    assert {task.run.config("").data.size for task in work} == {(32, 32)}
    request = request_of(tmp_path, tables=(CIFAR10,), seeds=1)
    assert {one.run.name for one in plan(request) if one.run.category == "cifar10/ship"} == {
        f"cifar10/ship/proxy_task={task}/seed0" for task in ("cutout", "cutpaste", "rotation")
    }


def test_what_no_seed_changes_is_run_once(tmp_path):
    work = plan(request_of(tmp_path, tables=(3,)))
    untrained = [task for task in work if ("epochs", 0) in task.run.settings]
    assert len(untrained) == 1
    assert len(work) == 1 + 5
    assert set(untrained[0].evaluations) == {"eval", "eval_level7"}


@pytest.mark.parametrize("scale", SCALES)
def test_every_run_of_every_table_is_possible(tmp_path, scale):
    for task in plan(request_of(tmp_path, categories=CATEGORIES, seeds=1, scale=scale)):
        config = task.run.config("/data")
        assert len(task.run.name) < 250
        if scale == "paper" and "epochs" not in dict(task.run.settings):
            assert config.schedule.epochs == (64 if config.network.backbone == "efficientnet_b4" else 256)


def test_the_mains_know_every_flag_of_every_table(tmp_path, capsys):
    work = plan(request_of(tmp_path, seeds=1))
    used = {
        "train_main.py": {flag for task in work for flag in task.run.flags("/data")},
        "eval_main.py": {flag for task in work for flags in task.evaluations.values() for flag in flags},
    }
    for main, flags in used.items():
        capsys.readouterr()
        command(main, "--help")
        listed = set(re.findall(r"--(?:\[no\])?(\w+)", capsys.readouterr().out))
        named = {flag.removeprefix("--").partition("=")[0] for flag in flags}
        assert len(named) > 2
        assert {name for name in named if name not in listed and name.removeprefix("no") not in listed} == set()


def test_a_scale_keeps_the_proportions_of_table_7(tmp_path):
    work = plan(request_of(tmp_path, tables=(7,), seeds=1, scale="short"))
    schedules = [task.run.config("/data").schedule for task in work]
    assert sorted({schedule.epochs for schedule in schedules}) == [2, 3, 4, 5, 6]
    assert sorted({schedule.learning_rate for schedule in schedules}) == [0.0003, 0.001, 0.003, 0.01]
    assert len(work) == 4 + 5 - 1  # the default is in both halves


def test_fine_tuning_keeps_its_own_learning_rate(tmp_path):
    (before, after) = plan(request_of(tmp_path, tables=(3,), seeds=1, scale="short"))
    assert before.run.config("/data").schedule.epochs == 0
    schedule = after.run.config("/data").schedule
    assert (schedule.head_epochs, schedule.epochs) == (1, 4)
    default = Config.of(weights="imagenet", backbone="efficientnet_b4").resolved().schedule
    assert schedule.learning_rate == default.learning_rate


def test_precision_is_of_every_run_and_names_it(tmp_path):
    """Runs in another arithmetic are other runs; in float32, the default, they have the name without it."""
    request = request_of(tmp_path, tables=(5,), seeds=1, precision="mixed_bfloat16")
    for task in plan(request):
        assert task.run.config("/data").network.precision == "mixed_bfloat16"
        assert "precision=mixed_bfloat16" in task.run.name
    assert {task.run.name for task in plan(request)}.isdisjoint(
        task.run.name for task in plan(request._replace(precision="float32"))
    )


def test_seeds_come_one_after_another(tmp_path):
    seeds = [task.run.seed for task in plan(request_of(tmp_path, tables=(1, 5)))]
    assert seeds == sorted(seeds)


def test_an_unknown_column_is_refused(tmp_path):
    with pytest.raises(InputError, match="--columns=cutpast is unknown; these tables have confetti, cutout"):
        plan(request_of(tmp_path, tables=(4,), columns=("cutpast",)))


def test_the_plan_says_what_is_left_and_what_it_takes(tmp_path, monkeypatch):
    request = request_of(tmp_path, tables=(5,), columns=("cutpaste_3way",), seeds=2)
    work, requests = plan(request), []

    def measure(runs):
        requests.append(runs)
        return {0: Speed(48.0, 6)} if len(requests) > 1 else {}

    monkeypatch.setattr(speed, "measure", measure)
    kind = "resnet18, 256 px, imagenet stem, float32"
    assert [*described(work, request)][-4:] == [
        "0 of 2 runs are done.",
        "Measuring the speed of 1 kinds of runs, for at most 60 s.",
        f"  {kind}: {131072 * 96} views; their speed could not be measured in that time.",
        "Also left, not included above: 2 evaluations.",
    ]
    assert requests == [[{}]]  # by the settings that are not the defaults
    hours = 131072 * 96 / 48 / 3600
    assert [*described(work, request)][-3:-1] == [
        f"Left: {hours:.1f} hours of training, one run at a time:",
        f"  {kind}: {hours:.1f} hours at 48.0 views/s, measured just now in steps of 6.",
    ]
    first = tmp_path / "runs" / work[0].run.name
    (first / "detector").mkdir(parents=True)
    (first / "eval").mkdir()
    (first / "eval/metrics.json").write_text("{}")
    (first / "train_log.csv").write_text("epoch,step,images_per_second\n1,256,50\n2,512,960.0\n")
    second = tmp_path / "runs" / work[1].run.name
    second.mkdir(parents=True)
    (second / "train_log.csv").write_text("epoch,step,images_per_second\n1,16384,960\n")  # a quarter of it
    lines = [*described(work, request)]
    hours = 49152 * 96 / 960 / 3600
    assert lines[0].startswith("done   bottle/default/seed0")
    assert lines[-4:] == [
        "1 of 2 runs are done.",
        f"Left: {hours:.1f} hours of training, one run at a time:",
        f"  {kind}: {hours:.1f} hours at 960.0 views/s, as in the last run here.",
        "Also left, not included above: 1 evaluations.",
    ]
    assert len(requests) == 2


@pytest.mark.slow
def test_speed_is_measured_in_a_process_that_ends_by_the_clock():
    small = {"image_size": 32, "scar_max_length": 20, "stem": "imagenet"}
    (measured,) = speed.measure([small], seconds=500.0).values()
    assert measured.views > 0
    assert measured.batch == 6
    assert speed.measure([{**small, "backbone": "efficientnet_b4"}], seconds=1.0) == {}


def test_densities_of_locations_take_the_room(tmp_path):
    """3,249 patches of 32 px every 4 px, each with min(images, 512) factors of 512 dimensions in float32."""
    request = request_of(tmp_path, tables=(2,), columns=("cutpaste_3way",), seeds=1)
    factors = 3249 * 209 * 512 * 4
    assert size(plan(request), request, {"bottle": 209}) == pytest.approx(factors, rel=0.1)
    request = request._replace(categories=("carpet",))  # not aligned: one density for all
    assert size(plan(request), request, {"carpet": 280}) < 0.1 * factors
