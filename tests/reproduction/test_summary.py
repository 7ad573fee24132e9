"""Means, errors, ensembles and verdicts, against numbers worked out by hand."""

import csv
import json

import pytest

from cutpaste_tf.images import prepared
from cutpaste_tf.reproduction import published, summary, writing
from cutpaste_tf.reproduction.plan import Request
from cutpaste_tf.reproduction.summary import Categories, Cell, Ours
from cutpaste_tf.reproduction.tables import CATEGORIES, TABLES

REQUEST = Request((1,), (), ("bottle", "carpet", "cable"), 3, "paper", "/data", "", None)


def put(request, table, column, category, seed, auc, scores=()):
    """The metrics and scores of an evaluation."""
    entry = TABLES[table][column]
    folder = request.output_dir / "runs" / request.run(entry, category, seed).name / entry.folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps({entry.metric: auc}))
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
    assert (ours.mean, ours.seeds, ours.requested) == (93.0, 3, 3)
    assert ours.standard_error == pytest.approx((13 / 3) ** 0.5)  # the variance, ddof 1, is 13
    assert cells["bottle", "cutpaste"].paper == published.table(1)["bottle", "cutpaste"]
    assert cells["carpet", "cutpaste"].ours is None
    mean = cells["object", "cutpaste"].ours
    assert mean.mean == (93.0 + 82.0) / 2
    assert mean.standard_error == pytest.approx(((13 / 3) ** 0.5 + 2.0) / 2)  # the mean of the errors, as in the paper
    assert (mean.seeds, mean.categories) == (2, (2, 2, 10))
    paper = published.table(1)
    two = [paper[name, "cutpaste"] for name in ("bottle", "cable")]
    same = cells["object", "cutpaste"].paper  # not the paper's mean of ten
    assert same.auc == pytest.approx((two[0].auc + two[1].auc) / 2)
    assert same.standard_error == pytest.approx((two[0].standard_error + two[1].standard_error) / 2)
    assert same.same == 2
    assert cells["all", "cutpaste"].verdict("paper") == "not yet whole"  # carpet is asked for, too
    assert cells["texture", "cutpaste"].ours is None


def test_an_ensemble_scores_by_the_mean_of_its_log_densities(tmp_path):
    request = REQUEST._replace(output_dir=tmp_path, seeds=2)
    labels = (("a", 0), ("b", 1), ("c", 1))
    for seed, scores in enumerate([(3.0, 1.0, 9.0), (1.0, 4.0, 2.5)]):
        rows = [(name, label, score) for (name, label), score in zip(labels, scores, strict=True)]
        put(request, 1, "ensemble", "bottle", seed, 50.0, rows)
    cell = summary.summarize(1, request).cells["bottle", "ensemble"]
    assert cell.ours.mean == 100.0  # means 2, 2.5, 5.75: both defects above the good one
    assert cell.ours.standard_error == pytest.approx(25.0)  # alone 50 and 100: sqrt(1 / 2 * (25 ** 2 + 25 ** 2))
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
    assert table.cells["cutout", "mnist"].paper is None  # the paper has no rows of the two alone
    assert table.cells["cutout", "mnist"].verdict("paper") == "paper: all 15 only"
    every_category = summary.summarize(6, request._replace(categories=CATEGORIES))
    assert every_category.cells["cutpaste_3way", "average"].paper.auc == 98.3
    assert every_category.cells["cutpaste_3way", "average"].verdict("paper") == "not yet whole"
    some = summary.summarize(6, request._replace(columns=("cutout mnist", "cutout square")))
    assert (some.rows, some.columns) == (["cutout"], ["mnist", "square", "average"])
    assert some.cells["cutout", "average"].paper is None  # that is of seven


def test_own_categories_are_not_the_papers_mean(tmp_path):
    request = REQUEST._replace(output_dir=tmp_path, categories=("own",), seeds=1, tables=(6,))
    put(request, 6, "cutout mnist", "own", 0, 10.0)
    for categories in (("own",), ("own", "bottle")):
        cell = summary.summarize(6, request._replace(categories=categories)).cells["cutout", "mnist"]
        assert (cell.ours.mean, cell.difference) == (10.0, None)
    put(request, 1, "cutpaste", "own", 0, 90.0)
    table = summary.summarize(1, request)
    assert table.rows == ["own"]  # of no group
    assert table.cells["own", "cutpaste"].verdict("paper") == "not in the paper"


