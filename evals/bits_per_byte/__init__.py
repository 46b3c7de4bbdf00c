"""Bits per byte: how well a causal LM compresses text, comparable across tokenizers.

`python -m evals.bits_per_byte --help` compares models on a text; training measures by `sum_nats_and_bytes`.
"""

from typing import Any

__all__ = ["bits_per_byte", "sum_nats_and_bytes"]


def __getattr__(name: str) -> Any:
    """Import the functions when they are asked for: the command reads its arguments before it imports torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from evals.bits_per_byte import sums

    return getattr(sums, name)
