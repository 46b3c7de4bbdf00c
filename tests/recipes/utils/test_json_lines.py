"""One reader of JSON lines: whatever is wrong with a line, every program that reads such files says it alike."""

import gzip
import json

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.chat.tasks import open_task
from evals.core.bundle import CoreTask, read_examples
from evals.judge.instructions import read_instructions
from recipes.data.conversations import open_conversations
from recipes.data.corpora import open_corpus
from recipes.utils.errors import InputError
from recipes.utils.json_lines import Damaged, read_json_rows, scan_json_rows
from recipes.utils.run_directory import read_metrics

DAMAGE = {
    "cut off": (b'{"text": "half', "not valid JSON (Unterminated string starting at column"),
    "two values": (b"{} {}", "not valid JSON (Extra data at column 4)"),
    "null bytes": (b"\0" * 30, "not valid JSON"),
    "control character": (b'{"text": "\x01"}', "not valid JSON (Invalid control character"),
    "latin-1": ('{"text": "é"}'.encode("latin-1"), "not valid UTF-8"),
    "utf-16": ('{"text": ""}'.encode("utf-16"), "not valid UTF-8"),
    "5,000 digits": (b'{"n": ' + b"1" * 5_000 + b"}", "a number of too many digits to be read"),
    "deep list": (b'{"n": ' + b"[" * 100_000, "lists or objects nested too deep"),
    "deep object": (b'{"n":' * 100_000, "lists or objects nested too deep"),
    "closed deep list": (b'{"n": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "lists or objects nested too deep"),
    "lone surrogate": (b'{"text": "\\ud83d"}', "a lone surrogate"),
    "lone surrogate as a key": (b'{"\\udcff": [1, {"a": ["\\ud83d\\ude00"]}]}', "a lone surrogate"),
}
MESSAGES = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
GSM8K = {"question": "1 + 1?", "answer": "#### 2"}
HUMANEVAL = {"prompt": "def f():", "canonical_solution": "  pass", "test": "", "entry_point": "f"}
INSTRUCTION = {"instruction": "Add.", "output": "3"}
CORE = CoreTask("t", "rows.jsonl", "language_modeling", 0, 0.0)
READERS = {  # what a sound row is, and what reads the file
    "documents": ({"text": "A document."}, lambda path: list(open_corpus(str(path)).train)),
    "conversations": ({"messages": MESSAGES}, lambda path: open_conversations(str(path))),
    "gsm8k": (GSM8K, lambda path: open_conversations(f"gsm8k:{path}", "test")),
    "gsm8k exam": (GSM8K, lambda path: open_task(f"gsm8k:{path}")),
    "humaneval": (HUMANEVAL, lambda path: open_conversations(f"humaneval:{path}", "test")),
    "core": ({"context": "a", "continuation": "b"}, lambda path: read_examples(CORE, path.parent)),
    "judge": (INSTRUCTION, lambda path: read_instructions(str(path))),
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_line_is_named_by_file_and_line_whoever_reads_it(reader, damage, tmp_path):
    good, read = READERS[reader]
    line, reason = DAMAGE[damage]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(json.dumps(good).encode() + b"\r\n \n" + line + b"\n" + json.dumps(good).encode())
    with pytest.raises(InputError) as error:
        read(path)
    assert str(error.value).startswith(f"{path}, line 3: {reason}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "A.JSONL", "a.jsonl.gz", "a.JSON.GZ"])
def test_skip_damaged_goes_on_after_every_kind_of_damage(name, tmp_path, caplog):
    lines = [b'{"text": "one"}', *(line for line, _ in DAMAGE.values()), b'{"text": "two"}', b'{"text": "three"}']
    content = b"\n".join(lines)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.lower().endswith("gz") else content)
    corpus = open_corpus(str(tmp_path), skip_damaged=True)
    assert {row["text"] for part in (corpus.train, corpus.validation) for row in part} == {"one", "two", "three"}
    assert f"skipped {len(DAMAGE)} damaged, the first at line 2" in caplog.text


def test_metrics_are_read_past_damage_that_a_killed_process_or_a_disk_left(tmp_path):
    lines = [b'{"step": 1}', *(line for line, _ in DAMAGE.values()), b"[]", b'{"step": 2}', b'{"step": 3, "va']
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join(lines))
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 1}, {"step": 2}]


