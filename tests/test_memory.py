"""How much memory is free."""

from pathlib import Path

import pytest

from cutpaste_tf import memory

_V1 = {"memory.limit_in_bytes": "5000", "memory.usage_in_bytes": "3000"}
_V1 |= {"memory.stat": "cache 9\ntotal_active_file 200\ntotal_inactive_file 300\n"}
_V2 = {"memory.max": "5000", "memory.current": "3000", "memory.stat": "anon 1\nactive_file 200\ninactive_file 300\n"}


@pytest.mark.parametrize(
    ("line", "place", "files"),
    [
        ("4:memory:/slurm/job_7\n5:cpu:/", "memory/slurm/job_7", _V1),
        ("4:memory:/slurm/job_7/step_0", "memory/slurm", _V1),  # the limit is that of a group above
        ("4:memory:/docker/0123", "memory", _V1),  # as seen inside a container
        ("0::/system.slice/job", "system.slice/job", _V2),
        ("0::/", "", _V2),
        ("0::/../../job", "", _V2),
    ],
)
def test_a_limit_of_a_control_group(tmp_path, monkeypatch, line, place, files):
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (tmp_path / place / name).write_text(text)
    read = Path.read_text
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    monkeypatch.setattr(Path, "read_text", lambda path: line if str(path) == "/proc/self/cgroup" else read(path))
    assert memory.free() == 5000 - 3000 + 500


def test_a_group_without_a_limit_does_not_count(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("3000\n")
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    assert memory._of_group(tmp_path, is_first=False) is None


@pytest.mark.parametrize(
    ("error", "is_exhausted"),
    [
        (MemoryError(), True),
        (RuntimeError("can't start new thread"), True),
        (
            ValueError("Operation received an exception:Status: 1, message: could not create a primitive, in file x"),
            True,
        ),
        (
            ValueError("Operation received an exception:Status: 2, message: could not create a primitive, in file x"),
            False,
        ),
        (KeyboardInterrupt("Out of memory"), False),
    ],
)
def test_errors_that_mean_that_memory_ran_out(error, is_exhausted):
    assert memory.is_exhausted(error) == is_exhausted
