"""Corpora of the Hub: their streams from local builders, its absence from a closed port."""

import json
import os
import socket
import subprocess
import sys

import datasets
import pytest

from recipes.data.corpora import open_corpus, split_builder
from recipes.data.packing import PackedRows
from recipes.utils.errors import InputError
from tests.recipes.data.corpus_files import PLAY, TEXTS, texts_of, write_jsonl, write_parquet
from tokenizer.bpe import train_tokenizer


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False)


def builder_of(directory):
    return datasets.load_dataset_builder(str(directory))


def test_hub_data_without_a_validation_split_holds_out_the_last_file(tmp_path):
    for number in range(3):
        write_parquet(tmp_path / f"train-{number}.parquet", [f"text {number}", None], column="content")
    corpus = split_builder(builder_of(tmp_path), "name", "content")
    assert texts_of(corpus.train) == ["text 0", "text 1"]
    assert texts_of(corpus.validation) == ["text 2"]
    assert list(next(iter(corpus.train))) == ["text"]


def test_hub_data_with_a_validation_split_uses_it(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", ["one", "two"])
    write_jsonl(tmp_path / "validation.jsonl", ["three"])
    corpus = split_builder(builder_of(tmp_path), "name", "text")
    assert (texts_of(corpus.train), texts_of(corpus.validation)) == (["one", "two"], ["three"])


@pytest.mark.parametrize(
    "names",
    [
        ["train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"],
        ["train", "valid", "test"],
        ["data/train", "data/eval"],
        ["train/part1", "train/part2", "test/part1"],
        ["a", "b", "c"],
    ],
)
def test_local_files_are_split_as_datasets_splits_those_of_the_hub(tmp_path, names):
    for number, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_jsonl(tmp_path / f"{name}.jsonl", [f"text {number}"])
    hub, local = split_builder(builder_of(tmp_path), "name", "text"), open_corpus(str(tmp_path))
    assert texts_of(hub.train) == texts_of(local.train)
    assert texts_of(hub.validation) == texts_of(local.validation)


def test_hub_data_of_a_single_file_is_split_as_a_local_file_is(tmp_path):
    write_parquet(tmp_path / "data.parquet")
    hub, local = split_builder(builder_of(tmp_path), "name", "text"), open_corpus(str(tmp_path / "data.parquet"))
    assert texts_of(hub.train) == texts_of(local.train)
    assert texts_of(hub.validation) == texts_of(local.validation)


@pytest.mark.parametrize("separator", ["whole", "lines", "blank_lines"])
def test_hub_text_is_cut_into_documents_as_a_local_file_is(tmp_path, separator):
    (tmp_path / "play.txt").write_text(PLAY)
    hub = split_builder(builder_of(tmp_path), "name", "text", separator)
    local = open_corpus(str(tmp_path / "play.txt"), document_separator=separator)
    assert hub.document_separator == local.document_separator == separator
    assert [text.rstrip() for text in texts_of(hub.train)] == [text.rstrip() for text in texts_of(local.train)]
    assert texts_of(hub.validation)[0].rstrip() == texts_of(local.validation)[0].rstrip()


def test_hub_rows_stay_documents(tmp_path):
    write_parquet(tmp_path / "data.parquet")
    whole = split_builder(builder_of(tmp_path), "name", "text", "whole")
    assert whole.document_separator == "auto"
    assert texts_of(whole.train) == texts_of(split_builder(builder_of(tmp_path), "name", "text").train)


def test_hub_data_without_the_column_lists_those_there(tmp_path):
    write_parquet(tmp_path / "data.parquet")
    with pytest.raises(InputError, match="name: no column 'content'; the columns there are number, text"):
        split_builder(builder_of(tmp_path), "name", "content")
    with pytest.raises(InputError, match="name: column 'number' holds int"):
        split_builder(builder_of(tmp_path), "name", "number")


@pytest.mark.slow
def test_hub_data_that_is_damaged_further_on_is_one_line(tmp_path):
    rows = [json.dumps({"text": f"{text} {'and on ' * 1000}"}) + "\n" for text in TEXTS * 10]
    (tmp_path / "train.jsonl").write_text("".join(rows) + '{"text": "cut o')
    write_jsonl(tmp_path / "test.jsonl")
    corpus = split_builder(builder_of(tmp_path), "name", "text")
    tokenizer = train_tokenizer(TEXTS, 300)
    with pytest.raises(InputError, match=r"cannot be read beyond document [\d,]+ of reader 1 of 1 \(.*intact") as told:
        list(PackedRows(corpus.train, tokenizer, 16, epochs=1))
    assert "\n" not in str(told.value)


OPEN_SCRIPT = """
from recipes.data.corpora import open_corpus
from recipes.utils.errors import exit_on_input_error
exit_on_input_error("script", lambda: open_corpus("someone/something"))
"""


def open_in_subprocess(tmp_path, **environment):
    online = {"HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path), "no_proxy": "127.0.0.1"}
    environment = {**os.environ, **online, **environment}
    return subprocess.run(
        [sys.executable, "-c", OPEN_SCRIPT], capture_output=True, text=True, timeout=60, env=environment
    )


@pytest.mark.launch
def test_an_unreachable_hub_is_one_line_within_seconds(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        done = open_in_subprocess(tmp_path, HF_ENDPOINT=endpoint)
    assert done.returncode == 2
    assert done.stderr.strip().startswith(f"script: the Hub ({endpoint}) cannot be reached")
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.launch
def test_a_hub_that_never_answers_is_given_up_within_seconds(tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # accepts and says nothing
        done = open_in_subprocess(tmp_path, HF_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert done.returncode == 2
    assert "cannot be reached (timed out)" in done.stderr


@pytest.mark.launch
def test_an_offline_hub_is_one_line(tmp_path):
    done = open_in_subprocess(tmp_path, HF_HUB_OFFLINE="1")
    assert done.returncode == 2
    assert "HF_HUB_OFFLINE" in done.stderr
