"""Conversations to train on, by name: a source, a mixture of sources, or your own files."""

import glob
import json
import os
from collections.abc import Iterator

import datasets
from transformers import PreTrainedTokenizerBase

from recipes.data.files import find_files
from recipes.data.messages import (
    CONVERSATIONS,
    check_messages,
    fit_conversation,
    has_answers,
    warn_of_empty_answers,
    warn_of_truncation,
)
from recipes.data.mixtures import mix, read_mixture, shuffle
from recipes.data.sources import SOURCES, as_dataset
from recipes.data.sources.exams import MULTIPLE_CHOICE
from recipes.data.splits import SplitFiles, document_hash, hold_out, rows_of_split, split_files
from recipes.utils.errors import InputError, suggest
from recipes.utils.json_lines import is_json_lines, names_of, read_json_rows
from tokenizer.chat import PLAIN, Message, encode_conversations

MIXTURE = (".yaml", ".yml")


def open_conversations(spec: str, split: str = "train", seed: int = 0, wording: str = PLAIN) -> datasets.Dataset:
    """Open conversations as a dataset with the single column `messages`, each row checked, shuffled by `seed`.

    Args:
        spec: the name of a source (`gsm8k`), with a directory if its files are local (`gsm8k:DIR`); or a file of JSON
            lines, each `{"messages": [...]}` or the list alone, or a directory or glob of such files; or a YAML
            mixture of these (see `mixtures.Part`).
        split: `train`, `validation` or `test`. Validation is the source's validation split, or its test split if it
            has no other; of several files, those named so or the last one; of a single file, the conversations whose
            hash falls in the last 1%.
        wording: of multiple-choice questions (see `messages.choice_wording`).

    Conversations with an empty answer are left out, with a warning that counts them. Raises `InputError` for an
    unknown source, unreadable data, an unreachable Hub, a source with nothing but empty answers, and the first invalid
    conversation, naming file and line, or dataset and row.
    """
    if spec.lower().endswith(MIXTURE):
        parts = read_mixture(spec)
        sources = [_open_part(part.spec, split, wording) for part in parts]
        return shuffle(mix(parts, sources, seed, repeat=split == "train"), seed)
    return shuffle(_open_part(spec, split, wording), seed)


def _open_part(spec: str, split: str, wording: str) -> datasets.Dataset:
    name, _, path = spec.partition(":")
    if name in SOURCES:
        options = {"wording": wording} if name in MULTIPLE_CHOICE else {}
        return SOURCES[name](path or None, split, **options)
    if files := conversation_files(spec):
        return _open_files(files, split)
    raise InputError(
        f"no conversations called {spec!r}: {suggest(name, SOURCES)} "
        "Names of your own files end in .jsonl or .jsonl.gz, of mixtures in .yaml."
    )


# Local files


def files_lines(spec: str) -> list[str]:
    """One line per entry of a mixture that says which local files are trained on and which are held out."""
    specs = [part.spec for part in read_mixture(spec)] if spec.lower().endswith(MIXTURE) else [spec]
    return [f"{each}: {files.line()}" for each in specs if (files := conversation_files(each))]


def conversation_files(spec: str) -> SplitFiles | None:
    """The local files that `spec` names, by their use; None if it names a source.

    Raises `InputError` for a path that does not exist, and for files that are not JSON lines.
    """
    if spec.partition(":")[0] in SOURCES or not (is_json_lines(spec) or os.path.exists(spec) or glob.has_magic(spec)):
        return None
    files = find_files(spec)
    if others := [file for file in files if not is_json_lines(file)]:
        raise InputError(f"{others[0]} does not hold conversations: their files end in .jsonl or .jsonl.gz.")
    return hold_out(split_files(files))


def _open_files(files: SplitFiles, split: str) -> datasets.Dataset:
    if files.by_hash:
        return _split_file(files.train[0], split)
    wanted = files.train if split == "train" else files.validation
    return as_dataset(messages for file in wanted for messages in _answered_conversations(file))


def _answered_conversations(path: str) -> Iterator[list[Message]]:
    """The conversations of a file without empty answers. Raises `InputError` if there is none."""
    count = kept = 0
    for messages in read_conversations(path):
        count += 1
        if has_answers(messages):
            kept += 1
            yield messages
    warn_of_empty_answers(path, count, kept)


def _split_file(path: str, split: str) -> datasets.Dataset:
    hashes: list[int] = []

    def remembering_hashes() -> Iterator[list[Message]]:
        for messages in _answered_conversations(path):
            hashes.append(document_hash(json.dumps(messages, sort_keys=True)))
            yield messages

    conversations = as_dataset(remembering_hashes())
    return conversations.select(rows_of_split(hashes, split, path, "conversation"))


def read_conversations(path: str) -> Iterator[list[Message]]:
    """Yield the conversations of a JSON lines file, each checked.

    Raises `InputError` for an empty file, and for an invalid conversation, naming file and line.
    """
    empty = True
    for place, row in read_json_rows(path):
        empty = False
        if isinstance(row, dict):
            if "messages" not in row:
                raise InputError(f"{place}: no key 'messages'; the keys there are {names_of(row)}.")
            row = row["messages"]
        try:
            yield check_messages(row)
        except InputError as error:
            raise InputError(f"{place}: {error}.") from None
    if empty:
        raise InputError(f"{path} is empty: there is no conversation in it.")


# Fitting to the context


def fit_conversations(
    dataset: datasets.Dataset, tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> datasets.Dataset:
    """Fit each conversation to `max_tokens` tokens (see `fit_conversation`); drop those of which nothing fits.

    Warns how many were truncated and dropped. Raises `InputError` if none is left.
    """
    truncated = 0

    def fit(batch: dict[str, list]) -> dict[str, list]:
        nonlocal truncated
        fitted = []
        for messages, ids in zip(batch["messages"], encode_conversations(tokenizer, batch["messages"]), strict=True):
            kept = messages if len(ids) <= max_tokens else fit_conversation(tokenizer, messages, max_tokens)
            if kept is not None:
                truncated += len(kept) < len(messages)
                fitted.append(kept)
        return {"messages": fitted}

    # Without the cache, which would skip `fit` and leave `truncated` at 0.
    options = {"batched": True, "features": CONVERSATIONS, "load_from_cache_file": False, "desc": "Fit to the context"}
    fitted = dataset.map(fit, **options)
    warn_of_truncation(len(dataset), len(fitted), truncated, max_tokens)
    return fitted
