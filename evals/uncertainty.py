"""How certain a mean is."""

import math
from collections.abc import Sequence
from statistics import stdev


def standard_error(values: Sequence[float]) -> float | None:
    """Standard error of the mean of `values`, in their unit; None for fewer than two."""
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
