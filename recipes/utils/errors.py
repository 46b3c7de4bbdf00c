"""The one exception for a mistake in what the user gave us, and the one place that prints it.

A disk that is full or failing is no mistake of ours either: what is left of it is told in one line as well.
"""

import errno
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from recipes.utils.plain_text import plain_text

# What the system says when a disk takes or gives no more, and what to do.
WRITING = {
    errno.ENOSPC: "Make room on the disk and rerun.",
    errno.EDQUOT: "Make room within your quota and rerun.",
    errno.EFBIG: "Make room on the disk and rerun (see ulimit -f).",
    errno.EROFS: "Mount it writable and rerun.",
}
READING_OR_WRITING = {
    errno.EIO: "Look after the disk and rerun.",
    errno.ESTALE: "Mount it anew and rerun.",
    errno.EACCES: "Get the permission, or choose another place.",
    errno.EPERM: "Get the permission, or choose another place.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}
REMEDIES = WRITING | READING_OR_WRITING
IN_RUST = re.compile(r"\(os error (\d+)\)")  # safetensors and tokenizers give the system's number in their message
IN_TORCH = re.compile(r"iostream error|PytorchStreamWriter failed writing")  # torch.save gives no number at all

T = TypeVar("T")


class InputError(ValueError):
    """A mistake in the input: says what is wrong, where, and what to do, in one line."""


class SaidByMain(InputError):
    """One that the main process found for all of them, and prints."""


def exit_on_input_error(script: str, main: Callable[[], T]) -> T | None:
    """Run `main` and return its result; an `InputError` or a failing disk becomes one line on stderr and exit code 2.

    Other exceptions keep their traceback.
    """
    try:
        with writing():
            return main()
    except InputError as error:
        if int(os.environ.get("RANK", "0")) > 0:
            time.sleep(5)  # most mistakes are every process's: the first one speaks, and its end ends the others
        if not isinstance(error, SaidByMain):
            print(plain_text(f"{script}: {error}"), file=sys.stderr)  # it may quote a file or a server
        sys.exit(2)
    except BrokenPipeError:  # whoever read what is printed, as `head`, has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def writing(what: object = None, intact: Callable[[], str] | None = None) -> Iterator[None]:
    """Turn the failure of a disk into an `InputError` that names `what` was being written, and what is still `intact`.

    Other exceptions pass: they are no business of the disk.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        failure = disk_failure(error)
        if failure is None:
            raise
        number, reason, file = failure
        doing = "write" if what or number in WRITING else "read or write"
        kept = f"; {intact()}" if intact is not None else ""
        message = f"could not {doing} {what or file or 'a file'} ({reason}){kept}. {REMEDIES[number]}"
        raise InputError(message) from error


def disk_failure(error: BaseException | None) -> tuple[int, str, str | None] | None:
    """The system's number and reason, and the file, if `error` or what it came from is the failure of a disk."""
    while error is not None:
        number = error.errno if isinstance(error, OSError) else None
        if match := IN_RUST.search(str(error)):
            number = int(match[1])
        if number in REMEDIES:
            return number, os.strerror(number), getattr(error, "filename", None)
        if isinstance(error, RuntimeError) and IN_TORCH.search(str(error)):
            return errno.ENOSPC, "the disk took no more", None
        error = error.__cause__ or error.__context__
    return None
