"""Reproduction of the paper's tables, as its command line and a program call it."""

from collections.abc import Collection, Sequence
from pathlib import Path

from cutpaste_tf.progress import Report, say
from cutpaste_tf.reproduction import (
    carrying_out,
    checks,
    costs,
    executors,
    figures,
    ray_cluster,
    slurm,
    summary,
    tables,
    writing,
)
from cutpaste_tf.reproduction.carrying_out import Failure
from cutpaste_tf.reproduction.plan import Request, plan
from cutpaste_tf.reproduction.runner import Commands, Job
from cutpaste_tf.reproduction.tables import CATEGORIES


def reproduce(
    request: Request,
    commands: Commands,
    *,
    jobs: int = 0,
    tries: int = 2,
    drawings: Sequence[int] = (),
    gpu: bool = False,
    ray_address: str = "",
    slurm_options: Sequence[str] | None = None,
    only_plan: bool = False,
    report: Report = say,
) -> list[Failure]:
    """Carries out the runs of tables, and writes the tables; done again, it goes on where it stopped.

    Args:
        request: what to reproduce.
        commands: how the mains are started.
        jobs: processes at a time; 0: one for each GPU, or one; on a Ray cluster without GPUs, one for each node.
        tries: of a run before it is given up.
        drawings: numbers of the figures to draw, see `figures.COLUMNS`.
        gpu: refuse to begin where there is no GPU.
        ray_address: of a Ray cluster to carry the runs out, instead of this process.
        slurm_options: hand the work to Slurm, with these options of sbatch, instead of doing it here; `jobs` is then
            the number of Slurm's.
        only_plan: tell what there is to do, and do nothing.
        report: takes a line for the user.

    Returns:
        The runs that were given up.

    Raises:
        InputError: before the first run.
    """
    request = request._replace(drawn=tuple(column for number in drawings for column in figures.COLUMNS[number]))
    work = plan(request)
    seen = checks.categories(request, is_drawn=bool(drawings))
    checks.weights(work, request)
    checks.same_data(request, seen)
    if only_plan:
        for line in costs.described(work, request):
            report(line)
        return []
    checks.space(work, request, seen)
    if slurm_options is not None:
        checks.claim(request, seen)
        words = [
            *commands.reproduce,
            *request.flags(),
            f"--figure={','.join(map(str, drawings))}",
            "--jobs=1",
            f"--tries={tries}",
            f"--gpu={gpu}",
        ]
        said = slurm.submit(words, request.output_dir, jobs=jobs or max(1, len(work)), options=slurm_options)
        report(f"{said}   (the script: {request.output_dir / slurm.SCRIPT})")
        return []
    settings = {Path(one.run.name).parent.name for one in plan(request._replace(columns=(), seeds=1))}

    def write_tables() -> None:
        whole = _whole(request, settings)
        for number in request.tables:
            writing.write(summary.summarize(number, whole), request)

    execute = ray_cluster.executor(ray_address, jobs, gpu=gpu) if ray_address else executors.local(jobs, gpu=gpu)
    checks.claim(request, seen)
    job = Job(request, commands, tries)
    failures = carrying_out.carry_out(work, job, execute, report=report, write_tables=write_tables)
    for number in request.tables:
        report(f"{tables.title(number)}: {request.output_dir / tables.name(number)}.md, .csv, .html")
    for failure in failures:
        report(f"Warning: {failure.name} was given up: {failure.reason}")
    given_up = {failure.name for failure in failures}
    for number in drawings:
        for category in request.categories:
            needed = {request.run(column, category, 0).name for column in figures.COLUMNS[number]}
            if missing := sorted(needed & given_up):
                report(f"Warning: figure {number} of {category} is not drawn without {', '.join(missing)}.")
                continue
            report(f"Figure {number}: {figures.draw(number, category, seen[category].place, request)}")
    return failures


def _whole(request: Request, settings: Collection[str]) -> Request:
    """A request for all of its tables, whatever part of them is asked for now: what is there is in them.

    Args:
        request: what is asked for.
        settings: names of the tables' runs, without category and seed.
    """
    place = request.output_dir / "runs"
    folders = [folder for level in ("*", "*/*") for folder in sorted(place.glob(f"{level}/*/seed*"))]  # as demo/gear
    own = [one.parent.parent.relative_to(place).as_posix() for one in folders if one.parent.name in settings]
    named = tables.groups(tables.CIFAR10)["all"]
    every = (*CATEGORIES, *request.categories, *(category for category in own if category not in named))
    return request._replace(columns=(), categories=tuple(dict.fromkeys(every)))
