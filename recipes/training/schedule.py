"""The learning-rate schedule, warmup-stable-decay (WSD): a pure function of the step, with no state to save."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Multiplier of every learning rate: linear warmup, constant, linear warmdown to `final_fraction` (WSD).

    nanochat's has no warmup, and a warmdown to 0 over the last 20% of the steps.
    """

    num_steps: int
    warmup_ratio: float = 0.0
    warmdown_ratio: float = 0.2
    final_fraction: float = 0.0

    def __call__(self, step: int) -> float:
        """Multiplier for `step`, counted from 0 to num_steps - 1."""
        warmup, warmdown = self.warmup_ratio * self.num_steps, self.warmdown_ratio * self.num_steps
        if step < warmup:
            return min(1.0, (step + 1) / warmup)
        remaining = self.num_steps - step
        if remaining >= warmdown:
            return 1.0
        return self.final_fraction + (1 - self.final_fraction) * remaining / warmdown
