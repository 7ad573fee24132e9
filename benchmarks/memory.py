"""Measures the memory of a running process on Linux."""

import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

_SAMPLE = 0.1  # seconds between two looks at a process's memory


def measured(command: list[str]) -> dict[str, Any]:
    """Runs a command, and samples its memory.

    Returns:
        Its exit code, its seconds, its peak memory in MB (10^6 bytes), and its output: second, peak resident and
        anonymous MB since the previous line, line.
    """
    began, lines = time.monotonic(), []
    highest, since = {"VmHWM": 0, "VmRSS": 0, "RssAnon": 0}, {"VmRSS": 0, "RssAnon": 0}
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        ended = threading.Event()
        watching = threading.Thread(target=_watch, args=(process.pid, (highest, since), ended))
        watching.start()
        assert process.stdout is not None
        for line in process.stdout:
            lines.append([round(time.monotonic() - began, 1), *map(_megabytes, since.values()), line.rstrip()])
            since.update(VmRSS=0, RssAnon=0)
        code = process.wait()
        ended.set()
        watching.join()
    return {
        "exit_code": code,
        "seconds": round(time.monotonic() - began, 1),
        "peak_resident_mb": _megabytes(highest["VmHWM"]),
        "peak_anonymous_mb": _megabytes(highest["RssAnon"]),
        "lines": lines,
    }


def _megabytes(kib: int) -> int:
    return round(kib * 1024 / 1e6)


def _watch(process: int, peaks: tuple[dict[str, int], ...], ended: threading.Event) -> None:
    """Tracks the peaks, in KiB, of a process's memory until it ends."""
    while not ended.wait(_SAMPLE):
        try:
            status = Path(f"/proc/{process}/status").read_text()
        except OSError:
            return
        for line in status.splitlines():
            name, _, value = line.partition(":")
            for peak in peaks:
                if name in peak:
                    peak[name] = max(peak[name], int(value.split()[0]))
