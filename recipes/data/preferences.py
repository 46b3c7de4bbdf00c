"""Preferences to train on, by name: of two answers to a prompt, the chosen one and the rejected one."""

import json
import logging
from collections.abc import Iterable, Iterator
from typing import Any

import datasets
from huggingface_hub.utils import HFValidationError, validate_repo_id
from transformers import PreTrainedTokenizerBase

from recipes.data.conversations import conversation_files
from recipes.data.messages import check_messages, has_answers
from recipes.data.mixtures import shuffle
from recipes.data.primer.preferences import Preference, primer_preferences
from recipes.data.readers import warn_once
from recipes.data.sources import collect_rows
from recipes.data.splits import document_hash, rows_of_split
from recipes.utils.errors import InputError, in_one_line
from recipes.utils.hub import check_hub_reachable
from recipes.utils.json_lines import names_of, read_json_rows
from tokenizer.chat import Message, encode_conversations

MESSAGES = datasets.List(datasets.Json())
ANSWERS = ("chosen", "rejected")
COLUMNS = ("prompt", *ANSWERS)  # as TRL names them
FEATURES = datasets.Features(dict.fromkeys(COLUMNS, MESSAGES) | {"place": datasets.Value("string")})

logger = logging.getLogger(__name__)


def open_preferences(spec: str, split: str = "train", seed: int = 0) -> datasets.Dataset:
    """Open preferences as a dataset with the columns of `COLUMNS`, each row checked, shuffled by `seed`.

    A further column, `place`, says where a row stands, for messages.

    Args:
        spec: `primer`; or a file of JSON lines, or a directory or glob of such files; or a dataset of the Hub. A row
            is an object with the keys of `parse_preference`.
        split: `train` or `validation`: the data's own split of that name, or its test split. Without one, the rows
            whose hash falls in the last 1% are held out; of several local files, the last one.

    Rows without a difference and rows with an empty answer are left out, with a warning that counts them. Raises
    `InputError` for unreadable data, an unreachable Hub, data without a row that is left, and the first invalid row,
    naming file and line, or dataset and row.
    """
    if spec == "primer":
        rows = [{**each, "place": "primer"} for each in primer_preferences(split, seed=0)]
        return shuffle(collect_rows(rows, FEATURES), seed)
    if files := conversation_files(spec):
        wanted = files.train if split == "train" else files.validation
        opened = datasets.concatenate_datasets([_open_rows(path, read_json_rows(path)) for path in wanted])
        return shuffle(_split_by_hash(opened, split, files.train[0]) if files.by_hash else opened, seed)
    return shuffle(split_tables(_load_from_hub(spec), spec, split), seed)


def split_tables(tables: datasets.DatasetDict, name: str, split: str) -> datasets.Dataset:
    """The preferences of `split` among the tables of a dataset of the Hub."""
    if "train" not in tables:
        raise InputError(f"{name} has no split `train`; its splits are {', '.join(tables)}.")
    held_out = next((each for each in ("validation", "test") if each in tables), None)
    wanted = held_out if held_out and split != "train" else "train"
    rows = ((f"{name}, {wanted} row {number}", row) for number, row in enumerate(tables[wanted]))
    opened = _open_rows(f"{name}, {wanted}", rows)
    return opened if held_out else _split_by_hash(opened, split, name)


def _load_from_hub(name: str) -> datasets.DatasetDict:
    try:
        validate_repo_id(name)
    except HFValidationError:
        raise InputError(f"{name!r} is neither primer, nor a .jsonl file here, nor a dataset of the Hub.") from None
    check_hub_reachable(f"{name} is not a file here and has to be loaded from it. Connect, or give a .jsonl file.")
    try:
        return datasets.load_dataset(name)
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        raise InputError(
            f"{name} cannot be opened, neither as a file here nor on the Hub: {in_one_line(error, 300)}"
        ) from error


# Rows


def _open_rows(name: str, rows: Iterable[tuple[str, Any]]) -> datasets.Dataset:
    return collect_rows(_usable_rows(name, rows), FEATURES)


