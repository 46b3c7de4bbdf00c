"""Sizes, parameters and FLOPs from one dial, and configs that survive the disk."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, NanoChatConfig

from modeling_nanochat import NanochatGPTConfig, NanochatGPTForCausalLM
from tests.modeling_nanochat.tiny import random_ids, random_model, tiny_config

SIZES = [
    {},
    {"num_key_value_heads": 2},
    {"num_key_value_heads": 1, "num_hidden_layers": 3},
    {"intermediate_size": 96},
    {"tie_word_embeddings": True},
    {"generation": 2026},
    {"generation": 2026, "num_key_value_heads": 2, "num_hidden_layers": 4, "layer_types": None},
]


def meta_model(config: NanochatGPTConfig) -> NanochatGPTForCausalLM:
    with torch.device("meta"):
        return NanochatGPTForCausalLM(config)


def counted(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("depth", "hidden_size", "heads"),
    [(1, 128, 1), (3, 256, 2), (4, 256, 2), (8, 512, 4), (12, 768, 6), (20, 1280, 10), (26, 1664, 13), (32, 2048, 16)],
)
def test_depth_sets_the_sizes(depth, hidden_size, heads):
    config = NanochatGPTConfig.from_depth(depth)
    assert config.num_hidden_layers == depth
    assert config.hidden_size == hidden_size
    assert config.num_attention_heads == config.num_key_value_heads == heads
    assert config.intermediate_size == 4 * hidden_size
    assert config.head_dim == 128


@given(depth=st.integers(1, 100), head_dim=st.sampled_from([32, 64, 96, 128, 256]))
def test_width_is_the_first_multiple_of_the_head_at_64_times_the_depth(depth, head_dim):
    width = NanochatGPTConfig.from_depth(depth, head_dim=head_dim).hidden_size
    assert width % head_dim == 0
    assert width - head_dim < 64 * depth <= width


def test_from_depth_passes_the_other_fields_on():
    config = NanochatGPTConfig.from_depth(4, vocab_size=1000, max_position_embeddings=512, num_key_value_heads=1)
    assert (config.vocab_size, config.max_position_embeddings, config.num_key_value_heads) == (1000, 512, 1)


def test_d20_has_560_988_160_parameters():
    config = NanochatGPTConfig.from_depth(20, vocab_size=65536)
    assert counted(meta_model(config)) == 560_988_160
    assert config.parameter_counts() == {
        "embedding": 83_886_080,
        "head": 83_886_080,
        "attention": 131_072_000,
        "mlp": 262_144_000,
        "total": 560_988_160,
    }


@pytest.mark.parametrize("depth", [1, 3, 12, 26, 32])
def test_parameter_counts_are_those_of_the_model_at_any_depth(depth):
    config = NanochatGPTConfig.from_depth(depth, vocab_size=50257)
    assert config.parameter_counts()["total"] == counted(meta_model(config))


@pytest.mark.parametrize("changes", SIZES)
def test_parameter_counts_by_group_are_those_of_the_model(changes):
    config = tiny_config(**changes)
    model = meta_model(config)
    groups = {
        "embedding": ["embed_tokens"],
        "head": ["lm_head"],
        "attention": ["_proj"],
        "mlp": ["mlp"],
        "value_embeddings": ["value_embeds"],
        "gates": ["ve_gate"],
        "scalars": ["lambda", "smear_gate"],
    }
    expected = {
        group: sum(p.numel() for name, p in model.named_parameters() if any(part in name for part in parts))
        for group, parts in groups.items()
    }
    if not config.value_embeddings:
        assert not any(expected.pop(group) for group in ("value_embeddings", "gates", "scalars"))
    assert config.parameter_counts() == {**expected, "total": counted(model)}


@pytest.mark.parametrize("skip_logits", [False, True])
@pytest.mark.parametrize("changes", [*SIZES[:5], SIZES[-1] | {"pad_vocab_size_multiple": 1}])
def test_flops_per_token_are_those_of_the_matrix_products_of_a_training_step(changes, skip_logits):
    batch, length = 3, 24
    model = random_model(**changes, attn_implementation="eager")  # multiplies whole rows, as the convention counts
    ids = random_ids(batch, length)
    with FlopCounterMode(display=False) as counter:
        model(ids, labels=ids, skip_logits=skip_logits, use_cache=False).loss.backward()
    assert counter.get_total_flops() == batch * length * model.config.flops_per_token(length)


# Of karpathy/nanochat in July 2026: `GPT.num_scaling_params()` and `estimate_flops()` of a model on the meta device,
# with a context of 2,048 and a vocabulary of 32,768. Its transformer_matrices are our attention, mlp and gates.
NANOCHAT_2026 = {  # by depth: embedding, as the head; value embeddings; transformer_matrices; scalars; FLOPs a token
    8: (16_777_216, 67_108_864, 25_166_016, 42, 295_699_728),
    12: (25_165_824, 150_994_944, 84_935_088, 50, 759_696_048),
    16: (33_554_432, 268_435_456, 201_327_360, 58, 1_585_451_664),
    20: (41_943_040, 419_430_400, 393_217_200, 66, 2_886_212_784),
    24: (50_331_648, 603_979_776, 679_478_976, 74, 4_775_225_616),
    26: (54_525_952, 708_837_376, 863_897_580, 78, 5_991_051_288),
    32: (67_108_864, 1_073_741_824, 1_610_615_808, 90, 10_770_991_248),
}


@pytest.mark.parametrize("depth", NANOCHAT_2026)
def test_parameters_and_flops_of_2026_are_nanochats(depth):
    config = NanochatGPTConfig.from_depth(depth, generation=2026)
    counts = config.parameter_counts()
    matrices = counts["attention"] + counts["mlp"] + counts["gates"]
    groups = (counts["embedding"], counts["value_embeddings"], matrices, counts["scalars"])
    assert (*groups, config.flops_per_token()) == NANOCHAT_2026[depth]
    assert counts["head"] == counts["embedding"]
    assert counts["total"] == sum(groups) + counts["head"] == counted(meta_model(config))


@pytest.mark.parametrize(
    ("depth", "context", "pattern", "vocab_size", "total", "flops"),
    [  # from the same code: a vocabulary that is padded, windows of other lengths, no windows
        (5, 512, "SSSL", 8191, 24_576_144, 78_447_384),
        (12, 2048, "L", 32_768, 286_261_730, 887_098_032),
        (9, 1000, "SL", 50_257, 269_599_064, 504_854_424),
    ],
)
def test_other_contexts_windows_and_vocabularies_count_as_nanochats(depth, context, pattern, vocab_size, total, flops):
    config = NanochatGPTConfig.from_depth(
        depth, vocab_size, generation=2026, window_pattern=pattern, max_position_embeddings=context
    )
    assert (config.parameter_counts()["total"], config.flops_per_token()) == (total, flops)


def test_d20_takes_3_49_gigaflops_a_token():
    config = NanochatGPTConfig.from_depth(20)
    assert config.flops_per_token() == config.flops_per_token(2048) == 3_491_758_080


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": 65},
        {"num_attention_heads": 3},
        {"num_key_value_heads": 3},
        {"num_key_value_heads": 8},
    ],
)
def test_sizes_that_do_not_divide_are_refused(changes):
    with pytest.raises(ValueError, match="must be a multiple of num_attention_heads"):
        tiny_config(**changes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 0}, "depth 0 is not a number of blocks"),
        ({"depth": -1}, "depth -1 is not a number of blocks"),
        ({"generation": "2026"}, "generation '2026' is not one of 2025, 2026"),
        ({"window_pattern": "SSX"}, "window pattern 'SSX' must be made of the letters S"),
        ({"window_pattern": ""}, "window pattern '' must be"),
        ({"window_pattern": "\u017f"}, "window pattern '\u017f' must be"),  # whose capital is S
        ({"window_pattern": 3}, "window pattern 3 must be"),
        ({"window_pattern": ["S", "L"]}, r"window pattern \['S', 'L'\] must be"),
    ],
)
def test_a_dial_that_makes_no_model_is_refused(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        NanochatGPTConfig.from_depth(**{"depth": 2, **arguments})


def test_config_survives_the_disk(tmp_path):
    config = tiny_config(
        num_key_value_heads=2,
        intermediate_size=96,
        rope_theta=500.0,
        rms_norm_eps=1e-5,
        final_logit_softcapping=None,
        attention_dropout=0.1,
        bos_token_id=7,
        eos_token_id=[8, 9],
    )
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is NanochatGPTConfig
    assert loaded.to_dict() == config.to_dict() | {"_name_or_path": loaded.name_or_path}


def test_config_has_what_transformers_reads_of_its_own():
    """All that NanoChat's config has, but for what its model alone reads."""
    theirs = {"attention_bias", "hidden_act", "initializer_range", "rope_parameters", "rope_scaling"}
    config = NanochatGPTConfig()
    assert {name for name in dir(NanoChatConfig()) if not hasattr(config, name)} <= theirs
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        assert getattr(config, name) is None


