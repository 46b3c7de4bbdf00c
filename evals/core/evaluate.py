"""Measure CORE: the accuracy of each task, on all processes, and the mean of their centered accuracies."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from evals.core.bundle import CoreTask, Example, core_tasks, read_examples
from evals.core.questions import order_examples, tokenize_questions, write_questions
from evals.core.scoring import answer_questions, can_share_prefixes
from evals.metrics.core.formula import center
from evals.out_of_memory import halve_batch_on_oom
from recipes.inference.generate import context_length
from recipes.utils.errors import in_one_line

CHUNK_CHARACTERS = 100_000  # of the questions, sorted by length, that a process takes at once
BATCH_TOKENS = {"cpu": 2048, "cuda": 65_536}  # larger batches do not fit into a CPU's caches


@dataclass(frozen=True)
class TaskResult:
    """A model's results on one task."""

    task: CoreTask
    answers: list[int | bool]  # for each example, the index of the choice, or whether the continuation was predicted
    right: list[bool]
    cropped: int  # questions longer than the model's context, of which the model saw only the end
    too_long: int  # questions whose answer alone exceeds the context, counted as wrong
    seconds: float

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return fmean(self.right)

    @property
    def centered(self) -> float:
        """Accuracy rescaled so that guessing is 0 and perfect is 1."""
        return center(self.accuracy, self.task.baseline)


@dataclass(frozen=True)
class CoreResult:
    """Results of all tasks that could be measured."""

    results: list[TaskResult]
    failed: dict[str, str]  # label and reason of tasks that could not be measured

    @property
    def missing(self) -> list[str]:
        """Labels of CORE's tasks that were not measured, or not by CORE's definition."""
        measured = {result.task for result in self.results}
        return [task.label for task in core_tasks() if task not in measured]

    @property
    def mean_centered(self) -> float | None:
        """Mean centered accuracy of the measured tasks; None if there are none."""
        return fmean(result.centered for result in self.results) if self.results else None

    @property
    def core(self) -> float | None:
        """CORE (arXiv 2406.11794): mean centered accuracy of all its tasks; None if one of them is missing."""
        whole = [result.centered for result in self.results if result.task in core_tasks()]
        return None if self.missing else fmean(whole)

    def metrics(self) -> dict[str, float]:
        """Values for metrics.jsonl: `core_metric`, or `core_partial` with the number of measured `core_tasks`."""
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
    """Measure `tasks` of the bundle, each on the first `max_examples` examples after a shuffle with a fixed seed.

    Every process calls this and gets the whole result, which does not depend on the number of processes. Tasks that
    cannot be read or run are skipped and named in the result. The model is any transformers causal LM; its mode (train
    or eval) is restored.

    Args:
        batch_tokens: tokens in a batch (default: by device); halved when memory runs out.
        tell: called with each result as soon as it is known, or with a line about a task that failed.
    """
    results, failed = [], {}
    for task in tasks:
        try:
            results.append(evaluate_task(model, tokenizer, task, bundle, max_examples, batch_tokens))
            tell(results[-1])
        except Exception as error:  # also out of memory, since the other tasks may be smaller
            failed[task.label] = in_one_line(error, 300)
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
    """Measure one task (see `evaluate_core`). If a process fails, every process raises."""
    started = time.perf_counter()
    state = PartialState()
    answers, failure = {}, None
    examples: list[Example] = []
    try:
        examples = order_examples(read_examples(task, bundle), max_examples)
        answer = partial(_answer_share, model, tokenizer, task, examples, state)
        answers = halve_batch_on_oom(answer, batch_tokens or BATCH_TOKENS.get(model.device.type, 8192))
    except Exception as error:
        failure = error
    # Also after a failure, since the other processes wait here.
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
    """Answer to one question; `choice` is -1 if the answer alone exceeds the context."""

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
    """Answers to this process's share, every num_processes-th chunk, by place of the example."""
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
    """Places of questions in chunks of similar length, longest first; independent of the number of processes."""
    chunks: list[list[int]] = []
    characters = CHUNK_CHARACTERS
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if characters + lengths[place] > CHUNK_CHARACTERS:
            chunks.append([])
            characters = 0
        chunks[-1].append(place)
        characters += lengths[place]
    return chunks
