"""Halve the batch when memory runs out."""

from collections.abc import Callable
from typing import TypeVar

from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

T = TypeVar("T")


def halve_batch_on_oom(work: Callable[[int], T], batch_tokens: int) -> T:
    """Call `work`, again with half the `batch_tokens` each time memory runs out."""
    while True:
        try:
            return work(batch_tokens)
        except Exception as error:
            if batch_tokens == 1 or not should_reduce_batch_size(error):
                raise
        clear_device_cache(garbage_collection=True)
        batch_tokens //= 2
