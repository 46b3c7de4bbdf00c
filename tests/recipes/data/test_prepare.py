"""Preparing a corpus: what comes out is what tokenizing on the fly gives, however often it was interrupted."""

import json
import resource
import runpy
import shutil
import sys
import tempfile
from functools import partial
from itertools import chain
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.data import shards
from recipes.data.corpora import open_corpus, split_builder
from recipes.data.prepared import MANIFEST, find_prepared
from recipes.data.shards import describe_request, write_corpus
from recipes.utils.errors import InputError
from tests.recipes.data.prepared_corpora import counted, documents_of, prepare, write_texts
from tokenizer.bpe import train_tokenizer

TEXTS = [f"Text {number}. " + "The sky is blue and the sea is deep. " * (number % 5) for number in range(500)]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 300)


@pytest.fixture
def source(tmp_path):
    return write_texts(tmp_path / "texts.jsonl", TEXTS)


texts = st.lists(st.text(min_size=1, max_size=60).filter(str.strip), min_size=2, max_size=40, unique=True)


@settings(deadline=None, max_examples=30)
@given(texts, st.integers(1, 200), st.integers(0, 2))
def test_documents_are_those_of_tokenizing_on_the_fly(tokenizer, texts, shard_tokens, seed):
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    with tempfile.TemporaryDirectory() as directory:
        source = write_texts(Path(directory, "texts.jsonl"), texts)
        try:
            on_the_fly = open_corpus(str(source))
        except InputError:  # two different texts that say the same
            return
        prepared = prepare(source, tokenizer, Path(directory, "out"), shard_tokens, seed=seed)
        train, validation = counted(prepared.train), documents_of(prepared.validation)
        assert train == counted(on_the_fly.train, tokenizer)
        assert validation == documents_of(on_the_fly.validation, tokenizer)[: len(validation)]
        assert sum(map(len, validation)) >= min(
            shard_tokens, sum(map(len, documents_of(on_the_fly.validation, tokenizer)))
        )
        assert not train.keys() & set(validation)


def test_the_manifest_says_what_there_is_and_datasets_reads_it(source, tokenizer, tmp_path):
    prepared = prepare(source, tokenizer, tmp_path / "out", seed=3)
    manifest = prepared.prepared.manifest
    assert manifest["tokenizer"]["vocab_size"] == 300 and manifest["dtype"] == "uint16" and manifest["seed"] == 3
    assert manifest["source"]["files"]["content"]["texts.jsonl"]["size"] == source.stat().st_size
    for split, stream in (("train", prepared.train), ("validation", prepared.validation)):
        figures, lengths = manifest["splits"][split], [len(ids) for ids in documents_of(stream)]
        assert (figures["documents"], figures["tokens"]) == (len(lengths), sum(lengths))
        assert figures["lengths"] == {
            str(2**power): count
            for power in range(20)
            if (count := sum(2**power <= n < 2 ** (power + 1) for n in lengths))
        }
        read = [datasets.Dataset.from_file(str(tmp_path / "out" / each["name"])) for each in figures["shards"]]
        assert [tuple(ids) for ids in chain(*(each["input_ids"] for each in read))] == documents_of(stream)
        assert [len(each) for each in read] == [each["documents"] for each in figures["shards"]]
    assert len(manifest["splits"]["train"]["shards"]) > 3


def test_the_seed_fixes_the_order(source, tokenizer, tmp_path):
    one, same, other = (
        documents_of(prepare(source, tokenizer, tmp_path / name, seed=seed).train)
        for name, seed in (("one", 1), ("same", 1), ("other", 2))
    )
    assert one == same
    assert one != other and sorted(one) == sorted(other)
    assert one[:100] != documents_of(open_corpus(str(source)).train, tokenizer)[:100]
    names = [path.name for path in sorted((tmp_path / "one").glob("*.arrow"))]
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "same" / name).read_bytes() for name in names)


def test_max_tokens_ends_with_the_document_that_reaches_it(source, tokenizer, tmp_path):
    prepared = prepare(source, tokenizer, tmp_path / "out", shard_tokens=700, max_tokens=1500)
    longest = max(map(len, documents_of(open_corpus(str(source)).train, tokenizer)))
    assert 1500 <= prepared.train.tokens < 1500 + longest
    assert len(prepared.train.shards) == 3 or prepared.train.shards[1].tokens + prepared.train.shards[0].tokens >= 1500


def test_a_large_vocabulary_is_written_as_int32(source, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "LARGEST_UINT16", 100)
    prepared = prepare(source, tokenizer, tmp_path / "out")
    assert prepared.prepared.manifest["dtype"] == "int32"
    assert next(iter(prepared.train.share(0, 1))).dtype == np.int32
    assert counted(prepared.train) == counted(open_corpus(str(source)).train, tokenizer)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("hub", [False, True])
