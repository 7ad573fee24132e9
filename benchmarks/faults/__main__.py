"""Counts how many faults of each kind are survived, and writes the table of docs/reliability.md.

    python -m benchmarks.faults --folder=FOLDER [--kinds=kills,disk,...] [--share=0.1] [--seed=0]

Writes the number of trials and failures of each row to FOLDER/faults.json, and keeps rows of other kinds there. The
folders of failed trials stay in FOLDER. Linux only.
"""

import os
import sys
from pathlib import Path

from absl import flags

_FLAGS = flags.FlagValues()  # its own, since the commands define theirs in processes forked from this one
_FOLDER = flags.DEFINE_string("folder", "runs/faults", "Where to work and to write.", flag_values=_FLAGS)
_SHARE = flags.DEFINE_float("share", 1.0, "Fraction of the trials to run.", flag_values=_FLAGS, lower_bound=0.0)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of whatever is random.", flag_values=_FLAGS)
_JOBS = flags.DEFINE_integer("jobs", 2, "Processes at a time, where time is not measured.", flag_values=_FLAGS)
_KINDS = flags.DEFINE_list("kinds", [], "Kinds of faults; by default all.", flag_values=_FLAGS)


def main() -> None:
    """Counts, and prints the table."""
    try:
        _FLAGS(sys.argv)
    except flags.Error as error:
        sys.exit(f"error: {error}")
    folder = Path(_FOLDER.value).expanduser().resolve()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    import cutpaste_tf.backend  # noqa: F401  imported once, before all forks
    from benchmarks import toys
    from benchmarks.faults import bits, degenerate, disk, endurance, inputs, kills, settings, starved, together
    from benchmarks.faults.tally import Tally
    from cutpaste_tf.detection import loading  # noqa: F401
    from cutpaste_tf.pictures import plots  # noqa: F401

    toys.register_network()
    tally = Tally(folder)
    kinds = {
        "kills": kills.count,
        "disk": disk.count,
        "memory": starved.count,
        "inputs": inputs.count,
        "settings": settings.count,
        "bits": bits.count,
        "together": together.count,
        "long": endurance.count,
        "degenerate": degenerate.count,
    }
    for name in _KINDS.value or kinds:
        kinds[name](tally, folder / name, share=_SHARE.value, seed=_SEED.value, jobs=_JOBS.value)
    print(tally.table())


if __name__ == "__main__":
    main()
