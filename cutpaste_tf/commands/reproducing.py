"""Reproduction of the paper's tables, as its command line and a program call it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from cutpaste_tf import files
from cutpaste_tf.config.config import Config
from cutpaste_tf.errors import InputError
from cutpaste_tf.images import sources
from cutpaste_tf.progress import Report, say
from cutpaste_tf.reproduction import carrying_out, figures, slurm, summary, writing
from cutpaste_tf.reproduction.carrying_out import Commands, Failure
from cutpaste_tf.reproduction.plan import Request, described, plan
from cutpaste_tf.reproduction.tables import CATEGORIES

_RECORD, _VERSION = "reproduction.json", 1


def reproduce(
    request: Request,
    commands: Commands,
    locate: Callable[[str], str | Path],
    *,
    jobs: int = 0,
    tries: int = 2,
    drawings: Sequence[int] = (),
    slurm_options: Sequence[str] | None = None,
    only_plan: bool = False,
    report: Report = say,
) -> list[Failure]:
    """Carries out the runs of tables, and writes the tables; done again, it goes on where it stopped.

    Args:
        request: what to reproduce.
        commands: how the mains are started.
        locate: gives the folder that a name like demo/gear stands for, other names as they are.
        jobs: processes at a time; 0: one for each GPU, or one.
        tries: of a run before it is given up.
        drawings: numbers of the figures to draw, see `figures.COLUMNS`.
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
    places = _check_categories(request, locate)
    _claim(request, only_plan=only_plan)
    if only_plan:
        for line in described(work, request):
            report(line)
        return []
    if slurm_options is not None:
        words = [
            *commands.reproduce,
            *request.flags(),
            f"--figure={','.join(map(str, drawings))}",
            "--jobs=1",
            f"--tries={tries}",
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

    failures = carrying_out.carry_out(
        work,
        request,
        commands,
        jobs=jobs or carrying_out.default_jobs(),
        tries=tries,
        report=report,
        write_tables=write_tables,
    )
    for number in request.tables:
        report(f"Table {number}: {request.output_dir / f'table{number}.md'}, .csv, .html")
    given_up = {failure.name for failure in failures}
    for number in drawings:
        for category, place in places.items():
            needed = {request.run(column, category, 0).name for column in figures.COLUMNS[number]}
            if not needed & given_up:
                report(f"Figure {number}: {figures.draw(number, category, place, request)}")
    for failure in failures:
        report(f"Warning: {failure.name} was given up: {failure.reason}")
    return failures


def _check_categories(request: Request, locate: Callable[[str], str | Path]) -> dict[str, str | Path]:
    """Sees that every category can be trained on and tested; gives the folder of each.

    Raises:
        InputError: one cannot.
    """
    places = {}
    for category in request.categories:
        place = locate(f"{request.data_root}/{category}")
        if not Path(place).expanduser().is_dir():
            raise InputError(
                f"--data_root={request.data_root} has no category {category}: expected a folder {place}; name those "
                "that are there by --categories."
            )
        settings = Config.of(data=str(place)).data
        sources.list_train(place, settings)
        sources.list_test(place, settings)
        places[category] = place
    return places


def _claim(request: Request, *, only_plan: bool) -> None:
    """Writes down whose runs lie in the folder, or sees that they are of the same data.

    Raises:
        InputError: they are not.
    """
    path = request.output_dir / _RECORD
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
