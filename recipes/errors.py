"""The one exception for a mistake in what the user gave us, and the one place that prints it."""

import sys
from collections.abc import Callable


class InputError(ValueError):
    """A mistake in the input: says what is wrong, where, and what to do, in one line."""


def exit_on_input_error(script: str, main: Callable[[], None]) -> None:
    """Run `main`; an `InputError` becomes one line on stderr and exit code 2, others keep their traceback."""
    try:
        main()
    except InputError as error:
        print(f"{script}: {error}", file=sys.stderr)
        sys.exit(2)
