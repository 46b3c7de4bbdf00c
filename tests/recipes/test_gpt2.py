"""GPT-2's road: trained onward by a text, whole or by LoRA, with its tokenizer; and any other causal LM likewise."""

import json
import re
import signal
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    GPTNeoXConfig,
    LlamaConfig,
    OPTConfig,
    Qwen2Config,
)

from recipes.training.checkpoints import whole_checkpoints
from recipes.utils.loading import load_tokenizer
from recipes.utils.run_directory import read_metrics
from tests.hub.client import use_hub
from tests.hub.server import serve
from tests.hub.store import Refused
from tests.recipes.gpt2 import save_gpt2, save_tokenizer
from tests.recipes.processes import REPOSITORY, Running, flags, run
from tests.recipes.test_exactness import assert_same_run

pytestmark = pytest.mark.launch

FINETUNE = REPOSITORY / "recipes" / "configs" / "gpt2" / "finetune.yaml"
LORA = REPOSITORY / "recipes" / "configs" / "gpt2" / "finetune_lora.yaml"
SPEAKERS = ("ROMEO", "JULIET", "KING HENRY", "NURSE", "First Citizen")
LINES = ("What say you to the morning, gentle friend?", "The night is long, and I would hear thee speak.",
         "Go, get thee hence, and trouble me no more.", "I know not where the crown of sorrow lies.",
         "O noble heart, thy word is law to me!")  # fmt: skip


@pytest.fixture(scope="module")
def play(tmp_path_factory) -> Path:
    """A text in Shakespeare's form: speakers, and paragraphs between blank lines."""
    path = tmp_path_factory.mktemp("play") / "input.txt"
    parts = [f"{SPEAKERS[n % 5]}:\n{LINES[n * 3 % 5]}\n{LINES[(n * n + n // 7) % 5]}\nAct {n}.\n" for n in range(600)]
    path.write_text("\n".join(parts))
    return path


@pytest.fixture(scope="module")
def gpt2(play, tmp_path_factory) -> Path:
    """A tiny GPT-2 with dropout, and its tokenizer."""
    return save_gpt2(tmp_path_factory.mktemp("models") / "gpt2", [play.read_text()])


@pytest.fixture(scope="module")
def finetuned(small, tmp_path_factory):
    """It, after forty steps of finetuning: the run's directory, and what the run printed."""
    output_dir = tmp_path_factory.mktemp("finetuned") / "run"
    return output_dir, train(FINETUNE, small | {"output_dir": output_dir, "num_iterations": 40})


@pytest.fixture(scope="module")
def small(play, gpt2) -> dict:
    """What a run of the presets needs to take seconds."""
    return {
        "dataset": play, "model_name_or_path": gpt2, "max_seq_len": 64, "total_batch_size": 512,
        "device_batch_size": 8, "num_iterations": 12, "learning_rate": 3e-3, "eval_every": 6, "eval_tokens": 2000,
        "save_every": 4, "compile": "false",
    }  # fmt: skip


def train(preset: Path, arguments: dict, processes: int = 1):
    end = run(["--config", str(preset), *flags(arguments)], processes)
    assert end.code == 0, end.stderr
    assert "Warning" not in end.stderr
    return end


def values(name: str, output_dir: Path) -> list[float]:
    return [record[name] for record in read_metrics(output_dir / "metrics.jsonl") if name in record]


# The presets


def test_finetuning_lowers_the_loss_and_keeps_the_rate_as_given(finetuned):
    output_dir, end = finetuned
    for label in ("matrix lr", "embedding lr", "head lr"):
        assert re.search(rf"^{label} +0.003: learning_rate, the same for all weights", end.stdout, re.MULTILINE)
    before, after = values("val/loss", output_dir)[0], values("val/loss", output_dir)[-1]
    assert after < before - 0.5 and set(values("train/lrm", output_dir)) == {1.0}
    state = torch.load(output_dir / "checkpoints" / "step_000040" / "optimizer.bin", weights_only=True)
    groups = state["param_groups"]
    assert {group["lr"] for group in groups} == {3e-3} and {group["betas"] for group in groups} == {(0.9, 0.95)}
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0, 0.0]


