"""Download shards of a Hub dataset, to train from disk: `python -m recipes.data.fetch --dataset ID --shards N`.

It gets the first N files that streaming would train on, and those that it would hold out. On disk they
are train-00000.parquet, train-00001.parquet ... and validation-00000.parquet, so that training from disk splits and
orders them as streaming does.
"""

from dataclasses import dataclass

from recipes.utils.arguments import REQUIRED, Arguments, flag, read_command_line
from recipes.utils.errors import InputError, exit_on_input_error, writing


@dataclass
class FetchArguments(Arguments):
    """Flags of `python -m recipes.data.fetch`."""

    dataset: str = flag(REQUIRED, "Hub dataset id: user/name", path=True)
    shards: int = flag(
        REQUIRED, "files to train on, the first of the dataset; what is held out comes in addition", least=1
    )
    output_dir: str | None = flag(
        None, "directory of the files, which is the --dataset to train from (default: data/NAME)", path=True
    )


if __name__ == "__main__":  # before `datasets` is imported, which takes seconds
    ARGS = read_command_line("data.fetch", FetchArguments)

import json
import os
import shutil
from pathlib import Path

from huggingface_hub.utils import logging

from recipes.data.corpora import find_hub_files
from recipes.data.download import Shard, describe_shards, download, find_missing
from recipes.data.files import files_below, is_data
from recipes.data.readers import SUFFIXES
from recipes.data.splits import list_names
from recipes.utils import atomic
from recipes.utils.hub import check_hub_reachable, check_repo_id
from recipes.utils.outputs import hold
from recipes.utils.progress import bytes_text

RECORD = ".fetched.json"  # hidden, or it would be read as data
TRAIN = (  # as in the README
    "python recipes/pretrain.py --config recipes/configs/pretrain/gpu.yaml --tokenizer runs/tokenizer "
    "--output_dir runs/d20/base"
)


def fetch(dataset: str, count: int, output_dir: Path) -> None:
    """Download what is missing or damaged, and print how to train on it."""
    check_hub_reachable(f"{dataset} has to be downloaded from it. Connect, and give the same command again.")
    shards, revision = choose_shards(dataset, count)
    # A new directory appears whole or not at all; one that is there already only gets more shards.
    there = output_dir.is_dir() and any(output_dir.iterdir())
    directory = output_dir if there else output_dir.with_name(f".{output_dir.name}.partial")
    check_holds_nothing_else(directory, dataset, shards)
    missing = list(find_missing(directory, shards))
    if len(missing) < len(shards):
        print(f"there already {len(shards) - len(missing):,} of {len(shards):,} shards")
    check_space(output_dir, missing)
    record = {"dataset": dataset, "revision": revision, "files": {each.name: each.path for each in shards}}
    with writing(f"the shards of {dataset} to {directory}", lambda: "whole shards are kept"):
        directory.mkdir(exist_ok=True)
        atomic.write_text(directory / RECORD, json.dumps(record, indent=2) + "\n")
        download(dataset, revision, missing, directory)
        if directory != output_dir:
            atomic.sync_tree(directory)
            directory.rename(output_dir)
            atomic.sync(output_dir.parent)
    held_out, size = len(shards) - count, sum(each.size for each in shards)
    parts = f"{count:,} to train on" + (f", {held_out:,} held out" if held_out else "")
    print(f"fetched       {output_dir}: shards of {dataset}, {parts}; {bytes_text(size)}, all checksums agree")
    print(f"train on it   {TRAIN} --dataset {output_dir}")


def choose_shards(dataset: str, count: int) -> tuple[list[Shard], str]:
    """What to fetch, first what is held out, and the commit that it is of."""
    files, revision = find_hub_files(dataset)
    if unknown := [path for path in files.used if not is_data(Path(path))]:
        raise InputError(
            f"{dataset} has files that cannot be read from disk: {list_names(unknown)} (data files end in "
            f"{', '.join(SUFFIXES)}). Stream it: give --dataset {dataset} to recipes/pretrain.py."
        )
    if count > (most := len(files.train)):
        raise InputError(f"{dataset} has {most:,} shards to train on: --shards {most} gets all of them.")
    held_out = [] if files.by_hash else files.validation
    names = {path: name_on_disk("validation", number, path) for number, path in enumerate(held_out)}
    names |= {path: name_on_disk("train", number, path) for number, path in enumerate(files.train[:count])}
    return describe_shards(dataset, revision, names), revision


def name_on_disk(split: str, number: int, path: str) -> str:
    suffix = next(suffix for suffix in SUFFIXES if path.lower().endswith(suffix))
    return f"{split}-{number:05d}{suffix}"


def check_holds_nothing_else(directory: Path, dataset: str, shards: list[Shard]) -> None:
    """Raise `InputError` if data lie in `directory` that are not of this fetch: they would be trained on."""
    if not directory.is_dir():
        return
    data = {path.relative_to(directory).as_posix() for path in files_below(directory) if is_data(path)}
    try:
        source = json.loads((directory / RECORD).read_text(encoding="utf-8"))["dataset"]
    except (OSError, ValueError, LookupError, TypeError):
        source = None
    if others := sorted(data - {each.name for each in shards} if source == dataset else data):
        whose = f" of {source}" if source else ""
        raise InputError(
            f"{directory} holds other data than is asked for, which would be trained on: {list_names(others)}{whose}. "
            "Choose another --output_dir, or remove them."
        )


def check_space(output_dir: Path, missing: list[Shard]) -> None:
    """Raise `InputError` if the disk has no room for what is missing."""
    place = output_dir if output_dir.is_dir() else output_dir.parent
    needed, free = sum(each.size for each in missing), shutil.disk_usage(place).free
    if needed > free:
        raise InputError(
            f"no room for {len(missing):,} shards in {place}: they have {bytes_text(needed)}, and "
            f"{bytes_text(free)} are free. Make room, ask for fewer --shards, or choose another --output_dir."
        )


def main(args: FetchArguments) -> None:
    check_repo_id(args.dataset)
    output_dir = Path(args.output_dir or Path("data", args.dataset.rpartition("/")[2]))
    if output_dir.name in ("", ".."):  # it is to be renamed to
        output_dir = output_dir.resolve()
    if output_dir.is_file():
        raise InputError(f"output_dir {output_dir} is a file: choose a directory.")
    try:
        with hold(output_dir, replaced=True):
            fetch(args.dataset, args.shards, output_dir)
    except KeyboardInterrupt:
        print("stopped: whole shards are kept, and the same command continues", flush=True)
        os._exit(130)  # without waiting for the downloads under way


if __name__ == "__main__":
    logging.set_verbosity_error()  # not every attempt of eight downloads; the last word is said in one line
    exit_on_input_error("data.fetch", lambda: main(ARGS))
