"""HumanEval's programs are taken out of replies, completed by what they need, run, and counted."""

import gzip
import json
from dataclasses import replace
from functools import partial

import pytest

from evals.chat import humaneval
from evals.chat.__main__ import ChatEvalArguments, choose_sampling, evaluate
from evals.chat.evaluate import evaluate_task
from evals.chat.humaneval import extract_code, run_reply
from evals.chat.tasks import open_task
from evals.execution import ExecutionUnavailable, Limits, run_python
from recipes.data.messages import assistant, user
from recipes.inference.generate import Sampling
from recipes.utils.arguments import parse_arguments
from recipes.utils.errors import InputError
from tests.evals.chains import always, chain_model
from tests.recipes.inference.talker import always as babbler
from tokenizer.bpe import train_tokenizer
from tokenizer.special_tokens import ASSISTANT_END, ASSISTANT_START

# In the layout of HumanEval: with imports, with a helper that the test needs too, with neither.
MEAN = {
    "task_id": "Own/0",
    "prompt": 'from typing import List\nimport math\n\n\ndef mean(numbers: List[float]) -> float:\n    """Mean."""\n',
    "canonical_solution": "    total = math.fsum(numbers)\n    return total / len(numbers)\n",
    "test": "def check(candidate):\n    assert candidate([1, 2]) == 1.5\n    assert candidate([4]) == 4\n",
    "entry_point": "mean",
}
DECODE = {
    "task_id": "Own/1",
    "prompt": (
        'def encode(text: str):\n    """Turn around."""\n    return text[::-1]\n\n\n'
        'def decode(text: str):\n    """Undo encode."""\n'
    ),
    "canonical_solution": "    return encode(text)\n",
    "test": "def check(candidate):\n    assert candidate(encode('ab')) == 'ab'\n    assert candidate('ab') == 'ba'\n",
    "entry_point": "decode",
}
FOUR = {
    "task_id": "Own/2",
    "prompt": 'def four():\n    """4"""\n',
    "canonical_solution": "    return 4\n",
    "test": "def check(candidate):\n    assert candidate() == 4\n",
    "entry_point": "four",
}
ROWS = [MEAN, DECODE, FOUR]


def whole(row):
    return row["prompt"] + row["canonical_solution"]


def function(row):
    """The function alone, without what stands above it."""
    return whole(row)[whole(row).index(f"def {row['entry_point']}") :]


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("```python\nx = 1\n```", "x = 1\n"),
        ("Here:\n\n```\n    x = 1\n```\nThat is all.", "x = 1\n"),
        ("```py\nx = 1\n```\n```python\ny = 2\n```", "x = 1\n"),
        ("```bash\npip install x\n```\n```python\ny = 2\n```", "y = 2\n"),
        ("```\nx = 1\n```\n```\nclass A:\n  def four(): 0\n```\n```\ndef four(): 4\n```", "def four(): 4\n"),
        ("```\npip install x\n```", "pip install x\n"),
        ("```python\nx = 1\ny =", "x = 1\ny ="),
        ("```python\nx = 1```\nThat is all.", "x = 1"),
        ("```python\r\nx = 1\r\n```\r\n", "x = 1\n"),
        ("~~~python\nx = '```'\n~~~", "x = '```'\n"),
        ("````\nx\n```\ny\n````", "x\n```\ny\n"),
        ("1. Here: ```python\n   x = 1\n   ```\n2. That is all.", "x = 1\n"),
        ("x = '```'", "x = '```'"),
        ("x = '```'\ny = 1\nz = '```'", "x = '```'\ny = 1\nz = '```'"),
        ("    return 4", "return 4"),
        ("x = 4\n    return x", "x = 4\nreturn x"),
        ("if x:\n        return 1\n    return x", "if x:\n    return 1\nreturn x"),
        ("Take math:\n\nimport math\nx = 1", "import math\nx = 1"),
        ("It comes\nfrom here:\n@cache\ndef four(): 4", "@cache\ndef four(): 4"),
        ("I do not know.", "I do not know."),
        ("x = '\0'", "x = '\0'"),
        ("(" * 9999, "(" * 9999),
        ("-" * 99999 + "1", "-" * 99999 + "1"),
        ("", ""),
    ],
)
def test_the_code_is_the_most_promising_fenced_block_or_all_but_prose(reply, code):
    assert extract_code(reply, "four") == code


@pytest.mark.parametrize("row", ROWS, ids=[row["task_id"] for row in ROWS])
@pytest.mark.parametrize(
    "form",
    [
        whole,
        function,
        lambda row: row["canonical_solution"],
        lambda row: f"Of course!\n```python\n{whole(row)}```\nIt works.",
        lambda row: f"```\n{function(row)}\n```",
        lambda row: f"```python\n{row['canonical_solution'].replace('    ', '')}```",
        lambda row: function(row) + '\n\nif __name__ == "__main__":\n    print(input())\n',
        lambda row: f"import os\n\nclass Unused:\n    pass\n\n{function(row)}",
        lambda row: f"{row['entry_point']}_2 = 0\n{function(row)}",
        lambda row: row["canonical_solution"].strip(),
        lambda row: f"Here is the function:\n\n{whole(row)}",
        lambda row: f"```python\nfrom __future__ import annotations\n{whole(row)}```",
        lambda row: f"```bash\npip install numpy\n```\n~~~py\n{whole(row)}~~~",
    ],
)
def test_right_solutions_pass_in_every_form(row, form):
    assert run_reply(row, form(row)) == "right"


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        ("", "failed"),
        ("I do not know.", "failed"),
        ("    return 5", "failed"),
        ("def five():\n    return 4", "failed"),
        ("class A:\n    def four():\n        return 4", "failed"),
        ("def four():\n    exit(0)", "failed"),
        ("def four():\n    import os\n    os._exit(0)", "failed"),
        ("exit()\ndef four():\n    return 4", "failed"),
        ("import sys\ndef four():\n    return 5\nsys.exit()", "failed"),
        ("def check(candidate): pass\ndef four(): return 5", "failed"),
        ("def four():\n    return bytearray(10**12)", "memory"),
        ("def four():\n    while True: pass", "timeout"),
    ],
)
def test_wrong_solutions_do_not_pass(reply, outcome, monkeypatch):
    monkeypatch.setattr(humaneval, "run_python", partial(run_python, limits=Limits(cpu_seconds=1)))
    assert run_reply(FOUR, reply) == outcome