def test_lora_lowers_the_loss_and_leaves_a_merged_model_with_the_adapters_beside_it(small, finetuned, tmp_path):
    source = finetuned[0]
    more = {"model_name_or_path": source, "learning_rate": 1e-2, "num_iterations": 40, "sample_every": 0}
    end = train(LORA, small | more | {"output_dir": tmp_path})
    trained = int(re.search(r"^trained +([\d,]+) \(", end.stdout, re.MULTILINE)[1].replace(",", ""))
    assert "LoRA of rank 16 on c_attn, c_proj, c_fc, nothing else" in end.stdout
    assert "  The capital of France is|" in end.stdout, "samples of the adapted model"
    assert values("val/loss", tmp_path)[-1] < values("val/loss", source)[-1] - 0.03

    before, after = (load_file(path / "model.safetensors") for path in (source, tmp_path))
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if re.search(r"c_(attn|proj|fc)\.weight", name)}
    adapters = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert sum(each.numel() for each in adapters.values()) == trained
    checkpoint = whole_checkpoints(tmp_path)[-1]
    assert load_file(checkpoint / "adapter_model.safetensors").keys() == adapters.keys()
    assert not (checkpoint / "model.safetensors").exists()
    # The figure of the adapted model is that of the merged one: it is trained no further with a learning rate of 0.
    again = {"model_name_or_path": tmp_path, "num_iterations": 1, "learning_rate": 0, "output_dir": tmp_path / "again"}
    train(FINETUNE, small | again)
    assert values("val/loss", tmp_path / "again")[-1] == pytest.approx(values("val/loss", tmp_path)[-1], abs=0.01)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_of_adapters_that_is_stopped_and_resumed_is_the_undisturbed_one(small, play, tmp_path, processes):
    lines = {"document_separator": "blank_lines", "packing": "best_fit", "gradient_checkpointing": "false"}
    arguments = small | lines | {"device_batch_size": 2}  # blank lines: two processes need more than one document
    train(LORA, arguments | {"output_dir": tmp_path / "whole"}, processes)

    argv = ["--config", str(LORA), *flags(arguments | {"output_dir": tmp_path / "stopped"})]
    attempt = Running(argv, processes)
    attempt.wait_until(lambda: len(read_metrics(tmp_path / "stopped" / "metrics.jsonl")) >= 6)
    attempt.kill()
    assert 1 <= len(whole_checkpoints(tmp_path / "stopped")) <= 2
    killed = values("train/loss", tmp_path / "stopped")
    assert len(killed) < 12
    attempt = Running(argv, processes)
    attempt.wait_until(lambda: len(values("train/loss", tmp_path / "stopped")) > len(killed))
    attempt.signal(signal.SIGTERM)
    assert {end.code for end in attempt.wait()} == {0}
    end = run(argv, processes)
    assert end.code == 0, end.stderr
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")
    one, other = (path / "adapter" / "adapter_model.safetensors" for path in tmp_path.iterdir())
    assert one.read_bytes() == other.read_bytes()


def test_our_own_model_is_adapted_too_by_muon(tiny, tmp_path):
    first = run(flags(tiny | {"output_dir": tmp_path / "base"}))
    assert first.code == 0, first.stderr
    onward = tiny | {"model_name_or_path": tmp_path / "base", "use_peft": "true", "num_iterations": 20}
    end = run(flags(onward | {"output_dir": tmp_path / "lora", "lora_target_modules": "q_proj"}))
    assert end.code == 0, end.stderr
    assert "on q_proj, nothing else" in end.stdout
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("base", "lora"))
    assert [name for name in before if not torch.equal(before[name], after[name])] == [
        "model.layers.0.self_attn.q_proj.weight"
    ]


# Other models, which keep what is theirs

OTHERS = {
    "llama": LlamaConfig(
        num_hidden_layers=1, num_attention_heads=2, hidden_size=32, intermediate_size=64, max_position_embeddings=128
    ),
    "qwen": Qwen2Config(
        num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, hidden_size=32, intermediate_size=64,
        max_position_embeddings=128, tie_word_embeddings=True,
    ),
    "neox": GPTNeoXConfig(
        num_hidden_layers=1, num_attention_heads=2, hidden_size=32, intermediate_size=64, max_position_embeddings=128
    ),
    "opt": OPTConfig(
        num_hidden_layers=1, num_attention_heads=2, hidden_size=32, ffn_dim=64, word_embed_proj_dim=32,
        max_position_embeddings=128,
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "optimizer"), [("llama", "adamw"), ("qwen", "muon"), ("neox", "adamw"), ("opt", "muon")]
)
def test_any_causal_lm_trains_onward_and_keeps_its_tokenizer_and_generation_config(
    small, play, tmp_path, name, optimizer
):
    source, config = tmp_path / "source", OTHERS[name]
    config.vocab_size = save_tokenizer(source, [play.read_text()], context=128) + 8  # rounded up, as many are
    config.bos_token_id, config.eos_token_id, config.pad_token_id = 0, 0, None
    model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    model.generation_config = GenerationConfig(do_sample=True, temperature=0.6, eos_token_id=[0, 5], pad_token_id=3)
    model.save_pretrained(source)
    load_tokenizer(str(source)).save_pretrained(source)  # in the form of the architecture's own class

    arguments = small | {"model_name_or_path": source, "optimizer": optimizer, "output_dir": tmp_path / "run"}
    rates = {"learning_rate": 1e-3} if optimizer == "adamw" else {"learning_rate": "none"}
    train(FINETUNE, arguments | rates | {"num_iterations": 20})
    assert values("train/loss", tmp_path / "run")[-1] < values("train/loss", tmp_path / "run")[0] - 0.1

    theirs, mine = (AutoTokenizer.from_pretrained(path) for path in (source, tmp_path / "run"))
    assert mine.get_vocab() == theirs.get_vocab() and mine.special_tokens_map == theirs.special_tokens_map
    assert mine.model_max_length == theirs.model_max_length == 128
    for file in ("tokenizer.json", "tokenizer_config.json"):
        assert json.loads((source / file).read_text()) == json.loads((tmp_path / "run" / file).read_text())
    kept = GenerationConfig.from_pretrained(tmp_path / "run")
    assert (kept.eos_token_id, kept.pad_token_id, kept.temperature, kept.do_sample) == ([0, 5], 3, 0.6, True)
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "run", dtype="auto")
    assert saved.dtype == torch.float32 and saved.config.vocab_size == config.vocab_size
    assert (saved.config.bos_token_id, saved.config.eos_token_id, saved.config.pad_token_id) == (0, 0, None)


