"""Every mistake in the input: one clear line on stderr, exit code 2, and nothing of the user's is lost."""

import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from transformers import GPT2Config, GPT2LMHeadModel

from tests.recipes.processes import REPOSITORY, flags, free_port, run

pytestmark = pytest.mark.launch


def complaint(arguments: dict, *more: str) -> str:
    """The one line that the command ends with."""
    end = run([*more, *flags(arguments)])
    assert end.code == 2, end.stderr or end.stdout
    (line,) = end.stderr.splitlines()
    assert line.startswith("pretrain: ")
    return line


@pytest.fixture
def mine(tiny, tmp_path) -> dict:
    """Arguments that would train."""
    return tiny | {"output_dir": tmp_path / "run"}


# Data


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({}, "no data file in the directory"),
        ({"a.jsonl": ""}, "the file is empty"),
        ({"a.jsonl": "\n\n"}, "no text in"),
        ({"a.jsonl": '{"text": "one document"}\n'}, "holds a single document"),
        ({"a.jsonl": '{"text": "a"}\n{"text": "b"}\n'}, "do not fill one row of 33 tokens"),
        ({"a.jsonl": '{"body": "a", "title": "b"}\n'}, "no column 'text'; the columns there are body, title"),
        ({"a.parquet": "PAR1 and nothing more"}, "not a readable parquet file"),
        ({"a.json": '[{"text": "a"}, '}, "a.json, line 1: not valid JSON"),
    ],
    ids=["empty directory", "empty file", "no text", "one document", "too small", "column", "parquet", "json"],
)
def test_data_that_cannot_be_trained_on(mine, tmp_path, content, expected):
    directory = tmp_path / "data"
    directory.mkdir()
    for name, text in content.items():
        (directory / name).write_text(text)
    line = complaint(mine | {"dataset": directory})
    assert expected in line
    assert str(directory) in line or "dataset too small" in line


def test_data_that_is_not_there(mine, tmp_path):
    assert f"no such file or directory: {tmp_path / 'none.jsonl'}" in complaint(
        mine | {"dataset": tmp_path / "none.jsonl"}
    )


def test_parquet_without_the_text_column_lists_the_columns_there(mine, tmp_path):
    pq.write_table(pa.table({"title": ["a"], "body": ["b"]}), tmp_path / "data.parquet")
    line = complaint(mine | {"dataset": tmp_path / "data.parquet"})
    assert "no column 'text'; the columns there are title, body. Choose one by --text_column." in line


@pytest.mark.parametrize("workers", [0, 2])
def test_a_row_damaged_far_inside_is_named_when_training_comes_to_it(mine, documents, tmp_path, workers):
    lines = [json.dumps({"text": text}) for text in documents]
    lines[300] = lines[300][:-5]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    arguments = mine | {"dataset": tmp_path / "data.jsonl", "num_workers": workers}
    assert f"{tmp_path / 'data.jsonl'}, line 301: not valid JSON" in complaint(arguments)
    assert run(flags(arguments | {"skip_damaged": "true"})).code == 0


def test_parquet_damaged_inside_names_the_row_group(mine, documents, tmp_path):
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table({"text": documents}), path, row_group_size=100, compression="zstd")
    damaged = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(2).column(0).data_page_offset
    damaged[start : start + 2000] = bytes(2000)
    path.write_bytes(damaged)
    assert f"{path}, row group 2 (rows 200 to 299): unreadable" in complaint(mine | {"dataset": path})


def test_hub_dataset_while_the_hub_is_switched_off(mine):
    line = complaint(mine | {"dataset": "HuggingFaceFW/fineweb-edu"})
    assert "HF_HUB_OFFLINE" in line
    assert "HuggingFaceFW/fineweb-edu" in line


