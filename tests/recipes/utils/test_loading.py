"""Every program that loads a model says in one line, the same one, what is wrong with it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer
from transformers.utils.import_utils import is_serve_available
from trl import ModelConfig

from evals.samples import SamplesArguments, write_samples
from modeling_nanochat import NanochatGPTConfig, NanochatGPTForCausalLM
from recipes.chat import ChatArguments, chat
from recipes.convert.native import load_checkpoint
from recipes.inference.models import load_model
from recipes.serve import check_servable
from recipes.training.chat_model import load_trainable_chat_model
from recipes.training.models import build_config, build_model
from recipes.training.models import load_tokenizer as load_tokenizer_for
from recipes.utils.errors import InputError
from recipes.utils.loading import load_config, load_tokenizer, load_weights
from space.chat_page.engine import Engine


def train_onward(name: str) -> None:
    config = build_config(len(load_tokenizer_for(None, 32, of_model=name)), 32, model_name_or_path=name)
    build_model(config, 32, "cpu", source=name, pretrained=True)


PROGRAMS = {
    "chat": lambda name: chat(ChatArguments(model=name, prompt="Hi")),
    "samples": lambda name: write_samples(SamplesArguments(name)),
    "evals": load_model,
    "SFT and GRPO": lambda name: load_trainable_chat_model(name, ModelConfig()),
    "pretraining onward": train_onward,
    "page": lambda name: Engine(name).start(),
    "page, continuing": lambda name: Engine(name, chat=False).start(),
    "convert": load_checkpoint,
}
if is_serve_available():
    PROGRAMS["serve"] = check_servable


@pytest.fixture
def copy(student, tmp_path) -> Path:
    """A model to be spoiled."""
    shutil.copytree(student, tmp_path / "model")
    return tmp_path / "model"


def complaint(program: str, name: Path) -> str:
    with pytest.raises(InputError) as error:
        PROGRAMS[program](str(name))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_tokenizer_larger_than_the_embedding(program, copy):
    config = NanochatGPTConfig(
        vocab_size=100, hidden_size=64, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=96
    )
    NanochatGPTForCausalLM(config).save_pretrained(copy)
    said = complaint(program, copy)
    assert "has 512 tokens" in said and (
        "the model only 100" in said or "only 100:" in said or "the model 100:" in said
    )


@pytest.mark.parametrize("program", [name for name in PROGRAMS if name != "serve"])
def test_weights_that_are_not_all_there(program, copy):
    weights = load_file(copy / "model.safetensors")
    del weights["model.layers.0.mlp.fc1.weight"]
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    assert complaint(program, copy).endswith(
        "are not those of its config.json: model.layers.0.mlp.fc1.weight is missing."
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_hidden_layers": 2}, "they have 1 layers and not 2."),
        ({"vocab_size": 600}, "model.embed_tokens.weight has 512 rows and not 600, as vocab_size 600 says."),
        ({"hidden_size": 128}, "model.embed_tokens.weight is 64 wide and not 128, as hidden_size says."),
    ],
    ids=["layers", "vocabulary", "width"],
)
@pytest.mark.parametrize("program", [name for name in PROGRAMS if name != "serve"])
def test_sizes_that_contradict_the_config(program, copy, changes, said):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | changes))
    assert complaint(program, copy).endswith(f"the weights in {copy} are not those of its config.json: {said}")


@pytest.mark.parametrize("program", [name for name in PROGRAMS if name != "serve"])
def test_weights_that_the_model_does_not_use(program, copy):
    weights = load_file(copy / "model.safetensors")
    weights["model.bigram.weight"] = torch.zeros(3)
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    assert complaint(program, copy).endswith("config.json: model.bigram.weight is not part of the model.")


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_directory_without_a_model(program, tmp_path):
    assert complaint(program, tmp_path) == f"model directory {tmp_path} holds no config.json."


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_model_without_a_tokenizer(program, copy):
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (copy / file).unlink()
    assert f"tokenizer directory {copy} holds no tokenizer.json" in complaint(program, copy)


def test_a_damaged_file_is_named(copy):
    for file, load in {
        "tokenizer.json": load_tokenizer,
        "model.safetensors": lambda name: load_weights(name, None),
        "config.json": load_config,
    }.items():
        (copy / file).write_text("{")
        with pytest.raises(InputError, match=str(copy)) as error:
            load(str(copy))
        assert "\n" not in str(error.value)


def test_a_tokenizer_with_gaps_counts_by_its_highest_id(copy):
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    token = max(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)
    tokenizer["model"]["vocab"][token] = 600
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert len(AutoTokenizer.from_pretrained(copy)) < 600
    with pytest.raises(InputError, match="has 601 tokens and the model only 512: it belongs to another model"):
        load_model(str(copy), "cpu")
