"""Generate and grade a chat model's answers to a task's problems, in batches on all processes."""

import logging
import math
import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain
from operator import attrgetter

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.chat.letters import choose_letters
from evals.chat.tasks import CHAT_CORE, FLEXIBLE, RIGHT, UNMARKED, Problem, Task
from evals.execution import ExecutionUnavailable
from evals.metrics.core.formula import center
from evals.uncertainty import standard_error
from recipes.data.messages import assistant
from recipes.inference.generate import Sampling, context_length, generate_replies
from tokenizer.chat import Message, check_chat_template, encode_prompt

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TaskResult:
    """A model's results on one task."""

    task: str
    kind: str
    baseline: float  # accuracy of guessing
    outcomes: list[list[str]]  # for each problem, the outcome of each of its answers: `right`, `wrong`, ...
    too_long: int  # problems that do not fit into the model's context and count as wrong
    seconds: float
    problems: list[Problem] = field(repr=False)
    replies: list[list[list[Message]]] = field(repr=False)  # to each problem; empty if it did not fit

    @property
    def count(self) -> int:
        """Number of problems."""
        return len(self.outcomes)

    @property
    def verdicts(self) -> list[list[bool]]:
        """For each problem, whether each of its answers is right."""
        return [[outcome == RIGHT for outcome in each] for each in self.outcomes]

    @property
    def accuracy(self) -> float:
        """Mean share of right answers per problem, which is pass@1."""
        return sum(sum(each) / len(each) for each in self.verdicts) / self.count

    @property
    def centered(self) -> float:
        """Accuracy rescaled so that guessing is 0 and perfect is 1."""
        return center(self.accuracy, self.baseline)

    def pass_at(self, k: int) -> float:
        """Estimated share of problems solved by at least one of k answers."""
        return sum(self._estimates(k)) / self.count

    def standard_error(self, k: int = 1) -> float | None:
        """Standard error of `pass_at(k)`, with problems that are alike as clusters; None for a single cluster."""
        return standard_error(self._estimates(k), [problem.alike for problem in self.problems])

    def _estimates(self, k: int) -> list[float]:
        return [estimate_pass_at_k(len(each), sum(each), k) for each in self.verdicts]

    def flexible(self) -> "TaskResult":
        """The result, under its own name and without replies, that also counts `UNMARKED` answers as right."""
        outcomes = [[RIGHT if outcome == UNMARKED else outcome for outcome in each] for each in self.outcomes]
        return replace(self, task=self.task + FLEXIBLE, outcomes=outcomes, replies=[])


def estimate_pass_at_k(num_samples: int, num_right: int, k: int) -> float:
    """Unbiased estimate of pass@k from n samples of which c are right (arXiv 2107.03374).

    1 - C(n - c, k) / C(n, k): the share of all subsets of k samples that contain a right one.
    """
    if not 1 <= k <= num_samples:
        raise ValueError(f"pass@{k} cannot be estimated from {num_samples} samples")
    return 1 - math.comb(num_samples - num_right, k) / math.comb(num_samples, k)


def chat_core(results: Iterable[TaskResult]) -> dict[str, float]:
    """Mean centered accuracy over ChatCORE's tasks, as `chat_core` if there is a result of each task.

    As `chat_core_partial`, which compares with nothing else, if some are missing; empty if all are.
    """
    centered = {result.task: result.centered for result in results if result.task in CHAT_CORE}
    if not centered:
        return {}
    name = "chat_core" if len(centered) == len(CHAT_CORE) else "chat_core_partial"
    return {name: sum(centered.values()) / len(centered)}


