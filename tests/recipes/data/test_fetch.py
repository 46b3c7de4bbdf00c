"""Fetching shards of a dataset on the Hub: whole, checked, resumed, and split on disk as streaming splits them."""

import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import datasets
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from recipes.data import download as downloads
from recipes.data.corpora import open_corpus
from recipes.data.fetch import FetchArguments, main
from recipes.training.arguments import PretrainArguments
from recipes.utils.arguments import parse_arguments
from recipes.utils.errors import InputError
from recipes.utils.provenance import ROOT
from tests.hub.client import hub_environment, use_hub
from tests.hub.store import Refused
from tests.recipes.data.corpus_files import texts_of, write_jsonl, write_parquet
from tests.recipes.processes import PATIENCE, Running, flags, free_port

SHARDS = 12  # of which the last is held out
NAMES = [f"shard_{number}.parquet" for number in range(SHARDS)]  # shard_10 sorts before shard_2 on the Hub


def texts(number: int) -> list[str]:
    return [f"Shard {number}, document {row}." for row in range(20)]


def push(tmp_path: Path, names: list[str] = NAMES, dataset: str = "ada/web", write=write_parquet) -> None:
    """Files of 20 documents, as a dataset of Ada's."""
    api, operations = HfApi(token="hf_adas_token"), []
    for number, name in enumerate(names):
        write(tmp_path / "pushed", texts(number))
        operations.append(CommitOperationAdd(name, (tmp_path / "pushed").read_bytes()))
    api.create_repo(dataset, repo_type="dataset", exist_ok=True)
    api.create_commit(dataset, operations, commit_message="push", repo_type="dataset")


def datasets_config(url: str, home: Path) -> dict:
    """What `datasets` has read of the environment, as it is where HF_ENDPOINT names the Hub of the tests."""
    cache = home / "datasets"
    return {
        "HF_ENDPOINT": url,
        "HF_HUB_OFFLINE": False,
        "HF_UPDATE_DOWNLOAD_COUNTS": False,
        "HF_DATASETS_CACHE": cache,
    }


def as_stranger(url: str, home: Path) -> None:
    """In a new process: nobody logged in, and the Hub of the tests."""
    use_hub(url, None, home)
    for name, value in datasets_config(url, home).items():
        setattr(datasets.config, name, value)


@pytest.fixture
def web(hub, tmp_path, monkeypatch):
    """The Hub with the dataset ada/web, for `datasets` too, and a home for data."""
    for name, value in datasets_config(hub.url, tmp_path).items():
        monkeypatch.setattr(datasets.config, name, value)
    push(tmp_path)
    monkeypatch.chdir(tmp_path)
    return hub


def fetch(shards: int = 3, dataset: str = "ada/web", output_dir: str | None = "out") -> None:
    main(FetchArguments(dataset=dataset, shards=shards, output_dir=output_dir))


def fails(**arguments) -> str:
    with pytest.raises(InputError) as error:
        fetch(**arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def downloaded(hub) -> list[str]:
    """The files whose bytes were asked for, by their numbers."""
    repository = hub.repository("ada/web", "dataset").at("main").files
    names = {f"/content/{file.sha256}": path for path, file in repository.items()}
    return sorted(names[path] for method, path in hub.requests if path.startswith("/content/"))


def files_of(directory: str | Path = "out") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(directory).iterdir() if path.name[0] != "."}


def test_the_first_shards_and_what_is_held_out_come_and_nothing_else(web, capsys):
    fetch(3)
    of_hub = web.files("ada/web", "dataset")
    first, last = sorted(NAMES)[:3], sorted(NAMES)[-1]
    expected = {f"train-{number:05d}.parquet": of_hub[name] for number, name in enumerate(first)}
    assert files_of() == expected | {"validation-00000.parquet": of_hub[last]}
    assert downloaded(web) == sorted([*first, last])
    assert sorted(os.listdir("out")) == [".fetched.json", *sorted(files_of())]
    record = json.loads(Path("out/.fetched.json").read_text())
    assert record["dataset"] == "ada/web" and record["files"]["validation-00000.parquet"] == last
    assert record["revision"] == web.repository("ada/web", "dataset").at("main").sha
    printed = capsys.readouterr().out
    assert "fetched       out: shards of ada/web, 3 to train on, 1 held out; " in printed
    assert printed.splitlines()[-1].endswith("--dataset out")
    assert not [path for path in os.listdir() if path.startswith(".out")]


