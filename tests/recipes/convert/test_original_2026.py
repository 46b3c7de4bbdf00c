"""karpathy/nanochat's checkpoints of 2026 become models that compute the same."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from evals.report.files import count_parameters
from modeling_nanochat import NanochatGPTConfig
from tests.modeling_nanochat.tiny import random_ids
from tests.recipes import originals
from tests.recipes.convert.originals_2026 import (
    SIZES,
    random_weights,
    reference_greedy,
    reference_logits,
    write_checkpoint,
)
from tokenizer.encode import encode_documents

LENGTH, NEW_TOKENS = 200, 64  # a short window is 128 tokens and the current one
TOKENS = ("bos", "eos", "pad")
TALK = [{"role": "user", "content": "What is 12*4?"}]


@pytest.fixture
def sizes(encoding) -> dict:
    return SIZES | {"vocab_size": encoding.n_vocab}


@pytest.fixture
def write(encoding, sizes, tmp_path):
    """Writes a checkpoint of random weights; `without` names of weights, `plus` others, changes of the meta file."""

    def checkpoint(without=(), plus=None, drop=(), **changes) -> tuple[Path, dict, dict]:
        changed = {name: size for name, size in (sizes | changes).items() if name not in drop}
        weights = random_weights(sizes | changes) | (plus or {})
        weights = {name: each for name, each in weights.items() if name not in without}
        write_checkpoint(tmp_path / "original", encoding, weights, changed)
        return tmp_path / "original", weights, changed

    return checkpoint


def load(directory: Path):
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    model.generation_config.eos_token_id = None
    return model


def logits(directory: Path, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return load(directory)(ids[None]).logits[0]


def assert_same_logits(actual: torch.Tensor, expected: torch.Tensor) -> None:
    assert expected.std() > 1  # they say something
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n_layer": 6, "n_kv_head": 4},
        {"n_layer": 5, "window_pattern": "sl", "n_kv_head": 1},
        {"window_pattern": "L"},
        {"n_layer": 1},
    ],
    ids=["SSSL", "six layers", "SL in small letters", "no windows", "one layer"],
)
def test_logits_and_greedy_tokens_equal_nanochats(convert, write, tmp_path, changes):
    original, weights, sizes = write(**changes)
    directory = convert(original, tmp_path / "ours", "ours")
    sizes = sizes | {"window_pattern": sizes["window_pattern"].upper()}
    ids = random_ids(LENGTH, vocab_size=sizes["vocab_size"])
    assert_same_logits(logits(directory, ids), reference_logits(weights, ids, sizes))
    written = load(directory).generate(ids[None, :100], max_new_tokens=NEW_TOKENS, do_sample=False)[0]
    assert torch.equal(written, reference_greedy(weights, ids[:100], sizes, NEW_TOKENS))


def test_padded_rows_and_values_in_bf16_are_kept(convert, write, sizes, tmp_path):
    original, weights, _ = write()
    stored = load_file(convert(original, tmp_path / "ours", "ours") / "model.safetensors")
    assert {each.dtype for each in stored.values()} == {torch.float32} and len(stored) == len(weights)
    for ours, theirs in (
        ("model.embed_tokens.weight", "transformer.wte.weight"),
        ("lm_head.weight", "lm_head.weight"),
        ("model.value_embeds.1.weight", "value_embeds.1.weight"),
    ):
        assert len(stored[ours]) == 640 > sizes["vocab_size"]
        assert torch.equal(stored[ours], weights[theirs].float())


def test_the_config_is_that_of_2026(convert, write, tmp_path):
    original, _, sizes = write()
    config = NanochatGPTConfig.from_pretrained(convert(original, tmp_path / "ours", "ours"))
    expected = NanochatGPTConfig.from_depth(
        4, sizes["vocab_size"], head_dim=64, generation=2026, max_position_embeddings=512
    )
    sizes_and_places = {"hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads"}
    about_the_file = {"architectures", "auto_map", "dtype", "transformers_version", "_name_or_path"}
    others = expected.to_dict().keys() - sizes_and_places - about_the_file - {f"{each}_token_id" for each in TOKENS}
    assert "sliding_window" in others
    assert {name: getattr(config, name) for name in others} == {name: getattr(expected, name) for name in others}


def test_reports_describe_it_as_a_model_of_2026(convert, write, tmp_path):
    parameters = count_parameters(convert(write()[0], tmp_path / "ours", "ours"))
    features = "value embeddings, residual scalars, smear, backout, windows of 129 tokens in 3 layers"
    assert parameters.describe().startswith("NanochatGPTForCausalLM, 4 layers, ")
    assert parameters.describe().endswith(f" wide; generation 2026: {features}")


def test_tokens_and_chat_format_are_nanochats(convert, write, encoding, tmp_path):
    directory = convert(write()[0], tmp_path / "ours", "ours")
    tokenizer = AutoTokenizer.from_pretrained(directory)
    assert encode_documents(tokenizer, ["12 Grüße!"])[0][1:] == encoding.encode_ordinary("12 Grüße!")
    rendered = tokenizer.apply_chat_template(TALK, add_generation_prompt=True, return_dict=False)
    special = encoding.encode_single_token
    assert rendered == [
        *(special("<|bos|>"), special("<|user_start|>"), *encoding.encode_ordinary("What is 12*4?")),
        *(special("<|user_end|>"), special("<|assistant_start|>")),
    ]


def test_what_nanochats_own_code_adds_to_older_files_is_added_here(convert, write, tmp_path):
    original, weights, sizes = write(without=("resid_lambdas", "x0_lambdas"), drop=("window_pattern",))
    directory = convert(original, tmp_path / "ours", "ours")
    assert not any(map(AutoModelForCausalLM.from_pretrained(directory).config.is_sliding, range(4)))
    weights |= {"resid_lambdas": torch.ones(4), "x0_lambdas": torch.zeros(4)}
    ids = random_ids(LENGTH, vocab_size=sizes["vocab_size"])
    expected = reference_logits(weights, ids, sizes | {"window_pattern": "L"})
    assert_same_logits(logits(directory, ids), expected)


def test_what_is_added_to_a_file_in_bf16_leaves_it_in_bf16(convert, encoding, sizes, tmp_path):
    weights = {name: each.bfloat16() for name, each in random_weights(sizes).items() if not name.endswith("lambdas")}
    write_checkpoint(tmp_path / "original", encoding, weights, sizes)
    stored = load_file(convert(tmp_path / "original", tmp_path / "ours", "ours") / "model.safetensors")
    assert {each.dtype for each in stored.values()} == {torch.bfloat16}
    assert torch.equal(stored["model.resid_lambdas"], torch.ones(4, dtype=torch.bfloat16))


def test_names_of_a_compiled_model_are_read(convert, encoding, sizes, tmp_path):
    weights = random_weights(sizes)
    compiled = {f"_orig_mod.{name}": each for name, each in weights.items()}
    write_checkpoint(tmp_path / "original", encoding, compiled, sizes)
    stored = load_file(convert(tmp_path / "original", tmp_path / "ours", "ours") / "model.safetensors")
    assert torch.equal(stored["model.resid_lambdas"], weights["resid_lambdas"])


def test_files_without_anything_new_are_of_2025(convert, encoding, tmp_path):
    originals.write_original(tmp_path / "original", encoding)
    config = NanochatGPTConfig.from_pretrained(convert(tmp_path / "original", tmp_path / "ours", "ours"))
    assert config.rotary_dtype == "bfloat16" and config.rope_theta == 10_000 and not config.value_embeddings


# Bad input

SMEARLESS = ("smear_gate.weight", "smear_lambda", "backout_lambda")


def test_2026_has_no_form_in_transformers(write, refused):
    refused(
        write()[0],
        "nanochat",
        r"^the model is of generation 2026 \(value_embeddings, residual_scalars, smear, backout\), which "
        r"transformers' NanoChat lacks: only models of 2025 convert to it\.$",
    )


def test_the_lambdas_of_early_january_are_not_enough(encoding, refused, tmp_path):
    weights = originals.random_weights(encoding.n_vocab) | {
        "resid_lambdas": torch.ones(2),
        "x0_lambdas": torch.ones(2),
    }
    originals.write_original(tmp_path / "original", encoding, weights, window_pattern="SSSL")
    refused(
        tmp_path / "original",
        "ours",
        "is not of nanochat's architecture of July 2026: it lacks 'value_embeds.1.weight', "
        "'transformer.h.1.attn.ve_gate.weight', 'smear_gate.weight' and 2 more; its own code of then does not load",
    )


def test_a_window_pattern_alone_does_not_make_a_model_of_2026(encoding, refused, tmp_path):
    originals.write_original(tmp_path / "original", encoding, window_pattern="L")
    refused(tmp_path / "original", "ours", "of July 2026: it lacks 'value_embeds.1.weight'")


def test_models_before_smear_are_refused_by_what_they_lack(write, refused):
    gates = {f"transformer.h.{layer}.attn.ve_gate.weight": torch.ones(2, 32) for layer in (1, 3)}
    original, _, _ = write(without=SMEARLESS, plus=gates)
    refused(original, "ours", "it lacks 'smear_gate.weight', 'smear_lambda', 'backout_lambda'; its own code")


def test_unknown_parameters_are_named(write, refused):
    original, _, _ = write(plus={"v0_lambdas": torch.ones(4), "bigram_embed.embed.weight": torch.ones(3, 64)})
    refused(original, "ours", "it holds the unknown 'v0_lambdas', 'bigram_embed.embed.weight'; its own code")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"window_pattern": "SSXL"}, "meta_000300.json does not describe .*: window pattern 'SSXL' must be made of"),
        ({"window_pattern": ""}, "meta_000300.json does not describe .*: window pattern '' must be made of"),
        ({"window_pattern": ["S"]}, r"meta_000300.json does not describe .*: window_pattern is \['S'\]"),
        ({"window_pattern": None}, "meta_000300.json does not describe .*: window_pattern is None"),
        ({"n_head": 5}, "meta_000300.json does not describe .*: hidden_size 64 must be a multiple"),
        ({"engram": True, "rope": 3}, "meta_000300.json has 'engram', 'rope': only models of 2025 and of July 2026"),
        ({"n_layer": 6}, "are not those of its meta file: n_layer is 6, and there are 4 blocks"),
        ({"n_layer": 10**7}, "are not those of its meta file: n_layer is 10000000, and there are 4 blocks"),
        ({"n_kv_head": 4}, r"transformer.h.0.attn.c_k.weight is \(32, 64\) and not \(64, 64\)"),
        ({"vocab_size": 700}, "the tokenizer has 609 tokens and the model 700"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_meta_file_that_the_weights_contradict_is_refused(write, refused, changes, match):
    original, _, sizes = write()
    meta = {"model_config": sizes | changes}
    (original / "meta_000300.json").write_text(json.dumps(meta))
    refused(original, "ours", match)


@pytest.mark.parametrize("rows", [609, 576, 704])
@pytest.mark.parametrize("name", ["transformer.wte.weight", "lm_head.weight", "value_embeds.3.weight"])
def test_tables_of_another_vocabulary_are_refused(write, refused, rows, name):
    width = 32 if "value" in name else 64
    original, _, _ = write(plus={name: torch.ones(rows, width)})
    refused(original, "ours", rf"meta file: {name} is \({rows}, {width}\) and not \(640, {width}\)")


def test_gates_of_other_months_are_refused_by_their_shape(write, refused):
    original, _, _ = write(plus={"transformer.h.3.attn.ve_gate.weight": torch.ones(2, 32)})
    refused(original, "ours", r"transformer.h.3.attn.ve_gate.weight is \(2, 32\) and not \(2, 12\)")