def test_a_table_shows_what_was_asked_for(tmp_path):
    request = REQUEST._replace(output_dir=tmp_path, columns=("cutpaste",), categories=("bottle",))
    for seed in range(5):
        put(request, 1, "cutpaste", "bottle", seed, 90.0 + seed)
    put(request, 1, "cutout", "bottle", 0, 80.0)
    put(request, 1, "cutpaste", "cable", 0, 80.0)
    table = summary.summarize(1, request)
    assert (table.rows, table.columns) == (["bottle", "object", "all"], ["cutpaste"])
    assert (table.cells["all", "cutpaste"].ours.mean, table.cells["all", "cutpaste"].ours.seeds) == (91.0, 3)
    paper = published.table(1)["bottle", "cutpaste"]
    assert table.cells["all", "cutpaste"].difference == pytest.approx(91.0 - paper.auc)


def test_a_group_that_the_paper_has_no_rows_of_is_compared_when_it_is_whole(tmp_path):
    request = REQUEST._replace(output_dir=tmp_path, columns=("confetti",), seeds=1)
    put(request, 4, "confetti", "bottle", 0, 70.0)
    assert summary.summarize(4, request).cells["all", "confetti"].verdict("paper") == "paper: all 15 only"
    every = summary.summarize(4, request._replace(categories=CATEGORIES)).cells["all", "confetti"]
    assert (every.difference, every.verdict("paper")) == (None, "not yet whole")
    for category in CATEGORIES:
        put(request, 4, "confetti", category, 0, 70.0)
    every = summary.summarize(4, request._replace(categories=CATEGORIES)).cells["all", "confetti"]
    assert every.difference == pytest.approx(70.0 - every.paper.auc)


def test_another_methods_number_gets_no_verdict(tmp_path):
    request = REQUEST._replace(output_dir=tmp_path, tables=("cifar10",), seeds=2)
    for name in prepared.CIFAR10:
        for seed in range(2):
            put(request, "cifar10", "rotation", f"cifar10/{name}", seed, 91.3)
            put(request, "cifar10", "cutpaste", f"cifar10/{name}", seed, 69.4)
    cells = summary.summarize("cifar10", request).cells
    assert cells["all", "rotation"].verdict("paper") == "[52]'s, not like for like"
    assert cells["all", "rotation"].difference is None
    assert cells["all", "cutpaste"].verdict("paper") == "within"


def test_half_a_metrics_file_is_no_number(tmp_path):
    request = REQUEST._replace(output_dir=tmp_path)
    for seed in range(2):
        put(request, 1, "cutpaste", "bottle", seed, 90.0)
    column = TABLES[1]["cutpaste"]
    place = tmp_path / "runs" / request.run(column, "bottle", 0).name / column.folder
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
        (Ours(95.0, 0.5, 5, 5, Categories(3, 15, 15)), "paper", "not yet whole"),
        (Ours(95.0, 0.5, 5, 5), "short", "other schedule"),
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
        assert "93.0 ± 2.1 (3)" in text
        assert f"paper {paper.auc} ± {paper.standard_error}" in text
        assert f"{93.0 - paper.auc:+.1f} {row['verdict']}" in text
        assert "(3, 1 of 10)" in text
        assert f"paper {paper.auc} ± {paper.standard_error} (same 1)" in text
    assert rows["carpet", "cutpaste"]["verdict"] == "not yet"


def test_a_table_says_its_arithmetic(tmp_path):
    request = REQUEST._replace(output_dir=tmp_path)
    for precision, is_said in (("float32", False), ("mixed_bfloat16", True)):
        request = request._replace(precision=precision)
        writing.write(summary.summarize(1, request), request)
        for name in ("table1.md", "table1.html"):
            assert ("Trained in mixed_bfloat16." in (tmp_path / name).read_text()) == is_said
