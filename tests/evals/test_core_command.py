"""`python -m evals.core` and `python -m evals.core.fetch` as commands: tables, files, processes, mistakes."""

import http.server
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from functools import partial
from pathlib import Path

import pytest

from evals.core.__main__ import CoreArguments, evaluate
from evals.core.bundle import core_tasks, read_examples, read_tasks
from evals.core.fetch import FetchArguments, fetch
from evals.tokenizer.samples import DOMAINS
from recipes.utils.arguments import parse_arguments
from recipes.utils.errors import InputError
from tests.evals.core_bundle import write_bundle
from tests.modeling_nanochat.tiny import random_model
from tokenizer.bpe import train_tokenizer

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model's directory; it guesses."""
    directory = tmp_path_factory.mktemp("model")
    tokenizer = train_tokenizer([text[:400] for text in DOMAINS.values()], vocab_size=320)
    random_model(vocab_size=len(tokenizer), max_position_embeddings=1024).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def run(*flags):
    evaluate(parse_arguments(CoreArguments, argv=[str(flag) for flag in flags]))


def without_seconds(path):
    results = json.loads(path.read_text())
    for task in results["tasks"].values():
        del task["seconds"]
    del results["arguments"], results["command"]
    return results


def test_the_command_prints_a_table_and_writes_json(model, bundle, capsys):
    run("--model", model, "--bundle", bundle, "--max_problems", 12)
    said = capsys.readouterr().out
    results = json.loads((model / "evals/core.json").read_text())
    assert list(results["tasks"]) == [task.label for task in read_tasks(bundle)]
    for label, task in results["tasks"].items():
        assert f"{label} " in said and task["count"] == 12
        assert task["centered"] == pytest.approx((task["accuracy"] - task["baseline"]) / (1 - task["baseline"]))
    assert results["core"] is None and "partial, not CORE: mean centered accuracy" in said
    assert results["core_partial"] == pytest.approx(sum(t["centered"] for t in results["tasks"].values()) / 7)
    assert "hellaswag_zeroshot" in results["missing"] and "missing for CORE: hellaswag_zeroshot" in said


@pytest.mark.slow
def test_all_22_tasks_are_core_and_a_second_run_gives_the_same(model, tmp_path, capsys):
    rows = {
        "multiple_choice": {"query": "the cat", "choices": ["sat", "ran"], "gold": 1},
        "schema": {"context_options": ["the cat", "the dog"], "continuation": "sat on the mat", "gold": 0},
        "language_modeling": {"context": "the cat sat on", "continuation": "the mat"},
    }
    for task in core_tasks():
        path = tmp_path / "bundle" / task.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(rows[task.type]) + "\n" for _ in range(12)))
    for name in ("one", "two"):
        run("--model", model, "--bundle", tmp_path / "bundle", "--output", tmp_path / f"{name}.json")
    assert capsys.readouterr().out.count("\nCORE ") == 2
    one, two = (without_seconds(tmp_path / f"{name}.json") for name in ("one", "two"))
    assert one == two and one["core"] is not None and one["core_partial"] is None and one["missing"] == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("[]", "not an object"),
        ('{"query": "?"}', "choices must be a list of at least two texts, not None"),
        ('{"query": "?", "choices": ["a", "b"], "gold": true}', "gold must be the index of one of the 2 choices"),
    ],
)
def test_what_is_no_example_is_told_by_file_and_line(line, expected, tmp_path):
    task = core_tasks()[3]
    path = tmp_path / task.file
    path.parent.mkdir()
    path.write_text(line)
    with pytest.raises(InputError, match=f"line 1: {expected}"):
        read_examples(task, tmp_path)


def test_a_task_asked_for_by_name_must_be_there(model, bundle, tmp_path):
    shutil.copytree(bundle, tmp_path / "bundle")
    (tmp_path / "bundle/b/copa.jsonl").unlink()
    with pytest.raises(InputError, match="holds no file of task copa: b/copa.jsonl is missing"):
        run("--model", model, "--bundle", tmp_path / "bundle", "--tasks", "arc_easy,copa")


@pytest.mark.slow
def test_two_processes_give_the_results_of_one(model, bundle, tmp_path):
    flags = ["--model", model, "--bundle", bundle, "--save_answers", "true", "--output"]
    run(*flags, tmp_path / "one.json")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", 2, "--main_process_port", 0]
    launch += ["--config_file", ROOT / "accelerate_configs/cpu.yaml", "-m", "evals.core"]
    command = [str(word) for word in (*launch, *flags, tmp_path / "two.json")]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    end = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert end.returncode == 0, end.stderr
    assert end.stdout.count("partial, not CORE") == 1, "only the main process speaks"
    one, two = (without_seconds(tmp_path / f"{name}.json") for name in ("one", "two"))
    assert one == two
    assert all(len(task["answers"]) == 40 for task in one["tasks"].values()), "to the last example"


