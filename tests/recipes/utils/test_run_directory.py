"""Whichever directory of a run is given, the message names the one that was meant."""

import json
from pathlib import Path

import pytest

from recipes.utils.errors import InputError
from recipes.utils.loading import check_source
from recipes.utils.run_directory import check_learnt_to_chat, check_run

FILES = (
    "cpu/tokenizer/tokenizer.json",
    *(f"cpu/{stage}/{file}" for stage in ("base", "mid", "sft") for file in ("config.json", "tokenizer.json")),
    *(f"cpu/base/checkpoints/step_{step}/config.json" for step in ("000080", "000100")),
    "cpu/base/evals/chat.json",
    "cpu/base/metrics.jsonl",
    "cpu/sft/adapter/adapter_config.json",
    "cpu/grpo/metrics.jsonl",
    *(f"cpu/grpo/checkpoints/checkpoint-{step}/config.json" for step in (20, 100)),
    "cpu/report/loss.png",
    "gpu/base/config.json",
    "adapter/adapter_config.json",
    "empty/photo.jpg",
)


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    """A directory of runs, in which the process is: one with everything, its GRPO unfinished."""
    for name in FILES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    (tmp_path / "cpu/base/arguments.json").write_text(json.dumps({"dataset": "primer"}))
    (tmp_path / "cpu/mid/arguments.json").write_text(json.dumps({"dataset": None, "conversations": "primer:mid"}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("cpu", "holds no config.json: it is a run's directory. Give a model in it: cpu/sft (or base, mid)."),
        ("cpu/", "Give a model in it: cpu/sft (or base, mid)."),
        (".", "it holds runs. Give a model of one: gpu/base (or cpu/sft)."),
        ("cpu/tokenizer", "it holds only a tokenizer. Give a model beside it: cpu/sft (or base, mid)."),
        ("cpu/base/checkpoints", "it is part of a model's directory. Give that: cpu/base."),
        ("cpu/base/evals", "it is part of a model's directory. Give that: cpu/base."),
        ("cpu/sft/adapter", "it holds only adapters. Give the model that they were merged into: cpu/sft."),
        ("adapter", "holds no config.json: it holds only adapters. Merge them into their model."),
        ("cpu/grpo", "its training is not finished. Give the same command again, or take a checkpoint of it: "),
        ("cpu/grpo", "take a checkpoint of it: cpu/grpo/checkpoints/checkpoint-100."),
        ("cpu/grpo/checkpoints", "it holds checkpoints. Give a model in it: cpu/grpo/checkpoints/checkpoint-100 ("),
        ("cpu/report", "holds no config.json. Give a model beside it: cpu/sft (or base, mid)."),
        ("cpu/base/config.json", "is a file. Give its directory: cpu/base."),
        ("cpu/gpro", "no such directory. Give one that is there: cpu/sft (or base, mid)."),
        ("empty", "model directory empty holds no config.json."),
        ("empty/photo.jpg", "model empty/photo.jpg is a file."),
    ],
)
def test_a_model(runs, path, said):
    with pytest.raises(InputError) as error:
        check_source(path)
    assert said in str(error.value)
    assert path.rstrip("/") in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("cpu", "it is a run's directory. Give a tokenizer in it: cpu/tokenizer (or base, mid, sft)."),
        ("cpu/report", "Give a tokenizer beside it: cpu/tokenizer (or base, mid, sft)."),
        ("cpu/tokenizer/tokenizer.json", "is a file. Give its directory: cpu/tokenizer."),
        ("gpu/base", "holds no tokenizer.json."),
    ],
)
def test_a_tokenizer(runs, path, said):
    with pytest.raises(InputError) as error:
        check_source(path, "tokenizer")
    assert str(error.value).endswith(said)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("cpu/sft", "cpu/sft is part of a run. Give the run's own directory: cpu."),
        ("cpu/tokenizer", "Give the run's own directory: cpu."),
        ("cpu/base/checkpoints/step_000080", "Give the run's own directory: cpu."),
        (".", "it holds runs. Give one: gpu (or cpu)."),
        ("empty", "no run in empty: none of base, mid, sft, dpo, grpo in it holds a model."),
        ("cpuu", "no such directory. Give one that is there: gpu (or cpu)."),
    ],
)
def test_a_run(runs, path, said):
    with pytest.raises(InputError) as error:
        check_run(Path(path))
    assert str(error.value).endswith(said)


def test_what_is_right_passes(runs):
    for path in ("cpu/base", "cpu/grpo/checkpoints/checkpoint-100"):
        check_source(path)
    for path in ("cpu/tokenizer", "cpu/base"):
        check_source(path, "tokenizer")
    check_run(runs / "cpu")
    for path in ("cpu", "new", "empty"):
        check_run(Path(path), new=True)
    with pytest.raises(InputError, match="is part of a run"):
        check_run(Path("cpu/base"), new=True)


def test_a_base_model_has_not_learnt_to_chat(runs):
    for name in ("cpu/base", "cpu/base/checkpoints/step_000080"):
        with pytest.raises(InputError, match=r"documents only, .* Give one that has: cpu/sft \(or mid\)"):
            check_learnt_to_chat(name)
    (runs / "gpu/base/arguments.json").write_text(json.dumps({"dataset": "primer"}))
    with pytest.raises(InputError, match=r"Train it by recipes/midtrain\.py and recipes/sft\.py\.$"):
        check_learnt_to_chat("gpu/base")
    for name in ("cpu/mid", "cpu/sft", "somebody/model"):
        check_learnt_to_chat(name)
