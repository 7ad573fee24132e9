"""What all groups of settings share: help, range and choices of a value stand where the value is defined.

A group is a frozen dataclass, one for each wing, that checks itself. Groups hold values or groups; seen flat, as flags
are, every value has a name of its own.
"""

import dataclasses
import difflib
import math
from collections.abc import Collection, Iterator, Mapping
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
) -> Any:
    """A value of a group; wide, so that all that is known of a value stands where it is defined.

    Args:
        default: its default; says its type, too.
        text: help for the flag of its name.
        source: the paper's section it is from, or "DROC", the authors' earlier code.
        choices: names that it must be one of; a dict or a list stays open for more.
        at_least, at_most, above: its range.
        only: PATCH_MODEL or IMAGE_MODEL, where the other kind of model has no use for it.
    """
    metadata = {"help": text, "source": source, "choices": choices, "only": only}
    return dataclasses.field(default=default, metadata={**metadata, "range": (at_least, at_most, above)})


@dataclasses.dataclass(frozen=True)
class Settings:
    """A group of settings.

    Attributes:
        new_at_evaluation: whether an evaluation may give the group's values anew: they decide scores, not training.

    Raises:
        InputError: a value is out of its range, or a name is not known.
    """

    new_at_evaluation: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not is_group(field):
                _check(field, getattr(self, field.name))
        self.check()

    def check(self) -> None:
        """Rules for more than one value, or of another kind than a range; a group adds its own."""

    def flat(self) -> dict[str, Any]:
        """Name -> value, of inner groups as well."""
        result: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            result |= value.flat() if is_group(field) else {field.name: value}
        return result

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Makes a group, and the groups in it, from values by their names.

        Raises:
            InputError: a name or a value is not allowed.
        """
        names = {field.name for field, _ in leaves(cls)}
        for name in sorted(set(values) - names):
            near = difflib.get_close_matches(name, names, 1)
            raise InputError(f"There is no setting {name}" + (f"; is {near[0]} meant?" if near else "."))
        return cls(
            **{
                field.name: _kind(field).of(**_chosen(field, values)) if is_group(field) else values[field.name]
                for field in dataclasses.fields(cls)
                if is_group(field) or field.name in values
            }
        )

    def replaced(self, **values: Any) -> Self:
        """The same group with other values, by their names; errors as `of`."""
        return self.of(**{**self.flat(), **values})

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Makes a group from what `dataclasses.asdict` gave, read back from JSON.

        Raises:
            InputError: a name, a type or a value is not allowed.
        """
        if unknown := sorted(set(values) - {field.name for field in dataclasses.fields(cls)}):
            raise InputError(f"Unknown settings {', '.join(unknown)}: written by another version of cutpaste_tf?")
        return cls(
            **{f.name: parsed(f, values[f.name]) for f in dataclasses.fields(cls) if f.name in values},
        )


def is_group(field: dataclasses.Field[Any]) -> bool:
    """Whether a field holds a group rather than a value."""
    return isinstance(field.default, Settings)


def leaves(group: type[Settings]) -> Iterator[tuple[dataclasses.Field[Any], type[Settings]]]:
    """Every value of a group, and of the groups in it, with the group that it stands in."""
    for field in dataclasses.fields(group):
        if is_group(field):
            yield from leaves(_kind(field))
        else:
            yield field, group


def only_for(group: type[Settings], kind: str) -> list[str]:
    """Names of the settings that only PATCH_MODEL, or only IMAGE_MODEL, has a use for."""
    return [field.name for field, _ in leaves(group) if field.metadata["only"] == kind]


def _kind(field: dataclasses.Field[Any]) -> type[Settings]:
    """The class of the group that a field holds."""
    assert isinstance(field.default, Settings)
    return type(field.default)


def _chosen(field: dataclasses.Field[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    return {leaf.name: values[leaf.name] for leaf, _ in leaves(_kind(field)) if leaf.name in values}


def _check(field: dataclasses.Field[Any], value: Any) -> None:
    choices, (at_least, at_most, above) = field.metadata["choices"], field.metadata["range"]
    option = f"--{field.name}={value}"
    if choices and value not in choices:
        raise InputError(f"{option} is not known; it must be one of: {', '.join(choices)}.")
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
    """The value of a field, of what JSON gave.

    Raises:
        InputError: it is of another type.
    """
    if is_group(field):
        if not isinstance(value, dict):
            raise InputError(f"The settings {field.name} are {value!r}, which is no group of settings.")
        return _kind(field).from_mapping(value)
    kind: Any = type(field.default)
    if kind is tuple and isinstance(value, list) and all(type(item) is int for item in value):
        return tuple(value)
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise InputError(f"The setting {field.name} is {value!r}, which is no {kind.__name__}.")
    result: Any = value
    return float(result) if kind is float else result
