"""The formula, shared by the metric beside it and our own evaluation (evals/bits_per_byte/sums.py)."""

import math


def bits_per_byte(nats: float, num_bytes: float) -> float:
    """nats / (ln 2 x bytes); nan without bytes."""
    return nats / (math.log(2) * num_bytes) if num_bytes else float("nan")
