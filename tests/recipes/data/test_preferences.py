"""Preferences are read in both layouts, checked row by row, and split as conversations are."""

import json
from pathlib import Path

import datasets
import pytest

from recipes.data.messages import assistant, calculator_call, user
from recipes.data.preferences import fit_preferences, open_preferences, parse_preference, split_tables
from recipes.utils.errors import InputError
from tests.recipes.inference.talker import load_tokenizer

ASKED = [user("Hello?")]
GOOD = {"prompt": ASKED, "chosen": [assistant("Hello!")], "rejected": [assistant("Go away.")]}
WHOLE = {"chosen": ASKED + GOOD["chosen"], "rejected": ASKED + GOOD["rejected"]}
LONGER = [user("Hello?"), assistant("Hello!"), user("How are you?")]


def number(n: int) -> dict:
    """A preference like no other."""
    return GOOD | {"prompt": [user(f"Hello {n}?")]}


def write(path, rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_both_layouts_are_the_same_preference():
    assert parse_preference(GOOD) == parse_preference(WHOLE) == GOOD
    long = {"chosen": [*LONGER, assistant("Well.")], "rejected": [*LONGER, assistant("Why?")]}
    assert parse_preference(long) == {
        "prompt": LONGER,
        "chosen": [assistant("Well.")],
        "rejected": [assistant("Why?")],
    }


def test_an_answer_may_call_tools_and_the_prompt_may_have_a_system_message():
    calls = [*calculator_call("", "1+2", "3"), assistant("It is 3.")]
    prompt = [{"role": "system", "content": "Be brief."}, *ASKED]
    row = {"prompt": prompt, "chosen": calls, "rejected": [*calls[:-1], assistant("It is 4.")]}
    assert parse_preference(row) == row
    assert parse_preference({key: prompt + row[key] for key in ("chosen", "rejected")}) == row


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([], "list where an object with the keys 'chosen' and 'rejected' is expected"),
        ({"prompt": ASKED, "chosen": []}, "no key 'rejected'; the keys there are prompt, chosen"),
        ({**GOOD, "prompt": "Hello?"}, "prompt is str where a list of messages is expected"),
        ({**GOOD, "chosen": "Hello!"}, "chosen is str where a list of messages is expected"),
        ({**GOOD, "rejected": None}, "rejected is NoneType where a list of messages is expected"),
        ({**GOOD, "chosen": []}, "chosen: message 1 is the last and has role 'user' where 'assistant' is expected"),
        ({**GOOD, "rejected": [user("No.")]}, "rejected: message 2 has role 'user' where 'assistant' is expected"),
        ({**GOOD, "chosen": LONGER[1:]}, "chosen: message 3 is the last and has role 'user'"),
        ({**GOOD, "chosen": [*LONGER[1:], assistant("x")]}, "chosen: the prompt's last message, or a message after"),
        ({**GOOD, "prompt": LONGER[:2]}, "chosen: message 3 has role 'assistant' where 'user' is expected"),
        ({**WHOLE, "rejected": [user("Hi?"), assistant("Go.")]}, "the prompts of chosen and rejected differ"),
        ({**WHOLE, "rejected": LONGER}, "rejected: message 3 is the last and has role 'user'"),
        ({**GOOD, "chosen": calculator_call("", "1+2", "3")}, "message 3 is the last and has role 'tool'"),
    ],
)
def test_an_invalid_row_is_named_by_file_and_line(row, expected, tmp_path):
    path = write(tmp_path / "pairs.jsonl", [number(1), row])
    with pytest.raises(InputError) as error:
        open_preferences(path)
    assert str(error.value).startswith(f"{path}, line 2: ") and expected in str(error.value)
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


def test_lines_that_are_no_json_and_empty_files_are_named(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(GOOD) + "\n{")
    with pytest.raises(InputError, match="pairs.jsonl, line 2: not valid JSON"):
        open_preferences(str(path))
    path.write_text("")
    with pytest.raises(InputError, match="pairs.jsonl is empty: there is no preference in it"):
        open_preferences(str(path))


