"""Command lines and YAML files parsed into dataclasses, with one clear line for a name that does not exist."""

import dataclasses
import difflib
import sys
from typing import Any, NoReturn

import yaml
from trl import TrlParser

from recipes.errors import InputError

MOST_LISTED = 50  # names in a message


def flag(default: Any, help: str) -> Any:
    """A field of an arguments class: its default, and what --help says of it."""
    return dataclasses.field(default=default, metadata={"help": help})


class Parser(TrlParser):
    """A parser whose complaints are one line, without the whole usage before it."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}.")


def parse_arguments(*arguments_classes: type, argv: list[str] | None = None) -> Any:
    """Read `--config file.yaml` and the flags that override it (default: `sys.argv`) into dataclasses.

    Returns an instance for one class, a tuple of instances for several, whose fields must not share a name.
    Raises `InputError` for an unknown flag or YAML key, naming the closest known one, and for an impossible value.
    """
    argv = sys.argv[1:] if argv is None else argv
    argv = [word for flag in argv for word in (flag.split("=", 1) if flag.startswith("--config=") else [flag])]
    if argv[-1:] == ["--config"]:
        raise InputError("--config names no file: give --config FILE.yaml.")
    try:
        *arguments, in_file, on_line = Parser(arguments_classes).parse_args_and_config(
            argv, return_remaining_strings=True, separate_remaining_strings=True
        )
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(" ".join(str(error).split())) from None
    if unknown := in_file + on_line:
        name = unknown[0].removeprefix("--").split("=")[0]
        known = [field.name for each in arguments_classes for field in dataclasses.fields(each)]
        closest = difflib.get_close_matches(name, known, n=1)
        listed = f"known are {', '.join(known)}." if len(known) <= MOST_LISTED else "--help lists the known ones."
        remedy = f"did you mean {closest[0]}?" if closest else listed
        raise InputError(f"unknown argument {name}: {remedy}")
    return arguments[0] if len(arguments_classes) == 1 else tuple(arguments)
