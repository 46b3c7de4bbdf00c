"""Turn a task's examples into rows of tokens: solved examples, then the question with each of its answers.

Wording and tokenization follow DCLM as implemented in nanochat, so that scores compare.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from transformers import PreTrainedTokenizerFast

from evals.core.bundle import CoreTask, Example
from tokenizer.encode import encode_documents

SHUFFLE_SEED = 1337  # of a task's examples, from which the first `max_examples` are taken
SHOTS_SEED = 1234  # plus the place of the question: seed of its solved examples


@dataclass(frozen=True)
class Row:
    """Token ids, of which the model is scored on the last `scored`."""

    ids: tuple[int, ...]
    scored: int


@dataclass(frozen=True)
class Question:
    """One row for each answer to compare, or a single row whose continuation must be predicted exactly."""

    rows: list[Row]
    gold: int | None  # index of the right row; None for a single row
    cropped: bool  # whether its beginning is cut off, because it is longer than the model's context
    fits: bool  # whether the context has room for the scored tokens and one token before them


def order_examples(examples: Sequence[Example], max_examples: int | None = None) -> list[Example]:
    """Shuffle the examples with a fixed seed, and keep the first `max_examples`."""
    ordered = list(examples)
    random.Random(SHUFFLE_SEED).shuffle(ordered)
    return ordered[:max_examples]


def draw_shots(examples: Sequence[Example], place: int, shots: int) -> list[Example]:
    """Draw the solved examples for the question at `place` from all other examples."""
    drawn = random.Random(SHOTS_SEED + place).sample(range(len(examples) - 1), shots)
    return [examples[index + (index >= place)] for index in drawn]  # skips `place` without copying the list


def write_questions(task: CoreTask, examples: Sequence[Example]) -> list[list[str]]:
    """The texts of each of the ordered `examples`, after its solved examples.

    Multiple choice has a text per answer, schema a text per context; language modeling has the question alone, and the
    question with its continuation.
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
    """Tokenize the texts of `write_questions`, and crop them from the left to `context` tokens."""
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
    """Rows of the tokenized texts of one question. Scored are the tokens after their common prefix.

    In a schema, scored is their common suffix. At least one token is scored, even if one answer is the beginning of
    another, and at least one token is left before it.
    """
    if task.type == "schema":
        shared_end = common_prefix([ids[::-1] for ids in encoded])
        return [Row(ids, max(1, min(shared_end, len(ids) - 1))) for ids in encoded]
    whole = encoded[1:] if task.type == "language_modeling" else encoded
    shared = min(common_prefix(encoded), *(len(ids) - 1 for ids in whole))
    return [Row(ids, len(ids) - shared) for ids in whole]


def common_prefix(rows: Sequence[Sequence[int]]) -> int:
    """Length of the longest common prefix of the rows."""
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*rows, strict=False)))
