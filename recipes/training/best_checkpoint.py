"""The best checkpoint of a run: of those on disk, the one whose validation bits per byte are lowest.

Nothing is remembered but metrics.jsonl and the checkpoints themselves, so that a run that was killed, or went back to
an older checkpoint, finds its best again. checkpoints/best.json says which it is.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recipes.training.checkpoint_files import describe_newest, step_of, whole_checkpoints
from recipes.utils import atomic
from recipes.utils.errors import writing
from recipes.utils.run_directory import CHECKPOINTS

BEST = "best.json"
MEASURE = "val/bpb"
EVALUATION = "evaluation"  # name of the evaluation that measures it


@dataclass(frozen=True)
class Best:
    """Name of the directory under checkpoints/, finished steps, and validation bits per byte."""

    checkpoint: str
    step: int
    bpb: float


def record_best(output_dir: Path, records: Iterable[dict[str, Any]]) -> Best | None:
    """Write to best.json which checkpoint is best by the `records` of metrics.jsonl; None if none was evaluated."""
    measured = {record["step"]: record[MEASURE] for record in records if _is_finite(record.get(MEASURE))}
    candidates = [path for path in whole_checkpoints(output_dir) if step_of(path) in measured]
    file = output_dir / CHECKPOINTS / BEST
    if not candidates:
        file.unlink(missing_ok=True)
        return None
    path = min(candidates, key=lambda path: measured[step_of(path)])  # the oldest of several
    best = Best(path.name, step_of(path), measured[step_of(path)])
    with writing(file, lambda: describe_newest(output_dir)):
        atomic.write_text(file, json.dumps(asdict(best), indent=2) + "\n")
    return best


def recorded_best(output_dir: Path) -> Path | None:
    """The checkpoint that best.json names, if it is there."""
    try:
        path = output_dir / CHECKPOINTS / json.loads((output_dir / CHECKPOINTS / BEST).read_text())["checkpoint"]
    except (OSError, ValueError, KeyError, TypeError):  # no such file, or not what was written
        return None
    return path if path in whole_checkpoints(output_dir) else None


def first_candidate(save_every: int, eval_every: int, num_steps: int) -> int:
    """The first step with both a checkpoint and an evaluation: at the latest the last one (0: only at the end)."""
    return min(math.lcm(save_every, eval_every) or num_steps, num_steps)


def _is_finite(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)
