"""Conversations to train on, by name: a source, a mixture of sources, or a file of the user's."""

import difflib
import glob
import json
import logging
import os
from collections.abc import Iterator

import datasets
from transformers import PreTrainedTokenizerBase

from recipes.data.corpora import VALIDATION_HASH, document_hash
from recipes.data.files import find_files
from recipes.data.messages import CONVERSATIONS, check_messages, fit_conversation, has_answers, tell_empty_answers
from recipes.data.mixtures import mix, read_mixture, shuffle
from recipes.data.sources import SOURCES, as_dataset
from recipes.data.sources.exams import MULTIPLE_CHOICE
from recipes.data.splits import SplitFiles, hold_out, split_files
from recipes.utils.errors import InputError
from recipes.utils.json_lines import is_json_lines, names_of, read_json_rows
from tokenizer.chat import PLAIN, Message, encode_conversations

MIXTURE = (".yaml", ".yml")

logger = logging.getLogger(__name__)


def open_conversations(spec: str, split: str = "train", seed: int = 0, wording: str = PLAIN) -> datasets.Dataset:
    """Open conversations as a dataset with the single column `messages`, each row checked, shuffled by `seed`.

    `spec` is the name of a source (`gsm8k`), with a directory if its files are here (`gsm8k:DIR`); a file of JSON
    lines, each `{"messages": [...]}` or the list alone, or a directory or glob of such files; or a YAML mixture of
    these (see `mixtures.Part`). `split` is `train`, `validation` or `test`. Validation is the source's validation
    split, or its test split where it has no other; of files, what `conversation_files` says; of a single file, the
    conversations whose hash falls in the last 1%. `wording` is that of multiple choice in the
    sources that are exams (see `messages.choice_wording`).

    Conversations in which an answer is empty are left out, with a warning that counts them. Raises `InputError` for an
    unknown source, unreadable data, an unreachable Hub, a source of nothing but empty answers, and the first row that
    is not a sound conversation, naming file and line, or dataset and row.
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
    closest = difflib.get_close_matches(name, SOURCES, n=1)
    remedy = f"did you mean {closest[0]}?" if closest else f"known are {', '.join(SOURCES)}"
    raise InputError(
        f"no conversations called {spec!r}: {remedy}. A file of yours ends in .jsonl or .jsonl.gz, a mixture in .yaml."
    )


# Files of the user's


def files_lines(spec: str) -> list[str]:
    """Which of the user's files are trained on and which are held out, a line for each entry of a mixture."""
    specs = [part.spec for part in read_mixture(spec)] if spec.lower().endswith(MIXTURE) else [spec]
    return [f"{each}: {files.line()}" for each in specs if (files := conversation_files(each))]


def conversation_files(spec: str) -> SplitFiles | None:
    """The user's files that `spec` names, by their use; None if it names a source.

    Raises `InputError` for a path to nothing, and for files that are not JSON lines.
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
    """The conversations of a file that have answers; raises `InputError` if none has."""
    count = kept = 0
    for messages in read_conversations(path):
        count += 1
        if has_answers(messages):
            kept += 1
            yield messages
    tell_empty_answers(path, count, kept)


def _split_file(path: str, split: str) -> datasets.Dataset:
    hashes: list[int] = []

    def remembering_hashes() -> Iterator[list[Message]]:
        for messages in _answered_conversations(path):
            hashes.append(document_hash(json.dumps(messages, sort_keys=True)))
            yield messages

    conversations = as_dataset(remembering_hashes())
    lowest, highest = min(hashes), max(hashes)
    if lowest == highest:
        raise InputError(f"{path} holds a single conversation; training needs one more to hold out for validation.")
    first = VALIDATION_HASH if lowest < VALIDATION_HASH <= highest else highest
    return conversations.select([row for row, value in enumerate(hashes) if (value < first) == (split == "train")])


def read_conversations(path: str) -> Iterator[list[Message]]:
    """Yield the conversations of a JSON lines file, each checked; there is at least one.

    Raises `InputError` naming file and line.
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
    """The conversations, each fitted to `max_tokens` tokens; those of which nothing fits are left out.

    Warns once how many were shortened and dropped. Raises `InputError` if none is left.
    """
    truncated = dropped = 0

    def fit(batch: dict[str, list]) -> dict[str, list]:
        nonlocal truncated, dropped
        fitted = []
        for messages, ids in zip(batch["messages"], encode_conversations(tokenizer, batch["messages"]), strict=True):
            kept = messages if len(ids) <= max_tokens else fit_conversation(tokenizer, messages, max_tokens)
            dropped += kept is None
            truncated += kept is not None and len(kept) < len(messages)
            if kept is not None:
                fitted.append(kept)
        return {"messages": fitted}

    # Not from a cache: there would be nothing to count.
    options = {"batched": True, "features": CONVERSATIONS, "load_from_cache_file": False, "desc": "Fit to the context"}
    fitted = dataset.map(fit, **options)
    if not len(fitted):
        raise InputError(f"none of the {len(dataset):,} conversations fits into {max_tokens:,} tokens.")
    if truncated or dropped:
        count = f"truncated {truncated:,} and dropped {dropped:,} of {len(dataset):,} conversations"
        logger.warning(f"{count} that do not fit into {max_tokens:,} tokens")
    return fitted
