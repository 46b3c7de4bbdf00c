"""CORE of a model: every task's accuracy by all processes together, and their mean."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

from accelerate import PartialState
from accelerate.utils import gather_object
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from evals.core.bundle import CoreTask, Example, core_tasks, read_examples
from evals.core.questions import order_examples, tokenize_questions, write_questions
from evals.core.scoring import answer_questions, can_share_prefixes
from evals.metrics.core.formula import center
from recipes.inference.generate import context_length

CHUNK_CHARACTERS = 100_000  # of questions of like length, which a process takes at a time
BATCH_TOKENS = {"cpu": 2048, "cuda": 65_536}  # on a CPU more fall out of its caches


@dataclass(frozen=True)
class TaskResult:
    """What a model made of one task."""

    task: CoreTask
    answers: list[int | bool]  # to each example, in order: the place of the choice, or whether it was predicted
    right: list[bool]
    cropped: int  # questions longer than the model's context, of which the end was seen
    too_long: int  # questions whose very answer exceeds the context, and which count as wrong
    seconds: float

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return fmean(self.right)

    @property
    def centered(self) -> float:
        """Accuracy on a scale from 0, guessing, to 1."""
        return center(self.accuracy, self.task.baseline)


@dataclass(frozen=True)
class CoreResult:
    """All tasks that could be measured."""

    results: list[TaskResult]
    failed: dict[str, str]  # label and reason of those that could not

    @property
    def missing(self) -> list[str]:
        """Labels of CORE's tasks that are not measured, or not as CORE has them."""
        measured = {result.task for result in self.results}
        return [task.label for task in core_tasks() if task not in measured]

    @property
    def mean_centered(self) -> float | None:
        """Mean centered accuracy of the measured tasks; None without any."""
        return fmean(result.centered for result in self.results) if self.results else None

    @property
    def core(self) -> float | None:
        """CORE (arXiv 2406.11794): the mean over all of its tasks; None if one of them is missing."""
        whole = [result.centered for result in self.results if result.task in core_tasks()]
        return None if self.missing else fmean(whole)

    def metrics(self) -> dict[str, float]:
        """For metrics.jsonl: `core_metric`, or `core_partial` over only so many `core_tasks`."""
        if self.mean_centered is None:
            return {}
        if self.core is None:
            return {"core_partial": self.mean_centered, "core_tasks": len(self.results)}
        return {"core_metric": self.core}


def evaluate_core(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    tasks: Sequence[CoreTask],
    bundle: Path,
    max_examples: int | None = None,
    batch_tokens: int | None = None,
    tell: Callable[[TaskResult | str], None] = lambda result: None,
) -> CoreResult:
    """Measure `tasks` of the bundle, each on its first `max_examples` examples in an order that is always the same.

    Every process calls this and gets the whole result; it does not depend on how many they are. A task that cannot
    be read or run is passed over and named in the result. The model, any transformers causal LM, is left in the mode
    it was in.

    Args:
        batch_tokens: tokens that go through the model at once (default: by device); halved when memory runs out.
        tell: called with each result as it comes, or with a line about what failed.
    """
    results, failed = [], {}
    for task in tasks:
        try:
            results.append(evaluate_task(model, tokenizer, task, bundle, max_examples, batch_tokens))
            tell(results[-1])
        except Exception as error:  # also out of memory: the other tasks are smaller, perhaps
            failed[task.label] = " ".join(str(error).split())[:300] or type(error).__name__
            tell(f"{task.label} failed: {failed[task.label]}")
    return CoreResult(results, failed)


def evaluate_task(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    task: CoreTask,
    bundle: Path,
    max_examples: int | None = None,
    batch_tokens: int | None = None,
) -> TaskResult:
    """One task; see `evaluate_core`. Raises what went wrong, on every process."""
    started = time.perf_counter()
    state = PartialState()
    answers, failure = {}, None
    examples: list[Example] = []
    try:
        examples = order_examples(read_examples(task, bundle), max_examples)
        answer = partial(_answer_share, model, tokenizer, task, examples, state)
        answers = _with_fewer_tokens_if_need_be(answer, batch_tokens or BATCH_TOKENS.get(model.device.type, 8192))
    except Exception as error:
        failure = error
    # Also after a failure: the other processes wait here.
    gathered = gather_object([(answers, failure and " ".join(str(failure).split()))])
    if failure is not None:
        raise failure
    if elsewhere := next((reason for _, reason in gathered if reason), None):
        raise RuntimeError(f"on another process: {elsewhere}")
    merged = {place: answer for share, _ in gathered for place, answer in share.items()}
    in_order = [merged[place] for place in range(len(examples))]
    choices = [answer.choice for answer in in_order]
    return TaskResult(
        task=task,
        answers=choices,
        right=[
            choice is True if task.type == "language_modeling" else choice == example["gold"]
            for choice, example in zip(choices, examples, strict=True)
        ],
        cropped=sum(answer.cropped for answer in in_order),
        too_long=sum(answer.too_long for answer in in_order),
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True)
class Answer:
    """To one question; `choice` is -1 where the context holds not even the answer."""

    choice: int | bool
    cropped: bool
    too_long: bool


def _answer_share(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    task: CoreTask,
    examples: list[Example],
    state: PartialState,
    batch_tokens: int,
) -> dict[int, Answer]:
    """This process's share: every so many-th chunk, the longest questions first."""
    written = write_questions(task, examples)
    chunks = make_chunks([sum(map(len, texts)) for texts in written])
    context = context_length(model)
    answers = {}
    was_training = model.training
    model.eval()
    try:
        share = can_share_prefixes(model)
        for chunk in chunks[state.process_index :: state.num_processes]:
            questions = tokenize_questions(
                tokenizer, task, [examples[i] for i in chunk], [written[i] for i in chunk], context
            )
            choices = iter(answer_questions(model, [each for each in questions if each.fits], batch_tokens, share))
            for place, question in zip(chunk, questions, strict=True):
                choice = next(choices) if question.fits else -1
                answers[place] = Answer(choice, question.cropped, not question.fits)
    finally:
        model.train(was_training)
    return answers


def make_chunks(lengths: Sequence[int]) -> list[list[int]]:
    """Places of questions of like length, the longest first; they do not depend on who takes which chunk."""
    chunks: list[list[int]] = []
    characters = CHUNK_CHARACTERS
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if characters + lengths[place] > CHUNK_CHARACTERS:
            chunks.append([])
            characters = 0
        chunks[-1].append(place)
        characters += lengths[place]
    return chunks


def _with_fewer_tokens_if_need_be(answer: Callable[[int], dict[int, Answer]], batch_tokens: int) -> dict[int, Answer]:
    """`answer` with half the tokens at once each time memory runs out."""
    while True:
        try:
            return answer(batch_tokens)
        except Exception as error:
            if batch_tokens == 1 or not should_reduce_batch_size(error):
                raise
        clear_device_cache(garbage_collection=True)
        batch_tokens //= 2
