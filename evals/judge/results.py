"""The results file of a judgment: rewritten as it grows, and resumed when the command is run again."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evals.judge.instructions import Row
from recipes.utils import atomic
from recipes.utils.errors import InputError
from recipes.utils.json_lines import parse_json

SAME = ("max_new_tokens", "temperature", "top_k")  # arguments on which the answers depend


def write_results(path: Path, header: dict[str, Any], rows: list[Row]) -> None:
    """Write the JSON file; readers never see it half-written. `header` says who judged whom, and how."""
    scores = [row.score for row in rows if row.score is not None]
    content = header | {
        "count": len(rows),
        "scored": len(scores),
        "mean_score": sum(scores) / len(scores) if scores else None,
        "failed": sum(row.error is not None for row in rows),
        "rows": [_as_json(row) for row in rows],
    }
    atomic.write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _as_json(row: Row) -> dict[str, Any]:
    """The row as JSON; `error` only if there is one."""
    return {key: value for key, value in asdict(row).items() if key != "error" or value is not None}


def resume(path: Path, header: dict[str, Any], rows: list[Row]) -> list[Row]:
    """`rows`, with the answers and scores that the file already holds.

    The file's own rows must be the first of `rows`: more problems may be drawn than before. Raises `InputError` for
    a file of another model, judge, instruction set or sampling, and for a file that is not a result.
    """
    if not path.exists():
        return rows
    remedy = "choose another --output, or remove the file to start over."
    try:
        content = parse_json(path.read_bytes())
        before = [Row(**row) for row in content["rows"]]
        facts = [(name, content[name], header[name]) for name in ("model", "judge")]
        facts += [(name, content["arguments"][name], header["arguments"][name]) for name in SAME]
    except (OSError, ValueError, TypeError, KeyError):
        raise InputError(f"{path} exists and is not a result of evals.judge: {remedy}") from None
    for name, old, new in facts:
        if _plain(old) != _plain(new):
            raise InputError(f"{path} holds results with {name} {old}, not {new}: {remedy}")
    if [row.question for row in before] != [row.question for row in rows[: len(before)]]:
        raise InputError(f"{path} holds results of more or other instructions: {remedy}")
    return before + rows[len(before) :]


def _plain(value: Any) -> Any:
    """A path or URL without trailing slashes."""
    return value.rstrip("/") if isinstance(value, str) else value
