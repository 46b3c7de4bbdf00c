"""Output directories: made sure of before the work begins, and written by one process at a time."""

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

PROBE = bytes(2**16)  # has to fit: a file system that is full still makes empty files
LOCK = ".lock"


def ensure_writable(directory: str | Path, about: str | None = None) -> None:
    """Create `directory`, and write a file there that nobody sees. Raises `InputError` `about` it if that fails."""
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
    """Make sure of `directory`, and keep other processes that hold it out until the block ends.

    `replaced`: the directory is written beside its final name and renamed, so that it is its parent which has to be
    writable, and where the lock lies. Raises `InputError` if it cannot be written, or naming who holds it.

    The lock is one of POSIX (`fcntl.lockf`): it ends with its process, however that ends; loader workers forked from
    it do not inherit it; network file systems know it.
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
            lock.unlink()  # while it is held: who opened it before sees that it is gone, and makes another
        if descriptor is not None:
            os.close(descriptor)


def _acquire(lock: Path) -> int:
    """A descriptor of the file `lock`, locked, with who we are in it. Raises `BlockingIOError` if it is taken."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_file(lock, descriptor):
                os.ftruncate(descriptor, 0)
                since = datetime.now().astimezone().isoformat(" ", "seconds")
                os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {since}".encode())
                return descriptor
        except PermissionError as error:  # POSIX allows it where Linux raises the other
            os.close(descriptor)
            raise BlockingIOError(*error.args) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_file(path: Path, descriptor: int) -> bool:
    """Whether `path` is still the file that `descriptor` was opened as."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _holder(lock: Path) -> str:
    """Who holds the lock, by its own account."""
    try:
        return lock.read_text(encoding="utf-8") or "another process"
    except OSError:
        return "another process"