def test_a_config_of_an_early_checkpoint_has_no_special_tokens(tmp_path):
    model = random_model()
    model.save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    early = {name: value for name, value in fields.items() if not name.endswith("token_id")}
    (tmp_path / "config.json").write_text(json.dumps(early))
    loaded = NanochatGPTForCausalLM.from_pretrained(tmp_path)
    ids = random_ids(1, 5)
    assert loaded.config.eos_token_id is None
    assert loaded.generate(ids, max_new_tokens=4).shape == (1, 9)


def test_embedding_and_head_stay_untied_through_the_disk(tmp_path):
    tiny_config().save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).tie_word_embeddings is False


def test_config_converts_to_and_from_nanochat():
    theirs = NanoChatConfig(
        vocab_size=131,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=77,
        rms_norm_eps=1e-5,
        final_logit_softcapping=11.0,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
    )
    ours = NanochatGPTConfig(**theirs.to_dict())
    assert ours.rope_theta == 500.0
    assert (ours.num_hidden_layers, ours.num_key_value_heads, ours.intermediate_size) == (3, 2, 96)
    fields = ours.to_dict()
    of_our_own = fields.keys() - theirs.to_dict().keys() - {"rope_theta"}  # each of them off
    defaults = NanochatGPTConfig().to_dict()
    assert {name: fields.pop(name) for name in of_our_own} == {name: defaults[name] for name in of_our_own}
    assert NanoChatConfig(**fields).to_diff_dict() == theirs.to_diff_dict()
