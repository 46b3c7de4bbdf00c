"""Checkpoints that appear whole or not at all, and finding the newest.

A checkpoint holds all that a bit-exact continuation needs: weights, optimizer, random states and gradient scaler by
accelerate, each process's place in the data, and the run's counters. Its directory is also one that
`from_pretrained` loads.
"""

import json
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import extract_model_from_parallel
from safetensors.torch import load_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from recipes import atomic
from recipes.data.packing import RowsLoader
from recipes.errors import InputError

STATE_FILE = "training_state.json"
STEP_DIRECTORY = re.compile(r"step_(\d{6,})")


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
        output_dir: Path,
        loader: RowsLoader,
        tokenizer: PreTrainedTokenizerBase,
        keep: int,
    ) -> None:
        self.accelerator = accelerator
        self.directory = output_dir / "checkpoints"
        self.loader = loader
        self.tokenizer = tokenizer
        self.keep = keep
        self.hooks = [
            accelerator.register_save_state_pre_hook(self._save_weights),
            accelerator.register_load_state_pre_hook(self._load_weights),
        ]

    def save(self, state: TrainingState) -> Path:
        """Write `checkpoints/step_NNNNNN`, every process its part, then drop what is older than the newest `keep`.

        Raises `InputError` when it cannot be written (disk full); earlier checkpoints stay as they are.
        """
        final = self.directory / f"step_{state.step:06d}"
        if final.exists():
            return final
        partial = self.directory / f".{final.name}.partial"
        if self.accelerator.is_main_process:
            self.directory.mkdir(parents=True, exist_ok=True)
            for leftover in self.directory.glob(".*.partial"):
                shutil.rmtree(leftover)
        self.accelerator.wait_for_everyone()
        try:
            self._write(partial, state)
            self.accelerator.wait_for_everyone()
            if self.accelerator.is_main_process:
                atomic.sync_tree(partial)
                partial.rename(final)
                atomic.sync(self.directory)
                self._drop_old()
        except Exception as error:  # torch, safetensors and the system each have their own for a full disk
            shutil.rmtree(partial, ignore_errors=True)
            raise InputError(self._could_not_save(final, error)) from error
        self.accelerator.wait_for_everyone()
        return final

    def restore(self, path: Path) -> TrainingState:
        """Load everything that `save` wrote to `path`. Raises `InputError` if the data readers differ in number."""
        state = TrainingState(**json.loads((path / STATE_FILE).read_text()))
        saved, now = len(list(path.glob("data_*.pt"))), self.accelerator.num_processes
        if saved != now:
            raise InputError(
                f"{path} was written by {saved} process(es), this run has {now}: resume with --num_processes {saved}."
            )
        data_file = path / f"data_{self.accelerator.process_index:05d}.pt"
        self.loader.load_state_dict(torch.load(data_file, weights_only=True))
        try:
            self.accelerator.load_state(str(path))
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{path} does not fit this run's model and optimizer: {reason}") from None
        if self.accelerator.is_main_process:
            self._set_aside_after(path, state.step)
        self.accelerator.wait_for_everyone()
        return state

    def close(self) -> None:
        """Let go of the accelerator, so that another attempt in this process can register anew."""
        for hook in self.hooks:
            hook.remove()

    def _write(self, directory: Path, state: TrainingState) -> None:
        self.accelerator.save_state(str(directory))
        torch.save(self.loader.state_dict(), directory / f"data_{self.accelerator.process_index:05d}.pt")
        if self.accelerator.is_main_process:
            self.tokenizer.save_pretrained(directory)
            (directory / STATE_FILE).write_text(json.dumps(asdict(state)))

    def _save_weights(self, models: list, weights: list, output_dir: str) -> None:
        """In accelerate's place: `save_pretrained` also writes config and code, and names free of wrappers."""
        weights.clear()
        if self.accelerator.is_main_process:
            unwrap(models[0]).save_pretrained(output_dir)

    def _load_weights(self, models: list, input_dir: str) -> None:
        model = unwrap(models.pop())
        weights: dict[str, torch.Tensor] = {}
        for shard in sorted(Path(input_dir).glob("model*.safetensors")):
            weights |= load_file(shard, device=str(model.device))
        missing, unexpected = model.load_state_dict(weights, strict=False)
        tied = set(model.all_tied_weights_keys)
        if unexpected or set(missing) - tied:
            raise InputError(
                f"{input_dir} holds the weights of another model: {(unexpected or missing)[0]} does not fit."
            )

    def _set_aside_after(self, path: Path, step: int) -> None:
        """Going back to `path` begins another course: later checkpoints are kept, under names nothing resumes from."""
        if path.resolve().parent == self.directory.resolve():
            for newer in whole_checkpoints(self.directory.parent):
                if step_of(newer) > step:
                    aside = self.directory / f"abandoned_{newer.name}"
                    shutil.rmtree(aside, ignore_errors=True)
                    newer.rename(aside)

    def _drop_old(self) -> None:
        if self.keep:
            for path in whole_checkpoints(self.directory.parent)[: -self.keep]:
                # Renamed first: a kill amid the removal must not leave a half that looks whole.
                shutil.rmtree(path.rename(self.directory / f".{path.name}.partial"))

    def _could_not_save(self, final: Path, error: Exception) -> str:
        newest = whole_checkpoints(self.directory.parent)
        intact = f"{newest[-1]} is intact" if newest else "no earlier one exists"
        reason = " ".join(str(error).split())[:200]
        return f"could not write the checkpoint {final} ({reason}); {intact}. Make room on the disk and rerun."


def unwrap(model: torch.nn.Module) -> PreTrainedModel:
    """The model itself, without what DDP, torch.compile or mixed precision put around it; those stay in force."""
    return extract_model_from_parallel(model, keep_fp32_wrapper=True, keep_torch_compile=False)


def whole_checkpoints(output_dir: Path) -> list[Path]:
    """Finished checkpoints of a run, oldest first."""
    found = [path for path in (output_dir / "checkpoints").glob("step_*") if STEP_DIRECTORY.fullmatch(path.name)]
    return sorted((path for path in found if (path / STATE_FILE).exists()), key=step_of)


def step_of(checkpoint: Path) -> int:
    """Finished optimizer steps of a checkpoint, by its name."""
    return int(STEP_DIRECTORY.fullmatch(checkpoint.name)[1])


def find_checkpoint(output_dir: Path, resume: str) -> Path | None:
    """The checkpoint to go on from: the newest for "auto", none for "none", else the one named.

    One of another run is where this run begins: once it has checkpoints of its own, it goes on from those.
    Raises `InputError` if a named one is not whole, or if "none" would train over what `output_dir` holds.
    """
    newest = whole_checkpoints(output_dir)
    if resume == "auto":
        return newest[-1] if newest else None
    if resume == "none":
        if newest:
            raise InputError(
                f"{output_dir} already holds {newest[-1].name}: choose another, or go on by --resume auto."
            )
        return None
    path = Path(resume)
    if not (path / STATE_FILE).exists():
        known = ", ".join(str(path) for path in newest) or "none"
        raise InputError(f"--resume {resume} is not a whole checkpoint; those of {output_dir}: {known}.")
    begins_elsewhere = path.resolve().parent != (output_dir / "checkpoints").resolve()
    return newest[-1] if newest and begins_elsewhere else path
