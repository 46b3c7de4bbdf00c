"""Training again with a smaller device batch when memory runs out."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import find_executable_batch_size
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from recipes.training.checkpoint_files import describe_newest, find_checkpoint
from recipes.training.fsdp import is_sharded
from recipes.training.plan import Plan, next_smaller
from recipes.utils.errors import InputError, in_one_line
from recipes.utils.processes import has_lost_another

T = TypeVar("T")


class OutOfMemoryOnAll(RuntimeError):
    """Memory ran out on one process, and all of them know."""


def rehearse(accelerator: Accelerator, model: torch.nn.Module, compute_loss: Callable[[], torch.Tensor]) -> None:
    """Try one forward and backward pass, so that all processes learn together whether their memory is enough.

    A process that runs out of memory later leaves the others waiting for it in an exchange of gradients. Here nothing
    is exchanged but the news. Raises `OutOfMemoryOnAll` on every process if memory runs out on any of them. With
    sharded weights every pass is an exchange, so that a process that runs out is on its own.

    Where memory is enough, gradients are exchanged once, too: DDP orders its buckets after the first exchange, and so
    the sums of three and more processes. With that behind it, a resumed run is an undisturbed one bit for bit.
    """
    if accelerator.num_processes == 1:
        return
    if not is_sharded(model):  # their passes exchange rows all the time: the one that runs out ends the others
        _agree_on_memory(accelerator, model, compute_loss)
    accelerator.backward(compute_loss())
    model.zero_grad(set_to_none=False)  # they are views of the buckets now, and stay so


def _agree_on_memory(
    accelerator: Accelerator, model: torch.nn.Module, compute_loss: Callable[[], torch.Tensor]
) -> None:
    failed = False
    try:
        with accelerator.no_sync(model):
            accelerator.backward(compute_loss())
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
        failed = True
    model.zero_grad(set_to_none=True)
    clear_device_cache(garbage_collection=True)
    everyone = accelerator.gather(torch.tensor([failed], device=accelerator.device)).tolist()
    if any(everyone):
        ranks = ", ".join(str(rank) for rank, failed in enumerate(everyone) if failed)
        raise OutOfMemoryOnAll(f"rank {ranks} is out of memory.")  # accelerate knows it by the last words


def halve_batch_when_out_of_memory(
    accelerator: Accelerator, output_dir: Path
) -> Callable[[Callable[[Plan, Path | None], T]], Callable[[Plan, Path | None], T]]:
    """Decorator of `train(plan, checkpoint)`: when memory runs out, train again with half the rows at a time.

    The batch of an optimizer step stays the same, with more accumulation; training resumes from the newest checkpoint.
    Raises `InputError` when not even a single row fits, and when memory runs out on one of several processes after
    they have begun to train: those that wait for it cannot go on, and the launcher ends them.
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
                if accelerator.device.type == "cuda":  # the peak that is logged is that of the attempt that works
                    torch.cuda.reset_peak_memory_stats(accelerator.device)
                try:
                    return train(plan.with_device_batch_size(rows), checkpoint)
                except OutOfMemoryOnAll:
                    raise
                except RuntimeError as error:
                    smaller = next_smaller(plan, rows)
                    remedy = f"--device_batch_size {smaller}" if smaller else "--gradient_checkpointing"
                    if line := end_of_one_of_several(error, accelerator, output_dir, remedy):
                        raise line from None
                    raise

            return attempt()

        return retrying

    return decorate


def end_of_one_of_several(
    error: RuntimeError, accelerator: Accelerator, output_dir: Path, remedy: str
) -> InputError | None:
    """What to say of an error in the midst of a step that several processes make; None if it is of another kind."""
    if accelerator.num_processes == 1:
        return None
    rank, device = accelerator.process_index, accelerator.device
    if has_lost_another(error):
        return InputError(
            f"rank {rank} has lost another process, whose own message says why ({in_one_line(error)}); "
            f"{describe_newest(output_dir)}. The same command resumes."
        )
    if should_reduce_batch_size(error):
        return InputError(
            f"out of memory on rank {rank} ({device}) in the midst of a step, for which the other processes cannot be "
            f"told: train with {remedy}; {describe_newest(output_dir)}."
        )
    return None
