"""Writes tables as Markdown, CSV and HTML."""

from typing import Any

import jinja2

from cutpaste_tf.files import write_csv, write_whole
from cutpaste_tf.reproduction.plan import Request
from cutpaste_tf.reproduction.summary import Cell, Table

_FIELDS = ("row", "column", "ours", "standard_error", "seeds", "categories")
_FIELDS += ("paper", "paper_standard_error", "paper_source", "difference", "verdict")
_PAGE = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
    """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title><link rel="icon" href="data:,">
<style>body { font: 14px/1.4 system-ui, sans-serif; margin: 1rem; color: #1c2024 } table { border-collapse: collapse }
.wide { overflow-x: auto } th, td { border: 1px solid #d5dade; padding: .25rem .4rem; text-align: left;
vertical-align: top; white-space: nowrap } td { font-variant-numeric: tabular-nums }
th[scope="row"] { position: sticky; left: 0; background: #fff }
small { display: block; font-size: 12px; color: #555d66 }
.within { background: #e5f3e8 } .above { background: #e3eefb } .below { background: #fbe9e7 }</style></head>
<body><h1>{{ title }}</h1><p>{{ note }}</p><div class="wide"><table>
<thead><tr><th scope="col"></th>{% for column in columns %}<th scope="col">{{ column }}</th>{% endfor %}</tr></thead>
<tbody>{% for row, cells in rows %}<tr><th scope="row">{{ row }}</th>
{% for kind, (ours, paper, verdict) in cells %}<td class="{{ kind }}"><b>{{ ours }}</b>
<small>{{ paper }}</small><small>{{ verdict }}</small></td>
{% endfor %}</tr>{% endfor %}</tbody></table></div></body></html>
"""
)


def write(table: Table, request: Request) -> None:
    """Writes tableN.md, .csv and .html, or files with the table's own name.

    Args:
        table: the table to write.
        request: the request it belongs to; gives the folder, the scale and the precision.
    """
    folder, scale = request.output_dir, request.scale
    note = (
        "Each cell shows our mean ± standard error in percent (number of seeds). Below it are the paper's number, ours "
        "minus the paper's, and whether the difference is within, above or below the joint error at 95 %. A group's "
        "error is the mean of its errors; an ensemble's is the jackknife error over its seeds. "
        "(same N) means the paper's mean over the same N categories, if only part of a group was requested."
        + ("" if scale == "paper" else f" Scale {scale}: NOT the paper's schedule, so no conclusions can be drawn.")
        + ("" if request.precision == "float32" else f" Trained in {request.precision}.")
    )
    write_whole(folder / f"{table.name}.md", _markdown(table, note, scale).encode(errors="backslashreplace"))
    write_csv(folder / f"{table.name}.csv", _rows(table, scale))
    rows = [(row, [(cell.verdict(scale), lines(cell, scale)) for cell in _cells(table, row)]) for row in table.rows]
    page = _PAGE.render(title=table.title, note=note, columns=table.columns, rows=rows)
    write_whole(folder / f"{table.name}.html", page.encode(errors="backslashreplace"))


def _cells(table: Table, row: str) -> list[Cell]:
    return [table.cells.get((row, column), Cell(None, None)) for column in table.columns]


def lines(cell: Cell, scale: str) -> tuple[str, str, str]:
    """A cell's three lines: our number, the paper's, and the result of the comparison."""
    ours, paper, difference = "-", "paper -", ""
    if cell.ours is not None:
        there, _, whole = cell.ours.categories
        part = "" if there == whole else f", {there} of {whole}"
        ours = f"{cell.ours.mean:.1f}{_error(cell.ours.standard_error)} ({cell.ours.seeds}{part})"
    if cell.paper is not None:
        same = f" (same {cell.paper.same})" if cell.paper.same else ""
        paper = f"paper {cell.paper.auc:.1f}{_error(cell.paper.standard_error)}{same}"
    if cell.difference is not None:
        difference = f"{cell.difference:+.1f} "
    return ours, paper, f"{difference}{cell.verdict(scale)}"


def _error(error: float | None) -> str:
    return "" if error is None else f" ± {error:.1f}"


def _markdown(table: Table, note: str, scale: str) -> str:
    text = [f"# {table.title}", "", note, ""]
    text += [f"| | {' | '.join(table.columns)} |", "|---" * (len(table.columns) + 1) + "|"]
    for row in table.rows:
        shown = ["<br>".join(lines(cell, scale)).replace("|", "\\|") for cell in _cells(table, row)]
        text.append(f"| {row} | {' | '.join(shown)} |")
    return "\n".join(text) + "\n"


def _rows(table: Table, scale: str) -> list[dict[str, Any]]:
    """The rows of tableN.csv, one for each cell."""
    rows = []
    for row in table.rows:
        for column, cell in zip(table.columns, _cells(table, row), strict=True):
            values: dict[str, Any] = dict.fromkeys(_FIELDS, "")
            values |= {"row": row, "column": column, "verdict": cell.verdict(scale)}
            values["difference"] = _number(cell.difference)
            if cell.ours is not None:
                values["ours"] = _number(cell.ours.mean)
                values["standard_error"] = _number(cell.ours.standard_error)
                values |= {"seeds": cell.ours.seeds, "categories": cell.ours.categories.there}
            if cell.paper is not None:
                values["paper"] = f"{cell.paper.auc:g}"
                values["paper_standard_error"] = _number(cell.paper.standard_error)
                same = f"mean over the same {cell.paper.same}" if cell.paper.same else ""
                values["paper_source"] = same or cell.paper.source
            rows.append(values)
    return rows


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
