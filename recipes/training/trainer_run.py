"""A run of TRL's trainers as a run of our loop: stopped by signals, resumed from whole checkpoints of its own kind."""

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils.memory import should_reduce_batch_size
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import ModelConfig

from recipes.training.checkpoint_files import (
    check_room,
    describe_newest,
    set_aside_after,
    unfinished_checkpoints,
    whole_checkpoints,
    write_manifest,
)
from recipes.training.export import has_finite_weights
from recipes.training.horizon import check_batch
from recipes.training.loop import StopSignal
from recipes.training.machines import smallest_memory
from recipes.training.memory import fits
from recipes.training.out_of_memory import end_of_one_of_several
from recipes.training.posttraining_arguments import PosttrainingArguments
from recipes.training.reply_scores import keeps_cut
from recipes.utils.errors import InputError, in_one_line, writing
from recipes.utils.hardware import has_bf16
from recipes.utils.model_facts import ModelFacts
from recipes.utils.run_directory import CHECKPOINTS

Config = TypeVar("Config", bound=TrainingArguments)


def build_trainer_config(config_class: type[Config], args: PosttrainingArguments, processes: PartialState) -> Config:
    """A configuration of TRL's with the values of `args`, apart from what SFT, DPO and GRPO decide alike.

    Raises `InputError` for what TRL refuses: a combination of flags, a file, an extra that is not installed.
    """
    decided = {
        "output_dir": str(Path(args.output_dir, CHECKPOINTS)),
        "use_cpu": processes.device.type == "cpu",
        # bf16 needs no loss scaling, but without the hardware's own units it is emulated, and slower than fp32.
        "bf16": has_bf16(processes.device) if args.bf16 is None and not args.fp16 else args.bf16,
        "push_to_hub": False,  # or Trainer would push every checkpoint: the scripts publish the finished model
        "hub_model_id": None,
    }
    try:
        return config_class(**vars(args) | decided)
    except (ValueError, OSError, ImportError) as error:
        raise InputError(in_one_line(error, 300)) from None


def accumulate_to(total_batch_size: int, config: TrainingArguments) -> int:
    """Micro-batches of packed rows that a process accumulates to `total_batch_size` tokens a step of all processes.

    Raises `InputError`, naming the nearest values that work, unless it is a multiple of what one micro-batch holds.
    """
    rows, length, processes = config.per_device_train_batch_size, config.max_length, config.world_size
    check_batch(total_batch_size, rows, length, processes, ("per_device_train_batch_size", "max_length"))
    return total_batch_size // (rows * length * processes)