def test_the_command_to_train_by_is_one_that_pretrain_takes(web, capsys, monkeypatch):
    fetch(1)
    words = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert words[3:5] == ["python", "recipes/pretrain.py"]
    monkeypatch.chdir(ROOT)  # presets are named from there
    args = parse_arguments(PretrainArguments, argv=words[5:])
    assert args.dataset == "out" and args.generation == 2026


def test_a_terminal_shows_one_bar_of_shards_and_bytes(web, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    fetch(3)
    out, err = capsys.readouterr()
    last = err.replace("\r", "\n").strip().splitlines()[-1]
    size = sum(path.stat().st_size for path in Path("out").glob("*.parquet"))
    assert "4 of 4 shards: 100%" in last and f"{size / 1000:.2f}k/{size / 1000:.2f}k" in last
    assert " of 4 shards" not in out


def test_by_default_they_go_to_data(web):
    fetch(1, output_dir=None)
    assert len(files_of("data/web")) == 2


def test_documents_and_their_order_are_those_of_streaming(web):
    """Of unpadded numbers too, which sort otherwise on disk than on the Hub."""
    fetch(SHARDS - 1)
    streamed, local = open_corpus("ada/web"), open_corpus("out")
    assert texts_of(streamed.train) == texts_of(local.train)
    assert texts_of(streamed.validation) == texts_of(local.validation) == texts(9)


@pytest.mark.parametrize(
    ("names", "most"),
    [
        (["data/train-00000-of-00002", "data/train-00001-of-00002", "data/test-00000-of-00001"], 2),
        (["train/a", "train/b", "validation/a", "test/a"], 2),
        (["all"], 1),  # by the hash of its documents
        (["data/2024/train-00000-of-00001", "data/2025/train-00000-of-00001"], 1),
    ],
)
@pytest.mark.parametrize("write", [write_parquet, write_jsonl])
def test_other_layouts_too(web, tmp_path, names, most, write):
    suffix = "parquet" if write is write_parquet else "jsonl"
    push(tmp_path, [f"{name}.{suffix}" for name in names], "ada/other", write)
    fetch(most, "ada/other")
    streamed, local = open_corpus("ada/other"), open_corpus("out")
    assert texts_of(streamed.train) == texts_of(local.train)
    assert texts_of(streamed.validation) == texts_of(local.validation)
    assert f"--shards {most} gets all" in fails(shards=most + 1, dataset="ada/other", output_dir="more")


def test_a_second_call_downloads_nothing(web, capsys):
    fetch()
    before = {path: path.stat().st_mtime_ns for path in Path("out").glob("*.parquet")}
    web.requests.clear()
    fetch()
    assert downloaded(web) == [] and not [path for _, path in web.requests if "/resolve/" in path and "shard" in path]
    assert before == {path: path.stat().st_mtime_ns for path in Path("out").glob("*.parquet")}
    assert "there already 4 of 4 shards" in capsys.readouterr().out


def test_more_shards_are_added_to_those_there(web):
    fetch(2)
    web.requests.clear()
    fetch(4)
    assert downloaded(web) == sorted(NAMES)[2:4] and len(files_of()) == 5


@pytest.mark.parametrize("write", [write_parquet, write_jsonl], ids=["sha256", "blob"])
@pytest.mark.parametrize("how", ["cut", "altered", "longer"])
def test_a_damaged_file_is_noticed_and_fetched_again(web, tmp_path, capsys, how, write):
    suffix = "parquet" if write is write_parquet else "jsonl"
    push(tmp_path, [f"{name}.{suffix}" for name in "abcd"], "ada/other", write)
    fetch(3, "ada/other")
    whole = files_of()
    damaged = Path("out", f"train-00001.{suffix}")
    content = damaged.read_bytes()
    flipped = content[:50] + bytes([content[50] ^ 1]) + content[51:]
    damaged.write_bytes({"cut": content[:-1], "altered": flipped, "longer": content + b"\n"}[how])
    capsys.readouterr()
    fetch(3, "ada/other")
    assert files_of() == whole
    printed = capsys.readouterr().out
    assert f"damaged       {damaged} has other bytes than the Hub says: fetched again" in printed
    assert "there already 3 of 4 shards" in printed


def test_a_dataset_that_has_changed_is_fetched_as_it_is_now(web, tmp_path):
    fetch(2)
    last = sorted(NAMES)[-1]
    operations = [CommitOperationDelete(last)]
    HfApi(token="hf_adas_token").create_commit("ada/web", operations, commit_message="x", repo_type="dataset")
    web.requests.clear()
    fetch(2)
    assert downloaded(web) == [sorted(NAMES)[-2]]
    assert texts_of(open_corpus("out").validation) == texts_of(open_corpus("ada/web").validation)


def test_what_an_interrupted_call_has_whole_is_kept(web, monkeypatch, capsys):
    monkeypatch.setattr(downloads, "AT_ONCE", 1)  # in their order
    count = iter(range(100))
    broken = Refused(500, "out of order")
    web.meddle = lambda method, path: broken if path.startswith("/content/") and next(count) > 2 else None
    why = fails(shards=5)
    assert why.startswith("ada/web cannot be downloaded further (") and "the same command" in why
    assert not Path("out").exists(), "a directory appears whole or not at all"
    assert sorted(files_of(".out.partial")) == [
        "train-00000.parquet",
        "train-00001.parquet",
        "validation-00000.parquet",
    ]
    web.meddle = lambda method, path: None
    web.requests.clear()
    fetch(5)
    assert downloaded(web) == sorted(NAMES)[2:5] and len(files_of()) == 6
    assert "there already 3 of 6 shards" in capsys.readouterr().out


def test_bytes_that_change_on_the_way_are_not_kept(web):
    first = web.repository("ada/web", "dataset").at("main").files[NAMES[0]]
    place = web.store.content(first.sha256)
    sound = place.read_bytes()
    place.write_bytes(bytes(len(sound)))
    assert fails().startswith("shard_0.parquet came with other bytes than the Hub says.")
    assert not Path("out").exists() and "train-00000.parquet" not in files_of(".out.partial")
    place.write_bytes(sound)
    fetch()
    assert len(files_of()) == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"shards": 12}, "ada/web has 11 shards to train on: --shards 11 gets all of them."),
        (
            {"dataset": "ada/none"},
            "ada/none cannot be opened on the Hub: Dataset 'ada/none' doesn't exist on the Hub or cannot be accessed.",
        ),
        ({"dataset": "web"}, "'web' is not a repository id: give user/name."),
        ({"dataset": "ada/we b"}, "'ada/we b' is not a repository id"),
        ({"dataset": "ada/empty"}, "ada/empty cannot be opened on the Hub: "),
        (
            {"dataset": "ada/tables"},
            "ada/tables has files that cannot be read from disk: a.csv, b.csv (data files end in",
        ),
        ({"output_dir": "file"}, "output_dir file is a file: choose a directory."),
    ],
)
def test_bad_input_is_one_line(web, tmp_path, arguments, said):
    push(tmp_path, ["a.csv", "b.csv"], "ada/tables", lambda path, texts: path.write_text("text\nabc\n"))
    HfApi().create_repo("ada/empty", repo_type="dataset")
    Path("file").write_text("")
    assert fails(**arguments).startswith(said)
    assert not Path("out").exists()


