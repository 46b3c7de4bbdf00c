"""The loss of a GPU's step, for what is counted on a CPU."""

from contextlib import AbstractContextManager
from unittest import mock

from modeling_nanochat import loss_nanochat


def chunks_as_on_a_gpu() -> AbstractContextManager:
    """Inside it the loss is computed in chunks of the size that a GPU takes."""
    chunk_size = loss_nanochat.chunk_size
    return mock.patch.object(loss_nanochat, "chunk_size", lambda *sizes: chunk_size(*sizes[:-1], "cuda"))