@pytest.mark.parametrize("after", [0, 1, 4])
def test_an_interrupted_call_continues_from_whole_shards_and_leaves_nothing_that_looks_finished(
    source, tokenizer, tmp_path, monkeypatch, after, hub
):
    monkeypatch.setattr(shards, "READ_DOCUMENTS", 64)  # so that shards end within a batch, and batches within a shard
    monkeypatch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False)
    if hub:  # a stream of `datasets` over two files
        (tmp_path / "data").mkdir()
        for number in range(3):
            datasets.Dataset.from_dict({"text": TEXTS[number * 160 : number * 160 + 160]}).to_parquet(
                str(tmp_path / "data" / f"{number}.parquet")
            )

    def corpus():
        if hub:
            return split_builder(datasets.load_dataset_builder(str(tmp_path / "data")), "name", "text")
        return open_corpus(str(source))

    request = describe_request(corpus(), tokenizer, "name", 1000, None, 0)
    write_corpus(corpus(), tokenizer, request, tmp_path / "whole", say=str)

    def say(line):
        if line.startswith(f"train-{after:05d}"):
            raise Killed

    with pytest.raises(Killed):
        write_corpus(corpus(), tokenizer, request, tmp_path / "out", say=say)
    assert not (tmp_path / "out").exists()
    (tmp_path / ".out.partial" / f"train-{after + 1:05d}.arrow").write_bytes(b"half")  # as a kill might leave it
    lines = []
    write_corpus(corpus(), tokenizer, request, tmp_path / "out", say=lines.append)
    assert lines[0] == f"resuming      {after + 1} training shards are written already"
    for path in (tmp_path / "whole").glob("*.arrow"):
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    assert (tmp_path / "out" / MANIFEST).read_bytes() == (tmp_path / "whole" / MANIFEST).read_bytes()
    assert not (tmp_path / ".out.partial").exists()


def test_what_another_request_left_is_started_again_and_said(source, tokenizer, tmp_path):
    request = describe_request(open_corpus(str(source)), tokenizer, "name", 1000, None, 0)

    def say(line):
        raise Killed

    with pytest.raises(Killed):
        write_corpus(open_corpus(str(source)), tokenizer, request, tmp_path / "out", say=say)
    lines = []
    write_corpus(open_corpus(str(source)), tokenizer, request | {"seed": 1}, tmp_path / "out", say=lines.append)
    assert lines[0].startswith("starts again") and "seed: 0 -> 1" in lines[0]


# As a program


@pytest.fixture
def program(tokenizer, tmp_path, monkeypatch, capsys):
    """Run `python -m recipes.data.prepare`: its exit code, what it printed, and what it complained of."""
    tokenizer.save_pretrained(tmp_path / "tokenizer")

    def run(**arguments):
        arguments = {"tokenizer": tmp_path / "tokenizer", "output_dir": tmp_path / "out", **arguments}
        monkeypatch.setattr(sys, "argv", ["prepare", *(f"--{name}={value}" for name, value in arguments.items())])
        code = 0
        try:
            runpy.run_module("recipes.data.prepare", run_name="__main__", alter_sys=True)
        except SystemExit as end:
            code = end.code
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


pytestmark = pytest.mark.filterwarnings("ignore:.*found in sys.modules")


def test_the_program_prints_counts_and_lengths_and_does_nothing_the_second_time(program, source, tmp_path):
    code, out, err = program(dataset=source)
    assert code == 0, err
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    train = manifest["splits"]["train"]
    assert f"training      {train['tokens']:,} tokens in {train['documents']:,} documents; 1 shard(s)" in out
    assert "lengths" in out and "#" * 40 in out
    before = (tmp_path / "out" / MANIFEST).stat().st_mtime_ns
    code, out, err = program(dataset=source)
    assert code == 0 and "is prepared already" in out
    assert (tmp_path / "out" / MANIFEST).stat().st_mtime_ns == before


def test_an_output_directory_of_something_else_is_refused(program, source, tmp_path):
    assert program(dataset=source)[0] == 0
    code, _, err = program(dataset=source, seed=1)
    assert code == 2 and "holds a corpus that was prepared otherwise (seed: 0 -> 1)" in err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.md").touch()
    code, _, err = program(dataset=source, output_dir=tmp_path / "mine")
    assert code == 2 and "holds other files: choose a new directory." in err
    code, _, err = program(dataset=tmp_path / "out", output_dir=tmp_path / "twice")
    assert code == 2 and "is a prepared corpus, which holds token ids and no text" in err and err.count("\n") == 1


def test_an_output_directory_among_the_data_is_refused(program, tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    write_texts(texts / "texts.jsonl", TEXTS)
    for inside in (texts, texts / "tokens"):
        code, _, err = program(dataset=texts, output_dir=inside)
        assert code == 2 and "lies in the dataset" in err and "choose a directory beside it" in err
    assert [path.name for path in texts.iterdir()] == ["texts.jsonl"]


def test_a_full_disk_is_one_line_and_whole_shards_stay(tokenizer, source, tmp_path):
    corpus = open_corpus(str(source))
    request = describe_request(corpus, tokenizer, "name", 3000, None, 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE)
    lines = []

    def say(line):
        lines.append(line)
        limit((2000, hard))  # from the second shard on

    try:
        with pytest.raises(InputError, match=r"could not write the prepared corpus .*whole shards are kept"):
            write_corpus(corpus, tokenizer, request, tmp_path / "out", say=say)
    finally:
        limit((soft, hard))
    assert len(lines) == 1 and not (tmp_path / "out").exists()
    again = []
    write_corpus(corpus, tokenizer, request, tmp_path / "out", say=again.append)
    assert again[0].startswith("resuming      1 training shards")
    assert find_prepared(str(tmp_path / "out")) is not None
    shutil.rmtree(tmp_path / "out")
