"""Command lines and YAML files parsed into dataclasses of flags (recipes/utils/flags.py).

This module imports nothing heavy, so that a script can read its arguments before it imports torch.
"""

import difflib
import re
import sys
from argparse import SUPPRESS, Action, Namespace
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, NoReturn

import yaml
from transformers.hf_argparser import HfArgumentParser

from recipes.utils.errors import InputError, exit_on_input_error
from recipes.utils.flags import REQUIRED, Arguments, Flag, Limits, expand_home, find_flags, flag, resumable_flags
from recipes.utils.yaml_files import construct, place, read_nodes

__all__ = [  # also what the modules that declare flags need
    "REQUIRED",
    "Arguments",
    "Flag",
    "Limits",
    "find_flags",
    "flag",
    "parse_arguments",
    "read_command_line",
    "resumable_flags",
]

MOST_LISTED = 70  # names in an error message
# Names of one thing in different programs, ours and others: a program suggests the one that it knows.
SYNONYMS = (
    ("model", "source", "model_name_or_path", "checkpoint"),
    ("output_dir", "run", "run_dir", "output"),
    ("max_problems", "max_examples", "num_problems", "limit"),
    ("bundle", "core_bundle"),
    ("dataset", "conversations", "preferences", "problems", "instructions", "data"),
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


class Extend(Action):
    """Collects the values of a list flag, wherever they stand: `--model A --model B` is `--model A B`."""

    def __call__(self, parser: Any, namespace: Namespace, values: Any, option_string: str | None = None) -> None:
        before = getattr(namespace, self.dest)  # no list where the flag has not been seen yet
        setattr(namespace, self.dest, [*before, *values] if isinstance(before, list) else values)


class Parser(HfArgumentParser):
    """Splits a command line into flags and their words; its errors are one line."""

    def __init__(self, arguments_classes: Collection[type], flags: Mapping[str, Flag]) -> None:
        self.flags = flags
        super().__init__(arguments_classes, allow_abbrev=False)

    def add_argument(
        self, *names: str, type: Any = None, choices: Any = None, required: Any = None, limits: Any = None, **rest: Any
    ) -> Action:
        """Leave types, choices and required flags to `Flag`, which checks them for YAML files as well."""
        if rest.get("nargs") == "+":
            rest["action"] = Extend
        if "help" in rest:  # argparse formats it: TRL writes %%, and ours may write a plain %
            rest["help"] = re.sub(r"(?<!%)%(?![%(])", "%%", rest["help"])
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
        """The words given to each flag, and the words that belong to no flag."""
        unset = object()
        words, rest = self.parse_known_args(argv, Namespace(**dict.fromkeys(self.flags, unset)))
        return {name: each for name, each in vars(words).items() if each is not unset}, rest


def parse_arguments(*arguments_classes: type, argv: list[str] | None = None) -> Any:
    """Read `--config file.yaml` and the flags that override it (default: `sys.argv`) into dataclasses.

    Returns an instance for one class, a tuple of instances for several, whose fields must not share a name.
    Raises `InputError` for an unknown flag or YAML key, naming the closest known one, and for an impossible value.
    """
    of_class, parser = _build_parser(arguments_classes)
    flags = parser.flags
    argv, path = _split_config(sys.argv[1:] if argv is None else argv)
    words, unknown = parser.read(argv)
    if unknown:
        raise InputError(_unknown(unknown[0].removeprefix("--").split("=")[0], flags))
    values = _read_config(path, flags) if path is not None else {}
    values |= {name: flags[name].check(flags[name].parse(word)) for name, word in words.items()}
    for each in flags.values():
        if each.default is REQUIRED and each.name not in values:
            raise InputError(f"no {each.name}: give --{each.name} ({each.help}).")
    try:
        arguments = [
            each(**{name: value for name, value in values.items() if name in found})
            for each, found in zip(arguments_classes, of_class, strict=True)
        ]
    except (ValueError, OSError, ImportError) as error:  # how TRL refuses a combination, a file or a missing extra
        raise InputError(f"{' '.join(str(error).split()):.300}") from None
    return arguments[0] if len(arguments) == 1 else tuple(arguments)


@cache
def _build_parser(arguments_classes: tuple[type, ...]) -> tuple[list[dict[str, Flag]], Parser]:
    """The flags of each class, and the parser of all of them: a trainer of TRL has two hundred."""
    inherited: dict[str, Limits] = {}
    for each in arguments_classes:
        inherited |= getattr(each, "INHERITED", {})
    of_class = [find_flags(each, inherited) for each in arguments_classes]
    flags = {name: each for found in of_class for name, each in found.items()}
    return of_class, Parser(arguments_classes, flags)


def read_command_line(program: str, *arguments_classes: type) -> Any:
    """`parse_arguments` on `sys.argv`; a mistake ends the process with one line on stderr and exit code 2.

    Scripts call it before they import torch, which takes seconds, so that --help and a wrong flag answer at once:

        if __name__ == "__main__":
            ARGS = read_command_line("pretrain", PretrainArguments)
    """
    return exit_on_input_error(program, lambda: parse_arguments(*arguments_classes))


def _split_config(argv: list[str]) -> tuple[list[str], str | None]:
    """Take `--config FILE` out of a command line: the other words, and the file."""
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


def _read_config(path: str, flags: Mapping[str, Flag]) -> dict[str, Any]:
    """Values of the flags that a YAML file sets, read as the same words would be on a command line."""
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
    """A node as words of a command line: YAML must not turn 010, `no` or 2026-11-20 into something else first."""
    if isinstance(node, yaml.SequenceNode):
        return [_words(each, path) for each in node.value]
    if isinstance(node, yaml.MappingNode):
        return construct(node, path)
    return None if node.tag.endswith(":null") else node.value


def _unknown(name: str, flags: Mapping[str, Flag]) -> str:
    """The message for an unknown flag: it suggests the closest known one."""
    plain = name.replace("-", "_")
    synonyms = [each for group in SYNONYMS if plain in group for each in group if each in flags]
    closest = synonyms or difflib.get_close_matches(plain, flags, n=1)
    listed = f"known are {', '.join(flags)}." if len(flags) <= MOST_LISTED else "--help lists the known ones."
    return f"unknown argument {name or repr(name)}: " + (f"did you mean {closest[0]}?" if closest else listed)
