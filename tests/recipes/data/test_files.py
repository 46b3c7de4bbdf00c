"""What a path, a directory or a glob names: every data file, and a word on all that is none."""

import os
import subprocess
import sys

import pytest

from recipes.data.conversations import open_conversations
from recipes.data.corpora import open_corpus
from recipes.data.files import find_files
from recipes.data.sources.gsm8k import gsm8k_problems
from recipes.utils.errors import InputError

ROW = '{"text": "A document.", "question": "1 + 1?", "answer": "#### 2"}\n'


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes files of one row into the working directory."""
    monkeypatch.chdir(tmp_path)

    def write_all(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(ROW)

    return write_all


def refusal(open_it, *args):
    """The one line that opening ends with."""
    with pytest.raises(InputError) as error:
        open_it(*args)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("path", ["missing.parquet", "./missing", "/missing", "a/b/c", "missing-*.JSONL", "~/missing"])
def test_a_mistyped_path_never_goes_to_the_hub(path, write):
    message = refusal(open_corpus, path)
    assert path in message and "Hub" not in message


@pytest.mark.parametrize("name", ["HuggingFaceFW/fineweb-edu", "x" * 5_000, "a\0b"])
def test_a_name_that_may_be_a_hub_id_is_not_a_path(name):
    assert find_files(name) == []


@pytest.mark.parametrize(
    "name", ["a.jsonl", "A.JSONL", "a.Parquet", "a.JSONL.GZ", "c4.00001.json.gz", "a.TXT", "b.txt.gz"]
)
def test_endings_are_known_in_capitals_or_not(name, write):
    write(name, f"deep/er/{name}", "README.md")
    assert find_files(name) == [name]
    assert find_files(".") == find_files("**/*.*") == sorted([name, f"deep/er/{name}"])


def test_what_is_left_out_is_named_in_one_warning(write, caplog):
    write("data/a.jsonl", "data/README.md", "data/b.jsonl.zst", "data/c\nd.csv", "data/e.md", "data/.cache/f.jsonl")
    os.mkdir("data/g.jsonl")
    assert find_files("data") == find_files("data/*") == ["data/a.jsonl"]
    for record, where in zip(caplog.records, ("in the directory data", "matching data/*"), strict=True):
        start = rf"left out files {where} that are not data: README.md, b.jsonl.zst, c\nd.csv, ... (5 in all)"
        assert record.message.startswith(start)
    caplog.clear()
    assert find_files("data/*.jsonl") == ["data/a.jsonl"]
    assert (
        "left out files matching data/*.jsonl that are not data: g.jsonl/ (data files end in .parquet, .jsonl"
        in caplog.text
    )


def test_without_any_data_file_the_kinds_and_what_there_is_are_named(write):
    write("data/README.md", "data/b.csv")
    message = refusal(find_files, "data")
    assert message.startswith("no data file in the directory data (data files end in .parquet,")
    assert message.endswith("there are README.md, b.csv.")
    assert refusal(find_files, "data/b.csv").startswith("data/b.csv is not a data file (data files end in")


def test_a_directory_named_like_a_file_holds_its_parts_as_spark_writes_them(write):
    write("data/x.parquet/part-0.parquet", "data/x.parquet/_SUCCESS", "data/y.parquet/part-0.parquet")
    parts = ["data/x.parquet/part-0.parquet", "data/y.parquet/part-0.parquet"]
    assert find_files("data") == find_files("data/*.parquet") == parts
    assert find_files("data/x.parquet") == parts[:1]


def test_links_are_followed_once_and_in_no_circle(write):
    write("elsewhere/b.jsonl", "data/a.jsonl")
    os.symlink("../elsewhere", "data/linked")
    os.symlink("../data", "elsewhere/back")
    os.symlink("../elsewhere/b.jsonl", "data/c.jsonl")
    assert find_files("data") == ["data/a.jsonl", "data/c.jsonl", "data/linked/b.jsonl"]


def broken_link(path):
    os.symlink("gone.jsonl", path)


@pytest.mark.parametrize(
    ("make", "kind"),
    [(broken_link, "a broken link (to gone.jsonl)"), (os.mkfifo, "a pipe, which can be read only once")],
)
def test_links_that_lead_nowhere_and_pipes_are_told_and_may_be_skipped(make, kind, write, caplog):
    write("data/a.jsonl", "data/z.jsonl")
    make("data/m.jsonl")
    for dataset in ("data", "data/*.jsonl"):
        assert f"data/m.jsonl: it is {kind}" in refusal(open_corpus, dataset)
    corpus = open_corpus("data", skip_damaged=True)
    assert len(list(corpus.train)) == len(list(corpus.validation)) == 1
    assert f"data/m.jsonl: skipped the whole file: it is {kind}" in caplog.text
    for open_it in (open_corpus, open_conversations, gsm8k_problems):
        assert f"data/m.jsonl is {kind}" in refusal(open_it, "data/m.jsonl")


def test_a_directory_that_may_not_be_listed_is_told(write, monkeypatch):
    write("data/a.jsonl", "data/closed/b.jsonl")
    scandir = os.scandir

    def closed(path):  # to root, who runs the tests, nothing is
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    assert refusal(find_files, "data") == "data/closed cannot be read: Permission denied."


@pytest.mark.slow
def test_a_substituted_process_is_told_to_be_a_pipe(tmp_path):
    command = f"exec {sys.executable} -m tokenizer.train --output_dir {tmp_path}/o --dataset <(echo '{ROW.strip()}')"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "/dev/fd/" in line and "is a pipe, which can be read only once" in line
