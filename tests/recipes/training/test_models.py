"""Model and tokenizer come from where the arguments say, or one line says why not."""

import json

import pytest
import torch
from huggingface_hub import constants
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from modeling_nanochat import NanochatGPTForCausalLM
from recipes.training.models import build_config, build_model, load_tokenizer, model_facts, set_special_tokens
from recipes.utils.errors import InputError
from recipes.utils.model_facts import describe_model


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def gpt2_dir(tmp_path):
    """A GPT-2 of two layers with weights."""
    torch.manual_seed(0)
    config = GPT2Config(n_layer=2, n_embd=32, n_head=2, n_positions=64, vocab_size=300)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    return tmp_path / "gpt2"


def config_of(vocab_size: int = 300, max_seq_len: int = 64, **sources):
    return build_config(vocab_size, max_seq_len, **sources)


def model_of(vocab_size: int = 300, max_seq_len: int = 64, gradient_checkpointing: bool = False, **sources):
    config = config_of(vocab_size, max_seq_len, **sources)
    source = sources.get("model_name_or_path") or sources.get("model_config")
    pretrained = "model_name_or_path" in sources
    return build_model(
        config,
        max_seq_len,
        "cpu",
        source=source,
        pretrained=pretrained,
        gradient_checkpointing=gradient_checkpointing,
    )


def one_line(error) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


# Tokenizer


