"""A small bundle for the tests of CORE: tasks of every type, with and without solved examples in front."""

import json
import random
from pathlib import Path

import yaml

WORDS = "the cat dog sat ran on under mat tree red blue seven 12 capital of France is Paris gold Au when why"
TASKS = [
    {"label": "arc_easy", "file": "a/arc_easy.jsonl", "type": "multiple_choice", "shots": 10, "baseline": 25},
    {"label": "yes_or_no", "file": "a/boolq.jsonl", "type": "multiple_choice", "shots": 3, "baseline": 62},
    {"label": "copa", "file": "b/copa.jsonl", "type": "multiple_choice", "shots": 0, "baseline": 50},
    {"label": "winograd", "file": "b/winograd.jsonl", "type": "schema", "shots": 0, "baseline": 50},
    {"label": "schema_shots", "file": "b/winograd.jsonl", "type": "schema", "shots": 2, "baseline": 50},
    {"label": "lambada", "file": "c/lambada.jsonl", "type": "language_modeling", "shots": 0, "baseline": 0},
    {"label": "jeopardy", "file": "c/jeopardy.jsonl", "type": "language_modeling", "shots": 10, "baseline": 0},
]
TASKS[0]["delimiter"] = TASKS[1]["delimiter"] = TASKS[6]["delimiter"] = "\nAnswer: "


def write_bundle(directory: Path, count: int = 40) -> Path:
    """Write the tasks above with `count` examples each, of random words, into `directory`."""
    rng = random.Random(0)

    def words(least: int, most: int) -> str:
        return " ".join(rng.choices(WORDS.split(), k=rng.randint(least, most)))

    def choice(number: int) -> dict:
        choices = [words(1, 5) for _ in range(rng.randint(2, 5))]
        if number % 8 == 0:  # two answers alike: the first of them counts
            choices[1] = choices[0]
        return {"query": words(3, 12), "choices": choices, "gold": rng.randrange(len(choices))}

    def schema(number: int) -> dict:
        start = words(3, 12)
        options = [f"{start} {words(1, 3)}", f"{start} {words(1, 3)}"]
        return {"context_options": options, "continuation": words(2, 6), "gold": rng.randrange(2)}

    rows = {
        "a/arc_easy.jsonl": choice,
        "a/boolq.jsonl": lambda number: {"query": words(3, 30), "choices": ["no", "yes"], "gold": number % 2},
        "b/copa.jsonl": choice,
        "b/winograd.jsonl": schema,
        "c/lambada.jsonl": lambda number: {"context": words(5, 20), "continuation": words(1, 1)},
        "c/jeopardy.jsonl": lambda number: {"context": words(5, 20), "continuation": words(1, 3)},
    }
    for name, row in rows.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row(number)) + "\n" for number in range(count)))
    (directory / "core.yaml").write_text(yaml.safe_dump({"tasks": TASKS}))
    return directory