def test_fewer_than_one_shard_is_refused():
    with pytest.raises(InputError, match="shards must be at least 1"):
        FetchArguments(dataset="ada/web", shards=0)


def test_a_full_disk_is_told_before_the_download(web, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    said = fails()
    assert said.startswith("no room for 4 shards in .: they have ") and ", and 1.00kB are free. Make room, " in said
    assert downloaded(web) == []


def test_other_data_in_the_directory_are_refused(web, tmp_path):
    Path("out").mkdir()
    write_jsonl(Path("out/mine.jsonl"))
    assert fails().startswith("out holds other data than is asked for, which would be trained on: mine.jsonl. ")
    Path("out/mine.jsonl").unlink()
    fetch(3)
    why = fails(shards=2)
    assert "which would be trained on: train-00002.parquet of ada/web." in why
    push(tmp_path, NAMES, "ada/other")
    assert "of ada/web" in fails(dataset="ada/other")
    assert len(files_of()) == 4


def test_an_unreachable_hub_is_one_line(web, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free_port()}")
    assert "cannot be reached" in fails() and "ada/web has to be downloaded from it. Connect, and " in fails()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fails().startswith("the Hub is switched off by HF_HUB_OFFLINE, and ada/web has to be downloaded")


# As a program


def start(hub, tmp_path: Path, shards: int) -> Running:
    argv = flags({"dataset": "ada/web", "shards": shards, "output_dir": tmp_path / "out"})
    return Running(argv, before=partial(as_stranger, hub.url, tmp_path / "home"), script="data/fetch")


@pytest.mark.launch
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_program_leaves_whole_files_and_goes_on(web, tmp_path, monkeypatch, number):
    monkeypatch.chdir(ROOT)  # where the server of processes may have to begin
    out, partial_out = tmp_path / "out", tmp_path / ".out.partial"
    go_on = threading.Event()

    def hold_up(method: str, path: str) -> None:
        if len(downloaded(web)) > 3 and path.startswith("/content/"):
            go_on.wait(2 * PATIENCE)  # longer than the test waits for a program that waits for its downloads

    web.meddle = hold_up
    process = start(web, tmp_path, 9)
    process.wait_until(lambda: len(list(partial_out.glob("*.parquet"))) == 3)
    process.signal(number)
    (end,) = process.wait()
    assert end.code == (130 if number == signal.SIGINT else -9)
    assert ("stopped: whole shards are kept, and the same command continues" in end.stdout) == (
        number == signal.SIGINT
    )
    go_on.set()
    web.meddle = lambda method, path: None
    there, of_hub = files_of(partial_out), set(web.files("ada/web", "dataset").values())
    assert len(there) == 3 and set(there.values()) < of_hub and not out.exists()
    (end,) = start(web, tmp_path, 9).wait()
    assert end.code == 0, end.stderr
    assert "there already 3 of 10 shards" in end.stdout and "7 of 7 shards, " in end.stdout
    assert len(files_of(out)) == 10 and set(files_of(out).values()) < of_hub
    assert not (out / ".incoming").exists() and not partial_out.exists()


def with_small_files(url: str, home: Path) -> None:
    as_stranger(url, home)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


@pytest.mark.launch
def test_a_disk_that_takes_no_more_is_one_line(web, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    push(
        tmp_path, ["a.parquet", "b.parquet"], "ada/big", lambda path, _: write_parquet(path, [os.urandom(10**6).hex()])
    )
    argv = flags({"dataset": "ada/big", "shards": 1, "output_dir": tmp_path / "out"})
    (end,) = Running(argv, before=partial(with_small_files, web.url, tmp_path / "home"), script="data/fetch").wait()
    assert end.code == 2 and end.stderr.count("\n") == 1
    assert end.stderr.startswith("data.fetch: could not write the shards of ada/big to ")
    assert "(File too large); whole shards are kept. Make room on the disk and rerun" in end.stderr


@pytest.mark.launch
def test_as_a_command(web):
    environment = hub_environment(web.url, None, Path("home").absolute()) | {"PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-m", "recipes.data.fetch", "--dataset", "ada/web", "--shards", "4"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2].startswith(
        "fetched       data/web: shards of ada/web, 4 to train on, 1 held out"
    )
    assert "%|" not in done.stderr, "a bar is drawn on terminals only"
    assert texts_of(open_corpus("data/web").validation) == texts(9)
