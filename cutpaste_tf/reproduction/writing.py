"""Tables as Markdown, CSV and a page."""

import csv
import io

import jinja2

from cutpaste_tf.files import write_whole
from cutpaste_tf.reproduction.plan import Request
from cutpaste_tf.reproduction.summary import Cell, Table

_PAGE = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
    """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title><link rel="icon" href="data:,">
<style>body { font: 15px/1.4 system-ui, sans-serif; margin: 1rem; color: #1c2024 } table { border-collapse: collapse }
.wide { overflow-x: auto } th, td { border: 1px solid #d5dade; padding: .3rem .6rem; text-align: left;
vertical-align: top } td { font-variant-numeric: tabular-nums } small { display: block; color: #555d66 }
.within { background: #e5f3e8 } .above { background: #e3eefb } .below { background: #fbe9e7 }</style></head>
<body><h1>{{ title }}</h1><p>{{ note }}</p><div class="wide"><table>
<thead><tr><th scope="col"></th>{% for column in columns %}<th scope="col">{{ column }}</th>{% endfor %}</tr></thead>
<tbody>{% for row, cells in rows %}<tr><th scope="row">{{ row }}</th>
{% for ours, paper, verdict in cells %}<td class="{{ verdict.split(" ")[0] }}"><b>{{ ours }}</b>
<small>{{ paper }}</small><small>{{ verdict }}</small></td>
{% endfor %}</tr>{% endfor %}</tbody></table></div></body></html>
"""
)


def write(table: Table, request: Request) -> None:
    """Writes tableN.md, .csv and .html, or those of its name.

    Args:
        table: to write.
        request: that it is of; tells the folder, the scale and the precision.
    """
    folder, scale = request.output_dir, request.scale
    note = (
        "Ours: mean +/- standard error in percent (number of seeds); beneath it the paper's, and ours minus that. A "
        "group's error is the mean of its errors. within, above, below: of the joint error at 95 %."
        + ("" if scale == "paper" else f" Scale {scale}: NOT the paper's schedule, so that nothing can be concluded.")
        + ("" if request.precision == "float32" else f" Trained in {request.precision}.")
    )
    write_whole(folder / f"{table.name}.md", _markdown(table, note, scale).encode(errors="backslashreplace"))
    write_whole(folder / f"{table.name}.csv", _csv(table, scale).encode(errors="backslashreplace"))
    rows = [
        (row, [(ours(cell), paper(cell), cell.verdict(scale)) for cell in _cells(table, row)]) for row in table.rows
    ]
    page = _PAGE.render(title=table.title, note=note, columns=table.columns, rows=rows)
    write_whole(folder / f"{table.name}.html", page.encode(errors="backslashreplace"))


def _cells(table: Table, row: str) -> list[Cell]:
    return [table.cells.get((row, column), Cell(None, None)) for column in table.columns]


def ours(cell: Cell) -> str:
    """Our number as text."""
    if cell.ours is None:
        return "-"
    error = "" if cell.ours.standard_error is None else f" +/- {cell.ours.standard_error:.1f}"
    there, whole = cell.ours.categories
    part = "" if there == whole else f", {there} of {whole} categories"
    return f"{cell.ours.mean:.1f}{error} ({cell.ours.seeds}{part})"


def paper(cell: Cell) -> str:
    """The paper's number as text, and how far ours is from it."""
    if cell.paper is None:
        return "paper -"
    error = "" if cell.paper.standard_error is None else f" +/- {cell.paper.standard_error:.1f}"
    difference = "" if cell.difference is None else f", ours {cell.difference:+.1f}"
    return f"paper {cell.paper.auc:.1f}{error}{difference}"


def _markdown(table: Table, note: str, scale: str) -> str:
    lines = [f"# {table.title}", "", note, ""]
    lines += [f"| | {' | '.join(table.columns)} |", "|---" * (len(table.columns) + 1) + "|"]
    for row in table.rows:
        shown = [
            f"{ours(cell)}<br>{paper(cell)}<br>{cell.verdict(scale)}".replace("|", "\\|") for cell in _cells(table, row)
        ]
        lines.append(f"| {row} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def _csv(table: Table, scale: str) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        ["row", "column", "ours", "standard_error", "seeds", "paper", "paper_standard_error", "difference", "verdict"]
    )
    for row in table.rows:
        for column, cell in zip(table.columns, _cells(table, row), strict=True):
            mine, theirs = cell.ours, cell.paper
            writer.writerow(
                [
                    row,
                    column,
                    "" if mine is None else f"{mine.mean:.4f}",
                    "" if mine is None or mine.standard_error is None else f"{mine.standard_error:.4f}",
                    "" if mine is None else mine.seeds,
                    "" if theirs is None else theirs.auc,
                    "" if theirs is None or theirs.standard_error is None else theirs.standard_error,
                    "" if cell.difference is None else f"{cell.difference:.4f}",
                    cell.verdict(scale),
                ]
            )
    return buffer.getvalue()
