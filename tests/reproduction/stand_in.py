"""Stands in for train_main.py and eval_main.py, and takes no time, or that of $STAND_IN_SECONDS.

Notes that it was there in the run's file `trained`; fails as often as its file `failures` says. Terminated, it writes
`saved`, as a training that saves a checkpoint.
"""

import json
import os
import pathlib
import signal
import sys
import time

COMMAND = (sys.executable, __file__)


def main() -> None:
    flags = dict(word[2:].partition("=")[::2] for word in sys.argv[1:])
    place = pathlib.Path(flags["output_dir"])
    if "run_dir" in flags:
        place.mkdir(parents=True, exist_ok=True)
        metrics = {"image_auroc": 90.0 + len(place.parent.name), "pixel_auroc": 80.0}
        (place / "metrics.json").write_text(json.dumps(metrics))
        (place / "scores.csv").write_text("path,label,defect,score\na,0,good,1\nb,1,hole,2\n")
        return
    left = place / "failures"
    count = int(left.read_text()) if left.exists() else 0

    def end(*_: object) -> None:
        time.sleep(0.3)
        (place / "saved").touch()
        os._exit(143)

    signal.signal(signal.SIGTERM, end)
    with (place / "trained").open("a") as file:
        cores = ",".join(map(str, sorted(os.sched_getaffinity(0)))) if hasattr(os, "sched_getaffinity") else ""
        file.write(f"{os.getpid()} {os.environ.get('TF_NUM_INTRAOP_THREADS')} {cores}\n")
    time.sleep(float(os.environ.get("STAND_IN_SECONDS", "0.05")))
    if count:
        left.write_text(str(count - 1))
        sys.exit("error: the disk is full")
    (place / "detector").mkdir()


if __name__ == "__main__":
    main()
