"""Reproduction of the paper's tables, as its command line and a program call it."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from cutpaste_tf import files
from cutpaste_tf.config.config import Config
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import sources
from cutpaste_tf.images.reading import ANOMALOUS, NORMAL
from cutpaste_tf.progress import Report, say
from cutpaste_tf.reproduction import carrying_out, executors, figures, ray_cluster, slurm, summary, tables, writing
from cutpaste_tf.reproduction.carrying_out import Failure
from cutpaste_tf.reproduction.plan import Request, Run, Work, described, plan
from cutpaste_tf.reproduction.runner import Commands, Job
from cutpaste_tf.reproduction.tables import CATEGORIES

_RECORD, _VERSION = "reproduction.json", 1
_RUN_SIZE = 60e6  # bytes: a ResNet-18's detector, and its scores and heat maps


def reproduce(
    request: Request,
    commands: Commands,
    locate: Callable[[str], str | Path],
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
        locate: gives the folder that a name like demo/gear stands for, other names as they are.
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
    places = _check_categories(request, locate, is_drawn=bool(drawings))
    _claim(request, only_plan=only_plan)
    if only_plan:
        for line in described(work, request):
            report(line)
        return []
    _check_space(work, request)
    if slurm_options is not None:
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
    # Tables are whole, whatever part of them is asked for now.
    every = tuple(dict.fromkeys((*CATEGORIES, *request.categories)))
    whole = request._replace(columns=(), categories=every)

    def write_tables() -> None:
        for number in request.tables:
            writing.write(summary.summarize(number, whole), request.output_dir, scale=request.scale)

    execute = ray_cluster.executor(ray_address, jobs, gpu=gpu) if ray_address else executors.local(jobs, gpu=gpu)
    job = Job(request, commands, tries)
    failures = carrying_out.carry_out(work, job, execute, report=report, write_tables=write_tables)
    for number in request.tables:
        report(f"{tables.title(number)}: {request.output_dir / tables.name(number)}.md, .csv, .html")
    given_up = {failure.name for failure in failures}
    for number in drawings:
        for category in request.categories:
            needed = {request.run(column, category, 0).name for column in figures.COLUMNS[number]}
            if not needed & given_up:
                report(f"Figure {number}: {figures.draw(number, category, places[category], request)}")
    for failure in failures:
        report(f"Warning: {failure.name} was given up: {failure.reason}")
    return failures


def _check_categories(
    request: Request, locate: Callable[[str], str | Path], *, is_drawn: bool
) -> dict[str, str | Path]:
    """Sees that every category can be trained on and tested; gives the folder, or the name of the set, of each.

    Raises:
        InputError: one cannot.
    """
    places = {}
    wanted = [category for table in request.tables for category in request.categories_of(table)]
    for category in dict.fromkeys([*wanted, *(request.categories if is_drawn else ())]):
        data = Run(category, (), 0).data(request.data_root)
        place = locate(data)
        if not sources.is_named(str(place)) and not Path(place).expanduser().is_dir():
            raise InputError(
                f"--data_root={request.data_root} has no category {category}: expected a folder {place}; name those "
                "that are there by --categories."
            )
        settings = Config.of(data=str(place)).data
        sources.list_train(place, settings, tfds_data_dir=request.tfds_data_dir)
        labels = {item.label for item in sources.list_test(place, settings, tfds_data_dir=request.tfds_data_dir)}
        if not {NORMAL, ANOMALOUS} <= labels:
            raise InputError(
                f"{data} has no {'normal' if NORMAL not in labels else 'anomalous'} test images, so that it can have "
                "no AUROC; name other --categories."
            )
        places[category] = place
    return places


def _check_space(work: Sequence[Work], request: Request) -> None:
    """Sees that the runs have room.

    Raises:
        InputError: they have not.
    """
    folder = request.output_dir.absolute()
    runs_left = sum(not one.is_done(request.output_dir) for one in work)
    free = shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free
    if free < runs_left * _RUN_SIZE:
        raise InputError(
            f"{folder} has {free / 1e9:.1f} GB left; {runs_left} runs take about {runs_left * _RUN_SIZE / 1e9:.1f} GB. "
            "Make room, name another --output_dir, or ask for fewer --columns, --categories or --seeds."
        )


def _claim(request: Request, *, only_plan: bool) -> None:
    """Writes down whose runs lie in the folder, or sees that they are of the same data.

    Raises:
        InputError: they are not.
    """
    path = request.output_dir / _RECORD
    if not request.data_root:  # its sets have names of their own
        return
    own = {"version": _VERSION, "data_root": sources.canonical(request.data_root)}
    if path.is_file():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            raise InputError(f"{path} is damaged; delete it if the runs there are of {own['data_root']}.") from None
        if found != own:
            raise InputError(
                f"{request.output_dir} holds the runs of {found.get('data_root')} (version {found.get('version')}), "
                f"not of {own['data_root']} (version {_VERSION}); name another --output_dir."
            )
    elif not only_plan:
        request.output_dir.mkdir(parents=True, exist_ok=True)
        files.write_whole(path, json.dumps(own).encode())
