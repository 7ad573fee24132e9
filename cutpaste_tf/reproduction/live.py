"""REPRO/index.html: the runs of a plan as they go; the page loads itself anew, and reads nothing but itself."""

import csv
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import jinja2

from cutpaste_tf import files, runs
from cutpaste_tf.reproduction import tables
from cutpaste_tf.reproduction.plan import CLAIMS, Request, Work

NAME = "index.html"
REFRESH = 30  # seconds
_WIDTH, _HEIGHT = 120, 28  # of a curve
_PAGE = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
    """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="{{ refresh }}"><title>{{ done }} of {{ rows|length }} runs</title>
<link rel="icon" href="data:,">
<style>body { font: 15px/1.4 system-ui, sans-serif; margin: 1rem; color: #1c2024 } table { border-collapse: collapse }
.wide { overflow-x: auto } th, td { border-bottom: 1px solid #d5dade; padding: .25rem .8rem .25rem 0; text-align: left;
vertical-align: top }
.done { color: #1d6b34 } .running { color: #0b57a4; font-weight: 600 } .failed { color: #b3261e; font-weight: 600 }
svg { vertical-align: middle }</style></head>
<body><h1>{{ done }} of {{ rows|length }} runs are done</h1>
<progress max="{{ rows|length }}" value="{{ done }}">{{ done }} of {{ rows|length }}</progress>
<p>{% for file, title in links %}<a href="{{ file }}">{{ title }}</a><br>{% endfor %}</p>
{% if common %}<p>Every run has {{ common|join(", ") }}.</p>{% endif %}
<div class="wide"><table><thead><tr><th scope="col">state</th><th scope="col">run</th><th scope="col">seed</th>
<th scope="col">cross-entropy</th><th scope="col"></th></tr></thead><tbody>
{% for row in rows %}<tr><td class="{{ row.state }}">{{ row.state }}</td>
<th scope="row">{% if row.state == "waiting" %}{{ row.category }}
{%- else %}<a href="{{ row.folder }}">{{ row.category }}</a>{% endif %} {{ row.settings|join(", ") }}</th>
<td>{{ row.seed }}</td>
<td>{% if row.curve %}<svg role="img" aria-label="cross-entropy by epoch, now {{ row.last }}" width="{{ width }}"
height="{{ height }}"><polyline fill="none" stroke="#0b57a4" points="{{ row.curve }}"/></svg> {{ row.last }}{% endif %}
</td><td>{{ row.said }}</td></tr>
{% endfor %}</tbody></table></div></body></html>
"""
)


class _Row(NamedTuple):
    folder: str
    category: str
    settings: list[str]
    seed: int
    state: str
    curve: str
    last: str
    said: str


def write(work: Sequence[Work], request: Request) -> None:
    """Writes the page.

    Args:
        work: of the plan.
        request: that it is of.
    """
    common = set.intersection(*(set(one.run.words) for one in work)) if len(work) > 1 else set()
    rows = [_row(one, request.output_dir, common) for one in work]
    done = sum(row.state == "done" for row in rows)
    links = [(f"{tables.name(table)}.html", tables.title(table)) for table in request.tables]
    page = _PAGE.render(
        rows=rows, done=done, links=links, common=sorted(common), refresh=REFRESH, width=_WIDTH, height=_HEIGHT
    )
    request.output_dir.mkdir(parents=True, exist_ok=True)
    files.write_whole(request.output_dir / NAME, page.encode(errors="backslashreplace"))


def _row(one: Work, root: Path, common: Collection[str]) -> _Row:
    """A run's row, without the settings that all have."""
    place = root / "runs" / one.run.name
    values = _cross_entropies(place)
    said = ""
    if one.is_done(root):
        state = "done"
    elif _is_claimed(one, root):
        state = "running"
        said = "evaluating" if runs.is_complete(place) else ""
    elif mark := one.given_up(root):
        state, said = "failed", mark.partition(" ")[2]
    else:
        state = "waiting"
    own = [word for word in one.run.words if word not in common]
    folder, last = quote(os.fsencode(f"runs/{one.run.name}/")), f"{values[-1]:.4f}" if values else ""
    return _Row(folder, one.run.category, own, one.run.seed, state, _curve(values), last, said)


def _is_claimed(one: Work, root: Path) -> bool:
    if not (root / CLAIMS / one.claim).is_file():
        return False
    try:
        with files.locked(root / CLAIMS, one.claim):
            return False
    except files.LockedError:
        return True


def _cross_entropies(place: Path) -> list[float]:
    try:
        with (place / "train_log.csv").open(newline="", encoding="utf-8") as file:
            return [float(row["cross_entropy"]) for row in csv.DictReader(file)]
    except (OSError, KeyError, ValueError):
        return []


def _curve(values: Sequence[float]) -> str:
    """The points of a line through the values, of an SVG."""
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    across, up = _WIDTH / (len(values) - 1), (_HEIGHT - 4) / (high - low or 1)
    return " ".join(
        f"{across * index:.1f},{_HEIGHT - 2 - up * (value - low):.1f}" for index, value in enumerate(values)
    )
