"""The base of all groups of settings: a value is defined together with its help, range and choices.

A group is a frozen dataclass that checks itself; each subpackage has one. Groups contain values or other groups. In
flat form, as flags, every value has a unique name.
"""

import dataclasses
import difflib
import math
import operator
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, ClassVar, Self

from cutpaste_tf.errors import InputError

PATCH_MODEL, IMAGE_MODEL = "patch models", "image models"


def setting(
    default: Any,
    text: str,
    *,
    source: str = "",
    choices: Collection[str] = (),
    at_least: float = -math.inf,
    at_most: float = math.inf,
    above: float = -math.inf,
    only: str = "",
    convert: Callable[[Any], Any] | None = None,
) -> Any:
    """A value of a group and everything known about it.

    Args:
        default: its default, which also determines its type.
        text: help for its flag.
        source: the section of the paper it comes from, or "DROC", the authors' earlier code.
        choices: allowed names; a dict or a list can be extended later.
        at_least, at_most, above: its range.
        only: PATCH_MODEL or IMAGE_MODEL, if the other kind of model does not use it.
        convert: makes the value from other forms, such as a flag's text; raises InputError.
    """
    metadata = {"help": text, "source": source, "choices": choices, "only": only, "convert": convert}
    return dataclasses.field(default=default, metadata={**metadata, "range": (at_least, at_most, above)})


@dataclasses.dataclass(frozen=True)
class Settings:
    """A group of settings.

    Attributes:
        new_at_evaluation: whether an evaluation can change the group's values because they affect only scores, not
            training.

    Raises:
        InputError: a value is out of range, or a name is unknown.
    """

    new_at_evaluation: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if is_group(field):
                continue
            if convert := field.metadata["convert"]:
                object.__setattr__(self, field.name, convert(getattr(self, field.name)))
            _check(field, getattr(self, field.name))
        self.check()

    def check(self) -> None:
        """Checks rules other than ranges, such as rules across several values; groups override it."""

    def flat(self) -> dict[str, Any]:
        """Name -> value, including inner groups."""
        result: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            result |= value.flat() if is_group(field) else {field.name: value}
        return result

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Creates a group and its inner groups from values by name.

        Raises:
            InputError: a name or a value is not allowed.
        """
        names = {field.name for field, _ in leaves(cls)}
        for name in sorted(set(values) - names):
            near = difflib.get_close_matches(name, names, 1)
            raise InputError(f"There is no setting {name}" + (f"; did you mean {near[0]}?" if near else "."))
        return cls(
            **{
                field.name: _kind(field).of(**_chosen(field, values)) if is_group(field) else values[field.name]
                for field in dataclasses.fields(cls)
                if is_group(field) or field.name in values
            }
        )

    def replaced(self, **values: Any) -> Self:
        """A copy with other values, by name; raises what `of` raises."""
        return self.of(**{**self.flat(), **values})

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Creates a group from the result of `dataclasses.asdict`, read from JSON.

        Raises:
            InputError: a name, a type or a value is not allowed.
        """
        if unknown := sorted(set(values) - {field.name for field in dataclasses.fields(cls)}):
            raise InputError(
                f"Unknown settings {', '.join(unknown)}: were they written by another version of cutpaste_tf?"
            )
        return cls(
            **{f.name: parsed(f, values[f.name]) for f in dataclasses.fields(cls) if f.name in values},
        )


def integers(name: str, example: str) -> Callable[[Any], tuple[int, ...]]:
    """A `convert` for whole numbers, which a flag separates by commas; the error message uses `name` and `example`."""

    def convert(value: Any) -> tuple[int, ...]:
        parts = [part for part in value.split(",") if part] if isinstance(value, str) else value
        try:
            return tuple(operator.index(int(part) if isinstance(part, str) else part) for part in parts)
        except (TypeError, ValueError):
            text = value if isinstance(value, str) else repr(value)
            raise InputError(f"--{name}={text} must be whole numbers, such as {example}.") from None

    return convert


def is_group(field: dataclasses.Field[Any]) -> bool:
    """Whether a field is a group rather than a value."""
    return isinstance(field.default, Settings)


def leaves(group: type[Settings]) -> Iterator[tuple[dataclasses.Field[Any], type[Settings]]]:
    """All values of a group and its inner groups, each with the group it belongs to."""
    for field in dataclasses.fields(group):
        if is_group(field):
            yield from leaves(_kind(field))
        else:
            yield field, group


def only_for(group: type[Settings], kind: str) -> list[str]:
    """Names of the settings that only one kind of model uses: PATCH_MODEL or IMAGE_MODEL."""
    return [field.name for field, _ in leaves(group) if field.metadata["only"] == kind]


def _kind(field: dataclasses.Field[Any]) -> type[Settings]:
    """The class of a field that is a group."""
    assert isinstance(field.default, Settings)
    return type(field.default)


def _chosen(field: dataclasses.Field[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    return {leaf.name: values[leaf.name] for leaf, _ in leaves(_kind(field)) if leaf.name in values}


def _check(field: dataclasses.Field[Any], value: Any) -> None:
    choices, (at_least, at_most, above) = field.metadata["choices"], field.metadata["range"]
    option = f"--{field.name}={value}"
    if choices and value not in choices:
        raise InputError(f"{option} is unknown; it must be one of: {', '.join(choices)}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{option} must be a finite number.")
    if isinstance(value, (int, float)):
        if value < at_least:
            raise InputError(f"{option} must be at least {at_least}.")
        if value > at_most:
            raise InputError(f"{option} must be at most {at_most}.")
        if value <= above:
            raise InputError(f"{option} must be greater than {above}.")


def parsed(field: dataclasses.Field[Any], value: Any) -> Any:
    """The value of a field, from JSON.

    Raises:
        InputError: its type is wrong.
    """
    if is_group(field):
        if not isinstance(value, dict):
            raise InputError(f"The settings {field.name} are {value!r}, which is not a group of settings.")
        return _kind(field).from_mapping(value)
    if convert := field.metadata["convert"]:
        return convert(value)
    kind: Any = type(field.default)
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise InputError(f"The setting {field.name} is {value!r}, which is not of type {kind.__name__}.")
    result: Any = value
    return float(result) if kind is float else result
