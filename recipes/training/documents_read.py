"""Which documents of a prepared corpus a run has read, so that another run can begin with those it has not.

Readers take turns (document i goes to reader i mod n), so what was read is one range of the manifest's order. It is
recorded in every checkpoint, and beside the finished model.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator, PartialState
from accelerate.utils import gather_object

from recipes.data.corpora import Corpus
from recipes.data.packing import RowsLoader
from recipes.data.tokenized import TokenizedDocuments
from recipes.training.checkpoint_files import whole_checkpoints
from recipes.training.output_dir import agree
from recipes.utils import atomic
from recipes.utils.errors import InputError, writing
from recipes.utils.outputs import current_holder

DOCUMENTS_READ = "documents_read.json"


Place = tuple[int, Sequence[Sequence[int]]]  # the first document, and the ranges that earlier runs have read


def begin_corpus(
    corpus: Corpus,
    skip_tokens: int | None,
    continue_from: str | None,
    checkpoint: Path | None,
    output_dir: Path,
    state: PartialState,
) -> Corpus:
    """The corpus, read from the first document that this run has to read.

    That is where the run of `checkpoint` began, or the first after `skip_tokens` tokens, or after what the run in
    `continue_from` and those before it have read. Raises `InputError` if there is no such document, or the corpus is
    not a prepared one.
    """
    named = {"skip_tokens": skip_tokens, "continue_from": continue_from}
    given = next((name for name, value in named.items() if value is not None), None)
    if corpus.prepared is None:
        if given:
            raise InputError(
                f"{given} needs a prepared corpus, whose documents are numbered, and {corpus.name} is not one: make "
                "one by python -m recipes.data.prepare."
            )
        return corpus

    def choose() -> Place:
        if checkpoint is not None and (checkpoint / DOCUMENTS_READ).exists():
            if given and checkpoint not in whole_checkpoints(output_dir):
                raise InputError(f"{checkpoint} has its own place in the data: leave out {given}, or --resume.")
            read = _read(checkpoint / DOCUMENTS_READ, corpus.train, corpus.name)
            return read["first"], read["earlier"]
        if continue_from is not None:
            return _after(Path(continue_from), corpus.train, corpus.name, output_dir)
        return (0 if skip_tokens is None else _skip(skip_tokens, corpus.train, corpus.name)), []

    first, earlier = agree(choose, state)
    return replace(corpus, train=corpus.train.begin_at(first, earlier))


def _skip(tokens: int, documents: TokenizedDocuments, corpus: str) -> int:
    first = documents.document_after(tokens)
    if first == len(documents):
        raise InputError(
            f"skip_tokens {tokens:,} leaves no document of {corpus}, which has {documents.tokens:,} tokens."
        )
    return first


def _after(run: Path, documents: TokenizedDocuments, corpus: str, output_dir: Path) -> Place:
    """The place after those that the run in a directory, or in one of its checkpoints, has read."""
    if run.resolve() == output_dir.resolve():
        raise InputError(f"continue_from {run} is this run's own output_dir: the same command resumes it without.")
    if not run.is_dir():
        raise InputError(f"continue_from {run}: no such directory. Give the output_dir of a run.")
    of_checkpoint = run.absolute().parent.parent  # the run that it is of
    if who := current_holder(run) or current_holder(of_checkpoint):
        raise InputError(f"continue_from {run}: {who} is still training it and reads on: wait for it, or end it.")
    newest = next((path for path in (run, *whole_checkpoints(run)[::-1]) if (path / DOCUMENTS_READ).exists()), None)
    if newest is None:
        raise InputError(
            f"continue_from {run}: no {DOCUMENTS_READ} in it or in a checkpoint. Give a run that has trained "
            f"from {corpus} and has a checkpoint."
        )
    read = _read(newest / DOCUMENTS_READ, documents, corpus)
    if read["end"] >= len(documents):
        raise InputError(
            f"continue_from {run}: it has read {corpus} to the end, {len(documents):,} documents. Leave "
            "continue_from out to read them again, or give another corpus."
        )
    return read["end"], [*read["earlier"], (read["first"], read["end"])]


def _read(path: Path, documents: TokenizedDocuments, corpus: str) -> dict[str, Any]:
    """A record. Raises `InputError` if it is damaged, or of another corpus."""
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        known = isinstance(read["manifest"], str) and 0 <= read["first"] <= read["end"]
        known = known and all(0 <= first <= end for first, end in read["earlier"])
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (ValueError, TypeError, LookupError):
        known = False
    if not known:
        raise InputError(f"{path} is damaged: put it back.")
    if read["manifest"] != documents.manifest:
        raise InputError(f"{path} is of another prepared corpus than {corpus}: the hashes of their manifests differ.")
    return read


def describe_documents(documents: TokenizedDocuments, read_to: int) -> dict[str, Any]:
    """The record of a run that has read `documents` up to number `read_to`."""
    first, end = documents.first, max(documents.first, read_to)
    return {
        "manifest": documents.manifest,
        "documents": len(documents),
        "first": first,
        "end": end,
        "tokens": documents.tokens_before(end) - documents.tokens_before(first),
        "earlier": [list(each) for each in documents.earlier],
    }


def record_documents(directory: Path, loader: RowsLoader, accelerator: Accelerator) -> None:
    """Write the record of what all processes have read so far, if they read a prepared corpus. Called by all."""
    documents = loader.dataset.documents
    if isinstance(documents, TokenizedDocuments):
        read_to = max(gather_object([loader.read_to]))
        if accelerator.is_main_process:
            record = describe_documents(documents, read_to)
            (directory / DOCUMENTS_READ).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def keep_record(output_dir: Path) -> None:
    """Copy the newest checkpoint's record beside the finished model, which outlives the checkpoints."""
    newest = whole_checkpoints(output_dir)[-1] / DOCUMENTS_READ
    if newest.exists():
        with writing(output_dir / DOCUMENTS_READ):
            atomic.write_text(output_dir / DOCUMENTS_READ, newest.read_text(encoding="utf-8"))
