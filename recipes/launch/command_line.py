"""The command line of a launcher: its own flags, then `--` and those of the stage. Imports nothing heavy."""

import sys
from typing import Any

from recipes.utils.arguments import parse_arguments
from recipes.utils.errors import exit_on_input_error


def read_launch_line(program: str, arguments_class: type) -> tuple[Any, list[str]]:
    """The launcher's flags, and the words after `--`. A mistake ends the process with one line and exit code 2."""
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    ours = exit_on_input_error(program, lambda: parse_arguments(arguments_class, argv=words[:end]))
    return ours, words[end + 1 :]
