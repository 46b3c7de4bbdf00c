"""Output directories: checked before the work begins, and locked against other processes."""

import errno
import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from recipes.utils.errors import InputError

PROBE = bytes(2**16)  # not empty, because a full file system can still create empty files
LOCK = ".lock"


def ensure_writable(directory: str | Path, about: str | None = None) -> None:
    """Create `directory`, and test it with a temporary file. Raises `InputError` if that fails; `about` names it."""
    directory = Path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as probe:
            probe.write(PROBE)
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        reason = "it is a file" if os.path.isfile(directory) else error.strerror
        raise InputError(f"cannot write to {about or f'output_dir {directory}'}: {reason}.") from None


@contextmanager
def hold(directory: str | Path, name: str = "output_dir", replaced: bool = False) -> Iterator[None]:
    """Check that `directory` is writable, and lock it against other processes until the block ends.

    With `replaced` the directory is written beside its final name and renamed: then its parent must be writable and
    holds the lock. Raises `InputError` if it is not writable, or if another process holds the lock, naming it.

    The lock is a POSIX lock (`fcntl.lockf`): it ends with its process, even if that is killed; forked loader workers
    do not inherit it; network file systems support it.
    """
    directory = Path(directory)
    place = directory.parent if replaced else directory
    ensure_writable(place, f"{name} {directory}")
    lock = place / (f".{directory.name}{LOCK}" if replaced else LOCK)
    try:
        descriptor = _acquire(lock)
    except BlockingIOError:
        raise InputError(
            f"{name} {directory} is being written by {_holder(lock)}: wait for it or end it, or choose another."
        ) from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            raise InputError(f"cannot write to {name} {directory}: {error.strerror}.") from None
        print(f"note: {directory} cannot be locked ({error.strerror}): start no second run into it", flush=True)
        descriptor = None
    try:
        yield
    finally:
        with suppress(OSError):
            lock.unlink()  # while holding it: a process that opened it before notices, and creates a new one
        if descriptor is not None:
            os.close(descriptor)


def current_holder(directory: str | Path) -> str | None:
    """Who is writing into `directory` now; None if nobody is, or if it cannot be told.

    Not for a directory that this process holds itself: by POSIX, closing its lock file once more would unlock it.
    """
    lock = Path(directory, LOCK)
    try:
        with lock.open("r+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return _holder(lock)
    except OSError:
        pass
    return None


def _acquire(lock: Path) -> int:
    """Lock the file `lock`, write who holds it, and return its descriptor. Raises `BlockingIOError` if it is taken."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_file(lock, descriptor):
                os.ftruncate(descriptor, 0)
                since = datetime.now().astimezone().isoformat(" ", "seconds")
                os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {since}".encode())
                return descriptor
        except PermissionError as error:  # what other systems raise instead of BlockingIOError, as POSIX allows
            os.close(descriptor)
            raise BlockingIOError(*error.args) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_file(path: Path, descriptor: int) -> bool:
    """Whether `path` is still the file that `descriptor` refers to."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _holder(lock: Path) -> str:
    """Description of the process that holds the lock, as it wrote into the lock file."""
    try:
        return lock.read_text(encoding="utf-8") or "another process"
    except OSError:
        return "another process"
