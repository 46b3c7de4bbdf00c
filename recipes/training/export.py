"""Save the finished model as a directory that `from_pretrained` loads as it is."""

import shutil
import tempfile
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from recipes.utils import atomic
from recipes.utils.errors import writing
from recipes.utils.run_directory import FINISHED_BY


@torch.no_grad()
def has_finite_weights(model: nn.Module) -> bool:
    """Whether all trained weights are finite, and their squares too, which the norms are computed from."""
    trained = (parameter for parameter in model.parameters() if parameter.requires_grad)
    norms = [torch.linalg.vector_norm(parameter, dtype=torch.float32) for parameter in trained]
    return bool(torch.stack(norms).isfinite().all())


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, output_dir: Path) -> None:
    """Weights, configs, tokenizer and the model's code into `output_dir`, beside its metrics and checkpoints.

    Raises `InputError` when the disk is full or fails; the checkpoints stay as they are.
    """
    for leftover in output_dir.glob(".model.*"):  # of a process killed here before
        shutil.rmtree(leftover)
    with (
        writing(f"the model to {output_dir}", lambda: "its checkpoints are intact"),
        tempfile.TemporaryDirectory(prefix=".model.", dir=output_dir) as beside,
    ):
        model.save_pretrained(beside)
        tokenizer.save_pretrained(beside)
        atomic.move_files_into(Path(beside), output_dir, last=FINISHED_BY)
