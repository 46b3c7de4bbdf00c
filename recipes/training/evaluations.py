"""What the training loop measures as it goes: bits per byte and loss, CORE, and samples to read."""

import math
from collections.abc import Callable
from pathlib import Path

import datasets
import torch
from accelerate import Accelerator
from accelerate.utils import DynamoBackend, broadcast_object_list
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from evals.bits_per_byte import bits_per_byte, sum_nats_and_bytes
from evals.core.bundle import available, check_enough, read_tasks
from evals.core.evaluate import evaluate_core
from evals.samples import PROMPTS, complete
from recipes.data.held_out import read_validation_rows
from recipes.training.best_checkpoint import EVALUATION
from recipes.training.loop import Evaluation
from recipes.training.plan import Plan
from recipes.utils.errors import InputError
from recipes.utils.heartbeat import heartbeat
from tokenizer.encode import document_start_id, token_byte_lengths


def bits_per_byte_evaluation(
    documents: datasets.IterableDataset,
    tokenizer: PreTrainedTokenizerFast,
    accelerator: Accelerator,
    plan: Plan,
    num_tokens: int,
    every: int,
) -> Evaluation:
    """Bits per byte, and nats a token, of the first `num_tokens` of held-out `documents`.

    Nats a token (`val/loss`) compare only between runs with the same tokenizer; with one that has no merges they are
    nats a character of ASCII text. Special tokens do not count. The main process reads the rows once and shares them
    out; they are the same for every batch size, packing and process count.
    """
    if every < 0:
        return Evaluation(EVALUATION, every, lambda model: {})
    byte_lengths = token_byte_lengths(tokenizer)
    rows = _read_on_main(
        accelerator, lambda: read_validation_rows(documents, tokenizer, plan.max_seq_len, num_tokens)
    )  # (N, T + 1)
    num_predicted = int((byte_lengths[rows[:, 1:].long()] > 0).sum())
    mine = rows[accelerator.process_index :: accelerator.num_processes].long()
    compiled = is_compiled(accelerator)
    if compiled:  # a last batch of fewer rows would be compiled anew: fill it with tokens that have no bytes
        missing = -len(mine) % plan.device_batch_size
        mine = F.pad(mine, (0, 0, 0, missing), value=document_start_id(tokenizer))

    def measure(model: PreTrainedModel) -> dict[str, float]:
        failure = None
        try:
            if compiled:  # a graph of its own, in one piece: DDP would cut it
                model = torch.compile(model, **accelerator.state.dynamo_plugin.to_kwargs())
            totals = sum_nats_and_bytes(model, mine.split(plan.device_batch_size), byte_lengths)
        except Exception as error:
            totals, failure = torch.full((2,), float("nan")), error
        # Reduced after a failure as well: the other processes wait here.
        nats, num_bytes = accelerator.reduce(totals.to(accelerator.device, torch.float32)).tolist()
        if failure is not None:
            raise failure
        if math.isnan(nats):
            raise RuntimeError("it failed on another process")
        return {"val/bpb": bits_per_byte(nats, num_bytes), "val/loss": nats / num_predicted}

    return Evaluation(EVALUATION, every, measure)


def is_compiled(accelerator: Accelerator) -> bool:
    """Whether to compile the forward pass of evaluations, if that of training is compiled.

    On a CPU that would take longer than it saves in all evaluations of a run, which have few tokens there.
    """
    return accelerator.state.dynamo_plugin.backend != DynamoBackend.NO and accelerator.device.type != "cpu"


def _read_on_main(accelerator: Accelerator, read: Callable[[], torch.Tensor]) -> torch.Tensor:
    """The result of `read` on the main process, sent to all; its `InputError` is raised on all."""
    result: list = [None, None]
    if accelerator.is_main_process:
        try:
            with heartbeat("reading held-out documents"):
                result[0] = read()
        except InputError as error:
            result[1] = f"held out for validation: {error} Or train without, by --eval_every -1."
    broadcast_object_list(result)
    if result[1] is not None:
        raise InputError(result[1])
    return result[0]


def core_evaluation(
    bundle: str | None,
    tokenizer: PreTrainedTokenizerFast,
    accelerator: Accelerator,
    plan: Plan,
    max_per_task: int,
    every: int,
) -> Evaluation:
    """CORE by the tasks in `bundle`: `core_metric`, or `core_partial` where the bundle lacks some of them."""
    directory, tasks = Path(bundle or ""), []
    if every >= 0:  # an incomplete bundle is reported before the first step
        tasks = available(read_tasks(directory), directory)
        check_enough(tasks, max_per_task)
    on_gpu = accelerator.device.type == "cuda"
    batch_tokens = plan.device_batch_size * plan.max_seq_len if on_gpu else None  # as many as fit in training

    def measure(model: PreTrainedModel) -> dict[str, float]:
        result = evaluate_core(model, tokenizer, tasks, directory, max_per_task, batch_tokens)
        for label, reason in result.failed.items():
            accelerator.print(f"CORE without {label}, which failed: {reason}")
        if not result.results:
            raise RuntimeError(f"no task of {directory} could be measured")
        return result.metrics()

    return Evaluation("CORE", every, measure)


def sample_lines(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Greedy completions of seven prompts, one a line."""
    completions = complete(model, tokenizer, list(PROMPTS))
    return [f"  {prompt}|{completion!r}" for prompt, completion in zip(PROMPTS, completions, strict=True)]
