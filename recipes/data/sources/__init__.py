"""Where conversations come from: one module a kind, opened by name."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import datasets

from recipes.data.messages import CONVERSATIONS, check_messages
from recipes.data.sources.exams import open_arc_challenge, open_arc_easy, open_mmlu
from recipes.data.sources.gsm8k import open_gsm8k
from recipes.data.sources.identity import identity_conversations
from recipes.data.sources.spelling import spelling_conversations
from recipes.data.sources.talk import open_humaneval, open_smoltalk
from recipes.utils.errors import InputError
from tokenizer.chat import Message

CHUNK = 10_000  # conversations that are Python objects at a time


def as_dataset(conversations: Iterable[list[Message]]) -> datasets.Dataset:
    """A dataset in memory of conversations that are made as they are asked for; there must be at least one."""
    conversations, chunks = iter(conversations), []
    while chunk := list(islice(conversations, CHUNK)):
        rows = [{"messages": messages} for messages in chunk]
        chunks.append(datasets.Dataset.from_list(rows, features=CONVERSATIONS))
    return datasets.concatenate_datasets(chunks)


def open_primer(stage: str | None, split: str) -> datasets.Dataset:
    """The embedded primer's conversations: `primer:mid` (the default) or `primer:sft`."""
    from recipes.data.primer.conversations import primer_conversations

    conversations = primer_conversations("train" if split == "train" else "validation", stage=stage or "mid")
    return as_dataset(map(check_messages, conversations))


def _embedded(name: str, conversations: Callable[[str], Iterator[list[Message]]]) -> "Source":
    def open_embedded(path: str | None, split: str) -> datasets.Dataset:
        if path is not None:
            raise InputError(f"{name} is made by code and has no files to be read from {path}.")
        return as_dataset(conversations(split))

    return open_embedded


# (path or None for the Hub, split) -> column `messages`; those of `MULTIPLE_CHOICE` also take its wording.
Source = Callable[..., datasets.Dataset]
SOURCES: dict[str, Source] = {
    "primer": open_primer,
    "smoltalk": open_smoltalk,
    "mmlu": open_mmlu,
    "arc_easy": open_arc_easy,
    "arc_challenge": open_arc_challenge,
    "gsm8k": open_gsm8k,
    "humaneval": open_humaneval,
    "spelling": _embedded("spelling", spelling_conversations),
    "identity": _embedded("identity", identity_conversations),
}
