"""Save and restore the training loop's checkpoints, which appear whole or not at all.

A checkpoint holds all that a bit-exact continuation needs: weights, optimizer, random states and gradient scaler by
accelerate, each process's share of the optimizer's state and place in the data, and the run's counters. On another
number of processes, or of loader workers, a run goes on as well, but not bit for bit. The directory is also one that
`from_pretrained` loads, or peft's where adapters are trained.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import extract_model_from_parallel, gather_object, set_seed
from safetensors.torch import load_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from recipes.data.packing import RowsLoader
from recipes.training.adapters import has_adapters, load_adapters, save_adapters
from recipes.training.best_checkpoint import recorded_best
from recipes.training.checkpoint_files import (
    OURS,
    STATE_FILES,
    describe_newest,
    optimizer_file,
    optimizer_files,
    read_optimizer_shards,
    set_aside_after,
    whole_checkpoints,
    write_manifest,
)
from recipes.training.documents_read import record_documents
from recipes.training.fsdp import is_sharded, load_rows, whole_on_main
from recipes.training.sharding import merge_shards, shares_state
from recipes.utils import atomic
from recipes.utils.errors import InputError, SaidByMain, in_one_line, writing
from recipes.utils.heartbeat import heartbeat
from recipes.utils.loading import load_config
from recipes.utils.misfit import compare_tables, describe_misfit
from recipes.utils.model_facts import kind_and_sizes
from recipes.utils.run_directory import CHECKPOINTS

STATE_FILE = STATE_FILES[OURS]


@dataclass
class TrainingState:
    """The run's counters. `step` counts finished optimizer steps."""

    step: int = 0
    seconds: float = 0.0
    skipped: int = 0  # steps left out because their loss or gradient was not finite
    skipped_in_a_row: int = 0


