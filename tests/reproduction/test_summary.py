"""Means, errors, ensembles and verdicts, against numbers worked out by hand."""

import csv
import json

import pytest

from cutpaste_tf.reproduction import published, summary, writing
from cutpaste_tf.reproduction.plan import Request
from cutpaste_tf.reproduction.summary import Cell, Ours
from cutpaste_tf.reproduction.tables import CATEGORIES, TABLES

REQUEST = Request((1,), (), ("bottle", "carpet", "cable"), 3, "paper", "/data", "", None)


def put(request, table, column, category, seed, auc, scores=()):
    """The metrics and scores of an evaluation."""
    one = TABLES[table][column]
    folder = request.output_dir / "runs" / request.run(one, category, seed).name / one.folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps({one.metric: auc}))
    lines = [f"{name},{label},x,{score}" for name, label, score in scores]
    (folder / "scores.csv").write_text("\n".join(["path,label,defect,score", *lines]) + "\n")


def test_a_cell_is_the_mean_over_seeds_with_its_standard_error(tmp_path):
    request = REQUEST._replace(output_dir=tmp_path)
    for seed, auc in enumerate((90.0, 92.0, 97.0)):
        put(request, 1, "cutpaste", "bottle", seed, auc)
    put(request, 1, "cutpaste", "cable", 0, 80.0)
    put(request, 1, "cutpaste", "cable", 1, 84.0)
    cells = summary.summarize(1, request).cells
    ours = cells["bottle", "cutpaste"].ours
    assert (ours.mean, ours.seeds, ours.asked) == (93.0, 3, 3)
    assert ours.standard_error == pytest.approx((13 / 3) ** 0.5)  # the variance, ddof 1, is 13
    assert cells["bottle", "cutpaste"].paper == published.table(1)["bottle", "cutpaste"]
    assert cells["carpet", "cutpaste"].ours is None
    mean = cells["object", "cutpaste"].ours
    assert mean.mean == (93.0 + 82.0) / 2
    assert mean.standard_error == pytest.approx(((13 / 3) ** 0.5 + 2.0) / 2)  # the mean of the errors, as in the paper
    assert (mean.seeds, mean.categories) == (2, (2, 10))
    assert cells["texture", "cutpaste"].ours is None


def test_an_ensemble_scores_by_the_mean_of_its_log_densities(tmp_path):
    request = REQUEST._replace(output_dir=tmp_path, seeds=2)
    labels = (("a", 0), ("b", 1), ("c", 1))
    for seed, scores in enumerate([(3.0, 1.0, 9.0), (1.0, 4.0, 0.0)]):
        rows = [(name, label, score) for (name, label), score in zip(labels, scores, strict=True)]
        put(request, 1, "ensemble", "bottle", seed, 50.0, rows)
    cell = summary.summarize(1, request).cells["bottle", "ensemble"]
    assert cell.ours.mean == 100.0  # means 2, 2.5, 4.5: both defects above the good one
    assert cell.ours.standard_error is None
    # Not before every seed is there.
    assert summary.summarize(1, request._replace(seeds=3)).cells["bottle", "ensemble"].ours is None


def test_table_6_averages_over_categories_and_shapes(tmp_path):
    request = REQUEST._replace(output_dir=tmp_path, categories=("bottle", "carpet"), seeds=1, tables=(6,))
    for number, column in enumerate(TABLES[6]):
        for category, extra in (("bottle", 0), ("carpet", 10)):
            put(request, 6, column, category, 0, 50.0 + number + extra)
    table = summary.summarize(6, request)
    assert table.rows == ["cutout", "cutpaste_3way"]
    assert table.columns[0] == "mnist"
    assert table.columns[-1] == "average"
    assert table.cells["cutout", "mnist"].ours.mean == 55.0
    assert table.cells["cutout", "average"].ours.mean == 55.0 + 3
    assert table.cells["cutpaste_3way", "average"].paper.auc == 98.3
    assert table.cells["cutout", "mnist"].verdict("paper") == "not yet whole"  # two of fifteen categories


def test_own_categories_are_not_the_papers_mean(tmp_path):
    request = REQUEST._replace(output_dir=tmp_path, categories=(*CATEGORIES, "own"), seeds=2, tables=(6,))
    models = [name for name, column in TABLES[6].items() if column.row == "cutout"]

    def fill(shapes, categories, auc):
        for seed in range(2):
            for shape in shapes:
                for category in categories:
                    put(request, 6, shape, category, seed, auc + seed)

    def verdicts():
        cells = summary.summarize(6, request).cells
        return [(cells["cutout", shape].ours.mean, cells["cutout", shape].verdict("paper")) for shape in
                ("mnist", "ellipse", "average")]  # fmt: skip

    fill(models, ["own"], 10.0)
    assert verdicts() == [(10.5, "not in the paper")] * 3  # shown, and compared with nothing
    assert summary.summarize(6, request).cells["cutout", "mnist"].ours.is_whole
    fill(models[:1], CATEGORIES, 1.0)  # own shapes beside the paper's are no average of the paper's
    assert verdicts()[:2] == [(1.5, "below"), (10.5, "not in the paper")]
    assert verdicts()[2][1] == "not in the paper"
    fill(models[1:], CATEGORIES[:14], 1.0)  # the average is as whole as the shape that has least
    assert verdicts() == [(1.5, "below"), (1.5, "not yet whole"), (1.5, "not yet whole")]
    fill(models[1:], CATEGORIES[14:], 1.0)
    assert verdicts() == [(1.5, "below")] * 3


