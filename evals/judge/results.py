"""The results file of a judgment: rewritten as it grows, and resumed when the command is run again."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evals.judge.comparison import label_answers
from evals.judge.instructions import Row
from evals.judge.ranking import judged_places, pair_models, rank_models
from recipes.utils import atomic
from recipes.utils.errors import InputError
from recipes.utils.json_lines import parse_json

REMEDY = "choose another --output, or remove the file to start over."
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
    with _reading(path):
        content = parse_json(path.read_bytes())
        before = [Row(**row) for row in content["rows"]]
        facts = _facts(content, header, "model")
    _check_same(path, facts)
    return _continued(path, before, rows)


def write_comparison(path: Path, header: dict[str, Any], tables: Mapping[str, list[Row]]) -> None:
    """Write the JSON file of several models' answers, one row an instruction."""
    places = [dict(zip(tables, rows, strict=True)) for rows in zip(*tables.values(), strict=True)]
    content = header | {
        "count": len(places),
        "scored": len(judged_places(tables)),
        "failed": sum(any(row.error is not None for row in rows.values()) for rows in places),
        "ranking": [asdict(each) for each in rank_models(tables)],
        "pairs": [asdict(each) for each in pair_models(tables)],
        "rows": [_together(rows) for rows in places],
    }
    atomic.write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _together(rows: Mapping[str, Row]) -> dict[str, Any]:
    """One instruction with every model's answer; `shown` is the order in which the judge saw those with words."""
    instruction, input, reference = next(iter(rows.values())).question
    error = next((row.error for row in rows.values() if row.error is not None), None)
    answers = {model: {"answer": row.answer, "score": row.score, "reason": row.reason} for model, row in rows.items()}
    shown = list(label_answers(rows).values())
    row = {"instruction": instruction, "input": input, "reference": reference, "answers": answers, "shown": shown}
    return row | ({"error": error} if error is not None else {})


def resume_comparison(path: Path, header: dict[str, Any], tables: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """As `resume`, for several models; the file must be of the same ones, in any order."""
    if not path.exists():
        return tables
    with _reading(path):
        content = parse_json(path.read_bytes())
        known = {_plain(model): model for model in content["models"]}
        facts = [("models", *(", ".join(sorted(map(_plain, each["models"]))) for each in (content, header)))]
        facts += _facts(content, header)
        rows = content["rows"]
    _check_same(path, facts)
    with _reading(path):
        before = {model: [_alone(row, row["answers"][known[_plain(model)]]) for row in rows] for model in tables}
    return {model: _continued(path, before[model], rows) for model, rows in tables.items()}


def _alone(row: dict[str, Any], answer: dict[str, Any]) -> Row:
    """One model's part of a row."""
    error = row.get("error") if answer["score"] is None and answer["answer"] else None
    return Row(row["instruction"], row["input"], row["reference"], **answer, error=error)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what reading another file raises into an `InputError`."""
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise InputError(f"{path} exists and is not a result of evals.judge{_of_such(path)}: {REMEDY}") from None


def _of_such(path: Path) -> str:
    """What the file is of, if it is a result of one model where several are compared, or the other way round."""
    try:
        content = parse_json(path.read_bytes())
        return " with these models" if isinstance(content, dict) and "judge" in content else ""
    except (OSError, ValueError):
        return ""


def _facts(content: dict[str, Any], header: dict[str, Any], *names: str) -> list[tuple[str, Any, Any]]:
    """What the answers and scores depend on: its name, its value in the file and now."""
    facts = [(name, content[name], header[name]) for name in (*names, "judge")]
    return facts + [(name, content["arguments"][name], header["arguments"][name]) for name in SAME]


def _check_same(path: Path, facts: list[tuple[str, Any, Any]]) -> None:
    for name, old, new in facts:
        if _plain(old) != _plain(new):
            raise InputError(f"{path} holds results with {name} {old}, not {new}: {REMEDY}")


def _continued(path: Path, before: list[Row], rows: list[Row]) -> list[Row]:
    if [row.question for row in before] != [row.question for row in rows[: len(before)]]:
        raise InputError(f"{path} holds results of more or other instructions: {REMEDY}")
    return before + rows[len(before) :]


def _plain(value: Any) -> Any:
    """A path or URL without trailing slashes."""
    return value.rstrip("/") if isinstance(value, str) else value