def test_rows_without_a_difference_or_an_answer_are_left_out_and_counted(tmp_path, caplog):
    same, empty = GOOD | {"rejected": GOOD["chosen"]}, GOOD | {"chosen": [assistant(" ")]}
    path = write(tmp_path / "pairs.jsonl", [*map(number, range(9)), same, empty, same])
    opened = [open_preferences(path, split) for split in ("train", "validation")]
    assert sum(map(len, opened)) == 9
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning == (
        f"{path}: left out 3 of 12 preferences: in 2 chosen and rejected are the same (the first: {path}, line 10), "
        f"in 1 an answer is empty (the first: {path}, line 11)"
    )
    path = write(tmp_path / "none.jsonl", [same, empty])
    with pytest.raises(InputError, match="there is nothing to learn from its 2 preferences: in 1 chosen and rejected"):
        open_preferences(path)


def test_a_single_file_holds_out_some_rows_and_several_files_the_last(tmp_path):
    path = write(tmp_path / "pairs.jsonl", map(number, range(300)))
    train, held_out = (open_preferences(path, split).to_list() for split in ("train", "validation"))
    assert len(train) + len(held_out) == 300 and 1 <= len(held_out) < 12
    assert not {row["place"] for row in train} & {row["place"] for row in held_out}
    assert open_preferences(path, seed=1).to_list() != train
    write(tmp_path / "train.jsonl", [number(1)])
    write(tmp_path / "test.jsonl", [number(2)])
    Path(path).unlink()
    train, held_out = (open_preferences(str(tmp_path), split) for split in ("train", "validation"))
    assert train[0]["prompt"] == number(1)["prompt"] and held_out[0]["prompt"] == number(2)["prompt"]
    with pytest.raises(InputError, match="holds a single preference; training needs one more to hold out"):
        open_preferences(write(tmp_path / "one.jsonl", [GOOD, GOOD]))


def test_a_dataset_of_the_hub_is_read_by_its_splits_or_held_out_by_hash(tmp_path):
    for name, rows in (("train", map(number, range(40))), ("test", [WHOLE])):
        write(tmp_path / f"{name}.jsonl", [row | {"score": 1.0} for row in rows])
    tables = datasets.load_dataset(str(tmp_path))
    assert len(split_tables(tables, "ada/pairs", "train")) == 40
    (row,) = split_tables(tables, "ada/pairs", "validation").to_list()
    assert row == GOOD | {"place": "ada/pairs, test row 0"}
    alone = datasets.DatasetDict(train=tables["train"])
    parts = [split_tables(alone, "ada/pairs", split) for split in ("train", "validation")]
    assert sum(map(len, parts)) == 40 and all(map(len, parts))
    with pytest.raises(InputError, match="ada/pairs has no split `train`; its splits are test"):
        split_tables(datasets.DatasetDict(test=tables["test"]), "ada/pairs", "train")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("no such thing", "'no such thing' is neither primer, nor a .jsonl file here, nor a dataset of the Hub"),
        ("ada/pairs", "the Hub is switched off by HF_HUB_OFFLINE, and ada/pairs is not a file here"),
        ("./pairs.jsonl", "pairs.jsonl"),
    ],
)
def test_what_cannot_be_opened_is_told(spec, expected, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=expected):
        open_preferences(spec)


def test_rows_that_do_not_fit_are_dropped_and_counted_with_the_place_of_one(tokenizer_dir, tmp_path, caplog):
    long = [number(1) | {key: [assistant("word " * 50)]} for key in ("chosen", "rejected")]
    path = write(tmp_path / "pairs.jsonl", [*map(number, range(20)), *long])
    rows, tokenizer = open_preferences(path), load_tokenizer(tokenizer_dir, 96)
    fitted = fit_preferences(rows, tokenizer, 60)
    assert len(fitted) == len(rows) - 2 and fitted.column_names == ["prompt", "chosen", "rejected"]
    (warning,) = [record.getMessage() for record in caplog.records]
    assert (
        f"dropped 2 of {len(rows)} preferences that do not fit into 60 tokens (one of them: {path}, line 2" in warning
    )
    with pytest.raises(InputError, match=f"none of the {len(rows)} preferences fits into 3 tokens"):
        fit_preferences(rows, tokenizer, 3)