def test_a_tokenizer_is_loaded_from_its_directory_or_from_the_models(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    GPT2Config().save_pretrained(tmp_path)
    for loaded in (load_tokenizer(str(tmp_path), 64), load_tokenizer(None, 64, of_model=str(tmp_path))):
        assert loaded.get_vocab() == tokenizer.get_vocab()


def test_without_a_tokenizer_the_way_to_one_is_named():
    with pytest.raises(InputError, match=r"^no tokenizer: train one by `python -m tokenizer.train"):
        load_tokenizer(None, 64)


@pytest.mark.parametrize("name", ["/nowhere/at/all", "./nowhere", "runs/base/tokenizer", "../x"])
def test_a_tokenizer_directory_that_is_not_there_is_one_clear_line(name, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")  # beside it are no runs that could be meant
    with pytest.raises(InputError) as error:
        load_tokenizer(name, 64)
    assert one_line(error) == f"tokenizer {name}: no such directory."


def test_a_directory_without_a_tokenizer_is_one_clear_line(tmp_path):
    with pytest.raises(InputError) as error:
        load_tokenizer(str(tmp_path), 64)
    assert one_line(error) == f"tokenizer directory {tmp_path} holds no tokenizer.json."


@pytest.mark.parametrize("content", ["", "{", "{}", '{"added_tokens": [], "model": 1}'])
def test_a_damaged_tokenizer_is_one_clear_line(tokenizer, tmp_path, content):
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(InputError) as error:
        load_tokenizer(str(tmp_path), 64)
    assert one_line(error).startswith(f"tokenizer {tmp_path} cannot be loaded: ")


def test_a_hub_id_that_is_not_in_the_cache_is_one_clear_line_offline():
    with pytest.raises(InputError) as error:
        load_tokenizer("nobody/nothing", 64)
    assert one_line(error).startswith("tokenizer nobody/nothing cannot be loaded: ")


def test_special_tokens_reach_both_configs(tokenizer):
    model = model_of(len(tokenizer), 32, depth=1)
    set_special_tokens(model, tokenizer)
    bos, end, call = tokenizer.convert_tokens_to_ids(["<|bos|>", "<|assistant_end|>", "<|python_end|>"])
    for config in (model.config, model.generation_config):
        assert (config.bos_token_id, config.pad_token_id) == (bos, end)
    assert model.config.eos_token_id == end
    assert model.generation_config.eos_token_id == [end, call]


# Configuration


def test_the_dial_sets_the_sizes():
    config = config_of(1000, 512, depth=6)
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (6, 384, 3)
    assert (config.vocab_size, config.max_position_embeddings) == (1000, 512)


def test_generation_and_windows_shape_the_model_of_the_dial():
    config = config_of(1000, 512, depth=4, generation=2026)
    assert config.value_embeddings and config.padded_vocab_size == 1024
    assert (config.layer_types.count("sliding_attention"), config.sliding_window) == (3, 129)
    assert config_of(1000, 512, depth=4, generation=2026, window_pattern="L").layer_types is None
    plain = config_of(1000, 512, depth=4, window_pattern="SL")
    assert not plain.value_embeddings and plain.layer_types.count("sliding_attention") == 2


def test_another_architecture_gets_the_tokenizers_vocabulary(gpt2_dir):
    for source in (gpt2_dir, gpt2_dir / "config.json"):
        config = config_of(777, model_config=str(source))
        assert (config.model_type, config.n_layer, config.vocab_size) == ("gpt2", 2, 777)


def test_a_model_trained_onward_keeps_its_vocabulary(gpt2_dir):
    assert config_of(290, model_name_or_path=str(gpt2_dir)).vocab_size == 300
    with pytest.raises(InputError, match=r"^the tokenizer has 301 tokens, the model .* only 300: give the tokenizer"):
        config_of(301, model_name_or_path=str(gpt2_dir))


def test_rows_longer_than_the_context_are_one_clear_line(gpt2_dir):
    with pytest.raises(InputError, match=r"^max_seq_len 65 is beyond the model's context of 64 tokens"):
        config_of(max_seq_len=65, model_config=str(gpt2_dir))


# Sizes of all architectures that have flags of these names
SMALL = {
    "hidden_size": 32, "d_model": 32, "n_embd": 32, "dim": 32, "embedding_size": 32, "num_hidden_layers": 1,
    "n_layer": 1, "num_layers": 1, "n_layers": 1, "encoder_layers": 1, "decoder_layers": 1, "num_attention_heads": 2,
    "n_head": 2, "n_heads": 2, "num_heads": 2, "num_key_value_heads": 2, "intermediate_size": 64, "d_ff": 64,
    "d_kv": 16, "hidden_dim": 64, "max_position_embeddings": 64, "n_positions": 64,
}  # fmt: skip


def built(directory, model_type: str, **settings) -> torch.nn.Module:
    """A fresh model of another architecture, by its config.json."""
    known = AutoConfig.for_model(model_type).to_dict()
    config = AutoConfig.for_model(model_type, **{k: v for k, v in SMALL.items() if k in known})
    (directory / "config.json").write_text(json.dumps(config.to_dict() | {"model_type": model_type} | settings))
    return model_of(max_seq_len=16, model_config=str(directory / "config.json"))


@pytest.mark.parametrize(
    ("model_type", "settings"),
    [("gpt2", {}), ("llama", {}), ("mamba", {}), ("bloom", {}), ("mixtral", {}), ("bert", {"is_decoder": True})],
)
def test_whatever_reads_from_left_to_right_is_trained(model_type, settings, tmp_path):
    model = built(tmp_path, model_type, **settings)
    assert model.training and model.config.model_type == model_type
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("model_type", "settings", "message"),
    [
        ("bert", {}, "is not a causal LM: a BertLMHeadModel reads the tokens it is to predict."),
        ("roberta", {}, "is not a causal LM: a RobertaForCausalLM reads the tokens it is to predict."),
        ("electra", {}, "is not a causal LM: a ElectraForCausalLM reads the tokens it is to predict."),
        ("xlnet", {}, "is not a causal LM: a XLNetLMHeadModel reads the tokens it is to predict."),
        ("distilbert", {}, "gives no causal LM: Unrecognized configuration class"),
        ("t5", {}, "is an encoder-decoder (t5): take a causal LM"),
        ("bart", {}, "is an encoder-decoder (bart): take a causal LM"),
        ("whisper", {}, "is an encoder-decoder (whisper): take a causal LM"),
        ("vit", {}, "is not the configuration of a causal LM (vit): it has no vocab_size."),
        ("llava", {}, "is not the configuration of a causal LM (llava): it has no vocab_size."),
        ("gpt2", {"n_embd": "64"}, ": n_embd is '64', not a whole number from 1 to 1,048,576."),
        ("gpt2", {"n_layer": -1}, ": n_layer is -1, not a whole number from 1 to 1,000."),
        ("gpt2", {"n_layer": 2**70}, ": n_layer is 1180591620717411303424, not a whole number"),
        ("llama", {"hidden_size": 0}, ": hidden_size is 0, not a whole number"),
        ("llama", {"hidden_size": 1.5}, ": hidden_size is 1.5, not a whole number"),
        ("llama", {"hidden_size": [64]}, ": hidden_size is [64], not a whole number"),
        ("llama", {"hidden_size": None}, "'hidden_size' expected int, got NoneType"),
        ("llama", {"num_attention_heads": 3}, "The hidden size (32) is not a multiple"),
        (
            "llama",
            {"intermediate_size": 0},
            "without weights in model.layers.0.mlp.gate_proj.weight: one of its sizes",
        ),
        ("llama", {"attention_dropout": 2}, "dropout probability has to be between 0 and 1"),
        ("llama", {"rms_norm_eps": float("nan")}, "predicts NaN: its weights are damaged, or a number"),
        ("gpt2", {"n_head": 3}, "`embed_dim` must be divisible by num_heads"),
        ("gpt2", {"activation_function": "magic"}, "gives no causal LM: "),
        ("nanochat_gpt", {"hidden_size": "64"}, ": hidden_size is '64', not a whole number"),
        ("nanochat_gpt", {"num_attention_heads": 3}, "must be a multiple of num_attention_heads"),
    ],
)
def test_what_cannot_be_trained_as_a_causal_lm_is_one_clear_line(model_type, settings, message, tmp_path):
    with pytest.raises(InputError) as error:
        built(tmp_path, model_type, **settings)
    assert one_line(error).startswith((str(tmp_path), f"no model configuration in {tmp_path}"))
    assert message in one_line(error)


def test_trained_weights_of_an_encoder_are_no_causal_lm_either(tmp_path):
    built(tmp_path, "bert", is_decoder=True).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"is_decoder": False}))
    with pytest.raises(InputError, match="is not a causal LM: a BertLMHeadModel reads the tokens it is to predict"):
        model_of(max_seq_len=16, model_name_or_path=str(tmp_path))


