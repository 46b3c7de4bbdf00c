"""Flags as fields of dataclasses that say which values they take.

A value is checked before anything is loaded, wherever it comes from: the command line, a file, or Python.
"""

import dataclasses
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import EnumType
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from transformers.hf_argparser import string_to_bool

from recipes.utils.errors import InputError

REQUIRED = dataclasses.MISSING  # the default of a flag that must be given
LARGEST_INT, LARGEST_FLOAT = 2**63 - 1, 1e30  # that torch, numpy and Arrow hold, also times a factor
TYPE_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True)
class Limits:
    """The values that a flag takes, besides its type. NaN and infinity are never in range.

    Attributes:
        least, most: inclusive bounds.
        above, below: exclusive bounds.
        choices: the only texts allowed, in upper or lower case.
        path: whether it may be a path, in which `~` means the home directory.
        resumable: whether it may change when a run is resumed.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] | None = None
    path: bool = False
    resumable: bool = False

    def __contains__(self, number: float) -> bool:
        return (
            math.isfinite(number)
            and (self.least is None or number >= self.least)
            and (self.most is None or number <= self.most)
            and (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
        )

    @property
    def range(self) -> str:
        """The bounds in words."""
        bounds = {"at least": self.least, "above": self.above, "at most": self.most, "below": self.below}
        return " and ".join(f"{words} {bound:,}" for words, bound in bounds.items() if bound is not None)


def flag(
    default: Any,
    help: str,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: tuple[str, ...] | None = None,
    path: bool = False,
    resumable: bool = False,
) -> Any:
    """A field of an `Arguments` class: its default (or REQUIRED), its line in --help, and its `Limits`."""
    metadata = {"help": help, "limits": Limits(least, most, above, below, choices, path, resumable)}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass
class Arguments:
    """Base class of all arguments. Raises `InputError` for a value that a flag does not take.

    `INHERITED` maps the flags of a library's base class to their limits.
    """

    INHERITED: ClassVar[Mapping[str, Limits]] = {}

    def __post_init__(self) -> None:
        self.check_flags()

    def check_flags(self) -> None:
        """Check and normalize every value."""
        for each in find_flags(type(self)).values():
            value = getattr(self, each.name)
            if value != each.default:  # the defaults of a library need not be within our limits
                setattr(self, each.name, each.check(value))


def resumable_flags(arguments_class: type) -> set[str]:
    """Names of the flags that may change when a run is resumed."""
    return {each.name for each in find_flags(arguments_class).values() if each.limits.resumable}


@dataclass(frozen=True)
class Flag:
    """One field of an arguments class."""

    name: str
    types: tuple[Any, ...]  # any of these
    default: Any
    help: str
    limits: Limits

    @property
    def optional(self) -> bool:
        """Whether None is allowed."""
        return NoneType in self.types

    @property
    def is_list(self) -> bool:
        """Whether every value is a list; a single value is a list of one."""
        return all(get_origin(each) is list for each in self.types if each is not NoneType)

    @property
    def kind(self) -> Any:
        """The type of a value, or of a list's elements; None if there are several."""
        kinds = [each for each in self.types if each is not NoneType]
        return _element(kinds[0]) if len(kinds) == 1 else None

    @property
    def choices(self) -> tuple[Any, ...] | None:
        """All allowed values; None if they cannot be listed."""
        if get_origin(self.kind) is Literal:
            return get_args(self.kind)
        of_enum = [each.value for kind in self.types if isinstance(kind, EnumType) for each in kind]
        return tuple(of_enum) or self.limits.choices

    def parse(self, word: Any) -> Any:
        """Convert a word of the command line to the flag's type; a list of words becomes a list of values."""
        if isinstance(word, list):
            return [self.parse(each) for each in word]
        if not isinstance(word, str) or self.kind not in (bool, int, float):
            return word
        if self.optional and word.lower() in ("none", "null"):
            return None
        try:
            return {bool: string_to_bool, int: int, float: float}[self.kind](word)
        except Exception:  # ValueError, or argparse's own
            raise InputError(f"{self.name} must be {TYPE_NAMES[self.kind]}, not {shown(word)}.") from None

    def check(self, value: Any) -> Any:
        """Return the normalized `value`. Raises `InputError` if the flag does not take it."""
        if value is None and self.optional:
            return None
        if isinstance(value, list):
            if not any(get_origin(each) is list for each in self.types):
                raise InputError(f"{self.name} takes one value, not a list.")
            if not value:
                raise InputError(f"{self.name} is an empty list: give a value, or leave it out.")
            return [self._check_one(each) for each in value]
        checked = self._check_one(value)
        return [checked] if self.is_list else checked

    def _check_one(self, value: Any) -> Any:
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if self.choices is not None:
            return self._choose(value)
        if not _is(value, self.kind):
            wanted = TYPE_NAMES.get(self.kind) or f"a {(get_origin(self.kind) or self.kind).__name__}"
            raise InputError(f"{self.name} must be {wanted}, not {shown(value)}.")
        if isinstance(value, str):
            return self._check_text(value)
        if isinstance(value, Real) and not isinstance(value, bool):
            self._check_number(value)
        return value

    def _choose(self, value: Any) -> Any:
        found = {str(each).lower(): each for each in self.choices}
        text = str(getattr(value, "value", value)).lower()  # an Enum member counts as its value
        if text not in found:
            raise InputError(f"{self.name} must be one of {', '.join(map(str, self.choices))}, not {shown(value)}.")
        return found[text]

    def _check_text(self, text: str) -> str:
        if not text.strip():
            raise InputError(f"{self.name} is empty (an unset variable?): give a value, or leave out --{self.name}.")
        if "\0" in text:
            raise InputError(f"{self.name} must not contain a null character: {shown(text)}.")
        if self.limits.path and re.search(r":\s*(,|$)", text):
            raise InputError(f"{self.name} {shown(text)} names nothing after the colon (an unset variable?).")
        return expand_home(text) if self.limits.path else text

    def _check_number(self, number: float) -> None:
        if number not in self.limits:
            wanted = self.limits.range or "a finite number"
            remedy = ": leave it out for the default" if self.optional else ""
            raise InputError(f"{self.name} must be {wanted}, not {shown(number)}{remedy}.")
        if abs(number) > (LARGEST_INT if isinstance(number, Integral) else LARGEST_FLOAT):
            raise InputError(f"{self.name} {shown(number)} is too large.")


