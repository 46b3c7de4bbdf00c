"""The same few held-out problems before and after GRPO, with the model's working: kept in a file, and printed.

They are the first of those that pass@k is measured on, whatever becomes of them. The file outlives the process: that
which ends the training may not be the one that began it.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evals.chat.evaluate import TaskResult
from evals.samples import turns
from recipes.utils import atomic
from recipes.utils.plain_text import plain_text
from tokenizer.chat import Message

SHOWN = 5  # problems
MOST_CHARACTERS = 240  # of a reply on the console


@dataclass(frozen=True)
class Attempt:
    """The likeliest reply to a problem after `step` steps of training."""

    step: int
    working: str
    right: bool

    @property
    def text(self) -> str:
        """The verdict and the reply."""
        return f"{'right' if self.right else 'wrong'}: {self.working or '(no reply)'}"


@dataclass(frozen=True)
class ShownProblem:
    """A problem with the replies before training and at the last measurement; None where none was made."""

    question: str
    answer: str
    before: Attempt | None
    after: Attempt | None


def working(reply: Sequence[Message]) -> str:
    """A reply as one line, with the calls of the calculator in brackets: `[27+45 = 72] The answer is 72.`"""
    parts, call = [], ""
    for speaker, text in turns(list(reply)):
        if speaker == "call":
            call = text
        else:
            parts.append(f"[{call} = {text}]" if speaker == "result" else text)
    return " ".join(" ".join(parts).split())


def keep_attempts(path: Path, greedy: TaskResult, step: int) -> None:
    """Write the replies to the first problems of `greedy`, made after `step` steps, beside those made before training.

    What is kept of problems that are measured no more, or of a run that begins anew, is dropped.
    """
    before = {each.question: each.before for each in read_problems(path)} if step else {}
    shown = []
    for problem, replies, verdicts in list(zip(greedy.problems, greedy.replies, greedy.verdicts, strict=True))[:SHOWN]:
        attempt = Attempt(step, working(replies[0]) if replies else "", verdicts[0])  # empty: the problem did not fit
        question = problem.messages[-1]["content"]
        ends = (before.get(question), attempt) if step else (attempt, None)
        shown.append(ShownProblem(question, problem.answer, *ends))
    content = {"problems": [asdict(each) for each in shown]}
    atomic.write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_problems(path: Path) -> list[ShownProblem]:
    """What `keep_attempts` wrote; nothing if the file is missing or damaged, for training is worth more."""
    try:
        return parse_problems(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return []


def parse_problems(content: Any) -> list[ShownProblem]:
    """The content of the file. Raises ValueError, KeyError or TypeError if it is damaged."""
    problems = []
    for each in content["problems"]:
        question, answer = each["question"], each["answer"]
        if not isinstance(question, str) or not isinstance(answer, str):
            raise ValueError("question and answer are to be text")
        problems.append(ShownProblem(question, answer, _parse_attempt(each["before"]), _parse_attempt(each["after"])))
    return problems


def _parse_attempt(content: Any) -> Attempt | None:
    if content is None:
        return None
    attempt = Attempt(content["step"], content["working"], content["right"])
    if [type(value) for value in (attempt.step, attempt.working, attempt.right)] != [int, str, bool]:
        raise ValueError("an attempt is to have a step, text and a verdict")
    return attempt


def heading(problems: Sequence[ShownProblem]) -> str:
    """What is shown, in one sentence; empty without problems."""
    if not problems:
        return ""
    after = problems[0].after
    steps = f"before training and after step {after.step:,}" if after else "before training"
    count = f"first {len(problems)} held-out problems" if len(problems) > 1 else "first held-out problem"
    return f"The {count}, not chosen by result: likeliest replies {steps}; a call of the calculator is in brackets."


def print_problems(problems: Sequence[ShownProblem]) -> None:
    """Print each problem with its answer, and the replies below it."""
    if problems:
        print(f"\n{heading(problems)}")
    for number, each in enumerate(problems, 1):
        print(plain_text(f"{number}. {one_line(each.question)} ({each.answer})"))
        for name, attempt in (("before", each.before), ("after", each.after)):
            if attempt is not None:
                print(plain_text(f"   {name:<6}  {one_line(attempt.text)}"))


def one_line(text: str) -> str:
    """`text` without line breaks; of a long one the begin and the end, where the answer is."""
    text, half = " ".join(text.split()), MOST_CHARACTERS // 2
    return text if len(text) <= MOST_CHARACTERS else f"{text[:half].rstrip()} ... {text[-half:].lstrip()}"
