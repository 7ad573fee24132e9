"""Reproduction of the paper's tables, as its command line and a program call it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cutpaste_tf import files
from cutpaste_tf.progress import Report, say
from cutpaste_tf.reproduction import carrying_out, checks, costs, figures, ray_cluster, summary, tables, writing
from cutpaste_tf.reproduction.plan import Request, plan
from cutpaste_tf.reproduction.runner import Commands, Job, Outcome


class Machines(NamedTuple):
    """What carries the runs out.

    Attributes:
        jobs: processes at a time; 0: one for each GPU, or one; on a Ray cluster without GPUs, one for each node.
        gpu: refuse to begin where there is no GPU.
        ray_address: of a Ray cluster; empty: this machine.
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
    """Carries out the runs of tables, and writes the tables; done again, it goes on where it stopped.

    Args:
        request: what to reproduce.
        commands: how the mains are started.
        machines: what carries the runs out.
        tries: of a run before it is given up.
        drawings: numbers of the figures to draw, see `figures.COLUMNS`.
        only_plan: say what there is to do and what it would take, and do nothing.

    Returns:
        The runs that were given up.

    Raises:
        InputError: before the first run, also where another process is at work in the output folder.
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
    """Draws the figures whose runs are there."""
    for number in drawings:
        for category in request.categories:
            needed = {request.run(column, category, 0).name for column in figures.COLUMNS[number]}
            if missing := sorted(needed & given_up):
                report(f"Warning: figure {number} of {category} is not drawn without {', '.join(missing)}.")
                continue
            report(f"Figure {number}: {figures.draw(number, category, seen[category].place, request)}")
