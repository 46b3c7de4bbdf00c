"""What we train becomes files that karpathy/nanochat's code of July 2026 runs, and comes back."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from modeling_nanochat import NanochatGPTConfig, NanochatGPTForCausalLM
from recipes.convert.encoding import load_encoding
from recipes.training.models import set_special_tokens
from tests.modeling_nanochat.tiny import random_ids, random_model, randomized
from tests.recipes import originals
from tests.recipes.convert.originals_2026 import SIZES, TABLES, random_weights, reference_logits, write_checkpoint
from tokenizer.encode import token_byte_lengths

FILES = {"model_000000.pt", "meta_000000.json", "tokenizer.pkl", "token_bytes.pt"}


@pytest.fixture
def save(tokenizer_dir, tmp_path):
    """Saves a model of 2026 with random weights and our tokenizer; `changes` override the fields of its config."""

    def checkpoint(dtype: torch.dtype = torch.float32, tokenizer=None, **changes) -> Path:
        tokenizer = tokenizer or AutoTokenizer.from_pretrained(tokenizer_dir)
        settings = {"max_position_embeddings": 512, "num_key_value_heads": 2, "pad_vocab_size_multiple": 64} | changes
        config = NanochatGPTConfig.from_depth(4, len(tokenizer), head_dim=32, generation=2026, **settings)
        model = randomized(NanochatGPTForCausalLM(config)).eval()
        if config.residual_scalars:  # as in trained models: with a stream near zero, the norms' epsilons would differ
            model.model.resid_lambdas.data.fill_(1.1)
        set_special_tokens(model, tokenizer)
        model.to(dtype).save_pretrained(tmp_path / "model")
        tokenizer.save_pretrained(tmp_path / "model")
        return tmp_path / "model"

    return checkpoint


def weights_of(directory: Path) -> dict[str, torch.Tensor]:
    return torch.load(directory / "model_000000.pt", weights_only=True)


def model_config_of(directory: Path) -> dict:
    return json.loads((directory / "meta_000000.json").read_text())["model_config"]


def same(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return actual.keys() == expected.keys() and all(
        actual[name].dtype == each.dtype and torch.equal(actual[name], each) for name, each in expected.items()
    )


@pytest.mark.parametrize("pattern", ["SSSL", "L", "SL"])
def test_files_of_nanochats_come_back_bit_by_bit(convert, encoding, tmp_path, pattern):
    sizes = SIZES | {"vocab_size": encoding.n_vocab, "window_pattern": pattern}
    weights = random_weights(sizes)
    write_checkpoint(tmp_path / "original", encoding, weights, sizes)
    back = convert(convert(tmp_path / "original", tmp_path / "ours", "ours"), tmp_path / "back", "karpathy")
    assert {path.name for path in back.iterdir()} == FILES
    assert same(weights_of(back), weights)
    assert {each.dtype for name, each in weights.items() if name.startswith(TABLES)} == {torch.bfloat16}
    assert model_config_of(back) == sizes
    assert pickle.loads((back / "tokenizer.pkl").read_bytes()).__getstate__() == encoding.__getstate__()


def test_a_model_of_ours_computes_the_same_there_and_comes_back(convert, save, tmp_path, capsys):
    ours = save()
    there = convert(ours, tmp_path / "there", "karpathy")
    assert "put model_* and meta_* into ~/.cache/nanochat/chatsft_checkpoints/d4" in capsys.readouterr().out
    sizes = {"sequence_len": 512, "vocab_size": 512, "n_layer": 4, "n_head": 8, "n_kv_head": 2, "n_embd": 256}
    assert model_config_of(there) == sizes | {"window_pattern": "SSSL"}
    ids = random_ids(200, vocab_size=512)
    with torch.no_grad():
        expected = AutoModelForCausalLM.from_pretrained(ours)(ids[None]).logits[0]
    actual = reference_logits(weights_of(there), ids, model_config_of(there))
    assert expected.std() > 1
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=0)
    back = convert(there, tmp_path / "back", "ours")
    assert same(load_file(back / "model.safetensors"), load_file(ours / "model.safetensors"))
    before, after = (json.loads((each / "config.json").read_text()) for each in (ours, back))
    assert after == before


def test_its_tokenizer_makes_the_same_tokens_there(convert, save, tmp_path):
    ours = save()
    there = convert(ours, tmp_path / "there", "karpathy")
    tokenizer, encoding = AutoTokenizer.from_pretrained(ours), pickle.loads((there / "tokenizer.pkl").read_bytes())
    text = "The capital of France is Paris; 12*4 = 48. Grüße, 你好!\n\n    return x"
    assert encoding.encode_ordinary(text) == tokenizer(text, add_special_tokens=False).input_ids
    assert encoding.n_vocab == len(tokenizer)
    assert encoding.encode_single_token("<|output_end|>") == tokenizer.convert_tokens_to_ids("<|output_end|>")
    lengths = torch.load(there / "token_bytes.pt", weights_only=True)
    assert lengths.dtype == torch.int32 and torch.equal(lengths.long(), token_byte_lengths(tokenizer))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_weights_keep_their_values_in_the_narrowest_dtype_that_nanochat_uses(convert, save, tmp_path, dtype):
    ours = save(dtype)
    weights = weights_of(convert(ours, tmp_path / "there", "karpathy"))
    assert {each.dtype for each in weights.values()} == {dtype}  # random ones in fp32 do not fit into bf16
    stored = load_file(ours / "model.safetensors")
    assert torch.equal(weights["lm_head.weight"], stored["lm_head.weight"])
    assert torch.equal(weights["value_embeds.3.weight"], stored["model.value_embeds.3.weight"])


@pytest.mark.parametrize(("written", "read"), [("SSSL", "SSSL"), ("sslll", "SSL"), ("LS", "LS"), ("SL", "SL")])
def test_windows_come_back_as_a_pattern_that_means_the_same(convert, save, tmp_path, written, read):
    config = model_config_of(convert(save(window_pattern=written), tmp_path / "there", "karpathy"))
    assert config["window_pattern"] == read


# Bad input


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (
            {"query_key_scale": 1.0},
            r"^the model has query_key_scale = 1.0 \(there: 1.2\), which nanochat's code of July",
        ),
        ({"rope_theta": 10_000.0}, r"rope_theta = 10000.0 \(there: 100000.0\)"),
        ({"smear": False}, r"smear = False \(there: True\), which nanochat's code of July 2026 cannot compute"),
        ({"backout": False}, r"backout = False \(there: True\)"),
        ({"value_embeddings": False}, r"value_embeddings = False \(there: True\)"),
        ({"residual_scalars": False}, r"residual_scalars = False \(there: True\)"),
        ({"intermediate_size": 128}, r"intermediate_size = 128 \(there: 1024\)"),
        ({"final_logit_softcapping": 20.0}, r"final_logit_softcapping = 20.0 \(there: 15.0\)"),
        ({"rotary_dtype": "bfloat16"}, r"rotary_dtype = 'bfloat16' \(there: None\)"),
        ({"rms_norm_eps": 1e-3}, r"rms_norm_eps = 0.001 \(there: 1.19\d+e-07\)"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_nanochat_has_built_in_otherwise_is_named(save, refused, changes, match):
    refused(save(**changes), "karpathy", match)


def test_rows_without_padding_are_named(save, refused, encoding, tmp_path):
    (tmp_path / "tokenizer.pkl").write_bytes(pickle.dumps(encoding))
    tokenizer = load_encoding(tmp_path / "tokenizer.pkl", 512)
    refused(
        save(tokenizer=tokenizer, pad_vocab_size_multiple=1), "karpathy", r"padded_vocab_size = 609 \(there: 640\)"
    )


def test_other_windows_are_named(save, refused):
    ours = save()
    config = json.loads((ours / "config.json").read_text())
    (ours / "config.json").write_text(json.dumps(config | {"sliding_window": 65}))
    refused(ours, "karpathy", r"windows = \[65, 65, 65, None\] \(there: \[129, 129, 129, None\]\)")
    last_too = config | {"layer_types": ["sliding_attention"] * 4}
    (ours / "config.json").write_text(json.dumps(last_too))
    refused(ours, "karpathy", r"windows = \[129, 129, 129, 129\] \(there: \[129, 129, 129, None\]\)")


def test_models_of_2025_do_not_run_there(convert, refused, tokenizer_dir, encoding, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    random_model(vocab_size=len(tokenizer)).save_pretrained(tmp_path / "ours")
    tokenizer.save_pretrained(tmp_path / "ours")
    line = "^the model is of generation 2025, and nanochat's code of July 2026 computes models of 2026 only"
    refused(tmp_path / "ours", "karpathy", line)
    refused(convert(tmp_path / "ours", tmp_path / "theirs", "nanochat"), "karpathy", line)
    originals.write_original(tmp_path / "original", encoding)
    refused(tmp_path / "original", "karpathy", "has that format already")


def test_a_tokenizer_that_tiktoken_would_not_equal_is_refused(save, refused, tokenizer_dir):
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    backend["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {"Regex": r"\w+|\W+"}
    ours = save()
    (ours / "tokenizer.json").write_text(json.dumps(backend))
    refused(ours, "karpathy", "^the tokenizer splits texts in another way, unlike nanochat's: a tokenizer.pkl would")