def test_seeds_of_another_command_are_in_the_mean(tmp_path):
    request = REQUEST._replace(output_dir=tmp_path, seeds=3)
    for seed in range(5):
        put(request, 1, "cutpaste", "bottle", seed, 90.0 + seed)
    (tmp_path / "runs/cifar10/cat/proxy_task=cutpaste/seed8").mkdir(parents=True)
    cell = summary.summarize(1, request).cells["bottle", "cutpaste"]
    assert (cell.ours.mean, cell.ours.seeds, cell.ours.is_whole) == (92.0, 5, True)
    begun = request.run(TABLES[1]["cutpaste"], "bottle", 5)
    (tmp_path / "runs" / begun.name).mkdir()  # it takes nothing from what is there
    assert summary.summarize(1, request).cells["bottle", "cutpaste"].ours == cell.ours


def test_half_a_metrics_file_is_no_number(tmp_path):
    request = REQUEST._replace(output_dir=tmp_path)
    for seed in range(2):
        put(request, 1, "cutpaste", "bottle", seed, 90.0)
    one = TABLES[1]["cutpaste"]
    place = tmp_path / "runs" / request.run(one, "bottle", 0).name / one.folder
    (place / "metrics.json").write_text('{"image_auroc": 9')
    assert summary.summarize(1, request).cells["bottle", "cutpaste"].ours.seeds == 1


@pytest.mark.parametrize(
    ("ours", "scale", "verdict"),
    [
        (None, "paper", "not yet"),
        (Ours(95.0, 0.5, 5, 5), "paper", "within"),  # joint error .5 and .6: .78, at 95 % 1.53 from 95.2
        (Ours(93.7, 0.5, 5, 5), "paper", "within"),
        (Ours(93.5, 0.5, 5, 5), "paper", "below"),
        (Ours(97.0, 0.5, 5, 5), "paper", "above"),
        (Ours(95.0, 0.5, 4, 5), "paper", "not yet whole"),
        (Ours(95.0, 0.5, 5, 5, (3, 15)), "paper", "not yet whole"),
        (Ours(95.0, 0.5, 5, 5), "short", "not the paper's schedule"),
        (Ours(95.0, None, 1, 1, random=False), "paper", "within"),
        (Ours(95.0, None, 1, 1), "paper", "no error"),
    ],
)
def test_verdicts(ours, scale, verdict):
    assert Cell(ours, published.Published(95.2, 0.6)).verdict(scale) == verdict


def test_what_the_paper_has_not_is_said():
    assert Cell(Ours(95.0, 0.5, 5, 5), None).verdict("paper") == "not in the paper"


def test_three_files_say_the_same(tmp_path):
    request = REQUEST._replace(output_dir=tmp_path)
    for seed, auc in enumerate((90.0, 92.0, 97.0)):
        put(request, 1, "cutpaste", "bottle", seed, auc)
    writing.write(summary.summarize(1, request), request)
    with (tmp_path / "table1.csv").open() as file:
        rows = {(row["row"], row["column"]): row for row in csv.DictReader(file)}
    row, paper = rows["bottle", "cutpaste"], published.table(1)["bottle", "cutpaste"]
    assert float(row["difference"]) == pytest.approx(93.0 - paper.auc)
    assert row["verdict"] == "within" if abs(93.0 - paper.auc) < 4 else "below"
    for name in ("table1.md", "table1.html"):
        text = (tmp_path / name).read_text()
        assert "93.0 +/- 2.1 (3)" in text
        assert f"paper {paper.auc} +/- {paper.standard_error}, ours {93.0 - paper.auc:+.1f}" in text
    assert rows["carpet", "cutpaste"]["verdict"] == "not yet"


def test_a_table_says_its_arithmetic(tmp_path):
    request = REQUEST._replace(output_dir=tmp_path)
    for precision, is_said in (("float32", False), ("mixed_bfloat16", True)):
        request = request._replace(precision=precision)
        writing.write(summary.summarize(1, request), request)
        for name in ("table1.md", "table1.html"):
            assert ("Trained in mixed_bfloat16." in (tmp_path / name).read_text()) == is_said
