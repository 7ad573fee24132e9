"""Reproduction of the paper's tables: the function that the command and programs call."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cutpaste_tf import files
from cutpaste_tf.progress import Report, say
from cutpaste_tf.reproduction import carrying_out, checks, costs, figures, ray_cluster, summary, tables, writing
from cutpaste_tf.reproduction.plan import Request, plan
from cutpaste_tf.reproduction.runner import Commands, Job, Outcome


class Machines(NamedTuple):
    """The machines that execute the runs.

    Attributes:
        jobs: processes at a time; 0: one for each GPU, or one; on a Ray cluster without GPUs, one for each node.
        gpu: refuse to start without a GPU.
        ray_address: address of a Ray cluster; empty: this machine.
    """

    jobs: int = 0
    gpu: bool = False
    ray_address: str = ""


def reproduce(
    request: Request,
    commands: Commands,
    *,
    machines: Machines = Machines(),  # noqa: B008  immutable
    tries: int = 2,
    drawings: Sequence[int] = (),
    only_plan: bool = False,
    report: Report = say,
) -> list[Outcome]:
    """Executes the runs for tables and writes the tables; if called again, it continues where it stopped.

    Args:
        request: what to reproduce.
        commands: how to start the mains.
        machines: the machines that execute the runs.
        tries: attempts at a run before it is given up.
        drawings: numbers of the figures to draw, see `figures.COLUMNS`.
        only_plan: only report what there is to do and what it would take.

    Returns:
        The runs that were given up.

    Raises:
        InputError: before the first run; also if another process uses the output folder.
    """
    request = request._replace(drawn=tuple(column for number in drawings for column in figures.COLUMNS[number]))
    planned = plan(request)
    seen = checks.categories(request, is_drawn=bool(drawings))
    checks.weights(planned, request)
    checks.same_data(request, seen)
    if only_plan:
        for line in costs.described(planned, request):
            report(line)
        return []
    checks.space(planned, request, seen)
    jobs, gpu, address = machines
    execute = ray_cluster.executor(address, jobs, gpu=gpu) if address else carrying_out.local(jobs, gpu=gpu)

    def write_tables() -> None:
        for number in request.tables:
            writing.write(summary.summarize(number, request), request)

    with files.locked(request.output_dir):
        checks.record(request, seen)
        job = Job(request, commands, tries)
        failures = carrying_out.carry_out(planned, job, execute, report=report, write_tables=write_tables)
        for number in request.tables:
            report(f"{tables.title(number)}: {request.output_dir / tables.name(number)}.md, .csv, .html")
        for work, failure, _ in failures:
            report(f"Warning: {work.run.name} was given up: {failure}")
        _draw(drawings, request, seen, {outcome.work.run.name for outcome in failures}, report)
    return failures


def _draw(
    drawings: Sequence[int],
    request: Request,
    seen: Mapping[str, checks.Seen],
    given_up: set[str],
    report: Report,
) -> None:
    """Draws the figures whose runs exist."""
    for number in drawings:
        for category in request.categories:
            needed = {request.run(column, category, 0).name for column in figures.COLUMNS[number]}
            if missing := sorted(needed & given_up):
                report(f"Warning: figure {number} for {category} is not drawn, since it needs {', '.join(missing)}.")
                continue
            report(f"Figure {number}: {figures.draw(number, category, seen[category].place, request)}")
