"""Find the data files of a path, a directory or a glob. Files that are left out are always reported."""

import glob
import os
from pathlib import Path

from recipes.data.readers import SUFFIXES, describe_irregular_file, logger
from recipes.utils.errors import InputError
from recipes.utils.json_lines import names_of

KINDS = f"(data files end in {', '.join(SUFFIXES)})"


def find_files(dataset: str) -> list[str]:
    """Sorted data files that `dataset` names; an empty list if it can only be the name of a Hub dataset.

    Other files among them are left out with one warning. Broken links and pipes are kept, so that `check_file` can
    report them. Raises `InputError` for a path without data files.
    """
    path = Path(os.path.expanduser(dataset))
    if os.path.isdir(path):
        return _data_files(f"in the directory {dataset}", files_below(path))
    if os.path.lexists(path):
        if (kind := describe_irregular_file(path)) is not None:
            raise InputError(f"{dataset} is {kind}.")
        if not is_data(path):
            raise InputError(f"{dataset} is not a data file {KINDS}.")
        return [str(path)]
    if glob.has_magic(dataset):
        matches = set(map(Path, glob.glob(str(path), recursive=True)))
        # Spark writes a directory named like a data file, with the data in it.
        below = (files_below(match) for match in matches if is_data(match) and os.path.isdir(match))
        return _data_files(f"matching {dataset}", matches.union(*below))
    if _looks_like_path(dataset):
        raise InputError(f"no such file or directory: {dataset}.")
    return []


def is_data(path: Path) -> bool:
    """Whether `path` is named like a data file."""
    return path.name.lower().endswith(SUFFIXES)


def _data_files(where: str, found: set[Path]) -> list[str]:
    """The data files among `found`; warns about others. `where` says in messages where they were found."""
    files = sorted(path for path in found if is_data(path) and not os.path.isdir(path))
    others = sorted(found.difference(files, *(file.parents for file in files)))
    if not files:
        there = f": there are {_named(others)}" if others else ""
        raise InputError(f"no data file {where} {KINDS}{there}.")
    if others:
        logger.warning(f"left out files {where} that are not data: {_named(others)} {KINDS}")
    return [str(file) for file in files]


def files_below(root: Path) -> set[Path]:
    """Every file below `root`, following links, and every directory that is named like a data file.

    Hidden files are skipped: a download from the Hub has a directory .cache.
    """
    found, seen = set(), {os.path.realpath(root)}
    for folder, folders, names in os.walk(root, followlinks=True, onerror=_refuse):
        new = {name: os.path.realpath(Path(folder, name)) for name in sorted(folders) if not name.startswith(".")}
        folders[:] = [name for name, real in new.items() if real not in seen]  # links may form a cycle
        seen.update(new.values())
        found |= {Path(folder, name) for name in names if not name.startswith(".")}
        found |= {Path(folder, name) for name in folders if name.lower().endswith(SUFFIXES)}
    return found


def _refuse(error: OSError) -> None:
    raise InputError(f"{error.filename} cannot be read: {error.strerror}.")


def _named(paths: list[Path]) -> str:
    return names_of((f"{path.name}/" if os.path.isdir(path) else path.name for path in paths), most=3)


def _looks_like_path(dataset: str) -> bool:
    starts, parts = (".", "/", "~"), dataset.count("/")
    ending = any(suffix in dataset.lower() for suffix in SUFFIXES)
    return dataset.startswith(starts) or parts > 1 or "\\" in dataset or ending
