"""Hands a reproduction to Slurm: an array of jobs, each a coordinator that shares the folder with the others."""

import os
import shlex
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from cutpaste_tf.errors import InputError
from cutpaste_tf.files import write_whole
from cutpaste_tf.reproduction.carrying_out import BEGAN

SCRIPT = "slurm.sh"


def submit(words: Sequence[str], folder: Path, *, jobs: int, options: Sequence[str]) -> str:
    """Writes the script and submits it.

    Args:
        words: the command of one job.
        folder: for the script and its logs.
        jobs: of the array.
        options: of sbatch, as `--partition=gpu`.

    Returns:
        What sbatch said.

    Raises:
        InputError: there is no sbatch, or it refuses the script.
    """
    path = folder / SCRIPT
    write_whole(path, os.fsencode(script(words, folder, jobs=jobs, options=options)))
    try:
        done = subprocess.run(["sbatch", str(path)], capture_output=True, text=True, check=False)
    except OSError:
        raise InputError(f"There is no sbatch here: submit {path} where Slurm is.") from None
    if done.returncode:
        raise InputError(f"sbatch refused {path}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


def script(words: Sequence[str], folder: Path, *, jobs: int, options: Sequence[str]) -> str:
    """The text of the script; arguments as of `submit`."""
    lines = [
        "#!/bin/bash",
        "#SBATCH --job-name=cutpaste",
        f"#SBATCH --array=0-{jobs - 1}",
        f"#SBATCH --output={shlex.quote(str(folder.resolve() / 'slurm-%A_%a.log'))}",
        "#SBATCH --requeue",
        *(f"#SBATCH {option}" for option in options),
        f"export {BEGAN}={time.time_ns()}",  # a job that starts later leaves what others have given up since
        f"cd {shlex.quote(str(Path.cwd()))}",
        f"exec {shlex.join(words)}",
    ]
    return "\n".join(lines) + "\n"