# Bad input


def complaint(arguments: dict, preset: Path = LORA, **options) -> str:
    end = run(["--config", str(preset), *flags(arguments)], **options)
    assert end.code == 2, end.stderr or end.stdout
    (line,) = end.stderr.splitlines()
    return line.removeprefix("pretrain: ")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"max_seq_len": 128, "total_batch_size": 1024},
            "max_seq_len 128 is beyond the model's context of 64 tokens.",
        ),
        (
            {"lora_target_modules": "q_proj"},
            "lora_target_modules: the model has no layer q_proj; its linear ones are ",
        ),
        ({"matrix_lr": 0.01}, "give learning_rate, which is for all weights, or matrix_lr, not both."),
        ({"use_peft": "false", "lora_r": 8}, "lora_r has no effect without --use_peft."),
        ({"lora_dropout": 1}, "lora_dropout must be at least 0 and below 1, not 1.0."),
        ({"lora_r": 0}, "lora_r must be at least 1, not 0."),
        ({"learning_rate": -1}, "learning_rate must be at least 0 and at most 1,000, not -1.0"),
    ],
)
def test_what_cannot_be_is_one_clear_line(small, tmp_path, given, said):
    assert complaint(small | given | {"output_dir": tmp_path / "run"}).startswith(said)
    assert not (tmp_path / "run" / "arguments.json").exists()


def test_adapters_need_a_trained_model(tiny, gpt2, tmp_path):
    end = run(flags(tiny | {"output_dir": tmp_path, "use_peft": "true", "model_config": gpt2 / "config.json"}))
    assert end.code == 2
    assert end.stderr == "pretrain: use_peft adapts a trained model: name one by --model_name_or_path.\n"


@pytest.mark.parametrize("packing", ["concatenated", "best_fit"])
def test_a_text_smaller_than_the_context_is_one_clear_line(small, tmp_path, packing):
    text = tmp_path / "short.txt"
    text.write_text("JULIET:\nO noble heart!\n\nROMEO:\nGo.\n")
    line = complaint(small | {"dataset": text, "packing": packing, "output_dir": tmp_path / "run"}, FINETUNE)
    assert "do not fill one row of 65 tokens. Use a shorter max_seq_len" in line or "too short" in line


def test_other_ranks_do_not_resume_the_run(small, tmp_path):
    train(LORA, small | {"output_dir": tmp_path / "run", "num_iterations": 4})
    (tmp_path / "run" / "config.json").unlink()  # as if it had not finished
    line = complaint(small | {"output_dir": tmp_path / "run", "num_iterations": 4, "lora_r": 8})
    assert "another configuration (lora_r 16 there, 8 now)" in line
    other = small | {"output_dir": tmp_path / "new", "resume": tmp_path / "run" / "checkpoints" / "step_000004"}
    line = complaint(other | {"num_iterations": 8, "lora_r": 8})
    assert "step_000004 holds other adapters than this run trains: " in line and line.endswith(").")


GATED = Refused(403, "Access to model openai-community/gpt2 is restricted", "GatedRepo")


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (
            None,
            "the Hub has no openai-community/gpt2, or it is private: check the name, or log in by `hf auth login`.",
        ),
        (GATED, "openai-community/gpt2 is gated on the Hub: accept its conditions at "),
    ],
    ids=["missing", "gated"],
)
def test_a_model_that_the_hub_does_not_give_out_is_one_clear_line(small, tmp_path, order, said):
    with serve() as hub:
        hub.meddle = lambda method, path: order if "gpt2" in path else None
        arguments = small | {"output_dir": tmp_path / "run", "model_name_or_path": "openai-community/gpt2"}
        before = partial(use_hub, hub.url, None, tmp_path / "home")
        line = complaint(arguments, FINETUNE, before=before)
    assert line.startswith(said)