def test_a_damaged_line_costs_its_task_and_no_other(model, tmp_path, capsys):
    bundle = write_bundle(tmp_path / "bundle", 12)
    with (bundle / "a/arc_easy.jsonl").open("a") as file:
        file.write('{"query": "broken')
    run("--model", model, "--bundle", bundle, "--output", tmp_path / "core.json")
    said = capsys.readouterr().out
    assert f"arc_easy failed: {bundle}/a/arc_easy.jsonl, line 13: not valid JSON" in said
    results = json.loads((tmp_path / "core.json").read_text())
    assert list(results["failed"]) == ["arc_easy"] and len(results["tasks"]) == 6 and results["core"] is None


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--tasks", "arc_eazy"], "unknown task 'arc_eazy': did you mean arc_easy?"),
        (["--tasks", "poetry"], "unknown task 'poetry': known are arc_easy"),
        (["--bundle", "nowhere"], "no CORE bundle in nowhere: no such directory; python -m evals.core.fetch"),
        (["--max_problems", "10"], "10 examples of arc_easy are too few: each question needs 10 others before it."),
        (["--max_problems", "0"], "max_problems must be at least 1, not 0: leave it out for the default."),
        (["--batch_tokens", "0"], "batch_tokens must be at least 1, not 0: leave it out for the default."),
        (["--model", "no/such/model"], "no/such/model: no such directory"),
        (["--output", "/dev/null/core.json"], "cannot write to /dev/null/core.json"),
    ],
)
def test_mistakes_are_told_in_one_line(model, bundle, flags, expected):
    with pytest.raises(InputError) as complaint:
        run("--model", model, "--bundle", bundle, *flags)
    assert expected in str(complaint.value) and "\n" not in str(complaint.value)


SCHEMA = "{label: a, file: b, type: schema, shots: 1, baseline: 0}"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("tasks: 7", "defines no tasks"),
        ("[", "line 1: not valid YAML"),
        ("tasks: []", "defines no tasks"),
        ("tasks: [{label: a, file: b, type: riddle, shots: 0, baseline: 0}]", "task a: type 'riddle'"),
        ("tasks: [{label: a, file: b, type: schema, shots: '1', baseline: 0}]", "task a: shots '1'"),
        ("tasks: [{label: a, file: b, type: schema, shots: 1, baseline: 100}]", "task a: baseline 100"),
        ("tasks: [{label: a, file: 3, type: schema, shots: 1, baseline: 0}]", "task a: file 3"),
        (f"tasks: [{SCHEMA}, {SCHEMA}]", "defines task a twice"),
        ("tasks: [{label: a, colour: red, baseline: 0}]", "defines no tasks"),
    ],
)
def test_a_damaged_definition_is_told_in_one_line(model, tmp_path, content, expected):
    (tmp_path / "core.yaml").write_text(content)
    with pytest.raises(InputError) as complaint:
        run("--model", model, "--bundle", tmp_path)
    assert expected in str(complaint.value) and "\n" not in str(complaint.value)


# Fetching


def get(*flags):
    fetch(parse_arguments(FetchArguments, argv=[str(flag) for flag in flags]))


@pytest.fixture
def archives(tmp_path):
    """Two of CORE's tasks, deep in a .zip and in a .tar.gz, beside a file that is not theirs."""
    root = tmp_path / "source/eval_bundle/eval_data"
    for task in core_tasks()[2], core_tasks()[5]:
        path = root / task.file
        path.parent.mkdir(parents=True)
        row = {"context": "a", "continuation": "b", "query": "q", "choices": ["x", "y"], "gold": 0}
        path.write_text((json.dumps(row) + "\n") * 11)
    (root / "secret.jsonl").write_text("{}")
    with zipfile.ZipFile(tmp_path / "source/bundle.zip", "w") as archive:
        for path in root.rglob("*.jsonl"):
            archive.write(path, path.relative_to(tmp_path / "source"))
    with tarfile.open(tmp_path / "source/bundle.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "source/eval_bundle", "eval_bundle")
    return tmp_path / "source"


@pytest.fixture
def address(archives):
    """Where a server on this machine gives the archives out."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=archives)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("kind", ["url", "bundle.zip", "bundle.tar.gz", "eval_bundle"])
def test_a_bundle_comes_from_wherever_its_files_are(kind, archives, address, tmp_path, capsys):
    source = f"{address}/bundle.zip" if kind == "url" else archives / kind
    get("--source", source, "--bundle", tmp_path / "bundle")
    files = sorted(path.relative_to(tmp_path / "bundle").as_posix() for path in (tmp_path / "bundle").rglob("*.*"))
    assert files == sorted(["core.yaml", core_tasks()[2].file, core_tasks()[5].file])
    said = capsys.readouterr().out
    assert "2 of 22 tasks" in said and "missing: hellaswag_zeroshot" in said and "11 examples" in said
    assert read_tasks(tmp_path / "bundle") == core_tasks()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "source"], "nothing is left over"


def test_what_cannot_be_fetched_is_told_in_one_line(archives, address, tmp_path):
    (archives / "text.zip").write_text("no archive")
    damaged = archives / "eval_bundle/eval_data" / core_tasks()[5].file
    sources = {
        f"{address}/none.zip": "404",
        "http://127.0.0.1:9/bundle.zip": "cannot be fetched",
        archives / "text.zip": "is not a readable archive",
        tmp_path / "source/eval_bundle/none": "the Hub is switched off",
        "someone/dataset": "the Hub is switched off",
    }
    for source, expected in sources.items():
        with pytest.raises(InputError, match=expected):
            get("--source", source, "--bundle", tmp_path / "bundle")
    damaged.write_text("{}")
    with pytest.raises(InputError, match="copa.jsonl, line 1: query must be a text"):
        get("--source", archives / "eval_bundle", "--bundle", tmp_path / "bundle")
    (archives / "empty").mkdir()
    with pytest.raises(InputError, match="holds none of CORE's files"):
        get("--source", archives / "empty", "--bundle", tmp_path / "bundle")
