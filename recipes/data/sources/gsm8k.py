"""GSM8K: word problems of a few steps; annotations in the worked answers become calculator calls."""

import re
from decimal import Decimal, InvalidOperation
from typing import Any

import datasets

from recipes.data.messages import assistant, calculator_call, user
from recipes.data.sources.tables import Table
from recipes.utils.calculator import calculator
from recipes.utils.errors import InputError
from recipes.utils.numerals import marked_number
from tokenizer.chat import Message

GSM8K = Table(
    name="gsm8k",
    repository="openai/gsm8k",
    config="main",
    columns={"question": "text", "answer": "text"},
    splits={"train": ("train",), "validation": ("test",), "test": ("test",)},
)
ANNOTATION = re.compile(r"<<(.*?)>>", re.DOTALL)  # <<48/2=24>>


def open_gsm8k(path: str | None, split: str) -> datasets.Dataset:
    return GSM8K.conversations(path, split, render_gsm8k)


def gsm8k_problems(path: str | None = None, split: str = "train") -> datasets.Dataset:
    """GSM8K's columns `question` and `answer`, reduced to its final number, for evaluation and GRPO."""
    rows = GSM8K.open(path, split)
    answers = [gsm8k_answer(text) for text in rows["answer"]]
    if None in answers:
        where = f"{path or GSM8K.repository}, {split} row {answers.index(None)}"
        raise InputError(f"{where}: the answer does not end with #### and a number.")
    return datasets.Dataset.from_dict({"question": rows["question"][:], "answer": answers})


def gsm8k_answer(text: str) -> str | None:
    """The number after the last `####`, without separators or currency; None if there is none."""
    number = marked_number(text)
    return None if number is None else f"{number:f}"


def render_gsm8k(row: dict[str, Any]) -> list[Message]:
    """`48/2 = <<48/2=24>>24 clips` becomes text, a call of `48/2`, its result 24, and the text after it.

    The result is our calculator's, which is what the model will see when it calls it. Annotations that do not agree
    with the calculator are removed, and the text around them is kept.
    """
    messages, text, end = [user(row["question"])], "", 0
    answer = row["answer"]
    for annotation in ANNOTATION.finditer(answer):
        text += answer[end : annotation.start()]
        end = annotation.end()
        expression, _, annotated = (part.strip() for part in annotation[1].partition("="))
        result = calculator(expression)
        if agree(annotated, result):
            messages += calculator_call(text, expression, result)
            text = ""
    return [*messages, assistant(text + answer[end:])]


def agree(annotated: str, result: str) -> bool:
    """Whether both are the same number; the annotated one may be rounded or cut after some decimals."""
    try:
        short, exact = Decimal(annotated), Decimal(result)
    except InvalidOperation:
        return False
    decimals = -short.as_tuple().exponent if short.is_finite() else 0
    return short == exact or (decimals > 0 and abs(short - exact) < Decimal(10) ** -decimals)
