"""Schedules of learning rate, momentum and weight decay: pure functions of the step, with no state to save."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Multiplier of every learning rate: linear warmup, constant, linear warmdown to `final_fraction` (WSD).

    nanochat's of 2025 has no warmup, and a warmdown to 0 over the last 20% of the steps. That of 2026 warms up for 40
    steps, and its last 65% go down to 5%, while momentum and weight decay have schedules of their own.

    Attributes:
        warmup_steps, warmdown_steps: where given, they count instead of the ratios of all steps.
        momentum: Muon's at the first step, after `momentum_warmup` steps, and at the end of the warmdown; (0.85, 0.97,
            0.90) in 2026. None leaves it to the optimizer, as in 2025.
        cosine_weight_decay: whether the weight decay of Muon's matrices falls by a cosine to 0; else it is constant.
    """

    num_steps: int
    warmup_ratio: float = 0.0
    warmdown_ratio: float = 0.2
    final_fraction: float = 0.0
    warmup_steps: int | None = None
    warmdown_steps: int | None = None
    momentum: tuple[float, float, float] | None = None
    momentum_warmup: int = 400
    cosine_weight_decay: bool = False

    def __call__(self, step: int) -> float:
        """Multiplier of the learning rates for `step`, counted from 0 to num_steps - 1."""
        warmup, warmdown = self._warmup, self._warmdown
        if step < warmup:
            return min(1.0, (step + 1) / warmup)
        remaining = self.num_steps - step
        if remaining >= warmdown:
            return 1.0
        return self.final_fraction + (1 - self.final_fraction) * remaining / warmdown

    def momentum_at(self, step: int) -> float | None:
        """Muon's momentum for `step`: linear from the first of `momentum` to the second, to the third in the warmdown.

        The rise goes first where the two overlap, as in nanochat.
        """
        if self.momentum is None:
            return None
        start, peak, end = self.momentum
        if step < self.momentum_warmup:
            share = step / self.momentum_warmup
            return (1 - share) * start + share * peak
        warmdown = self._warmdown
        remaining = self.num_steps - step
        if remaining >= warmdown:
            return peak
        share = (warmdown - remaining) / warmdown
        return (1 - share) * peak + share * end

    def weight_decay_at(self, step: int) -> float:
        """Multiplier of the weight decay of Muon's matrices for `step`."""
        return (1 + math.cos(math.pi * step / self.num_steps)) / 2 if self.cosine_weight_decay else 1.0

    @property
    def _warmup(self) -> float:
        return self.warmup_ratio * self.num_steps if self.warmup_steps is None else self.warmup_steps

    @property
    def _warmdown(self) -> float:
        return self.warmdown_ratio * self.num_steps if self.warmdown_steps is None else self.warmdown_steps
