"""Training again with a smaller device batch when memory runs out."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import find_executable_batch_size

from recipes.training.checkpoint_files import find_checkpoint
from recipes.training.plan import Plan, next_smaller
from recipes.utils.errors import InputError

T = TypeVar("T")


def halve_batch_when_out_of_memory(
    accelerator: Accelerator, output_dir: Path
) -> Callable[[Callable[[Plan, Path | None], T]], Callable[[Plan, Path | None], T]]:
    """Decorator of `train(plan, checkpoint)`: when memory runs out, train again with half the rows at a time.

    The batch of an optimizer step stays the same, with more accumulation; training resumes from the newest checkpoint.
    Raises `InputError` when not even a single row fits.
    """

    def decorate(train: Callable[[Plan, Path | None], T]) -> Callable[[Plan, Path | None], T]:
        def retrying(plan: Plan, checkpoint: Path | None) -> T:
            rows = plan.device_batch_size

            def halve() -> int:
                nonlocal rows, checkpoint
                rows = next_smaller(plan, rows)
                if rows == 0:
                    raise InputError(
                        "out of memory with a single row: use a smaller max_seq_len or --gradient_checkpointing."
                    )
                checkpoint = find_checkpoint(output_dir, "auto") or checkpoint
                accelerator.print(f"out of memory: continuing with device_batch_size {rows} and more accumulation")
                return rows

            @find_executable_batch_size(starting_batch_size=rows, reduce_batch_size_fn=halve)
            def attempt(rows: int) -> T:
                accelerator.free_memory()
                if torch.cuda.is_initialized():  # the peak that is logged is that of the attempt that works
                    torch.cuda.reset_peak_memory_stats(accelerator.device)
                return train(plan.with_device_batch_size(rows), checkpoint)

            return attempt()

        return retrying

    return decorate
