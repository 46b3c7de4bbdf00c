"""`InputError`, the exception for mistakes in what the user gave, and the one place that prints it.

A full or failing disk is reported the same way: in one line, without a traceback.
"""

import difflib
import errno
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from recipes.utils.plain_text import plain_text

# Error numbers of a disk that cannot be written or read, and what the user can do.
WRITING = {
    errno.ENOSPC: "Make room on the disk and rerun.",
    errno.EDQUOT: "Make room within your quota and rerun.",
    errno.EFBIG: "Make room on the disk and rerun (see ulimit -f).",
    errno.EROFS: "Mount it writable and rerun.",
}
READING_OR_WRITING = {
    errno.EIO: "Check the disk and rerun.",
    errno.ESTALE: "Mount it again and rerun.",
    errno.EACCES: "Get the permission, or choose another place.",
    errno.EPERM: "Get the permission, or choose another place.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}
REMEDIES = WRITING | READING_OR_WRITING
IN_RUST = re.compile(r"\(os error (\d+)\)")  # safetensors and tokenizers put the error number into their message
IN_TORCH = re.compile(r"iostream error|PytorchStreamWriter failed writing")  # torch.save gives no error number

T = TypeVar("T")


class InputError(ValueError):
    """A mistake in the input. The message says in one line what is wrong, where, and what to do."""


class SaidByMain(InputError):
    """An `InputError` that the main process found for all processes, and that it alone prints."""


def suggest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown `name`: the closest of the `known` names, or all of them."""
    known = list(known)
    closest = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {closest[0]}?" if closest else f"known are {', '.join(known)}."


def in_one_line(error: BaseException, most: int = 200) -> str:
    """An error's message in one line of at most `most` characters; its type if it has no message."""
    return " ".join(str(error).split())[:most] or type(error).__name__


def exit_on_input_error(script: str, main: Callable[[], T]) -> T | None:
    """Run `main` and return its result; an `InputError` or a failing disk becomes one line on stderr and exit code 2.

    Other exceptions keep their traceback.
    """
    try:
        with writing():
            return main()
    except InputError as error:
        if int(os.environ.get("RANK", "0")) > 0:
            time.sleep(5)  # all processes find most mistakes: let rank 0 print first; its exit ends the others
        if not isinstance(error, SaidByMain):
            print(plain_text(f"{script}: {error}"), file=sys.stderr)  # it may quote a file or a server
        sys.exit(2)
    except BrokenPipeError:  # the reader of our output, such as `head`, has exited
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def writing(what: object = None, intact: Callable[[], str] | None = None) -> Iterator[None]:
    """Turn a disk failure into an `InputError` that says `what` was being written and what is still `intact`.

    Other exceptions pass unchanged.
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
    """Error number, reason and file if `error`, or an exception that caused it, is a disk failure; else None."""
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
