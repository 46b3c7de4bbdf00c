"""Command lines and YAML files parsed into dataclasses, whose flags say which values they take.

A value is checked before anything is loaded, wherever it comes from: the command line, a file, or Python.
"""

import dataclasses
import difflib
import math
import os
import re
import sys
from argparse import SUPPRESS, Action, Namespace
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import EnumType
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

import yaml
from transformers import HfArgumentParser
from transformers.hf_argparser import string_to_bool

from recipes.utils.errors import InputError, exit_on_input_error
from recipes.utils.yaml_files import construct, place, read_nodes

REQUIRED = dataclasses.MISSING  # the default of a flag that must be given
MOST_LISTED = 50  # names in a message
LARGEST_INT, LARGEST_FLOAT = 2**63 - 1, 1e30  # that torch, numpy and Arrow hold, also times a factor
TYPE_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
# Names for one thing in different programs, here and elsewhere: a program offers the one that it knows for the others.
SYNONYMS = (
    ("model", "source", "model_name_or_path", "checkpoint"),
    ("output_dir", "run", "run_dir", "output"),
    ("max_problems", "max_examples", "num_problems", "limit"),
    ("bundle", "core_bundle"),
    ("dataset", "conversations", "problems", "instructions", "data"),
    ("device_batch_size", "per_device_train_batch_size", "batch_size"),
    ("max_seq_len", "max_length", "model_max_length", "sequence_len", "context_length"),
    ("max_new_tokens", "max_completion_length", "new_tokens", "max_tokens"),
    ("max_steps", "num_iterations", "steps"),
    ("num_train_epochs", "num_epochs", "epochs"),
    ("price_per_hour", "price_per_gpu_hour"),
    ("init_lr_frac", "matrix_lr", "learning_rate", "lr"),
    ("keep_checkpoints", "save_total_limit"),
    ("grad_clip", "max_grad_norm"),
    ("num_samples", "pass_samples", "num_generations"),
    ("repo", "hub_model_id"),
)


@dataclass(frozen=True)
class Limits:
    """What a flag takes, beside its type. NaN and infinity are never in range.

    Attributes:
        least, most: bounds that are in range.
        above, below: bounds that are not.
        choices: the texts there are, in upper or lower case.
        path: whether it may be a path, where `~` is the home directory.
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
    """A field of an `Arguments` class: its default (or REQUIRED), what --help says of it, and its `Limits`."""
    metadata = {"help": help, "limits": Limits(least, most, above, below, choices, path, resumable)}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass
class Arguments:
    """Base of all classes of arguments. Raises `InputError` for a value that a flag does not take.

    `INHERITED` has the limits of flags that come from a library's class.
    """

    INHERITED: ClassVar[Mapping[str, Limits]] = {}

    def __post_init__(self) -> None:
        self.check_flags()

    def check_flags(self) -> None:
        """Check every value, and write it as it is used."""
        for each in find_flags(type(self)).values():
            value = getattr(self, each.name)
            if value != each.default:  # those of a library need not be within the limits that we set
                setattr(self, each.name, each.check(value))


def resumable_flags(arguments_class: type) -> set[str]:
    """Names of the flags that may change when a run is resumed."""
    return {each.name for each in find_flags(arguments_class).values() if each.limits.resumable}


@dataclass(frozen=True)
class Flag:
    """A field of a class of arguments."""

    name: str
    types: tuple[Any, ...]  # any of these
    default: Any
    help: str
    limits: Limits

    @property
    def optional(self) -> bool:
        """Whether None is a value."""
        return NoneType in self.types

    @property
    def kind(self) -> Any:
        """The type of a value, or of a list's elements; None if there are several."""
        kinds = [each for each in self.types if each is not NoneType]
        return _element(kinds[0]) if len(kinds) == 1 else None

    @property
    def choices(self) -> tuple[Any, ...] | None:
        """All values there are; None if they are too many to list."""
        if get_origin(self.kind) is Literal:
            return get_args(self.kind)
        of_enum = [each.value for kind in self.types if isinstance(kind, EnumType) for each in kind]
        return tuple(of_enum) or self.limits.choices

    def parse(self, word: Any) -> Any:
        """The value that a word of the command line stands for; of several words, the list of theirs."""
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
        """`value` as it is used. Raises `InputError` if the flag does not take it."""
        if value is None and self.optional:
            return None
        if isinstance(value, list):
            if not any(get_origin(each) is list for each in self.types):
                raise InputError(f"{self.name} takes one value, not a list.")
            if not value:
                raise InputError(f"{self.name} is an empty list: give a value, or leave it out.")
            return [self._check_one(each) for each in value]
        return self._check_one(value)

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
        text = str(getattr(value, "value", value)).lower()  # of an Enum's member its value
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
    """The flags of a class by their names; `inherited` limits (default: its own) are of those that are a library's."""
    inherited = getattr(arguments_class, "INHERITED", {}) if inherited is None else inherited
    hints = get_type_hints(arguments_class)
    flags = {}
    for field in dataclasses.fields(arguments_class):
        if not field.init:
            continue
        hint, metadata = hints[field.name], field.metadata
        limits = metadata.get("limits") or inherited.get(field.name, Limits())
        if "choices" in metadata:  # a library's way to say it
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
    """A path with `~` written out, at its start or after `NAME:` or a comma; a Hub id or a URL stays as it is."""
    return re.sub(r"(?<![^:,])~[^/:,]*", lambda match: os.path.expanduser(match[0]), text)