@pytest.mark.slow
@pytest.mark.parametrize(("name", "value"), [("dataset", "nobody/nothing"), ("tokenizer", "nobody/nothing")])
def test_hub_id_while_the_hub_is_unreachable_fails_at_once(mine, name, value):
    endpoint = f"http://127.0.0.1:{free_port()}"
    end = subprocess.run(
        [sys.executable, "recipes/pretrain.py", *flags(mine | {name: value})],
        cwd=REPOSITORY,
        env=os.environ | {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert end.returncode == 2, end.stderr
    (line,) = end.stderr.splitlines()
    assert line.startswith(f"pretrain: the Hub ({endpoint}) cannot be reached")
    assert value in line


# Tokenizer and model


def test_no_tokenizer_tells_how_to_train_one(mine):
    del mine["tokenizer"]
    assert "python -m tokenizer.train" in complaint(mine)


def test_tokenizer_directory_missing_or_without_a_tokenizer(mine, tmp_path):
    assert f"tokenizer {tmp_path / 'none'}: no such directory" in complaint(mine | {"tokenizer": tmp_path / "none"})
    assert "holds no tokenizer.json" in complaint(mine | {"tokenizer": tmp_path})


def test_damaged_tokenizer(mine, tmp_path):
    (tmp_path / "tokenizer.json").write_text('{"version": ')
    assert f"tokenizer {tmp_path} cannot be loaded" in complaint(mine | {"tokenizer": tmp_path})


def test_tokenizer_of_another_vocabulary_than_the_model(mine, tmp_path):
    GPT2LMHeadModel(
        GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=100, bos_token_id=0, eos_token_id=0)
    ).save_pretrained(tmp_path / "model")
    line = complaint(mine | {"model_name_or_path": tmp_path / "model"})
    assert f"the tokenizer has 512 tokens, the model {tmp_path / 'model'} only 100" in line


@pytest.mark.parametrize("name", ["model_config", "model_name_or_path"])
def test_model_that_is_not_there(mine, tmp_path, name):
    assert f"model {tmp_path / 'none'}: no such directory" in complaint(mine | {name: tmp_path / "none"})


def test_model_config_that_is_none(mine, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert f"no model configuration in {tmp_path / 'config.json'}" in complaint(
        mine | {"model_config": tmp_path / "config.json"}
    )


def test_rows_longer_than_the_model_reads(mine, gpt2_config):
    line = complaint(mine | {"model_config": gpt2_config, "max_seq_len": 128, "total_batch_size": 256})
    assert "max_seq_len 128 is beyond the model's context of 64 tokens" in line


# Flags


def test_the_corrected_command_trains_in_the_same_directory(mine, tmp_path):
    (tmp_path / "data.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
    assert "too small" in complaint(mine | {"dataset": tmp_path / "data.jsonl", "optimizer": "adamw"})
    assert run(flags(mine)).code == 0


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (
            {"total_batch_size": 100},
            "total_batch_size 100 is not a multiple of 64 (device_batch_size 2 x max_seq_len 32",
        ),
        ({"total_batch_size": 100}, "Nearest that work: 64, 128."),
        ({"total_batch_siez": 128}, "did you mean total_batch_size?"),
        ({"depth": 0}, "depth must be at least 1"),
        ({"depth": "deep"}, "depth"),
        ({"num_iterations": -3}, "num_iterations must be at least 1, not -3"),
        ({"compile": "maybe"}, "compile must be one of auto, true, false"),
        ({"optimizer": "sgdd"}, "unknown optimizer 'sgdd': registered are adamw, muon"),
        ({"log_with": "paper"}, "unknown tracker 'paper'"),
        ({"resume": "nowhere"}, "--resume nowhere is not a whole checkpoint"),
    ],
)
def test_flags_that_cannot_be(mine, wrong, expected):
    assert expected in complaint(mine | wrong)


def test_unknown_key_in_a_yaml_file(mine, tmp_path):
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({"embeding_lr": 0.1}))
    assert "did you mean embedding_lr?" in complaint(mine, "--config", str(tmp_path / "run.yaml"))


@pytest.mark.parametrize("text", ["depth: [", "- depth", None], ids=["damaged", "a list", "missing"])
def test_yaml_file_that_is_none(mine, tmp_path, text):
    if text is not None:
        (tmp_path / "run.yaml").write_text(text)
    assert "run.yaml" in complaint(mine, "--config", str(tmp_path / "run.yaml"))


def test_output_directory_that_cannot_be_written_to(mine, tmp_path):
    (tmp_path / "file").write_text("in the way")
    line = complaint(mine | {"output_dir": tmp_path / "file" / "run"})
    assert f"cannot write to output_dir {tmp_path / 'file' / 'run'}" in line


@pytest.mark.slow
def test_two_launched_processes_say_it_once():
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "--master_port",
        str(free_port()),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [*launch, "recipes/pretrain.py", "--depth", "1", "--total_batch_size", "0"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode != 0
    assert done.stderr.count("pretrain: total_batch_size must be at least 1") == 1
