"""Questions of ChatCORE's five tasks as local files, in the layout of the Hub."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def write_rows(path: Path, rows: list[dict]) -> None:
    """A parquet file of these rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def write_chat_files(root: Path) -> Path:
    """A few questions of each task below `root`, which is returned."""
    mmlu = [{"question": f"{n}?", "subject": "s", "choices": [*"wxyz"], "answer": n % 4} for n in range(5)]
    write_rows(root / "mmlu/all/test-00000-of-00001.parquet", mmlu)
    for config in ("ARC-Easy", "ARC-Challenge"):
        arc = [
            {"id": "a", "question": "1?", "choices": {"text": [*"wxyz"], "label": [*"ABCD"]}, "answerKey": "D"},
            {"id": "b", "question": "2?", "choices": {"text": [*"wxyz"], "label": [*"1234"]}, "answerKey": "2"},
            {"id": "c", "question": "3?", "choices": {"text": [*"wxy"], "label": [*"ABC"]}, "answerKey": "A"},
            {"id": "d", "question": "4?", "choices": {"text": [*"vwxyz"], "label": [*"ABCDE"]}, "answerKey": "E"},
        ]
        write_rows(root / f"arc/{config}/test-00000-of-00001.parquet", arc)
    gsm8k = [{"question": f"{n} * 2?", "answer": f"<<{n}*2={2 * n}>>\n#### {2 * n}"} for n in range(1, 8)]
    (root / "gsm8k").mkdir()
    (root / "gsm8k/test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in gsm8k))
    check = "def check(candidate):\n    assert candidate() is None\n"  # passed by the body 4, not by B
    head = {"canonical_solution": "    4\n", "test": check, "entry_point": "f"}
    programs = [head | {"prompt": f'def f():\n    """{n}"""\n'} for n in range(3)]
    (root / "HumanEval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in programs))
    return root


def chat_tasks(root: Path) -> dict[str, str]:
    """What `--tasks` calls each of them, by its name."""
    places = dict.fromkeys(("arc_easy", "arc_challenge"), "arc")
    places |= {"mmlu": "mmlu", "gsm8k": "gsm8k", "humaneval": "HumanEval.jsonl"}
    return {name: f"{name}:{root / place}" for name, place in places.items()}
