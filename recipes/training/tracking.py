"""Where a run's numbers go: metrics.jsonl, the console (a line or a progress bar), and trackers on request."""

import json
import math
import sys
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from tqdm import tqdm

from recipes.utils import atomic
from recipes.utils.errors import InputError
from recipes.utils.plain_text import clock
from recipes.utils.run_directory import read_metrics

TRACKERS = ("trackio", "wandb", "tensorboard")


def parse_trackers(log_with: str | None) -> list[str]:
    """Names of the requested trackers. Raises `InputError` for one that is unknown or not installed."""
    from accelerate.tracking import get_available_trackers

    names = [name.strip() for name in (log_with or "").split(",") if name.strip()]
    available = {str(tracker) for tracker in get_available_trackers()}
    for name in names:
        if name not in TRACKERS:
            raise InputError(f"unknown tracker {name!r} in log_with: choose from {', '.join(TRACKERS)}.")
        if name not in available:
            raise InputError(f"tracker {name} is not installed: pip install {name}.")
    return names


class MetricsLog:
    """metrics.jsonl: one JSON object a log, on the main process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[dict[str, Any]] = []

    def resume(self, step: int) -> None:
        """Keep the training records up to `step`, and the evaluations before it; drop what came after.

        Our loop writes a checkpoint before its step is evaluated, so a resumed run evaluates that step again.
        (transformers' Trainer evaluates first, for it keeps the best; its record has `val/loss` without `val/bpb`.)
        """
        self.records = [record for record in read_metrics(self.path) if _is_kept(record, step)]
        atomic.write_text(self.path, "".join(json.dumps(record) + "\n" for record in self.records))

    def write(self, record: dict[str, Any]) -> None:
        """Append one record; a killed process loses nothing written before. JSON has no NaN: it becomes null."""
        record = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in record.items()
        }
        self.records.append(record)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def _is_kept(record: dict[str, Any], step: int) -> bool:
    known = "train/loss" in record or ("val/loss" in record and "val/bpb" not in record)
    return record["step"] < step or (record["step"] == step and known)


class Console:
    """Prints one line a log, or a progress bar on a terminal; only on the main process."""

    def __init__(self, accelerator: Accelerator, num_steps: int, first_step: int = 0) -> None:
        self.speaks = accelerator.is_main_process
        self.num_steps = num_steps
        self.bar = None
        if self.speaks and sys.stderr.isatty():
            self.bar = tqdm(total=num_steps, initial=first_step, unit="step", dynamic_ncols=True)

    def say(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        if self.speaks and self.bar is not None:
            self.bar.write(text)
        elif self.speaks:
            print(text, flush=True)

    def advance(self, step: int) -> None:
        """Move the bar to `step`, whether or not that step is logged."""
        if self.bar is not None:
            self.bar.update(step - self.bar.n)

    def step(self, record: dict[str, Any]) -> None:
        """Show a training record."""
        if not self.speaks:
            return
        self.advance(record["step"])
        if self.bar is not None:
            skipped = f"{record['train/skipped']} skipped, " if record.get("train/skipped") else ""
            reward = f"reward {record['train/reward']:.3f}, " if "train/reward" in record else ""
            speed = f"{record['train/tok_per_sec']:,.0f} tok/s"
            self.bar.set_postfix_str(f"loss {record['train/loss']:.4f}, {reward}{skipped}{speed}")
        else:
            print(step_line(record, self.num_steps), flush=True)

    def close(self) -> None:
        """End the progress bar."""
        if self.bar is not None:
            self.bar.close()


def step_line(record: dict[str, Any], num_steps: int) -> str:
    """step, percent, loss, multiplier of the learning rate, time a step, tokens/s, MFU, time so far, time to go.

    Of a step of reinforcement also the mean reward, the share of groups with spread (whose replies are not all worth
    the same: only they teach), and completions/s; where any were, steps skipped so far.
    """
    step, seconds = record["step"], record["total_training_time"]
    mfu = f"{record['train/mfu']:.1%}" if record["train/mfu"] is not None else "unknown"
    to_go = record["train/dt"] * (num_steps - step)
    skipped = f"| {record['train/skipped']} skipped " if record.get("train/skipped") else ""
    rollouts = ""
    if "train/reward" in record:
        spread = f"{record['train/groups_with_spread']:.0%} of groups with spread | "
        speed = f"{record['train/completions_per_sec']:.1f} completions/s "
        rollouts = f"| reward {record['train/reward']:.3f} | {spread}{speed}"
    return (
        f"step {step:06d}/{num_steps:06d} ({step / num_steps:.1%}) | loss {record['train/loss']:.4f} "
        f"{skipped}{rollouts}| lrm {record['train/lrm']:.2f} | dt {record['train/dt'] * 1e3:,.0f} ms "
        f"| tok/sec {record['train/tok_per_sec']:,.0f} | mfu {mfu} | total {clock(seconds)} | eta {clock(to_go)}"
    )
