"""Reproduction of the paper's tables, as its command line and a program call it."""

from collections.abc import Mapping, Sequence

from cutpaste_tf import files
from cutpaste_tf.progress import Report, say
from cutpaste_tf.reproduction import carrying_out, checks, costs, figures, ray_cluster, summary, tables, writing
from cutpaste_tf.reproduction.plan import Request, plan
from cutpaste_tf.reproduction.runner import Commands, Job, Outcome


def reproduce(
    request: Request,
    commands: Commands,
    *,
    jobs: int = 0,
    tries: int = 2,
    drawings: Sequence[int] = (),
    gpu: bool = False,
    ray_address: str = "",
    only_plan: bool = False,
    report: Report = say,
) -> list[Outcome]:
    """Carries out the runs of tables, and writes the tables; done again, it goes on where it stopped.

    Args:
        request: what to reproduce.
        commands: how the mains are started.
        jobs: processes at a time; 0: one for each GPU, or one; on a Ray cluster without GPUs, one for each node.
        tries: of a run before it is given up.
        drawings: numbers of the figures to draw, see `figures.COLUMNS`.
        gpu: refuse to begin where there is no GPU.
        ray_address: of a Ray cluster to carry the runs out, instead of this machine.
        only_plan: say what there is to do and what it would take, and do nothing.
        report: takes a line for the user.

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
    execute = ray_cluster.executor(ray_address, jobs, gpu=gpu) if ray_address else carrying_out.local(jobs, gpu=gpu)

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
        _draw(drawings, request, seen, {one.work.run.name for one in failures}, report)
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
