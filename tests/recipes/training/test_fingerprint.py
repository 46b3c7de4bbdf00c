"""Whatever changes what is trained on changes its fingerprint; a new place for the same does not."""

import json
import shutil

import datasets
import pytest
from huggingface_hub import constants

from recipes.data.corpora import open_corpus
from recipes.training.fingerprint import (
    differences,
    fingerprint_conversations,
    fingerprint_corpus,
    fingerprint_model,
)
from recipes.utils import fingerprint as module
from recipes.utils.fingerprint import fingerprint


@pytest.fixture
def files(tmp_path):
    """Two small files and one of which only the ends are hashed."""
    (tmp_path / "a").mkdir()
    for name, size in (("0.txt", 10), ("a/1.txt", 20), ("a/2.bin", module.HASHED_WHOLE + 10)):
        (tmp_path / name).write_bytes(bytes(size))
    return [tmp_path / name for name in ("0.txt", "a/1.txt", "a/2.bin")]


def test_files_are_known_by_their_place_below_the_directory_of_all(files):
    found = fingerprint(files)
    assert list(found) == ["0.txt", "a/1.txt", "a/2.bin"]
    assert [each["size"] for each in found.values()] == [10, 20, module.HASHED_WHOLE + 10]
    assert fingerprint([]) == {}


def overwrite(path, position):
    with path.open("r+b") as file:
        file.seek(position, 2 if position < 0 else 0)
        file.write(b"x")


@pytest.mark.parametrize(
    ("number", "position"), [(0, 5), (1, 0), (2, 0), (2, module.EDGE - 1), (2, -1), (2, -module.EDGE)]
)
def test_a_byte_changed_at_either_end_or_anywhere_in_a_small_file_is_seen(files, number, position):
    before = fingerprint(files)
    overwrite(files[number], position)
    assert differences(before, fingerprint(files)) == [f"{list(before)[number]}: other content"]


def test_what_is_new_missing_longer_or_in_another_order_is_said(files):
    before = fingerprint(files)
    files[0].write_bytes(bytes(1234))
    assert differences(before, fingerprint(files[:2])) == ["0.txt: size 10 -> 1,234", "a/2.bin: missing"]
    assert differences(fingerprint(files[:2]), fingerprint(files)) == ["a/2.bin: new"]
    assert differences(fingerprint(files), fingerprint(files[::-1])) == ["its files come in another order"]


def test_the_same_files_elsewhere_are_the_same(files, tmp_path):
    shutil.copytree(tmp_path, tmp_path.parent / "copy", dirs_exist_ok=True)
    assert fingerprint(files) == fingerprint(tmp_path.parent / "copy" / path.relative_to(tmp_path) for path in files)
    renamed = files[0].rename(tmp_path / "renamed.txt")
    assert differences({"0.txt": fingerprint([renamed])["renamed.txt"]}, fingerprint([renamed])) == []


def test_of_the_primer_its_documents_count():
    corpus = open_corpus("primer")
    found = fingerprint_corpus(corpus)
    assert list(found) == ["train documents", "validation documents"] and found["train documents"]["count"] > 1000
    assert fingerprint_corpus(open_corpus("primer")) == found


def test_of_a_text_where_its_documents_end_counts(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one\n\ntwo\n\nthree\n")
    blank, lines, whole = (
        fingerprint_corpus(open_corpus(str(path), document_separator=each))
        for each in ("blank_lines", "lines", "whole")
    )
    assert differences(lines, whole) == ["documents of plain text: separated by lines -> whole"]
    assert differences(blank, blank) == []
    before = fingerprint([path])  # of a run from before there was a choice
    assert differences(before, lines) == ["documents of plain text: new"]


def test_of_a_model_its_weights_config_and_vocabulary_count(student, tmp_path):
    found = fingerprint_model(str(student))
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= found.keys()
    assert "README.md" not in found and "modeling_nanochat.py" not in found
    assert list(fingerprint_model(str(student / "config.json"))) == ["config.json"]


def test_of_a_hub_id_the_snapshot_in_the_cache_counts(student, tmp_path, monkeypatch):
    home = tmp_path / "models--user--model"
    shutil.copytree(student, home / "snapshots" / "abc")
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert fingerprint_model("user/model") == fingerprint_model(str(student)) != {}
    assert fingerprint_model("user/other") == {}


@pytest.fixture
def mixture(tmp_path, sums):
    """A mixture of a user's file and of what is made by code."""
    path = tmp_path / "mix.yaml"
    talk = shutil.copy(sums, tmp_path / "talk.jsonl")
    path.write_text(f"# half and half\n- source: {talk}\n  epochs: 0.5\n- source: spelling\n  rows: 10\n")
    return path


ROWS = datasets.Dataset.from_dict({"messages": [str(number) for number in range(5000)]})


def of(spec, rows=ROWS):
    return fingerprint_conversations(str(spec), train=rows)


def test_of_a_mixture_the_entries_and_their_files_count_and_no_comments(mixture):
    before = of(mixture)
    assert list(before) == ["mix.yaml", "entry 1: talk.jsonl", "train rows"]
    mixture.write_text(mixture.read_text().replace("half and half", "a comment"))
    assert of(mixture) == before
    mixture.write_text(mixture.read_text().replace("rows: 10", "rows: 11"))
    assert differences(before, of(mixture)) == ["mix.yaml: other content"]
    with (mixture.parent / "talk.jsonl").open("a") as file:
        file.write("\n")
    size = before["entry 1: talk.jsonl"]["size"]
    assert f"entry 1: talk.jsonl: size {size:,} -> {size + 1:,}" in differences(before, of(mixture))


def test_of_what_has_no_file_here_the_rows_count(tmp_path):
    before = of("primer:sft")
    assert list(before) == ["train rows"]
    changed = ROWS.map(lambda row, number: {"messages": "x" if number == 4999 else row["messages"]}, with_indices=True)
    assert differences(before, of("primer:sft", changed)) == ["train rows: other content"]
    assert differences(before, of("primer:sft", ROWS.select(range(4999)))) == ["train rows: count 5,000 -> 4,999"]


def test_of_local_files_of_a_source_the_files_count(guessed):
    before = of(guessed)
    assert list(before) == ["test.jsonl", "train.jsonl", "train rows"]


def test_rows_are_not_named_beside_the_files_that_they_come_from(sums, tmp_path):
    path = tmp_path / shutil.copy(sums, tmp_path)
    before = of(path)
    path.write_text(path.read_text() + json.dumps([]))
    (line,) = differences(before, of(path, ROWS.select(range(10))))
    assert line.startswith("sums.jsonl: size ")