def find_flags(arguments_class: type, inherited: Mapping[str, Limits] | None = None) -> dict[str, Flag]:
    """The flags of a class by name; `inherited` (default: its `INHERITED`) limits those of a library's base class."""
    inherited = getattr(arguments_class, "INHERITED", {}) if inherited is None else inherited
    hints = get_type_hints(arguments_class)
    flags = {}
    for field in dataclasses.fields(arguments_class):
        if not field.init:
            continue
        hint, metadata = hints[field.name], field.metadata
        limits = metadata.get("limits") or inherited.get(field.name, Limits())
        if "choices" in metadata:  # transformers declares them this way
            limits = dataclasses.replace(limits, choices=tuple(metadata["choices"]))
        factory = field.default_factory
        flags[field.name] = Flag(
            name=field.name,
            types=get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,),
            default=field.default if factory is dataclasses.MISSING else factory(),
            help=metadata.get("help", ""),
            limits=limits,
        )
    return flags


def expand_home(text: str) -> str:
    """Expand `~` at the start of a path, or after `NAME:` or a comma; Hub ids and URLs stay as they are."""
    return re.sub(r"(?<![^:,])~[^/:,]*", lambda match: os.path.expanduser(match[0]), text)


def shown(value: Any) -> str:
    """Format a value for an error message."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _element(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is list else kind


def _is(value: Any, kind: Any) -> bool:
    """Whether a value is of a type. True where a flag takes several: its class then checks the value itself."""
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    return kind is None or isinstance(value, get_origin(kind) or kind)
