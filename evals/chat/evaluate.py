"""A chat model's answers to a task's problems, graded: in batches, by all processes together."""

import logging
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from operator import itemgetter

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.chat.letters import choose_letters
from evals.chat.tasks import CHAT_CORE, Problem, Task
from recipes.data.messages import assistant
from recipes.inference.generate import Sampling, context_length, generate_replies
from tokenizer.chat import Message, check_chat_template, encode_prompt

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TaskResult:
    """What a model made of one task."""

    task: str
    kind: str
    baseline: float  # accuracy of guessing
    verdicts: list[list[bool]]  # of each problem: whether each of its answers is right
    too_long: int  # problems that do not fit into the model's context, and count as wrong
    seconds: float
    problems: list[Problem] = field(repr=False)
    replies: list[list[list[Message]]] = field(repr=False)  # to each problem; none where it did not fit

    @property
    def count(self) -> int:
        """Number of problems."""
        return len(self.verdicts)

    @property
    def accuracy(self) -> float:
        """Mean share of right answers; the same as pass@1."""
        return sum(sum(each) / len(each) for each in self.verdicts) / self.count

    @property
    def centered(self) -> float:
        """Accuracy on a scale from 0, guessing, to 1."""
        return (self.accuracy - self.baseline) / (1 - self.baseline)

    def pass_at(self, k: int) -> float:
        """Estimated share of problems solved by at least one of k answers."""
        return sum(estimate_pass_at_k(len(each), sum(each), k) for each in self.verdicts) / self.count


def estimate_pass_at_k(num_samples: int, num_right: int, k: int) -> float:
    """Unbiased estimate of the chance that one of k answers is right, from n samples with c right (arXiv 2107.03374).

    1 - C(n - c, k) / C(n, k): the share of all sets of k samples that hold a right one.
    """
    if not 1 <= k <= num_samples:
        raise ValueError(f"pass@{k} cannot be estimated from {num_samples} samples")
    return 1 - math.comb(num_samples - num_right, k) / math.comb(num_samples, k)


def chat_core(results: Iterable[TaskResult]) -> float | None:
    """ChatCORE: mean centered accuracy over those of its tasks that are among `results`; None without any."""
    centered = [result.centered for result in results if result.task in CHAT_CORE]
    return sum(centered) / len(centered) if centered else None


def evaluate_chat(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Iterable[Task],
    sampling: Sampling | None = None,
    num_samples: int = 1,
    batch_size: int = 32,
) -> dict[str, TaskResult]:
    """The result of each task by its name; see `evaluate_task`."""
    return {task.name: evaluate_task(model, tokenizer, task, sampling, num_samples, batch_size) for task in tasks}


@torch.no_grad()
def evaluate_task(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    sampling: Sampling | None = None,
    num_samples: int = 1,
    batch_size: int = 32,
) -> TaskResult:
    """Ask every problem of `task`, `num_samples` times where the answer is generated, and grade the answers.

    Every process calls this and gets the whole result. Batches and their seeds do not depend on the number of
    processes, so neither do the answers. The model, any causal LM with a chat template, is left in the mode it was in.

    Args:
        sampling: how answers are generated (default: greedily); multiple choice does not generate.
        batch_size: answers that a process works on at a time.
    """
    check_chat_template(tokenizer)
    started = time.perf_counter()
    sampling = sampling or Sampling()
    num_samples = num_samples if task.kind == "generate" else 1
    prompts = [encode_prompt(tokenizer, problem.messages) for problem in task.problems]
    context = context_length(model)
    longest = context if task.kind == "letters" else context - 1  # the answer itself needs room for a token
    fitting = [index for index, prompt in enumerate(prompts) if len(prompt) <= longest]
    asked = [index for index in sorted(fitting, key=lambda i: len(prompts[i])) for _ in range(num_samples)]
    starts = range(0, len(asked), batch_size)

    state = PartialState()
    answered: list[tuple[int, list[Message]]] = []  # with its place in `asked`
    was_training = model.training
    model.eval()
    try:
        for start in starts[state.process_index :: state.num_processes]:
            batch = asked[start : start + batch_size]
            problems = [task.problems[index] for index in batch]
            if task.kind == "letters":
                encoded = [prompts[index] for index in batch]
                letters = choose_letters(model, tokenizer, encoded, [problem.letters for problem in problems])
                replies = [[assistant(letter)] for letter in letters]
            else:
                own = replace(sampling, seed=sampling.seed + start)
                conversations = [problem.messages for problem in problems]
                replies = generate_replies(model, tokenizer, conversations, own, batch_size=batch_size)
            answered += enumerate(replies, start)
    finally:
        model.train(was_training)

    replies_to: list[list[list[Message]]] = [[] for _ in task.problems]
    in_order = sorted(gather_object(answered), key=itemgetter(0))
    for index, (_, reply) in zip(asked, in_order, strict=True):
        replies_to[index].append(reply)
    verdicts = [
        [problem.is_right(reply[-1]["content"]) for reply in replies] or [False] * num_samples
        for problem, replies in zip(task.problems, replies_to, strict=True)
    ]
    too_long = len(prompts) - len(fitting)
    if too_long and state.is_main_process:
        count = f"{too_long} of {len(prompts)} problems exceed the model's context of {context:,} tokens"
        logger.warning(f"{task.name}: {count} and count as wrong")
    seconds = time.perf_counter() - started
    return TaskResult(task.name, task.kind, task.baseline, verdicts, too_long, seconds, task.problems, replies_to)