def test_spoilt_weights_are_told_before_they_are_trained_onward(gpt2_dir):
    model = GPT2LMHeadModel.from_pretrained(gpt2_dir)
    model.transformer.h[0].mlp.c_fc.weight.data[0, 0] = float("nan")
    model.save_pretrained(gpt2_dir)
    with pytest.raises(InputError, match="predicts NaN: its weights are damaged"):
        model_of(max_seq_len=16, model_name_or_path=str(gpt2_dir))


@pytest.mark.parametrize("flag", ["model_config", "model_name_or_path"])
def test_code_that_a_checkpoint_brings_along_is_not_run(flag, tmp_path):
    config = {"model_type": "theirs", "auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "code.py").write_text("raise SystemExit('run')\n")
    with pytest.raises(InputError, match=r"^no model configuration in .* contains custom code"):
        config_of(**{flag: str(tmp_path)})


@pytest.mark.parametrize("flag", ["model_config", "model_name_or_path"])
@pytest.mark.parametrize("content", ["", "{", "{}", "[1]", "null", '{"model_type": "abacus"}', '{"model_type": [1]}'])
def test_a_damaged_configuration_is_one_clear_line(flag, content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError) as error:
        config_of(**{flag: str(tmp_path)})
    assert one_line(error).startswith(f"no model configuration in {tmp_path}: ")


def test_a_configuration_that_is_not_there_is_one_clear_line(tmp_path):
    with pytest.raises(InputError) as error:
        config_of(model_config="missing/config.json")
    assert one_line(error) == "model missing/config.json: no such directory."
    with pytest.raises(InputError, match=r"holds no config\.json"):
        config_of(model_name_or_path=str(tmp_path))


# Model


def test_facts_need_no_weights_and_equal_those_of_the_model_itself(gpt2_dir):
    for sources in ({"depth": 2}, {"model_config": str(gpt2_dir)}):
        facts = model_facts(config_of(**sources), 64, sources.get("model_config"))
        model = model_of(**sources)
        assert facts == describe_model(model, 64)
        assert facts.num_parameters == sum(parameter.numel() for parameter in model.parameters())
    huge = model_facts(config_of(65_536, 2048, depth=200), 2048)  # 400 GB in fp32
    assert huge.num_parameters > 10**11


def test_a_fresh_model_is_ours_in_fp32_and_the_seed_decides():
    models = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        models.append(model_of(max_seq_len=32, depth=1))
    assert isinstance(models[0], NanochatGPTForCausalLM)
    assert {p.dtype for p in models[0].parameters()} == {torch.float32}
    embeddings = [model.get_input_embeddings().weight for model in models]
    assert torch.equal(embeddings[0], embeddings[1]) and not torch.equal(embeddings[0], embeddings[2])


def test_a_class_of_any_name_is_trained_as_a_causal_lm(gpt2_dir, caplog):
    model = model_of(model_config=str(gpt2_dir))
    ids = torch.arange(8)[None]
    assert model(input_ids=ids, labels=ids).loss.isfinite()
    assert model.loss_type == "ForCausalLM" and "unrecognized" not in caplog.text


def test_training_onward_starts_from_the_weights_in_fp32(gpt2_dir):
    saved = AutoModelForCausalLM.from_pretrained(gpt2_dir)
    saved.to(torch.bfloat16).save_pretrained(gpt2_dir)
    model = model_of(model_name_or_path=str(gpt2_dir))
    assert json.loads((gpt2_dir / "config.json").read_text())["dtype"] == "bfloat16"
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, saved.get_parameter(name).float())


