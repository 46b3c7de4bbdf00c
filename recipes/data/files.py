"""Data files that a path, a directory or a glob names."""

import glob
from pathlib import Path

from recipes.data.readers import SUFFIXES
from recipes.errors import InputError


def find_files(dataset: str) -> list[str]:
    """Sorted data files that `dataset` names, or an empty list if it can only be the name of a Hub dataset.

    Raises `InputError` for what is meant as a path but leads to no data file.
    """
    path = Path(dataset).expanduser()
    kinds = f"(data files end in {', '.join(SUFFIXES)})"
    if path.is_file():
        if not path.name.endswith(SUFFIXES):
            raise InputError(f"{dataset} is no data file {kinds}.")
        return [str(path)]
    if path.is_dir():
        files = [str(file) for file in sorted(path.rglob("*")) if _is_data_file(file, path)]
        if not files:
            raise InputError(f"no data file in the directory {dataset} {kinds}.")
        return files
    if glob.has_magic(dataset):
        matches = map(Path, sorted(glob.glob(str(path), recursive=True)))
        files = [str(file) for file in matches if file.is_file() and file.name.endswith(SUFFIXES)]
        if not files:
            raise InputError(f"no data file matches {dataset} {kinds}.")
        return files
    if _looks_like_path(dataset):
        raise InputError(f"no such file or directory: {dataset}.")
    return []


def _is_data_file(file: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(root).parts)  # such as .cache of a Hub download
    return not hidden and file.name.endswith(SUFFIXES) and file.is_file()


def _looks_like_path(dataset: str) -> bool:
    starts, parts = (".", "/", "~"), dataset.count("/")
    return dataset.startswith(starts) or parts > 1 or "\\" in dataset or any(s in dataset for s in SUFFIXES)
