"""Which problems GRPO tries next: those that the model solves sometimes.

Where all replies to a problem are right, or all wrong, none is better than the others, and the step learns nothing
from it. So problems are drawn by how much the replies to one problem of their kind have differed so far: kinds that
are always or never solved become rare. DAPO (https://arxiv.org/abs/2503.14476, section 3.2) samples more replies until
enough groups are mixed (`RolloutTrainer.try_problems`); counting costs no reply.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from statistics import pvariance
from typing import Any

import datasets
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

FILE = "curriculum.json"  # in a checkpoint
KEPT = 0.95  # of the counts of a kind when it is tried again: the model has changed since
HOPED = 0.2  # variance of a kind that has not been tried, near the most that there is: 1/4
SPREAD = 1 / 3  # share of problems to which some replies are right and some wrong, before any was tried


class Curriculum:
    """Draws rows of `problems`, each once before any comes again; equal on all processes that count the same."""

    def __init__(self, problems: datasets.Dataset, seed: int) -> None:
        self.seed = seed
        self.kinds: list[str] = problems["kind"][:]
        self.tried: dict[str, float] = {}  # problems, by kind
        self.variances: dict[str, float] = {}  # the sum of theirs
        self.spread = SPREAD  # of the latest problems, about twenty
        self.left: list[int] = []  # rows that have not been drawn in this pass
        self.draws = 0

    def draw(self, count: int) -> list[int]:
        """`count` rows, each with a chance in proportion to the variance of its kind's reward."""
        rng = Random(f"{self.seed} draw {self.draws}")
        self.draws += 1
        weights = {kind: self.variance(kind) for kind in set(self.kinds)}
        drawn: list[int] = []
        while len(drawn) < count:
            self.left = self.left or list(range(len(self.kinds)))
            rows = [row for row in self.left if row not in drawn]  # where a pass ends, the next one begins
            drawn += rng.choices(rows, [weights[self.kinds[row]] for row in rows])
            self.left.remove(drawn[-1])
        return drawn

    def variance(self, kind: str) -> float:
        """Expected variance of the rewards of the replies to one problem of `kind`.

        The mean so far, as if one problem more had been as what the kind belongs to: a family, until it has been tried
        itself. Not the variance over all replies: where some problems are always solved and the others never, none
        teaches anything.
        """
        expected = HOPED
        for level in levels(kind):
            expected = (self.variances.get(level, 0.0) + expected) / (self.tried.get(level, 0.0) + 1)
        return expected

    def count(self, groups: Iterable[tuple[str, Sequence[float]]]) -> None:
        """Take note of the kinds of problems, and of the rewards of the replies to each, 0 or 1."""
        for kind, rewards in groups:
            self.spread = KEPT * self.spread + (1 - KEPT) * (min(rewards) < max(rewards))
            for level in levels(kind):
                self.tried[level] = KEPT * self.tried.get(level, 0.0) + 1
                self.variances[level] = KEPT * self.variances.get(level, 0.0) + pvariance(rewards)

    def save(self, directory: Path) -> None:
        """Write what `load` needs into a checkpoint."""
        names = ("tried", "variances", "spread", "left", "draws")
        state = {name: getattr(self, name) for name in names}
        (directory / FILE).write_text(json.dumps(state), encoding="utf-8")

    def load(self, directory: Path) -> None:
        """Go on where a checkpoint was written; one without counts begins anew."""
        if (directory / FILE).exists():
            state: dict[str, Any] = json.loads((directory / FILE).read_text(encoding="utf-8"))
            self.tried.update(state["tried"])
            self.variances.update(state["variances"])
            self.spread = state.get("spread", SPREAD)  # which older checkpoints lack
            self.left, self.draws = state["left"], state["draws"]


def levels(kind: str) -> list[str]:
    """What a kind belongs to, and itself: of `a, b, c` they are `a`, `a, b` and `a, b, c`."""
    parts = kind.split(", ", 2)
    return [", ".join(parts[:number]) for number in range(1, len(parts) + 1)]


class CurriculumCallback(TrainerCallback):
    """Keeps the counts of a curriculum in every checkpoint."""

    def __init__(self, curriculum: Curriculum) -> None:
        self.curriculum = curriculum

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write them beside what Trainer has written."""
        if state.is_world_process_zero:
            self.curriculum.save(Path(args.output_dir, f"checkpoint-{state.global_step}"))
