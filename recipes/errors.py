"""The one exception for a mistake in what the user gave us, and the one place that prints it."""

import os
import sys
import time
from collections.abc import Callable

from recipes.plain_text import plain_text


class InputError(ValueError):
    """A mistake in the input: says what is wrong, where, and what to do, in one line."""


def exit_on_input_error(script: str, main: Callable[[], None]) -> None:
    """Run `main`; an `InputError` becomes one line on stderr and exit code 2, others keep their traceback."""
    try:
        main()
    except InputError as error:
        if int(os.environ.get("RANK", "0")) > 0:
            time.sleep(5)  # most mistakes are every process's: the first one speaks, and its end ends the others
        print(plain_text(f"{script}: {error}"), file=sys.stderr)  # it may quote a file or a server
        sys.exit(2)
    except BrokenPipeError:  # whoever read what is printed, as `head`, has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
