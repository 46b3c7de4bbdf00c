"""Corpora by name (`--dataset`): a stream of training documents and a stream of validation documents."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import datasets
from datasets.data_files import DataFilesDict, DataFilesList
from huggingface_hub.utils import HFValidationError, validate_repo_id
from transformers import PreTrainedTokenizerFast

from recipes.data.files import find_files
from recipes.data.prepared import PreparedCorpus, find_prepared
from recipes.data.readers import JSON_SUFFIXES, check_file, is_text, logger, read_documents
from recipes.data.splits import (
    HASH_RANGE,
    VALIDATION_HASH,
    SplitFiles,
    cut_text,
    document_hash,
    hold_out,
    list_names,
    split_files,
)
from recipes.data.tokenized import TokenizedDocuments
from recipes.utils.errors import InputError, in_one_line
from recipes.utils.hub import check_hub_reachable

TEXT = datasets.Features({"text": datasets.Value("string")})
SAMPLE_BY = {"whole": "document", "lines": "line", "blank_lines": "paragraph"}  # `datasets`' names for plain text


@dataclass(frozen=True)
class Corpus:
    """Training and validation documents: two streams with the single column `text`, without common documents.

    Those of a prepared corpus have the single column `input_ids`.

    Args:
        files: the data files, if they are local.
        column: the column of the files that holds the text.
        num_bytes: size of the training split, if a dataset on the Hub declares it.
        document_separator: how plain text was cut into documents; "auto" also where there is none.
        revision: the commit of a dataset on the Hub.
        prepared: what the streams read, if it was tokenized before.
    """

    name: str
    train: datasets.IterableDataset | TokenizedDocuments
    validation: datasets.IterableDataset | TokenizedDocuments
    files: SplitFiles | None = None
    column: str = "text"
    num_bytes: int | None = None
    document_separator: str = "auto"
    revision: str | None = None
    prepared: PreparedCorpus | None = None

    def line(self) -> str:
        """One line for people: what is trained on and what is held out."""
        if self.prepared:
            return self.prepared.line(self.train)
        return self.files.line() if self.files else self.name


def open_corpus(
    dataset: str,
    text_column: str | None = None,
    skip_damaged: bool = False,
    document_separator: str = "auto",
    tokenizer: PreTrainedTokenizerFast | None = None,
) -> Corpus:
    """Open `primer`, local files (a file, a directory, a glob) or a dataset of the Hub, which is streamed.

    With a `tokenizer`, also a directory of documents that `python -m recipes.data.prepare` has tokenized by it.

    Validation is the split `validation`, or else `test`; local files are sorted into splits by their names, as on the
    Hub. Without such a split it is the last of several files, or, of a single file, the documents whose hash falls in
    the last 1%. `document_separator` says where documents of plain text end; of a single text that is read whole, the
    last 10% are validation. Raises `InputError` for everything that can be checked before the first document is
    needed: no such data, unreadable or empty files, a missing column, an unreachable Hub.
    """
    if dataset == "primer":
        return _open_primer()
    if (prepared := find_prepared(dataset)) is not None:
        return _open_prepared(dataset, prepared, text_column, document_separator, tokenizer)
    if files := find_files(dataset):
        return _open_files(dataset, files, text_column or "text", skip_damaged, document_separator)
    return _open_hub(dataset, text_column or "text", document_separator)


# Primer


def _open_primer() -> Corpus:
    train, validation = (
        datasets.IterableDataset.from_generator(_generate_primer, features=TEXT, gen_kwargs={"split": split})
        for split in ("train", "validation")
    )
    return Corpus("primer", train, validation)


def _generate_primer(split: str) -> Iterator[dict[str, str]]:
    for text in _primer_documents(split):
        yield {"text": text}


@cache
def _primer_documents(split: str) -> list[str]:
    from recipes.data.primer import primer_documents  # here: other corpora need not build its tables

    return primer_documents(split)


# Prepared corpora


def _open_prepared(
    name: str,
    prepared: PreparedCorpus,
    column: str | None,
    separator: str,
    tokenizer: PreTrainedTokenizerFast | None,
) -> Corpus:
    if tokenizer is None:
        raise InputError(
            f"{name} is a prepared corpus, which holds token ids and no text: give what it was made from "
            f"({prepared.source})."
        )
    if column is not None or separator != "auto":
        chosen = "text_column" if column is not None else "document_separator"
        raise InputError(f"{name} is a prepared corpus, whose documents are made already: leave out --{chosen}.")
    prepared.check_tokenizer(tokenizer)
    return Corpus(name, prepared.train, prepared.validation, prepared=prepared)


# Local files


def _open_files(name: str, files: list[str], column: str, skip_damaged: bool, separator: str) -> Corpus:
    named = split_files(files)
    sound = SplitFiles(
        _sound_files(named.train, column, skip_damaged),
        _sound_files(named.validation, column, skip_damaged) if named.validation else [],
        named.left_out,
    )
    split = hold_out(sound)
    separator = separator if any(map(is_text, split.used)) else "auto"
    options = {"column": column, "skip_damaged": skip_damaged, "separator": separator}
    documents = partial(_local_documents, **options)
    if split.by_hash and separator == "whole":
        split = replace(split, cut=True)
        _check_cut(read_documents(split.train, **options), split.train[0])
        streams = documents(split.train, part=0), documents(split.train, part=1)
    elif split.by_hash:
        first = _first_validation_hash(read_documents(split.train, **options), split.train[0])
        streams = documents(split.train, hashes=(0, first)), documents(split.train, hashes=(first, HASH_RANGE))
    else:
        for part in (split.train, split.validation):
            if next(read_documents(part, **options), None) is None:
                raise InputError(f"no text in {list_names(part)}: every row is empty or damaged.")
        streams = documents(split.train), documents(split.validation)
    return Corpus(name, *streams, split, column, document_separator=separator)


def _sound_files(files: list[str], column: str, skip_damaged: bool) -> list[str]:
    """The readable files. Raises `InputError` for the first unreadable one, or with `skip_damaged` if all are."""
    sound = []
    for path in files:
        damage = check_file(path, column)
        if damage is None and path.lower().endswith(JSON_SUFFIXES) and not skip_damaged:
            next(read_documents([path], column, skip_damaged), None)  # raises if the first row has no such column
        if damage is None:
            sound.append(path)
        elif skip_damaged:
            logger.warning(f"{path}: skipped the whole file: {damage.reason}")
        else:
            raise InputError(f"{path}: {damage.reason}. Replace the file, or leave it out by --skip_damaged.")
    if not sound:
        raise InputError(f"none of the {len(files)} data files can be read, from {files[0]} to {files[-1]}.")
    return sound


def _local_documents(files: list[str], **options: Any) -> datasets.IterableDataset:
    options = {"files": files, **options}
    return datasets.IterableDataset.from_generator(_generate_local, features=TEXT, gen_kwargs=options)


def _generate_local(
    files: list[str],
    column: str,
    skip_damaged: bool,
    separator: str,
    hashes: tuple[int, int] = (0, HASH_RANGE),
    part: int | None = None,
) -> Iterator[dict[str, str]]:
    """Documents whose hash lies between `hashes`; with `part`, only this part of `cut_text` of each."""
    everything = hashes == (0, HASH_RANGE)
    for text in read_documents(files, column, skip_damaged, separator):
        if everything or hashes[0] <= document_hash(text) < hashes[1]:
            yield {"text": text if part is None else cut_text(text)[part]}


def _check_cut(documents: Iterator[str], name: str) -> None:
    """Raise `InputError` unless the single text of a file can be cut into two parts with text in both."""
    text = next(documents, None)
    if text is None:
        raise InputError(f"no text in {name}: it is empty or damaged.")
    if not all(map(str.strip, cut_text(text))):
        raise InputError(f"{name} is too short to hold out its last 10%: it has {len(text):,} characters.")


def _first_validation_hash(documents: Iterable[str], name: str) -> int:
    """Smallest hash of a validation document: the last 1% are validation, or, if that leaves none, the highest hash.

    Reads only until each side has a document. Raises `InputError` if there are no two different documents.
    """
    lowest, highest = HASH_RANGE, -1
    for text in documents:
        value = document_hash(text)
        lowest, highest = min(lowest, value), max(highest, value)
        if lowest < VALIDATION_HASH <= highest:
            return VALIDATION_HASH
    if highest == -1:
        raise InputError(f"no text in {name}: every row is empty or damaged.")
    if lowest == highest:
        whole = ", or --document_separator whole to hold out its last tenth" if is_text(name) else ""
        raise InputError(
            f"{name} holds a single document, and one more is needed to hold out for validation: add one{whole}."
        )
    return highest


# The Hub


def _open_hub(dataset: str, column: str, separator: str) -> Corpus:
    try:
        validate_repo_id(dataset)
    except HFValidationError:
        raise InputError(f"{dataset!r} is neither `primer`, nor a file or directory here, nor a Hub id.") from None
    check_hub_reachable(
        f"{dataset} is not a local file and has to be streamed. Connect, or pass a local path or `primer`."
    )
    with _opening(dataset, ", neither as a file here nor on the Hub"):
        return split_builder(datasets.load_dataset_builder(dataset), dataset, column, separator)


def find_hub_files(dataset: str) -> tuple[SplitFiles, str]:
    """The files of a dataset on the Hub that streaming trains on and holds out, by their paths there, and its commit.

    A single file is both, split by hash. Raises `InputError` if the dataset cannot be opened.
    """
    with _opening(dataset, " on the Hub"):
        splits = datasets.load_dataset_builder(dataset).config.data_files
    files = _split_urls(splits, dataset)
    repository, revision = _origin(splits["train"])
    root = f"hf://datasets/{repository}@{revision}/"
    if not all(url.startswith(root) for url in files.used):
        raise InputError(f"{dataset} has its data elsewhere than in its repository, as {files.used[0]}.")
    train, validation = ([url.removeprefix(root) for url in part] for part in (files.train, files.validation))
    return SplitFiles(train, validation), revision


@contextmanager
def _opening(dataset: str, where: str) -> Iterator[None]:
    """Turn what `datasets` raises for a dataset that cannot be opened into an `InputError`."""
    try:
        yield
    except InputError:
        raise
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        raise InputError(f"{dataset} cannot be opened{where}: {in_one_line(error, 300)}") from error


def _split_urls(splits: DataFilesDict, name: str) -> SplitFiles:
    if "train" not in splits:
        raise InputError(f"{name} has no split `train`; its splits are {', '.join(splits)}.")
    held_out = next((splits[split] for split in ("validation", "test") if split in splits), [])
    return hold_out(SplitFiles(list(splits["train"]), list(held_out)))


def _origin(files: DataFilesList) -> tuple[str | None, str | None]:
    """Repository and commit of files of the Hub; of others only a time is known."""
    return next((origin for origin in files.origin_metadata if len(origin) == 2), (None, None))


def split_builder(
    builder: datasets.DatasetBuilder, name: str, column: str, document_separator: str = "auto"
) -> Corpus:
    """The corpus of a `datasets` builder. Validation: its own split, or its last data file, or a split by hash.

    Of a single text that is read whole, the last 10% are validation.
    """
    splits = builder.config.data_files
    files, origins = _split_urls(splits, name), splits["train"].origin_metadata
    if not files.by_hash:
        urls = {"train": files.train, "validation": files.validation}
        builder.config.data_files = DataFilesDict({use: DataFilesList(each, origins) for use, each in urls.items()})
    if hasattr(builder.config, "sample_by"):  # plain text, by default a document a line
        builder.config.sample_by = SAMPLE_BY.get(document_separator, builder.config.sample_by)
    else:
        document_separator = "auto"
    num_bytes = (builder.info.splits or {}).get("train", datasets.SplitInfo()).num_bytes or None
    _, revision = _origin(splits["train"])
    streams = builder.as_streaming_dataset()
    train = _text_only(streams["train"], name, column)
    if not files.by_hash:
        parts = train, _text_only(streams["validation"], name, column)
    elif document_separator == "whole":
        _check_cut((row["text"] for row in train), name)
        parts = tuple(train.map(_cut, input_columns="text", fn_kwargs={"part": part}) for part in (0, 1))
    else:
        first = _first_validation_hash((row["text"] for row in train), name)
        ranges = {"low": 0, "high": first}, {"low": first, "high": HASH_RANGE}
        parts = tuple(train.filter(_hash_between, input_columns="text", fn_kwargs=each) for each in ranges)
    return Corpus(name, *parts, num_bytes=num_bytes, document_separator=document_separator, revision=revision)


def _text_only(stream: datasets.IterableDataset, name: str, column: str) -> datasets.IterableDataset:
    first = next(iter(stream), None)
    if first is None:
        raise InputError(f"{name} is empty.")
    if column not in first:
        raise InputError(
            f"{name}: no column {column!r}; the columns there are {', '.join(first)}. Choose one by --text_column."
        )
    if not isinstance(first[column], str | None):
        kind = type(first[column]).__name__
        raise InputError(f"{name}: column {column!r} holds {kind}, not text. Choose another by --text_column.")
    stream = stream.select_columns([column])
    if column != "text":
        stream = stream.rename_column(column, "text")
    return stream.filter(_has_text, input_columns="text")


def _has_text(text: object) -> bool:
    return isinstance(text, str) and bool(text) and not text.isspace()


def _hash_between(text: str, low: int, high: int) -> bool:
    return low <= document_hash(text) < high


def _cut(text: str, part: int) -> dict[str, str]:
    return {"text": cut_text(text)[part]}