def test_gradient_checkpointing_changes_no_gradient():
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = model_of(50, 16, recompute, depth=2).train()
        passes = []
        model.model.layers[0].self_attn.q_proj.register_forward_hook(lambda *_, passes=passes: passes.append(1))
        torch.nn.init.normal_(model.lm_head.weight, std=0.02)
        ids = torch.arange(32).view(2, 16)
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        assert len(passes) == (2 if recompute else 1)
        gradients.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "freeze '(' is not a regular expression: missing )"),
        (
            "no_such",
            "freeze 'no_such' matches none of the model's 28 parameters; their names look like ",
        ),
        ("", "freeze '' matches all of the model's parameters"),
    ],
)
def test_a_pattern_that_freezes_nothing_or_everything_is_one_line(gpt2_dir, pattern, message):
    config = config_of(model_config=str(gpt2_dir))
    with pytest.raises(InputError) as error:
        model_facts(config, 64, str(gpt2_dir), freeze=pattern)
    assert one_line(error).startswith(message)


def test_facts_count_what_is_frozen_and_say_what_it_is(gpt2_dir):
    config = config_of(model_config=str(gpt2_dir))
    plain, facts = (model_facts(config, 64, str(gpt2_dir), freeze) for freeze in (None, r"\.0\.attn\.c_attn\.bias"))
    assert facts.frozen == {"transformer.h.0.attn.c_attn.bias": 96} and not plain.frozen
    assert facts.num_parameters == plain.num_parameters
    ours = model_facts(config_of(depth=1), 64, freeze="lm_head")
    assert ours.frozen == {"lm_head.weight": ours.parameter_counts["head"]}
