"""Bars in a terminal, lines now and then in a log, nothing where quiet is asked for."""

import sys
from types import SimpleNamespace

import pytest
from conftest import TINY, command

from cutpaste_tf import progress


def test_a_log_gets_a_line_every_half_minute(monkeypatch):
    now, lines = [0.0], []
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    for _ in progress.track(range(100), 100, "Reading images", lines.append):
        now[0] += 1
    assert lines == ["Reading images: 31 of 100", "Reading images: 62 of 100", "Reading images: 93 of 100"]


@pytest.fixture
def terminal(monkeypatch):
    """Standard error is a terminal; pytest puts another in its place for each test's call."""
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stdout=_Now("stdout"), stderr=_Now("stderr"), argv=sys.argv))


class _Now:
    def __init__(self, name):
        self._name = name

    def isatty(self):
        return True

    def __getattr__(self, name):
        return getattr(getattr(sys, self._name), name)


def test_a_terminal_gets_a_bar(terminal, capsys):
    assert list(progress.track(range(3), 3, "Reading images", progress.say)) == [0, 1, 2]
    assert "Reading images" in capsys.readouterr().err
    lines = []
    list(progress.track(range(3), 3, "Reading images", lines.append))  # a program's own report gets no bar
    assert capsys.readouterr().err == ""


def _train(category, folder, *more):
    settings = [f"--{name}={value}" for name, value in TINY.flat().items() if name not in ("data", "head_dims")]
    settings = [text.replace("(", "").replace(")", "").replace(" ", "") for text in settings]
    command("train_main.py", f"--data={category}", f"--output_dir={folder}", "--head_dims=16,8", *settings, *more)


def test_long_work_of_a_command_shows_bars(category, tmp_path, terminal, capsys):
    _train(category, tmp_path / "run")
    shown = capsys.readouterr()
    for what in ("Reading images", "Training", "Batches of images"):
        assert what in shown.err
    assert "step 6/6" in shown.out  # the last line stays
    command("eval_main.py", f"--run_dir={tmp_path / 'run'}")
    shown = capsys.readouterr().err
    for what in ("Reading images", "GradCAM", "Drawing heat maps", "Drawing the page's pictures"):
        assert what in shown


def test_quiet_shows_warnings_only(category, tmp_path, terminal, capsys):
    _train(category, tmp_path / "run", "--quiet")
    command("eval_main.py", f"--run_dir={tmp_path / 'run'}", "--quiet")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "Warning: only 6 training images; expect a poor density.\n"
