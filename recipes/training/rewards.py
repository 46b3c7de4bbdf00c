"""Rewards of GRPO, in the form in which GRPOTrainer calls them: one number for each reply.

A reply is the list of messages that the model wrote, with the results of its calls among them.
"""

from typing import Any

from recipes.utils.numerals import ends_in_number
from tokenizer.chat import Message


def right_answer(completions: list[list[Message]], answer: list[str], **kwargs: Any) -> list[float]:
    """1 where the reply's final number equals the answer as a number, else 0."""
    return [float(ends_in_number(right, final_text(reply))) for reply, right in zip(completions, answer, strict=True)]


def called_calculator(completions: list[list[Message]], **kwargs: Any) -> list[float]:
    """1 where the reply calls the calculator and no call fails, else 0."""
    results = [[message["content"] for message in reply if message["role"] == "tool"] for reply in completions]
    return [float(bool(each) and not any(result.startswith("error") for result in each)) for each in results]


def final_text(reply: list[Message]) -> str:
    """Text of the last message, unless that is a call that was never answered."""
    last = reply[-1] if reply else {}
    return last.get("content") or "" if last.get("role") == "assistant" and not last.get("tool_calls") else ""
