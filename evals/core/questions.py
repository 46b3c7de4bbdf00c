"""Examples of a task as rows of tokens: solved examples in front, then the question with each answer that is weighed.

Everything about wording and tokens follows DCLM as nanochat poses it, so that figures compare.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from transformers import PreTrainedTokenizerFast

from evals.core.bundle import CoreTask, Example
from tokenizer.encode import encode_documents

SHUFFLE_SEED = 1337  # of a task's examples, before the first so many are taken
SHOTS_SEED = 1234  # plus the place of the question: draws the solved examples in front of it


@dataclass(frozen=True)
class Row:
    """Token ids of which the last `scored` are what the model has to expect."""

    ids: tuple[int, ...]
    scored: int


@dataclass(frozen=True)
class Question:
    """A row for each answer that is weighed, or the only row where the right continuation is to be predicted."""

    rows: list[Row]
    gold: int | None  # place of the right row; None where there is only one, which the model must predict itself
    cropped: bool  # its beginning is left out: it is longer than the model's context
    fits: bool  # the context holds at least what is scored and a token before it


def order_examples(examples: Sequence[Example], max_examples: int | None = None) -> list[Example]:
    """The examples in an order that is always the same; with `max_examples` the first so many of them."""
    ordered = list(examples)
    random.Random(SHUFFLE_SEED).shuffle(ordered)
    return ordered[:max_examples]


def draw_shots(examples: Sequence[Example], place: int, shots: int) -> list[Example]:
    """The solved examples in front of the one at `place`, drawn from the list of all others."""
    drawn = random.Random(SHOTS_SEED + place).sample(range(len(examples) - 1), shots)
    return [examples[index + (index >= place)] for index in drawn]  # without building that list for every question


def write_questions(task: CoreTask, examples: Sequence[Example]) -> list[list[str]]:
    """The texts of each of the ordered `examples`, solved examples in front.

    Multiple choice has a text for each answer, a schema for each beginning; language modeling has the question alone
    and then the whole.
    """
    written = []
    for place, example in enumerate(examples):
        shots = "".join(f"{solved(task, shot)}\n\n" for shot in draw_shots(examples, place, task.shots))
        if task.type == "multiple_choice":
            texts = [f"{shots}{example['query']}{task.delimiter}{choice}" for choice in example["choices"]]
        elif task.type == "schema":
            ends = f"{task.delimiter}{example['continuation']}"
            texts = [f"{shots}{beginning}{ends}" for beginning in example["context_options"]]
        else:
            question = f"{shots}{example['context'].strip()}{task.delimiter}"
            texts = [question.strip(), f"{question}{example['continuation']}"]
        written.append(texts)
    return written


def solved(task: CoreTask, example: Example) -> str:
    """An example with its right answer."""
    if task.type == "multiple_choice":
        return f"{example['query']}{task.delimiter}{example['choices'][example['gold']]}"
    if task.type == "schema":
        return f"{example['context_options'][example['gold']]}{task.delimiter}{example['continuation']}"
    return f"{example['context'].strip()}{task.delimiter}{example['continuation']}"


def tokenize_questions(
    tokenizer: PreTrainedTokenizerFast,
    task: CoreTask,
    examples: Sequence[Example],
    written: Sequence[Sequence[str]],
    context: int,
) -> list[Question]:
    """The question of each example, out of what `write_questions` wrote; cropped from the left to `context` tokens."""
    encoded = iter(encode_documents(tokenizer, [text for texts in written for text in texts]))
    questions = []
    for example, texts in zip(examples, written, strict=True):
        rows = score_what_differs(task, [tuple(next(encoded)) for _ in texts])
        questions.append(
            Question(
                rows=[Row(row.ids[-context:], row.scored) for row in rows],
                gold=None if task.type == "language_modeling" else example["gold"],
                cropped=any(len(row.ids) > context for row in rows),
                fits=all(row.scored < context for row in rows),
            )
        )
    return questions


def score_what_differs(task: CoreTask, encoded: list[tuple[int, ...]]) -> list[Row]:
    """Rows of the tokenized texts of one question: what is scored comes after all that they share in front.

    In a schema it is what they share at the end. It is one token at least, also where an answer is the beginning of
    another one, and leaves at least one token before it.
    """
    if task.type == "schema":
        shared_end = common_prefix([ids[::-1] for ids in encoded])
        return [Row(ids, max(1, min(shared_end, len(ids) - 1))) for ids in encoded]
    whole = encoded[1:] if task.type == "language_modeling" else encoded
    shared = min(common_prefix(encoded), *(len(ids) - 1 for ids in whole))
    return [Row(ids, len(ids) - shared) for ids in whole]


def common_prefix(rows: Sequence[Sequence[int]]) -> int:
    """Number of tokens with which all rows begin."""
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*rows, strict=False)))