class Checkpointer:
    """Saves and restores the state of one run under `output_dir`/checkpoints."""

    def __init__(
        self,
        accelerator: Accelerator,
        model: PreTrainedModel,
        optimizer: torch.optim.Optimizer,
        output_dir: Path,
        loader: RowsLoader,
        tokenizer: PreTrainedTokenizerBase,
        keep: int,
    ) -> None:
        self.accelerator = accelerator
        self.model = model
        self.optimizer = optimizer
        self.output_dir = output_dir
        self.directory = output_dir / CHECKPOINTS
        self.loader = loader
        self.tokenizer = tokenizer
        self.keep = keep
        self.saved: PreTrainedModel | None = None  # while one is saved, what has its whole weights
        self.hooks = [
            accelerator.register_save_state_pre_hook(self._save_weights),
            accelerator.register_load_state_pre_hook(self._load_weights),
        ]

    def save(self, state: TrainingState) -> Path:
        """Write `checkpoints/step_NNNNNN`, each process its own part, then delete all but the newest `keep` and the
        recorded best (see `best_checkpoint`).

        Raises `InputError` when the disk is full or fails; earlier checkpoints stay as they are.
        """
        final = self.directory / f"step_{state.step:06d}"
        if final.exists():
            return final
        partial = self.directory / f".{final.name}.partial"
        self.saved = whole_on_main(self.model)  # all processes take part: before one of them may fail
        with self._together(partial, final):
            self._write(partial, state)
        self.saved = None
        with self._together(partial, final):
            record_documents(partial, self.loader, self.accelerator)
            if self.accelerator.is_main_process:
                write_manifest(partial)
                partial.rename(final)
                atomic.sync(self.directory)
                self.drop_old()
        return final

    @contextmanager
    def _together(self, partial: Path, final: Path) -> Iterator[None]:
        """Do on all processes, and wait for all; what fails on one ends all of them, with one line from the main one.

        Nothing half-written stays, and none removes what others still write.
        """
        failure = None
        try:
            with (
                writing(f"the checkpoint {final}", lambda: describe_newest(self.output_dir)),
                heartbeat(f"saving {final}", self.accelerator.is_main_process),
            ):
                yield
        except Exception as error:
            failure = error
        failures = gather_object([None if failure is None else str(failure)])
        said = next((each for each in failures if each is not None), None)
        if said is None:
            return
        main = self.accelerator.is_main_process
        if main:
            shutil.rmtree(partial, ignore_errors=True)
        if failure is not None and (main or not isinstance(failure, InputError)):
            raise failure
        raise InputError(said) if main else SaidByMain(said)

    def restore(self, path: Path) -> TrainingState:
        """Load everything that `save` wrote to `path`, whatever the number of processes and loader workers was then.

        With the same numbers a run goes on bit for bit. With others it says what differs.
        """
        state = TrainingState(**json.loads((path / STATE_FILE).read_text()))
        self._restore_place(path, state.step)
        try:
            self.accelerator.load_state(str(path))
            if len(optimizer_files(path)) > 1:  # accelerate has loaded the first of them
                parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
                self.optimizer.load_state_dict(merge_shards(read_optimizer_shards(path), parameters))
        except InputError:
            raise
        except (RuntimeError, ValueError, LookupError) as error:
            reason = in_one_line(error)
            raise InputError(f"{path} does not fit this run's model and optimizer: {reason}") from None
        if self.accelerator.is_main_process:
            set_aside_after(path, state.step, self.output_dir)
        self.accelerator.wait_for_everyone()
        return state

    def _restore_place(self, path: Path, step: int) -> None:
        """Restore this process's place in the data; other readers than then share out what is left of the epoch.

        A process that did not exist then draws random numbers from a seed of its own.
        """
        files, rank = sorted(path.glob("data_*.pt")), self.accelerator.process_index
        place = torch.load(files[min(rank, len(files) - 1)], weights_only=True)
        workers = place.get("num_workers", self.loader.num_workers)
        if (len(files), workers) == (self.accelerator.num_processes, self.loader.num_workers):
            self.loader.load_state_dict(place)
            return
        # Mapped into memory: of what waits in all of them, a process copies only what it takes over.
        self.loader.take_over([torch.load(file, weights_only=True, mmap=True) for file in files])
        if rank >= len(files):
            set_seed(int(np.random.SeedSequence([torch.initial_seed(), step, rank]).generate_state(1)[0]))
        self.accelerator.print(self._what_changes(path.name, len(files), workers))

    def _what_changes(self, name: str, processes: int, workers: int) -> str:
        """The statement of what goes on exactly, and what does not, with other readers than the checkpoint's."""
        now = self.accelerator.num_processes
        seeds = (
            f", random numbers of ranks from {processes} on (seeded by seed, step and rank)" if now > processes else ""
        )
        return (
            f"{'readers':<13}{name} was written by {processes} processes x {workers} loader workers, and "
            f"{now} x {self.loader.num_workers} go on. Exactly as it would have: weights, optimizer, schedule, steps, "
            "tokens a step; each document is still read once an epoch, and those that wait for a row go along. No "
            f"longer bit for bit: which documents meet in a row and in a step, rounding of sums{seeds}."
        )

    def close(self) -> None:
        """Remove the hooks from the accelerator, so that another attempt in this process can register its own."""
        for hook in self.hooks:
            hook.remove()

    def _write(self, directory: Path, state: TrainingState) -> None:
        """What is this process's part. No process waits for another here, since any of them may fail."""
        directory.mkdir(parents=True, exist_ok=True)
        rank = self.accelerator.process_index
        if rank and shares_state(self.optimizer):  # while the main process writes its own, and the weights
            torch.save(self.optimizer.state_dict(), optimizer_file(directory, rank))
        self.accelerator.save_state(str(directory))
        torch.save(self.loader.state_dict(), directory / f"data_{rank:05d}.pt")
        if self.accelerator.is_main_process:
            self.tokenizer.save_pretrained(directory)
            (directory / STATE_FILE).write_text(json.dumps(asdict(state)))

    def _save_weights(self, models: list, weights: list, output_dir: str) -> None:
        """Replaces accelerate's own saving: `save_pretrained` also writes config and code, without wrappers' names."""
        weights.clear()
        if self.accelerator.is_main_process:
            if has_adapters(self.saved):  # what they adapt does not change, and lies where it was loaded from
                save_adapters(self.saved, output_dir)
            else:
                self.saved.save_pretrained(output_dir)

    def _load_weights(self, models: list, input_dir: str) -> None:
        models.clear()
        model, sharded = self.model, is_sharded(self.model)
        if has_adapters(model):
            load_adapters(model, input_dir)
            return
        weights: dict[str, torch.Tensor] = {}
        for shard in sorted(Path(input_dir).glob("model*.safetensors")):
            weights |= load_file(shard, device="cpu" if sharded else str(model.device))
        if not weights:
            raise InputError(f"{input_dir} holds no weights of a model: it is of a run that trains adapters.")
        check_same_model(model, weights, input_dir)
        if sharded:
            load_rows(model, input_dir)
        else:
            model.load_state_dict(weights, strict=False)  # a tied head is not there

    def drop_old(self) -> None:
        """Delete all checkpoints but the newest `keep` and the recorded best."""
        if not self.keep:
            return
        best = recorded_best(self.output_dir)
        for path in whole_checkpoints(self.output_dir)[: -self.keep]:
            if path != best:
                # Renamed first: a kill during the removal must not leave half a checkpoint that looks whole.
                shutil.rmtree(path.rename(self.directory / f".{path.name}.partial"))


def check_same_model(model: PreTrainedModel, weights: dict[str, torch.Tensor], checkpoint: str) -> None:
    """Raise `InputError`, with what both models are, unless the checkpoint's `weights` are those of `model`."""
    misfit = describe_misfit(model, compare_tables(model, weights))
    if misfit is None:
        return
    here = kind_and_sizes(model.config)
    try:
        there = kind_and_sizes(load_config(checkpoint))
    except InputError:  # the config is not needed to resume, and may be gone
        there = here
    if there != here:
        misfit = f"it is of {there}, and this run's model of {here}"
    raise InputError(
        f"{checkpoint} holds the weights of another model: {misfit}. Resume it with the settings that it was saved "
        "with, or start without it."
    )


def unwrap(model: torch.nn.Module) -> PreTrainedModel:
    """The model itself, without what DDP, torch.compile or mixed precision put around it; those stay in force."""
    return extract_model_from_parallel(model, keep_fp32_wrapper=True, keep_torch_compile=False)
