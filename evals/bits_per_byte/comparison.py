"""Figures of each model on the same text, and whether the difference between two of them is more than noise."""

import math
from dataclasses import dataclass

import numpy as np

from evals.metrics.bits_per_byte.formula import bits_per_byte


@dataclass(frozen=True)
class ModelFigures:
    """What one model makes of the text."""

    model: str
    nats: np.ndarray  # (P,) of each passage
    num_bytes: np.ndarray  # (P,)
    num_tokens: int
    reproduced_bytes: int  # of the text, by the tokenizer
    changed: tuple[str, str] | None  # the first line that it does not reproduce, and what it makes of it
    start_token: str  # before every document
    context: int | None

    @property
    def bits_per_byte(self) -> float:
        return bits_per_byte(float(self.nats.sum()), int(self.num_bytes.sum()))

    @property
    def loss(self) -> float:
        """Nats a token."""
        return float(self.nats.sum()) / self.num_tokens

    @property
    def perplexity(self) -> float:
        """Of tokens: it compares only between models with the same tokenizer."""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    @property
    def bytes_per_token(self) -> float:
        return int(self.num_bytes.sum()) / self.num_tokens


def difference(model: ModelFigures, other: ModelFigures) -> tuple[float, float | None]:
    """Bits a byte that `model` needs more than `other`, and the standard error; None for a single passage.

    Paired: a passage that is hard for both adds no error. That of a ratio of sums, over passages (Cochran, Sampling
    Techniques, 6.3).
    """
    more = model.bits_per_byte - other.bits_per_byte
    residuals = (model.nats - other.nats) / math.log(2) - more * model.num_bytes
    count = len(residuals)
    if count < 2:
        return more, None
    return more, float(math.sqrt(count / (count - 1) * (residuals**2).sum()) / model.num_bytes.sum())
