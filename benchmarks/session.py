"""A session on a machine that is available for a limited time: measurements in sequence, until the time is up.

Each runs in a separate process, so that one that hangs or runs out of memory loses only its own figures. After each,
FOLDER/NAME.json and FOLDER/NAME.md are written atomically, so results survive if the session is killed. Repeating the
command measures what is missing.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cutpaste_tf import files

_SLACK = 0.9  # of a measured speed is counted on
_NO_MEMORY = ("RESOURCE_EXHAUSTED", "Out of memory", "OutOfMemory", "ResourceExhausted", "OOM when")


class Session:
    """The results so far, and the time left.

    Args:
        folder: to write to; created if missing.
        name: of the files.
        seconds: time limit of the session, from now on.
    """

    def __init__(self, folder: Path, name: str, seconds: float):
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._name = folder, name
        self._deadline = time.monotonic() + seconds
        self.records: dict[str, dict[str, Any]] = {}
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # none yet, or none that can be read
            self.records = dict(json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["records"])

    def left(self) -> float:
        """Seconds until the session must end."""
        return self._deadline - time.monotonic()

    def has(self, name: str) -> bool:
        """Whether a measurement exists already."""
        return name in self.records and not {"failed", "skipped"} & set(self.records[name])

    def measure(
        self,
        name: str,
        command: Sequence[str],
        *,
        limit: float,
        keep: float = 0.0,
        environment: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Runs a command that writes its results, a JSON object, to the file in the added `--result`.

        Args:
            name: of the measurement.
            command: its words.
            limit: time limit in seconds.
            keep: seconds of the session that must remain afterwards.
            environment: additional variables.

        Returns:
            Its results and `seconds`; or `failed` or `skipped`, with the reason.
        """
        if self.has(name):
            return self.records[name]
        limit = min(limit, self.left() - keep)
        if limit <= 0:
            return self.record(name, {"skipped": "no time left"})
        result = self._folder / f".{name.replace(' ', '_').replace('/', '_')}.result"
        result.unlink(missing_ok=True)
        began = time.monotonic()
        code, output = run([*command, f"--result={result}"], limit, environment)
        taken = {"seconds": round(time.monotonic() - began, 1)}
        try:
            figures = json.loads(result.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return self.record(name, {"failed": reason(code, output, limit), **taken})
        finally:
            result.unlink(missing_ok=True)
        return self.record(name, {**figures, **taken})

    def commands(
        self, name: str, commands: Sequence[Sequence[str]], metrics: Path, environment: Mapping[str, str]
    ) -> None:
        """Runs commands in sequence, within the session, and records the figures that the last one wrote."""
        began = time.monotonic()
        for command in commands:
            limit = self.left()
            code, output = run(command, limit, environment) if limit > 0 else (None, "")
            if code != 0:
                self.record(name, {"failed": reason(code, output, limit), "command": " ".join(command)})
                return
        stored = json.loads(metrics.read_text(encoding="utf-8"))
        names = ("image_auroc", "pixel_auroc", "aupro", "pixel_gaussian_auroc", "steps", "seed", "train_images")
        figures = {key: stored[key] for key in names if key in stored}
        self.record(name, {**figures, "seconds": round(time.monotonic() - began, 1)})

    def record(self, name: str, values: dict[str, Any]) -> dict[str, Any]:
        """Records values, and writes the files."""
        self.records[name] = values
        text = json.dumps({"records": self.records}, indent=1) + "\n"
        files.write_whole(self._folder / f"{self._name}.json", text.encode())
        files.write_whole(self._folder / f"{self._name}.md", table(self.records).encode())
        return values


def affordable(seconds: float, steps_per_second: float, steps_per_epoch: int, *, most: int) -> int:
    """Number of full epochs that fit into the time, up to a maximum."""
    return min(most, max(0, int(_SLACK * seconds * steps_per_second / steps_per_epoch)))


def run(command: Sequence[str], limit: float, environment: Mapping[str, str] | None = None) -> tuple[int | None, str]:
    """Runs a command, and kills it and its children if it takes longer than `limit` seconds.

    Returns:
        Its exit code, None if it was killed, and its output.
    """
    with subprocess.Popen(
        list(command),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, **(environment or {})},
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            return None, output
        return process.returncode, output


def reason(code: int | None, output: str, limit: float) -> str:
    """Why a command failed, in one line: an out-of-memory message, or its last line."""
    if code is None:
        return f"took longer than {limit:.0f} s"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    memory = [line for line in lines if any(word in line for word in _NO_MEMORY)]
    if memory:
        return f"out of memory: {memory[0][:200]}"
    return f"exit code {code}: {lines[-1][:200] if lines else 'it said nothing'}"


def table(records: Mapping[str, Mapping[str, Any]]) -> str:
    """Records as Markdown tables, one for each set of keys, followed by failures."""
    kinds: dict[tuple[str, ...], list[str]] = {}
    lost = []
    for name, values in records.items():
        if {"failed", "skipped"} & set(values):
            lost.append(f"- {name}: {values.get('failed') or values.get('skipped')}")
        else:
            kinds.setdefault(tuple(values), []).append(name)
    parts = []
    for columns, names in kinds.items():
        titles = ["", *(column.replace("_", " ") for column in columns)]
        lines = [titles, ["---"] * len(titles)]
        lines += [[name, *(_shown(records[name][column]) for column in columns)] for name in names]
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    if lost:
        parts.append("Not measured:\n\n" + "\n".join(lost))
    return "\n\n".join(parts) + "\n"


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/").replace("\n", " ")