@torch.no_grad()
def evaluate_task(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    sampling: Sampling | None = None,
    num_samples: int = 1,
    batch_size: int = 32,
) -> TaskResult:
    """Answer and grade every problem of `task`; generate `num_samples` answers each unless it is multiple choice.

    Every process calls this and gets the whole result, or an exception if any of them fails. Batches and their seeds
    do not depend on the number of processes, and so neither do the answers. The model is any causal LM with a chat
    template; its mode (train or eval) is restored.

    Args:
        sampling: how answers are generated (default: greedy, with the task's token limit); multiple choice ignores it.
        batch_size: answers that a process generates at once.
    """
    check_chat_template(tokenizer)
    started = time.perf_counter()
    sampling = sampling or Sampling(max_new_tokens=task.max_new_tokens)
    num_samples = num_samples if task.kind == "generate" else 1
    prompts = [encode_prompt(tokenizer, problem.messages) for problem in task.problems]
    context = context_length(model)
    longest = context if task.kind == "letters" else context - 1  # a generated answer needs room for one token
    fitting = [index for index, prompt in enumerate(prompts) if len(prompt) <= longest]
    asked = [index for index in sorted(fitting, key=lambda i: len(prompts[i])) for _ in range(num_samples)]
    batches = {start: asked[start : start + batch_size] for start in range(0, len(asked), batch_size)}

    state = PartialState()
    share, failure = None, None
    try:
        own = dict(list(batches.items())[state.process_index :: state.num_processes])
        share = _grade(task, _answer(model, tokenizer, task, prompts, own, sampling), state.num_processes)
    except Exception as error:
        failure = error
    shares = gather_object([share])  # also after a failure, since the other processes wait here
    if failure is not None:
        raise failure
    if None in shares:
        raise RuntimeError(f"{task.name}: it failed on another process")

    replies: list[list[list[Message]]] = [[] for _ in prompts]
    outcomes: list[list[str]] = [[] for _ in prompts]
    for answer in sorted(chain.from_iterable(shares), key=attrgetter("place")):
        replies[answer.problem].append(answer.reply)
        outcomes[answer.problem].append(answer.outcome)
    outcomes = [each or ["too long"] * num_samples for each in outcomes]
    too_long = len(prompts) - len(fitting)
    if too_long and state.is_main_process:
        count = f"{too_long} of {len(prompts)} problems exceed the model's context of {context:,} tokens"
        logger.warning(f"{task.name}: {count} and count as wrong")
    seconds = time.perf_counter() - started
    return TaskResult(task.name, task.kind, task.baseline, outcomes, too_long, seconds, task.problems, replies)


@dataclass(frozen=True)
class Answer:
    """One reply to one problem."""

    place: int  # position among all answers, by which they are sorted
    problem: int  # number of the problem
    reply: list[Message]
    outcome: str = ""


def _answer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    prompts: list[list[int]],
    batches: dict[int, list[int]],
    sampling: Sampling,
) -> list[Answer]:
    """Answers to batches of problems; `batches` maps the place of a batch's first answer to its problems."""
    answers = []
    was_training = model.training
    model.eval()
    try:
        for start, batch in batches.items():
            problems = [task.problems[index] for index in batch]
            if task.kind == "letters":
                encoded = [prompts[index] for index in batch]
                letters = choose_letters(model, tokenizer, encoded, [problem.letters for problem in problems])
                replies = [[assistant(letter)] for letter in letters]
            else:
                own = replace(sampling, seed=sampling.seed + start)
                conversations = [problem.messages for problem in problems]
                replies = generate_replies(model, tokenizer, conversations, own, batch_size=len(batch))
            answers += map(Answer, range(start, start + len(batch)), batch, replies)
    finally:
        model.train(was_training)
    return answers


def _grade(task: Task, answers: list[Answer], num_processes: int) -> list[Answer]:
    """Grade the answers in threads, one per core of this process, since grading may run programs.

    Answers that cannot be graded count as failed. Raises `ExecutionUnavailable` if no program can be run at all.
    """

    def grade(answer: Answer) -> Answer:
        try:
            outcome = task.problems[answer.problem].grade(answer.reply[-1]["content"])
        except ExecutionUnavailable:
            raise
        except Exception:
            logger.warning(f"{task.name}: problem {answer.problem} counts as failed:", exc_info=True)
            outcome = "failed"
        return replace(answer, outcome=outcome)

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes_here = int(os.environ.get("LOCAL_WORLD_SIZE") or num_processes)
    with ThreadPoolExecutor(max(1, cores // processes_here)) as pool:
        return list(pool.map(grade, answers))