def rows_of(path):
    return [row for _, row in scan_json_rows(path)]


ROWS = [{"text": "one"}, ["two"], 3, {"text": "\u2028 \x85 😀"}]


@pytest.mark.parametrize("ascii", [True, False])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n \t\n"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.JSON", "a.jsonl.GZ"])
def test_rows_are_read_whatever_ends_a_line_and_whatever_is_in_it(tmp_path, name, end, ascii):
    content = b"\xef\xbb\xbf" + (end.join(json.dumps(row, ensure_ascii=ascii) for row in ROWS) + end).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("GZ") else content)
    assert rows_of(tmp_path / name) == ROWS


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("value", [ROWS, [], {"text": "one", "more": [1]}], ids=["list", "empty list", "object"])
def test_a_json_file_may_be_a_list_or_one_object(tmp_path, value, indent):
    (tmp_path / "a.json").write_text("\n\n" + json.dumps(value, indent=indent))
    assert rows_of(tmp_path / "a.json") == (value if isinstance(value, list) else [value])


def test_in_a_list_a_lone_surrogate_costs_its_row_and_other_damage_the_whole(tmp_path):
    (tmp_path / "a.json").write_text('[{"text": "one"},\n {"text": "\\ud800"},\n 5]')
    assert rows_of(tmp_path / "a.json") == [
        {"text": "one"},
        Damaged("row 1", "a lone surrogate, which is not valid Unicode"),
        5,
    ]
    (tmp_path / "a.json").write_text('[{"text": "one"},\n {"text": 2}\n 5]')
    with pytest.raises(InputError, match="a.json, line 3: not valid JSON"):
        list(read_json_rows(tmp_path / "a.json"))


@pytest.mark.parametrize(
    ("spoil", "kept"),
    [
        (lambda content: content[: len(content) // 2], range(100, 900)),
        (lambda content: content + b"garbage", [1000]),
        (lambda content: content + content, [2000]),
        (lambda content: content[:-8] + b"\0" * 8, [1000]),
        (lambda content: b"no gzip", [0]),
    ],
    ids=["cut off", "garbage after it", "twice", "wrong checksum", "no gzip"],
)
def test_of_a_damaged_compressed_file_what_came_before_is_read(tmp_path, spoil, kept):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(spoil(gzip.compress(b"".join(b'{"text": "%d"}\n' % number for number in range(1000)))))
    *rows, last = rows_of(path)
    if isinstance(last, Damaged):
        assert last.place == f"after line {len(rows)}" and last.reason.startswith("cannot be read (")
    assert len(rows) + (not isinstance(last, Damaged)) in kept
    assert all(row == {"text": str(number % 1000)} for number, row in enumerate(rows))


@given(st.lists(st.binary(max_size=40) | st.sampled_from([line for line, _ in DAMAGE.values()]), max_size=5))
def test_no_content_whatsoever_is_a_traceback(tmp_path_factory, pieces):
    directory = tmp_path_factory.getbasetemp()
    for name in ("any.jsonl", "any.json", "any.jsonl.gz"):
        (directory / name).write_bytes(b"\n".join(pieces))
        for _, row in scan_json_rows(directory / name):
            assert not isinstance(row, Damaged) or "\n" not in row.reason


def test_a_file_that_cannot_be_opened_is_told(tmp_path):
    for path in (tmp_path, tmp_path / "missing.jsonl"):
        with pytest.raises(InputError, match=f"^{path} cannot be read: "):
            list(read_json_rows(path))