def _usable_rows(name: str, rows: Iterable[tuple[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows, each with its place, from which something can be learnt. Raises `InputError` if there is none."""
    left_out: dict[str, list[str]] = {}
    count = kept = 0
    for place, row in rows:
        count += 1
        try:
            preference = parse_preference(row)
        except InputError as error:
            raise InputError(f"{place}: {error}.") from None
        if reason := _why_useless(preference):
            left_out.setdefault(reason, []).append(place)
        else:
            kept += 1
            yield {**preference, "place": place}
    if not count:
        raise InputError(f"{name} is empty: there is no preference in it.")
    reasons = [f"in {len(places):,} {reason} (the first: {places[0]})" for reason, places in left_out.items()]
    if not kept:
        raise InputError(f"{name}: there is nothing to learn from its {count:,} preferences: {', '.join(reasons)}.")
    if reasons:
        warn_once(f"{name}: left out {count - kept:,} of {count:,} preferences: {', '.join(reasons)}")


def _why_useless(preference: Preference) -> str | None:
    """Why nothing can be learnt from a preference, if so."""
    if preference["chosen"] == preference["rejected"]:
        return "chosen and rejected are the same"
    return None if all(has_answers(preference[key]) for key in ANSWERS) else "an answer is empty"


def _split_by_hash(rows: datasets.Dataset, split: str, name: str) -> datasets.Dataset:
    hashes = [document_hash(json.dumps([row[key] for key in COLUMNS], sort_keys=True)) for row in rows]
    return rows.select(rows_of_split(hashes, split, name, "preference"))


def parse_preference(row: Any) -> Preference:
    """Take a row apart into prompt, chosen answer and rejected answer: lists of messages, each checked.

    `chosen` and `rejected` are either two whole conversations that begin alike, or two answers to the messages of
    `prompt`. An answer is all that follows the last message of the user: the assistant's text, or calls of tools with
    their results and then its text. Raises `InputError` saying what is wrong, without the row's place.
    """
    if not isinstance(row, dict):
        raise InputError(f"{type(row).__name__} where an object with the keys 'chosen' and 'rejected' is expected")
    if missing := [key for key in ANSWERS if key not in row]:
        raise InputError(f"no key {missing[0]!r}; the keys there are {names_of(row)}")
    prompt = row.get("prompt")
    for key in (*(["prompt"] if prompt is not None else []), *ANSWERS):
        if not isinstance(row[key], list):
            raise InputError(f"{key} is {type(row[key]).__name__} where a list of messages is expected")
    halves = {}
    for key in ANSWERS:
        try:
            messages = check_messages([*(prompt or []), *row[key]])
        except InputError as error:
            raise InputError(f"{key}: {error}") from None
        halves[key] = _split_at_answer(messages)
        if prompt is not None and len(halves[key][0]) != len(prompt):
            raise InputError(f"{key}: the prompt's last message, or a message after it, is not where an answer begins")
    (asked, chosen), (also_asked, rejected) = halves.values()
    if asked != also_asked:
        raise InputError("the prompts of chosen and rejected differ: what comes before the answer must be the same")
    return {"prompt": asked, "chosen": chosen, "rejected": rejected}


def _split_at_answer(messages: list[Message]) -> tuple[list[Message], list[Message]]:
    """The messages up to the user's last one, and those after it."""
    last = max(index for index, message in enumerate(messages) if message["role"] == "user")
    return messages[: last + 1], messages[last + 1 :]


# Fitting to the context


def fit_preferences(
    dataset: datasets.Dataset, tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> datasets.Dataset:
    """The preferences of which prompt and answer fit into `max_tokens` tokens, for both answers; without `place`.

    Cut off, an answer would teach the model to stop anywhere. Warns how many were dropped. Raises `InputError` if none
    is left.
    """

    def fits(batch: dict[str, list]) -> list[bool]:
        whole = [
            [prompt + answer for prompt, answer in zip(batch["prompt"], batch[key], strict=True)] for key in ANSWERS
        ]
        lengths = (map(len, encode_conversations(tokenizer, each)) for each in whole)
        return [max(pair) <= max_tokens for pair in zip(*lengths, strict=True)]

    kept = [fit for start in range(0, len(dataset), 1000) for fit in fits(dataset[start : start + 1000])]
    dropped = [index for index, fit in enumerate(kept) if not fit]
    if len(dropped) == len(dataset):
        raise InputError(f"none of the {len(dataset):,} preferences fits into {max_tokens:,} tokens.")
    if dropped:
        logger.warning(
            f"dropped {len(dropped):,} of {len(dataset):,} preferences that do not fit into {max_tokens:,} tokens "
            f"(one of them: {dataset[dropped[0]]['place']})"
        )
    return dataset.select([index for index, fit in enumerate(kept) if fit]).select_columns(list(COLUMNS))
