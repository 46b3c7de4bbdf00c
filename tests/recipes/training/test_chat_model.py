"""The model that SFT and GRPO start from."""

import pytest
from transformers import BertConfig, BertLMHeadModel, MambaConfig, MambaForCausalLM, T5Config
from trl import ModelConfig

from recipes.training.chat_model import DEFAULT_CONTEXT, load_trainable_chat_model, resolve_source
from recipes.utils.errors import InputError


def load(name, **options):
    return load_trainable_chat_model(str(name), ModelConfig(), **options)


def test_short_rows_on_a_cpu_use_plain_attention_unless_told_otherwise(student, fresh_accelerate):
    assert load(student)[0].config._attn_implementation == "eager"
    assert load(student, attention="sdpa")[0].config._attn_implementation == "sdpa"


def test_a_source_that_is_no_causal_lm_is_refused(tokenizer, tmp_path):
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    BertLMHeadModel(BertConfig(vocab_size=len(tokenizer), **sizes, is_decoder=False)).save_pretrained(
        tmp_path / "bert"
    )
    T5Config(d_model=32, num_layers=1).save_pretrained(tmp_path / "t5")
    tokenizer.save_pretrained(tmp_path / "bert")
    with pytest.raises(
        InputError, match="bert is not a causal LM: a BertLMHeadModel reads the tokens it is to predict"
    ):
        load(tmp_path / "bert", longest_row=96)
    with pytest.raises(InputError, match=r"t5 is an encoder-decoder \(t5\): take a causal LM"):
        load(tmp_path / "t5", longest_row=96)


def test_a_model_without_positions_takes_rows_of_a_default_length(tokenizer, tmp_path, fresh_accelerate):
    MambaForCausalLM(MambaConfig(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1)).save_pretrained(
        tmp_path
    )
    tokenizer.save_pretrained(tmp_path)
    assert load(tmp_path)[1].model_max_length == DEFAULT_CONTEXT == 1024


def test_a_stage_is_the_one_beside_the_output_and_anything_else_is_itself(tmp_path):
    assert resolve_source("mid", tmp_path / "run" / "sft") == str(tmp_path / "run" / "mid")
    assert resolve_source("./mid", tmp_path / "run" / "sft") == "./mid"
    assert resolve_source("openai-community/gpt2", tmp_path / "run" / "sft") == "openai-community/gpt2"
