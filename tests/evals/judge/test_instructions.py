"""Instruction sets are read from either layout, and damage is told by its place."""

import json

import pytest

from evals.judge.instructions import Row, read_instructions
from recipes.utils.errors import InputError
from tests.recipes.inference.talker import SCRIPTS


def test_json_lines_are_read_as_json_is(tmp_path):
    rows = [{"instruction": "Add.", "input": "1, 2", "output": "3"}, {"instruction": SCRIPTS, "output": ""}]
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=2))
    (tmp_path / "a.jsonl").write_text("\ufeff" + "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    expected = [Row("Add.", "1, 2", "3"), Row(SCRIPTS, "", "")]
    assert read_instructions(tmp_path / "a.json") == read_instructions(tmp_path / "a.jsonl") == expected
    assert [row.conversation[0]["content"] for row in expected] == ["Add.\n\n1, 2", SCRIPTS]


GOOD = {"instruction": "a", "input": "", "output": "b"}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "holds no instructions"),
        ("[]", "holds no instructions"),
        ("[" + json.dumps(GOOD), "not valid JSON"),
        (json.dumps([GOOD, 5]), "row 1: int where an object"),
        (json.dumps([GOOD, GOOD, {"instruction": "a"}]), "row 2: no 'output'; the keys there are instruction"),
        (json.dumps([GOOD | {"input": None}]), "row 0: 'input' holds NoneType, not text"),
        (json.dumps([GOOD | {"instruction": " "}]), "row 0: the instruction is empty"),
        (json.dumps(GOOD) + "\n{\n", "line 2: not valid JSON"),
    ],
    ids=lambda text: text[:20],
)
def test_a_damaged_instruction_set_is_told_by_its_row(tmp_path, content, told):
    path = tmp_path / "set.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(InputError) as complaint:
        read_instructions(path)
    assert told in str(complaint.value) and str(path) in str(complaint.value) and "\n" not in str(complaint.value)
