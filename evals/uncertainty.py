"""How certain a mean is."""

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

PLUS_MINUS = "± is the standard error."
BY_WORDS = f"{PLUS_MINUS[:-1]}, which knows that problems told in the same words are often solved or failed together."


def standard_error(values: Sequence[float], clusters: Sequence[str | None] | None = None) -> float | None:
    """Standard error of the mean of `values`, in their unit; None for fewer than two clusters.

    Values of one cluster may be alike, as those of problems that differ in their numbers only: then many of them are
    worth little more than one, and only the clusters are independent draws ("Adding Error Bars to Evals",
    https://arxiv.org/abs/2411.00640, section 2.2, here with the correction G / (G - 1) for G clusters). A value whose
    cluster is empty or None is like no other; where all are, this is the usual stdev / sqrt(n).
    """
    mean, deviations = fmean(values) if len(values) else 0.0, defaultdict(float)
    for number, (value, cluster) in enumerate(zip(values, clusters or [None] * len(values), strict=True)):
        deviations[cluster or number] += value - mean
    count = len(deviations)
    if count < 2:
        return None
    return math.sqrt(count / (count - 1) * sum(each**2 for each in deviations.values())) / len(values)
