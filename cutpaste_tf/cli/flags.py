"""Flags <-> settings: a flag for each setting, by its flat name; and help for all flags, by group."""

import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags

from cutpaste_tf.errors import InputError
from cutpaste_tf.settings.base import leaves
from cutpaste_tf.settings.config import NEW_AT_EVALUATION, Config
from cutpaste_tf.settings.presets import PRESETS

_DEFINE: dict[type, Callable[..., Any]] = {
    str: flags.DEFINE_string,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    bool: flags.DEFINE_bool,
}
_OURS = ("cutpaste_tf.", "data.")  # modules whose flags the help shows, in addition to the script's own


def define_config_flags() -> None:
    """Defines a flag for every setting of `Config`, with its default and help text."""
    for field, _ in leaves(Config):
        default: Any = ",".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
        _DEFINE[type(default)](field.name, default, _help(field))


def config_from_flags(preset: str, path: Path | None = None) -> Config:
    """The configuration given by a file or a preset, and by the flags, which override it.

    Args:
        preset: one of `PRESETS`.
        path: a config.json, or a folder that has one, in place of the preset.

    Raises:
        InputError: a value is not allowed, or the file is missing or damaged.
    """
    names = [field.name for field, _ in leaves(Config)]
    given = {name: flags.FLAGS[name].value for name in names if flags.FLAGS[name].present}
    if path:
        if not path.exists():
            raise InputError(f"--config={path} does not exist; name a run's folder, or a copy of its config.json.")
        return Config.read(path / "config.json" if path.is_dir() else path).replaced(**given)
    return Config.of(**PRESETS[preset] | given)


def define_evaluation_flags() -> None:
    """Defines a flag without a default for every setting that an evaluation can change."""
    for field in NEW_AT_EVALUATION:
        _DEFINE[type(field.default)](field.name, None, f"{_help(field)} By default as in training.")


def settings_from_flags() -> dict[str, Any]:
    """The settings given by the flags from `define_evaluation_flags`."""
    values = {field.name: flags.FLAGS[field.name].value for field in NEW_AT_EVALUATION}
    return {name: value for name, value in values.items() if value is not None}


def help_text(about: str) -> str:
    """Help by group: the command's own flags, in the order they are defined, then the settings.

    Args:
        about: what the command does.
    """
    defined = flags.FLAGS.flags_by_module_dict()
    modules = [name for name in defined if name.startswith(_OURS) or name == sys.argv[0]]
    # The command's own module defines its flags last, after the modules it imports.
    command_flags = [flag.name for module in reversed(modules) if module != __name__ for flag in defined[module]]
    by_group: dict[str, list[str]] = {"This command": command_flags}
    for field, group in leaves(Config):
        if field.name in flags.FLAGS and field.name not in by_group["This command"]:
            title = "The run" if group is Config else (group.__doc__ or "").splitlines()[0].rstrip(".")
            by_group.setdefault(title, []).append(field.name)
    parts = [about.strip()]
    for title, names in by_group.items():
        parts.append("\n".join([f"{title}:", *(_entry(name) for name in names)]))
    return "\n\n".join(parts) + "\n"


def _entry(name: str) -> str:
    flag = flags.FLAGS[name]
    default, text = flag.default, flag.help or ""
    is_number = isinstance(default, int | float) and not flag.boolean
    # "Epochs. -1: 256, EfficientNet 64." says what -1 means; the help then shows that as the default.
    stands_for = re.search(rf"([;.]) {default:g}: ", text) if is_number else None
    if stands_for:
        shown, by_default = "", {";": "; by default", ".": ". By default"}[stands_for[1]]
        text = text.replace(stands_for[0], f"{by_default} ({default:g}) ")
    elif flag.boolean:
        shown = f" (--no{name} turns it off)" if default else ""
    else:
        shown = "" if default in (None, "") else f"={default}"
    indent = " " * 6
    return f"  --{name}{shown}\n" + textwrap.fill(text, 110, initial_indent=indent, subsequent_indent=indent)


def _help(field: Any) -> str:
    text, choices, source = field.metadata["help"], field.metadata["choices"], field.metadata["source"]
    if choices:
        text += f" One of: {', '.join(choices)}."
    return text + (f" [{source}]" if source else "")