# The task


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The problems as a directory, as a file, and as a compressed one."""
    root = tmp_path_factory.mktemp("humaneval")
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    (root / "HumanEval.jsonl").write_text(lines)
    with gzip.open(root / "packed.jsonl.gz", "wt") as file:
        file.write(lines)
    return root


@pytest.mark.parametrize("name", ["", "HumanEval.jsonl", "packed.jsonl.gz"])
def test_the_task_is_read_from_files(name, files):
    task = open_task(f"humaneval:{files / name}")
    assert (task.name, task.kind, task.baseline, task.max_new_tokens) == ("humaneval", "generate", 0.0, 512)
    assert "limits" in task.note
    assert sorted(problem.messages[0]["content"] for problem in task.problems) == sorted(row["prompt"] for row in ROWS)
    for problem in task.problems:
        assert problem.is_right(problem.answer) and not problem.is_right("")


def test_a_file_without_tests_is_told(tmp_path):
    (tmp_path / "own.jsonl").write_text(json.dumps({"prompt": "def f():", "canonical_solution": "pass"}) + "\n")
    with pytest.raises(InputError, match="no column 'test'"):
        open_task(f"humaneval:{tmp_path / 'own.jsonl'}")


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([" return 4 return 5 " * 9, *map(whole, ROWS)], vocab_size=340)


@pytest.mark.slow
def test_programs_are_counted_and_give_pass_at_k(files, tokenizer):
    task = open_task(f"humaneval:{files}")
    chains = [[ASSISTANT_START, *tokenizer.tokenize(f"return {number}"), ASSISTANT_END] for number in (4, 5)]
    model = chain_model(tokenizer, *chains)  # one as likely as the other
    result = evaluate_task(model, tokenizer, task, Sampling(temperature=1.0, top_k=2), num_samples=20)
    four = next(index for index, problem in enumerate(task.problems) if problem.messages == [user(FOUR["prompt"])])
    for index, (replies, outcomes) in enumerate(zip(result.replies, result.outcomes, strict=True)):
        told = {reply[-1]["content"]: outcome for reply, outcome in zip(replies, outcomes, strict=True)}
        assert told == {"return 4": "right" if index == four else "failed", "return 5": "failed"}
    assert 0 < result.pass_at(1) < result.pass_at(20) == pytest.approx(1 / 3)


def test_a_program_that_cannot_be_graded_has_failed_and_the_others_count(files, tokenizer):
    def raising(error):
        def grade(reply):
            raise error

        return replace(task.problems[0], grade=grade)

    task = open_task(f"humaneval:{files}")
    model = babbler("4", tokenizer)
    odd = replace(task, problems=[raising(OSError("no room")), *task.problems[1:]], max_new_tokens=2)
    assert evaluate_task(model, tokenizer, odd).outcomes == [["failed"]] * 3
    with pytest.raises(ExecutionUnavailable):
        evaluate_task(model, tokenizer, replace(odd, problems=[raising(ExecutionUnavailable("nowhere"))]))


def test_the_task_says_how_long_answers_may_be_unless_told_otherwise(files, tokenizer):
    task = open_task(f"humaneval:{files}", max_problems=1)
    assert choose_sampling(ChatEvalArguments(model="x"), task).max_new_tokens == 512
    assert choose_sampling(ChatEvalArguments(model="x", max_new_tokens=7), task).max_new_tokens == 7
    assert choose_sampling(ChatEvalArguments(model="x"), open_task("facts", 1)).max_new_tokens == 256
    result = evaluate_task(babbler("4", tokenizer), tokenizer, replace(task, max_new_tokens=5))
    assert [reply[-1]["content"] for reply in result.replies[0]] == ["44444"]


def test_the_command_tells_outcomes_and_what_contains_programs(files, tokenizer, tmp_path, capsys):
    always(tokenizer, "4").save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    flags = ["--model", str(tmp_path), "--tasks", f"humaneval:{files}", "--save_replies", "true"]
    evaluate(parse_arguments(ChatEvalArguments, argv=flags))
    figures = json.loads((tmp_path / "evals/chat.json").read_text())["tasks"]["humaneval"]
    assert (figures["count"], figures["accuracy"], figures["outcomes"]) == (3, 0.0, {"failed": 3})
    assert [(row["replies"], row["outcomes"]) for row in figures["rows"]] == [([[assistant("4")]], ["failed"])] * 3
    assert "humaneval: programs of the model are contained by limits" in capsys.readouterr().out
