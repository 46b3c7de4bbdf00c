"""A finished run is a directory that from_pretrained loads, and counts as finished only when it is whole."""

import errno
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from recipes.training.export import save_model
from recipes.utils.errors import InputError
from recipes.utils.run_directory import is_finished
from tests.modeling_nanochat.tiny import random_model


@pytest.fixture
def run_dir(tmp_path):
    """Where a run has left its metrics and a checkpoint."""
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    (tmp_path / "checkpoints" / "step_000001").mkdir(parents=True)
    return tmp_path


def test_the_saved_model_loads_and_is_the_same(run_dir, tokenizer):
    model = random_model(vocab_size=len(tokenizer))
    assert not is_finished(run_dir)
    save_model(model, tokenizer, run_dir)
    assert is_finished(run_dir)
    loaded = AutoModelForCausalLM.from_pretrained(run_dir)
    assert type(loaded) is type(model)
    for name, parameter in loaded.named_parameters():
        assert torch.equal(parameter, model.get_parameter(name))
    text = "A cat sat on a mat."
    assert AutoTokenizer.from_pretrained(run_dir)(text)["input_ids"] == tokenizer(text)["input_ids"]


def test_what_the_run_left_stays_and_nothing_is_left_over(run_dir, tokenizer):
    save_model(random_model(vocab_size=len(tokenizer)), tokenizer, run_dir)
    assert (run_dir / "metrics.jsonl").read_text() == '{"step": 1}\n'
    assert (run_dir / "checkpoints" / "step_000001").is_dir()
    assert not list(run_dir.glob(".*"))
    assert {"model.safetensors", "generation_config.json", "tokenizer.json", "modeling_nanochat.py"} <= {
        path.name for path in run_dir.iterdir()
    }


def test_a_save_that_fails_leaves_the_run_unfinished(run_dir, tokenizer):
    class Unwilling:
        def save_pretrained(self, directory):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(InputError, match="could not write the model to .* its checkpoints are intact"):
        save_model(random_model(vocab_size=len(tokenizer)), Unwilling(), run_dir)
    assert not is_finished(run_dir)
    assert {path.name for path in run_dir.iterdir()} == {"metrics.jsonl", "checkpoints"}


def test_the_file_that_makes_it_a_finished_model_is_moved_last(run_dir, tokenizer, monkeypatch):
    moved, replace = [], Path.replace

    def remember(path, target):
        moved.append(path.name)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", remember)
    save_model(random_model(vocab_size=len(tokenizer)), tokenizer, run_dir)
    assert len(moved) > 5
    assert moved[-1] == "config.json"