def fit_rows(config: TrainingArguments, facts: ModelFacts, length: int, processes: PartialState) -> None:
    """Divide the rows that a GPU handles at a time until they fit by the estimate, and accumulate as many more.

    The batch of an optimizer step stays what it was. Says so, and warns where a single row of `length` tokens does not
    fit. Does nothing on a CPU.
    """
    capacity, asked = smallest_memory(processes), config.per_device_train_batch_size
    if capacity is None:
        return
    generates = hasattr(config, "steps_per_generation")  # GRPO: the replies that are sampled at once, in micro-batches
    if generates:
        capacity -= 2 * facts.num_parameters  # the copy in bf16 that writes them stays (training/rollouts.py)
    # All logits of a row in fp32, and what becomes of them; else they exist by chunks (training/reply_scores.py).
    logits = 16 * config.max_completion_length * facts.vocab_size if generates and keeps_cut(config) else 0

    def enough(rows: int) -> bool:
        recompute, left = bool(config.gradient_checkpointing), capacity - rows * logits
        return fits(facts, rows, length, recompute, left, ranks=processes.num_processes, trainer=True)

    rows = next(
        (asked // pieces for pieces in range(1, asked + 1) if asked % pieces == 0 and enough(asked // pieces)), 1
    )
    config.per_device_train_batch_size = rows
    config.gradient_accumulation_steps *= asked // rows
    if generates:
        config.steps_per_generation *= asked // rows
    if rows < asked:
        processes.print(
            f"per_device_train_batch_size {rows} in place of {asked}, as fit by estimate, with "
            f"gradient_accumulation_steps {config.gradient_accumulation_steps}: the same batch"
        )
    if not enough(rows):
        processes.print("warning: by estimate, memory is too small even so: add --gradient_checkpointing true")


@contextmanager
def refusals_in_one_line(explanations: Mapping[str, str] | None = None) -> Iterator[None]:
    """Turn the `ValueError` of one of TRL's trainers that is built within into an `InputError`.

    `explanations` maps a word of TRL's message to what to say instead.
    """
    try:
        yield
    except ValueError as error:
        for word, explanation in (explanations or {}).items():
            if word in str(error):
                raise InputError(explanation) from None
        raise InputError(f"TRL refuses these flags: {in_one_line(error)}") from error


def run_settings(
    config: TrainingArguments, model_args: ModelConfig, recipe: str, processes: PartialState
) -> dict[str, Any]:
    """What identifies a run in arguments.json: its arguments, the recipe, and how many processes train."""
    return config.to_dict() | asdict(model_args) | {"recipe": recipe, "num_processes": processes.num_processes}


class StopCallback(TrainerCallback):
    """Saves a checkpoint and ends training after the step in which a signal came to any process."""

    def __init__(self, trainer: Trainer, stop: StopSignal) -> None:
        self.trainer, self.stop, self.stopped = trainer, stop, False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Look whether one came; the last step needs no stopping."""
        received = torch.tensor(float(self.stop.received), device=args.device)
        if self.trainer.accelerator.reduce(received).item() and state.global_step < state.max_steps:
            self.stopped = control.should_save = control.should_training_stop = True


class FiniteCallback(TrainerCallback):
    """Ends a training whose weights are not finite, before a checkpoint of them pushes a good one out."""

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel,
        **kwargs: Any,
    ) -> None:
        """Raise `InputError`, naming the last checkpoint, if a weight is not finite."""
        if has_finite_weights(model):
            return
        good = whole_checkpoints(Path(args.output_dir).parent)
        where = f"the last good checkpoint is {good[-1]}" if good else "there is no good checkpoint"
        raise InputError(
            f"the weights are not finite, or too large to compute with, after step {state.global_step}; {where}. "
            "Lower the learning rates (--init_lr_frac, in another output_dir; --resume takes a checkpoint's path)."
        )


class CheckpointCallback(TrainerCallback):
    """Gives every checkpoint its manifest; resumed from an older one, sets newer ones aside."""

    def __init__(self, trainer: Trainer, checkpoint: Path | None, output_dir: Path) -> None:
        self.trainer, self.checkpoint, self.output_dir = trainer, checkpoint, output_dir

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Find the best checkpoint so far where it is now: its path is that of when it was written."""
        if self.checkpoint is None:
            return
        if state.best_global_step is not None:
            here = Path(args.output_dir, f"checkpoint-{state.best_global_step}")
            if here.is_dir():
                state.best_model_checkpoint = str(here)
            elif state.best_model_checkpoint is None:
                self.trainer.accelerator.print(f"note: {here.name}, the best so far, is gone: a later one will count")
        if state.is_world_process_zero:
            set_aside_after(self.checkpoint, state.global_step, self.output_dir)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """When all processes have written their part, write down what all files are."""
        self.trainer.accelerator.wait_for_everyone()
        if state.is_world_process_zero:
            write_manifest(Path(args.output_dir, f"checkpoint-{state.global_step}"))


def memory_in_one_line(error: RuntimeError, trainer: Trainer, output_dir: Path) -> InputError | None:
    """What to do when memory runs out, on this process or on another that it waits for; None for other errors."""
    rows, pieces = trainer.args.per_device_train_batch_size, trainer.args.gradient_accumulation_steps
    remedies = [] if trainer.args.gradient_checkpointing else ["--gradient_checkpointing true"]
    if rows > 1:  # a run goes on with the rows that it began with
        fewer = f"--per_device_train_batch_size {rows // 2} --gradient_accumulation_steps {2 * pieces}"
        remedies.append(f"{fewer} from the start, in another output_dir")
    remedy = ", or ".join(remedies) or "a smaller model or shorter rows"
    if line := end_of_one_of_several(error, trainer.accelerator, output_dir, remedy):
        return line
    if should_reduce_batch_size(error):
        return InputError(f"out of memory: train with {remedy}; {describe_newest(output_dir)}.")
    return None


def train(trainer: Trainer, checkpoint: Path | None, output_dir: Path) -> bool:
    """Train to the end, from `checkpoint` if there is one. False if a signal came before: its checkpoint is saved.

    Raises `InputError` when memory runs out, or the disk is full or fails; what was saved before stays as it is.
    """
    if checkpoint is None:
        check_room(output_dir, trainer.accelerator.unwrap_model(trainer.model))
    # It would say that the best checkpoint does not exist, where only its directory has moved.
    logging.getLogger("transformers.trainer").addFilter(lambda log: "in the resumed state" not in log.getMessage())
    trainer.add_callback(CheckpointCallback(trainer, checkpoint, output_dir))
    left_before = unfinished_checkpoints(output_dir)
    with StopSignal() as signal:
        callback = StopCallback(trainer, signal)
        trainer.add_callback(callback)
        trainer.add_callback(FiniteCallback())
        try:
            with writing(f"to {output_dir}", lambda: describe_newest(output_dir)):
                trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        except RuntimeError as error:
            if line := memory_in_one_line(error, trainer, output_dir):
                raise line from None
            raise
        except InputError:
            if trainer.is_world_process_zero():  # half a checkpoint only takes room
                for path in unfinished_checkpoints(output_dir) - left_before:
                    shutil.rmtree(path, ignore_errors=True)
            raise
    if callback.stopped:
        path = whole_checkpoints(output_dir)[-1]
        trainer.accelerator.print(f"stopped by a signal; {path} is saved, the same command resumes from it")
    return not callback.stopped
