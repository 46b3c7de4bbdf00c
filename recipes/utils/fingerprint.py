"""Fingerprints of files: their size and hash, wherever they lie."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Fingerprint = dict[str, dict[str, Any]]  # of each file, in the order in which they are read: size and hash

HASHED_WHOLE = 2**25  # bytes; of a larger file, only EDGE bytes at either end are hashed
EDGE = 2**20


def fingerprint(files: Iterable[str | Path]) -> Fingerprint:
    """Size and hash of each file, by its path below the directory that all of them lie in."""
    paths = [Path(file).expanduser().absolute() for file in files]
    root = os.path.commonpath([path.parent for path in paths]) if paths else ""
    return {path.relative_to(root).as_posix(): _fingerprint_file(path) for path in paths}


def _fingerprint_file(path: Path) -> dict[str, Any]:
    """Size, and a hash of all bytes or, for large files, of head and tail."""
    size = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as file:
        if size <= HASHED_WHOLE:
            digest.update(file.read())
        else:
            digest.update(file.read(EDGE))
            file.seek(-EDGE, os.SEEK_END)
            digest.update(file.read())
    return {"size": size, "sha256": digest.hexdigest()}
