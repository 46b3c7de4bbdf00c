"""Which problems GRPO tries next: those that the model solves sometimes.

Where all replies to a problem are right, or all wrong, none is better than the others, and the step learns nothing
from it. So problems are drawn by how often replies to their kind have been right so far, and kinds that are always or
never solved become rare. DAPO (https://arxiv.org/abs/2503.14476, section 3.2) samples more replies until
enough groups are mixed; counting costs no reply.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import datasets
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

FILE = "curriculum.json"  # in a checkpoint
KEPT = 0.7  # of the counts of a kind when it is tried again: the model has changed since


class Curriculum:
    """Draws rows of `problems`, each once before any comes again; equal on all processes that count the same."""

    def __init__(self, problems: datasets.Dataset, seed: int) -> None:
        self.problems, self.seed = problems, seed
        self.kinds: list[str] = problems["kind"][:]
        self.tried: dict[str, float] = defaultdict(float)  # replies, by kind
        self.solved: dict[str, float] = defaultdict(float)
        self.left: list[int] = []  # rows that have not been drawn in this pass
        self.draws = 0

    def draw(self, count: int) -> list[int]:
        """`count` rows, each with a chance in proportion to the variance of its kind's reward."""
        rng = Random(f"{self.seed} draw {self.draws}")
        self.draws += 1
        drawn: list[int] = []
        while len(drawn) < count:
            self.left = self.left or list(range(len(self.kinds)))
            rows = [row for row in self.left if row not in drawn]  # where a pass ends, the next one begins
            drawn += rng.choices(rows, [self.variance(self.kinds[row]) for row in rows])
            self.left.remove(drawn[-1])
        return drawn

    def variance(self, kind: str) -> float:
        """p (1 - p), p being the estimated share of right replies: half, until one has been tried.

        A quarter of a reply of each sort is taken for granted, so that no kind is lost for ever.
        """
        rate = (self.solved[kind] + 0.25) / (self.tried[kind] + 0.5)
        return rate * (1 - rate)

    def count(self, kinds: Sequence[str], rewards: Sequence[float]) -> None:
        """Take note of the rewards, 0 or 1, of one reply to each of `kinds`."""
        for kind in set(kinds):
            self.tried[kind] *= KEPT
            self.solved[kind] *= KEPT
        for kind, reward in zip(kinds, rewards, strict=True):
            self.tried[kind] += 1
            self.solved[kind] += reward

    def save(self, directory: Path) -> None:
        """Write what `load` needs into a checkpoint."""
        state = {"tried": self.tried, "solved": self.solved, "left": self.left, "draws": self.draws}
        (directory / FILE).write_text(json.dumps(state), encoding="utf-8")

    def load(self, directory: Path) -> None:
        """Go on where a checkpoint was written; one without counts begins anew."""
        if (directory / FILE).exists():
            state: dict[str, Any] = json.loads((directory / FILE).read_text(encoding="utf-8"))
            self.tried.update(state["tried"])
            self.solved.update(state["solved"])
            self.left, self.draws = state["left"], state["draws"]


class CurriculumCallback(TrainerCallback):
    """Keeps the counts of a curriculum in every checkpoint."""

    def __init__(self, curriculum: Curriculum) -> None:
        self.curriculum = curriculum

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write them beside what Trainer has written."""
        if state.is_world_process_zero:
            self.curriculum.save(Path(args.output_dir, f"checkpoint-{state.global_step}"))
