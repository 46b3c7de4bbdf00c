"""Download files of a dataset on the Hub, several at once. A file appears under its name when its checksum agrees."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import HTTPError  # any of httpx's
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.sha import git_hash

from recipes.data.prepared import sha256_of
from recipes.utils import atomic
from recipes.utils.errors import InputError, disk_failure, in_one_line
from recipes.utils.hub import explain_refusal
from recipes.utils.progress import DownloadProgress

AT_ONCE = 8  # downloads, and files that are hashed
INCOMING = ".incoming"  # in the directory: what is not whole or not checked yet


@dataclass(frozen=True)
class Shard:
    """A file: its name on disk, and what the Hub says of it."""

    name: str
    path: str
    size: int
    blob: str  # git's name for it
    sha256: str | None  # of a large file

    def is_whole(self, file: Path) -> bool:
        """Whether `file` has the bytes that the Hub says."""
        if file.stat().st_size != self.size:
            return False
        return sha256_of(file) == self.sha256 if self.sha256 else git_hash(file.read_bytes()) == self.blob


def describe_shards(dataset: str, revision: str, names: dict[str, str]) -> list[Shard]:
    """Sizes and checksums of files, by the Hub; `names` are those on disk by their paths there."""
    with connection(dataset):
        tree = HfApi().list_repo_tree(dataset, recursive=True, revision=revision, repo_type="dataset")
        known = {each.path: each for each in tree if isinstance(each, RepoFile) and each.path in names}
    return [
        Shard(name, path, known[path].size, known[path].blob_id, known[path].lfs and known[path].lfs.sha256)
        for path, name in names.items()
    ]


def find_missing(directory: Path, shards: list[Shard]) -> Iterator[Shard]:
    """The shards that are not there, or damaged, which it prints."""

    def is_whole(shard: Shard) -> bool | None:
        return shard.is_whole(directory / shard.name) if (directory / shard.name).is_file() else None

    with ThreadPoolExecutor(AT_ONCE) as pool:  # hashing does not hold Python's lock
        for shard, whole in zip(shards, pool.map(is_whole, shards), strict=True):
            if whole is False:
                print(f"damaged       {directory / shard.name} has other bytes than the Hub says: fetched again")
            if not whole:
                yield shard


def download(dataset: str, revision: str, shards: list[Shard], directory: Path) -> None:
    """Download shards and check them. Raises `InputError` at the first that does not come whole."""
    incoming = directory / INCOMING
    shutil.rmtree(incoming, ignore_errors=True)  # what a killed call left: huggingface_hub does not go on with it
    progress = DownloadProgress(len(shards), sum(each.size for each in shards), "shards")

    def get(shard: Shard) -> None:
        options = {"repo_type": "dataset", "revision": revision, "local_dir": incoming}
        file = Path(hf_hub_download(dataset, shard.path, **options, tqdm_class=progress.file_bar))
        if not shard.is_whole(file):
            raise InputError(f"{shard.path} came with other bytes than the Hub says. Give the same command again.")
        atomic.sync(file)
        file.replace(directory / shard.name)

    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        with connection(dataset):
            under_way = {pool.submit(get, shard): shard for shard in shards}
            for done in as_completed(under_way):
                done.result()
                progress.count(under_way[done].size)
    except KeyboardInterrupt:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    except BaseException:
        pool.shutdown(cancel_futures=True)  # those under way may come whole
        raise
    finally:
        progress.close()
    shutil.rmtree(incoming, ignore_errors=True)


@contextmanager
def connection(dataset: str) -> Iterator[None]:
    """Turn what the Hub or the network raises into an `InputError`."""
    try:
        yield
    except (OSError, HTTPError) as error:
        if disk_failure(error):
            raise
        why = explain_refusal(error, dataset) or in_one_line(error)
        raise InputError(
            f"{dataset} cannot be downloaded further ({why}). Whole shards are kept: give the same command again."
        ) from error
