"""Pretraining from a prepared corpus, as users meet it: runs that follow each other, resumed, on two processes."""

import json
import shutil
import signal
from pathlib import Path

import pytest

from recipes.data import corpora
from recipes.data.prepared import MANIFEST, sha256_of
from recipes.training.documents_read import DOCUMENTS_READ
from recipes.utils.loading import load_tokenizer
from recipes.utils.outputs import hold
from tests.recipes.data.prepared_corpora import prepare
from tests.recipes.processes import Running, flags, run
from tests.recipes.test_exactness import assert_same_run
from tests.recipes.test_pretrain import assert_one_line

pytestmark = pytest.mark.launch


@pytest.fixture(scope="module")
def prepared(tokenizer_dir, tmp_path_factory) -> Path:
    """The primer, of which a run of six steps reads a part."""
    directory = tmp_path_factory.mktemp("prepared") / "primer"
    prepare(corpora.open_corpus("primer"), load_tokenizer(str(tokenizer_dir)), directory, 200_000, 1_000_000)
    return directory


@pytest.fixture(scope="module")
def arguments(tiny, prepared) -> dict:
    return tiny | {"dataset": prepared, "packing": "concatenated"}


def read(directory: Path) -> dict:
    return json.loads((directory / DOCUMENTS_READ).read_text())


@pytest.fixture(scope="module")
def first(arguments, tmp_path_factory) -> Path:
    """A finished run."""
    output_dir = tmp_path_factory.mktemp("runs") / "first"
    end = run(flags(arguments | {"output_dir": output_dir}))
    assert end.code == 0, end.stderr
    assert "trained on " in end.stdout and ", prepared from " in end.stdout
    return output_dir


@pytest.mark.parametrize("processes", [1, 2])
def test_three_runs_read_three_ranges_that_the_manifest_proves(arguments, first, prepared, tmp_path, processes):
    second, third = tmp_path / "second", tmp_path / "third"
    end = run(flags(arguments | {"output_dir": second, "continue_from": first}), processes)
    assert end.code == 0, end.stderr
    place = read(first)["end"]
    assert (
        f"begins at document {place:,}, after {read(first)['tokens']:,} tokens that earlier runs have read"
        in end.stdout
    )
    shutil.rmtree(second / "checkpoints")  # a finished run keeps its record
    assert run(flags(arguments | {"output_dir": third, "continue_from": second}), processes).code == 0
    ranges = [(read(each)["first"], read(each)["end"]) for each in (first, second, third)]
    assert ranges[0][0] == 0 and all(begin < end for begin, end in ranges)
    assert ranges[0][1] == ranges[1][0] and ranges[1][1] == ranges[2][0]
    assert read(third)["earlier"] == [list(each) for each in ranges[:2]]
    assert {read(each)["manifest"] for each in (first, second, third)} == {sha256_of(prepared / MANIFEST)}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_run_continues_at_its_own_place_wherever_the_other_is_by_then(arguments, first, tmp_path, workers):
    source = shutil.copytree(first, tmp_path / "source")
    mine = arguments | {"continue_from": source, "num_workers": workers, "num_iterations": 40}
    assert run(flags(mine | {"output_dir": tmp_path / "whole"})).code == 0
    running = Running(flags(mine | {"output_dir": tmp_path / "killed"}))
    running.wait_until(lambda: (tmp_path / "killed" / "checkpoints" / "step_000004").exists())
    assert running.kill() == [-signal.SIGKILL]
    shutil.rmtree(source)
    end = run(flags(mine | {"output_dir": tmp_path / "killed"}))
    assert end.code == 0 and "resuming from" in end.stdout, end.stderr
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
    assert read(tmp_path / "whole") == read(tmp_path / "killed")


def test_skip_tokens_begins_with_the_first_document_after_them(arguments, tmp_path):
    end = run(flags(arguments | {"output_dir": tmp_path, "skip_tokens": 100_000}))
    assert end.code == 0, end.stderr
    number = read(tmp_path)["first"]
    assert f"begins at document {number:,}, after 100," in end.stdout and "tokens skipped" in end.stdout


def test_what_cannot_be_continued_is_one_line(arguments, first, prepared, corpus, tokenizer_dir, tmp_path):
    def refused(*parts, **changes):
        assert_one_line(run(flags(arguments | {"output_dir": tmp_path / "new"} | changes)), *parts)

    refused("give skip_tokens or continue_from, not both", skip_tokens=5, continue_from=first)
    refused("skip_tokens needs a prepared corpus", skip_tokens=5, dataset=corpus)
    refused("leaves no document", skip_tokens=10**9)
    refused("no such directory", continue_from=tmp_path / "nowhere")
    with hold(first):
        for place in (first, first / "checkpoints" / "step_000004"):
            refused("process ", "is still training it and reads on", continue_from=place)
    refused(f"no {DOCUMENTS_READ} in it", continue_from=tokenizer_dir)
    refused("own output_dir", continue_from=tmp_path / "new")
    other = tmp_path / "other"
    prepare(corpora.open_corpus(str(corpus)), load_tokenizer(str(tokenizer_dir)), other)
    refused("is of another prepared corpus", continue_from=first, dataset=other)
    all_read = shutil.copytree(first, tmp_path / "all_read")
    record = read(first)
    (all_read / DOCUMENTS_READ).write_text(json.dumps(record | {"end": record["documents"]}))
    refused("has read", "to the end", continue_from=all_read)
    (all_read / DOCUMENTS_READ).write_text("{")
    refused("is damaged", continue_from=all_read)
    refused("has its own place in the data", skip_tokens=5, resume=first / "checkpoints" / "step_000004")
    damaged = shutil.copytree(prepared, tmp_path / "damaged")
    content = bytearray((damaged / "train-00001.arrow").read_bytes())
    content[len(content) // 2] ^= 1
    (damaged / "train-00001.arrow").write_bytes(content)
    refused("train-00001.arrow is damaged", dataset=damaged)


def test_a_resumed_run_refuses_other_shards(arguments, first, tokenizer_dir, tmp_path):
    output_dir = shutil.copytree(first, tmp_path / "run")
    (output_dir / "config.json").unlink()  # as if it were not finished
    other = tmp_path / "other"
    prepare(corpora.open_corpus("primer"), load_tokenizer(str(tokenizer_dir)), other, 200_000, 1_000_000, seed=1)
    end = run(flags(arguments | {"output_dir": output_dir, "dataset": other}))
    assert_one_line(end, "began with other data", "train-00000.arrow: other content")
