"""Atomic writes: directories and files are written beside their final name, synced, and renamed."""

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def new_directory(final: str | Path) -> Iterator[Path]:
    """Yield a directory to write into, which replaces `final` when the block ends.

    After an exception in the block, `final` is unchanged and the new directory is removed.
    """
    final = Path(final).absolute()
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{final.name[:99]}.", dir=final.parent) as beside:
        fresh, replaced = Path(beside, "fresh"), Path(beside, "replaced")
        fresh.mkdir()
        yield fresh
        sync_tree(fresh)
        if final.exists():
            final.rename(replaced)
        try:
            fresh.rename(final)
        except OSError:
            if replaced.exists():
                replaced.rename(final)
            raise
        sync(final.parent)


def move_files_into(source: Path, final: Path, last: str) -> None:
    """Move the files of `source` into the directory `final`, the file named `last` after all others."""
    sync_tree(source)
    for path in sorted(source.iterdir(), key=lambda path: path.name == last):
        path.replace(final / path.name)
    sync(final)


def write_text(path: Path, text: str) -> None:
    """Write or replace the file `path` atomically, also if other processes write it at the same time."""
    beside = path.with_name(f".{secrets.token_hex(4)}.new")
    try:
        beside.write_text(text, encoding="utf-8")
        sync(beside)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync_tree(directory: Path) -> None:
    """Flush all files below `directory`, and their names, to disk, with the file modes of the umask."""
    follow_umask(directory)
    for path in [*directory.rglob("*"), directory]:
        sync(path)


def follow_umask(directory: Path) -> None:
    """Give `directory` and everything in it the file modes of the umask.

    safetensors and tempfile create files that only their owner can read, even if the umask shares them with others.
    """
    umask = os.umask(0o077)  # reading the umask requires setting it
    os.umask(umask)
    for path in [directory, *directory.rglob("*")]:
        if not path.is_symlink():
            mode = path.stat().st_mode
            most = 0o777 if path.is_dir() else 0o666 | (mode & 0o111)
            with suppress(OSError):  # file systems without modes
                path.chmod((mode & 0o7000) | (most & ~umask))  # keeps setgid and the like of shared directories


def sync(path: Path) -> None:
    """Flush a file's content, or a directory's list of names, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