def shown(value: Any) -> str:
    """A value in a message."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _element(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is list else kind


def _is(value: Any, kind: Any) -> bool:
    """Whether a value is of a type; where a flag takes several, its class judges."""
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    return kind is None or isinstance(value, get_origin(kind) or kind)


# Parsing


class Parser(HfArgumentParser):
    """A parser that gives the words of the flags on a command line, and whose complaints are one line."""

    def __init__(self, arguments_classes: Collection[type], flags: Mapping[str, Flag]) -> None:
        self.flags = flags
        super().__init__(arguments_classes, allow_abbrev=False)

    def add_argument(
        self, *names: str, type: Any = None, choices: Any = None, required: Any = None, limits: Any = None, **rest: Any
    ) -> Action:
        """Leave types, choices and what must be given to `Flag`, which knows them of YAML files as well."""
        action = super().add_argument(*names, **rest)
        if each := self.flags.get(action.dest):
            if each.default is REQUIRED:
                action.default = SUPPRESS
                action.help += " (required)"
            action.help += f"; {each.limits.range}" if each.limits.range else ""
        return action

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}.")

    def read(self, argv: list[str]) -> tuple[dict[str, Any], list[str]]:
        """The words that each flag on a command line is given, and what belongs to no flag."""
        unset = object()
        words, rest = self.parse_known_args(argv, Namespace(**dict.fromkeys(self.flags, unset)))
        return {name: each for name, each in vars(words).items() if each is not unset}, rest


def parse_arguments(*arguments_classes: type, argv: list[str] | None = None) -> Any:
    """Read `--config file.yaml` and the flags that override it (default: `sys.argv`) into dataclasses.

    Returns an instance for one class, a tuple of instances for several, whose fields must not share a name.
    Raises `InputError` for an unknown flag or YAML key, naming the closest known one, and for an impossible value.
    """
    inherited: dict[str, Limits] = {}
    for each in arguments_classes:
        inherited |= getattr(each, "INHERITED", {})
    of_class = [find_flags(each, inherited) for each in arguments_classes]
    flags = {name: each for found in of_class for name, each in found.items()}

    argv, path = _split_config(sys.argv[1:] if argv is None else argv)
    words, unknown = Parser(arguments_classes, flags).read(argv)
    if unknown:
        raise InputError(_unknown(unknown[0].removeprefix("--").split("=")[0], flags))
    values = read_flags(path, flags) if path is not None else {}
    values |= {name: flags[name].check(flags[name].parse(word)) for name, word in words.items()}
    for each in flags.values():
        if each.default is REQUIRED and each.name not in values:
            raise InputError(f"no {each.name}: give --{each.name} ({each.help}).")
    try:
        arguments = [
            each(**{name: value for name, value in values.items() if name in found})
            for each, found in zip(arguments_classes, of_class, strict=True)
        ]
    except (ValueError, OSError, ImportError) as error:  # TRL's way to refuse a combination, a file or an extra
        raise InputError(f"{' '.join(str(error).split()):.300}") from None
    return arguments[0] if len(arguments) == 1 else tuple(arguments)


def read_command_line(program: str, *arguments_classes: type) -> Any:
    """`parse_arguments` of `sys.argv`; a mistake ends the process with one line.

    Scripts call it before they import torch, which takes seconds, so that a wrong flag is reported at once:

        if __name__ == "__main__":
            ARGS = read_command_line("pretrain", PretrainArguments)
    """
    return exit_on_input_error(program, lambda: parse_arguments(*arguments_classes))


def _split_config(argv: list[str]) -> tuple[list[str], str | None]:
    """The command line without `--config FILE`, and the file."""
    rest, paths = [], []
    words = iter(argv)
    for word in words:
        if word == "--config" or word.startswith("--config="):
            paths.append(next(words, "") if word == "--config" else word.partition("=")[2])
        else:
            rest.append(word)
    if len(paths) > 1:
        raise InputError("--config is given twice: one file sets all flags, the command line overrides it.")
    if paths and not paths[0].strip():
        raise InputError("--config names no file: give --config FILE.yaml.")
    return rest, expand_home(paths[0]) if paths else None


def read_flags(path: str, flags: Mapping[str, Flag]) -> dict[str, Any]:
    """Values of the flags that a YAML file sets; each is what the same words would be on a command line."""
    root = read_nodes(path)
    if not isinstance(root, yaml.MappingNode):
        raise InputError(f"{path}, line 1: not a list of flags and their values, such as `depth: 12`.")
    values = {}
    for key, node in root.value:
        try:
            values[key.value] = _read_flag(key.value, node, path, flags)
        except InputError as error:
            raise InputError(f"{place(path, key)}: {error}") from None
    return values


def _read_flag(name: str, node: yaml.Node, path: str, flags: Mapping[str, Flag]) -> Any:
    if name not in flags:
        raise InputError(_unknown(name, flags))
    each = flags[name]
    word = _words(node, path)
    if word is None and not each.optional:
        raise InputError(f"{name} is left blank: give a value, or remove the line.")
    return each.check(each.parse(word))


def _words(node: yaml.Node, path: str) -> Any:
    """A node as the command line has it: 010 is not yet a number, nor `no` a truth value, nor 2026-11-20 a date."""
    if isinstance(node, yaml.SequenceNode):
        return [_words(each, path) for each in node.value]
    if isinstance(node, yaml.MappingNode):
        return construct(node, path)
    return None if node.tag.endswith(":null") else node.value


def _unknown(name: str, flags: Mapping[str, Flag]) -> str:
    """The message for a name that does not exist."""
    plain = name.replace("-", "_")
    synonyms = [each for group in SYNONYMS if plain in group for each in group if each in flags]
    closest = synonyms or difflib.get_close_matches(plain, flags, n=1)
    listed = f"known are {', '.join(flags)}." if len(flags) <= MOST_LISTED else "--help lists the known ones."
    return f"unknown argument {name or repr(name)}: " + (f"did you mean {closest[0]}?" if closest else listed)
