"""What transformers' own common tests claim of every model, of ours with a head that is not zero.

For 2025, its NanoChat with the same weights is the judge: what works with it works with ours, and gives the same. For
2026, which it does not know, the judge is our model without a cache.
"""

import copy
import io
import pickle

import pytest
import torch
from torch.utils._pytree import tree_leaves
from transformers import (
    Cache,
    ContinuousBatchingConfig,
    GenerationConfig,
    NanoChatConfig,
    NanoChatForCausalLM,
    PreTrainedModel,
)
from transformers.integrations.executorch import (
    TorchExportableModuleForDecoderOnlyLM,
    TorchExportableModuleWithStaticCache,
    convert_and_export_with_cache,
    export_with_dynamic_cache,
    register_dynamic_cache_export_support,
)

from modeling_nanochat import (
    NanochatGPTForCausalLM,
    NanochatGPTForQuestionAnswering,
    NanochatGPTForSequenceClassification,
    NanochatGPTForTokenClassification,
    NanochatGPTModel,
)
from tests.modeling_nanochat.tiny import (
    assert_close,
    embeddings_for,
    random_ids,
    random_model,
    randomized,
    tiny_config,
)

HEADS = [
    NanochatGPTModel,
    NanochatGPTForCausalLM,
    NanochatGPTForSequenceClassification,
    NanochatGPTForTokenClassification,
    NanochatGPTForQuestionAnswering,
]
IDS = random_ids(2, 9)
MASK = torch.ones_like(IDS).index_put((torch.tensor(0), torch.arange(3)), torch.tensor(0))
EMBEDDINGS = torch.randn(2, 9, 64, generator=torch.Generator().manual_seed(29))


def twin(model: NanochatGPTForCausalLM) -> NanoChatForCausalLM:
    """transformers' own NanoChat with the same weights."""
    theirs = NanoChatForCausalLM(NanoChatConfig(**model.config.to_dict()))
    theirs.load_state_dict(model.state_dict())
    theirs.generation_config = copy.deepcopy(model.generation_config)
    return theirs.eval()


@pytest.fixture
def model(generation) -> NanochatGPTForCausalLM:
    model = random_model(generation=generation, num_key_value_heads=2)
    model.generation_config.pad_token_id = 0
    return model


# Generation

WAYS = {
    "greedy": {"input_ids": IDS},
    "left-padded": {"input_ids": IDS, "attention_mask": MASK},
    "no input": {"bos_token_id": 3},
    "embeddings": {"inputs_embeds": EMBEDDINGS},
    "embeddings and a mask": {"inputs_embeds": EMBEDDINGS, "attention_mask": MASK},
    "embeddings and ids": {"inputs_embeds": EMBEDDINGS, "input_ids": IDS},
    "embeddings, no cache": {"inputs_embeds": EMBEDDINGS, "use_cache": False},
    "embeddings, static cache": {"inputs_embeds": EMBEDDINGS, "cache_implementation": "static"},
    "embeddings, beams": {"inputs_embeds": EMBEDDINGS, "attention_mask": MASK, "num_beams": 3},
    "positions": {"input_ids": IDS, "position_ids": torch.arange(9).repeat(2, 1) + 5},
    "beams": {"input_ids": IDS, "num_beams": 3, "num_return_sequences": 2, "length_penalty": 0.5},
    "sampled beams": {"input_ids": IDS, "num_beams": 3, "do_sample": True},
    "samples": {"input_ids": IDS, "do_sample": True, "num_return_sequences": 3, "top_p": 0.9, "min_p": 0.01},
    "penalties": {"input_ids": IDS, "repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
    "guidance": {"input_ids": IDS[:1], "guidance_scale": 1.5},
    "prefill in chunks": {"input_ids": IDS, "attention_mask": MASK, "prefill_chunk_size": 4},
    "static cache": {"input_ids": IDS, "cache_implementation": "static"},
    "prompt lookup": {"input_ids": IDS[:1].repeat(1, 3), "prompt_lookup_num_tokens": 3},
    "early exit": {"input_ids": IDS[:1], "assistant_early_exit": 1},
    "one logit at a time": {"input_ids": IDS, "logits_to_keep": 1},
    "everything asked for": {"input_ids": IDS, "output_hidden_states": True, "output_scores": True},
    "everything but attentions, beams": {"input_ids": IDS, "num_beams": 2, "output_hidden_states": True},
}


def generate(model, options: dict):
    """`generate` with `options` added to those of all these tests."""
    torch.manual_seed(0)
    general = {"max_new_tokens": 8, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
    return model.generate(**general | copy.deepcopy(options))


def assert_same_generation(actual, expected) -> None:
    assert torch.equal(actual.sequences, expected.sequences)
    assert len(actual.sequences[0].unique()) > 2
    assert_close(actual.logits, expected.logits, 1e-4)


@pytest.mark.parametrize("way", WAYS)
def test_generate_writes_what_nanochat_writes(way):
    model = random_model(num_key_value_heads=2)
    model.generation_config.pad_token_id = 0
    ours, theirs = (generate(each, WAYS[way]) for each in (model, twin(model)))
    assert ours.keys() == theirs.keys()
    assert_same_generation(ours, theirs)
    if ours.hidden_states is not None:
        assert_close(ours.hidden_states, theirs.hidden_states, 1e-4)


ONLY_FASTER = ["prompt_lookup_num_tokens", "assistant_early_exit", "prefill_chunk_size", "cache_implementation"]


@pytest.mark.parametrize("way", [way for way in WAYS if "embeddings" not in way])
def test_generate_with_a_model_of_2026_writes_what_it_writes_without_a_cache(way):
    model = random_model(generation=2026, num_key_value_heads=2)
    model.generation_config.pad_token_id = 0
    plain = {name: value for name, value in WAYS[way].items() if name not in ONLY_FASTER}
    assert_same_generation(generate(model, WAYS[way]), generate(model, plain | {"use_cache": False}))


@pytest.mark.parametrize("way", [way for way in WAYS if "embeddings" in way and "no cache" not in way])
def test_a_model_of_2026_goes_on_from_embeddings_as_from_their_tokens(way):
    model = random_model(generation=2026, num_key_value_heads=2)
    model.generation_config.pad_token_id = 0
    options = {name: value for name, value in WAYS[way].items() if name not in ("inputs_embeds", "input_ids")}
    with torch.no_grad():
        embeddings = embeddings_for(model, IDS)
    if "input_ids" in WAYS[way]:
        embeddings["input_ids"] = IDS
    actual = model.generate(**embeddings, **options, max_new_tokens=8, do_sample=False)
    expected = model.generate(IDS, **options, max_new_tokens=8, do_sample=False)
    assert torch.equal(actual[:, -8:], expected[:, -8:])


@torch.no_grad()
def test_generation_goes_on_from_embeddings(model):
    prompt = embeddings_for(model, IDS)
    whole = generate(model, prompt).sequences
    first = generate(model, prompt | {"max_new_tokens": 3})
    written = {
        name: torch.cat((prompt[name], states), dim=1)
        for name, states in embeddings_for(model, first.sequences).items()
    }
    rest = model.generate(
        **written,
        max_new_tokens=5,
        do_sample=False,
        past_key_values=first.past_key_values,
        return_dict_in_generate=True,
    )
    assert torch.equal(torch.cat((first.sequences, rest.sequences), dim=1), whole)


@pytest.mark.slow
def test_continuous_batches_give_what_each_prompt_gives_alone():
    model = random_model(num_key_value_heads=2)
    prompts = [random_ids(1, length, seed=length)[0].tolist() for length in (5, 9)]
    config = GenerationConfig(max_new_tokens=6, do_sample=False, eos_token_id=-1, pad_token_id=0)
    # Left to itself, it takes nine tenths of the memory that is free.
    limits = ContinuousBatchingConfig(num_blocks=8, max_batch_tokens=64)
    batch = model.generate_batch(prompts, config, limits, progress_bar=False)
    written = {tuple(result.prompt_ids): list(result.generated_tokens) for result in batch.values()}
    for prompt in prompts:
        alone = model.generate(torch.tensor([prompt]), max_new_tokens=6, do_sample=False)
        assert written[tuple(prompt)] == alone[0, len(prompt) :].tolist()


def test_models_with_smear_have_no_continuous_batching():
    """What `transformers serve --continuous-batching` asks, to fall back on one request after the other."""
    assert hasattr(random_model(), "init_continuous_batching")
    model = random_model(generation=2026)
    assert not hasattr(model, "init_continuous_batching")
    with pytest.raises(ValueError, match="smear have no continuous batching: use generate"):
        model.generate_batch([[1, 2, 3]])


# Export


@pytest.fixture
def steps(model) -> list[dict]:
    """The inputs that `generate` gives to the forward pass, step by step."""
    found = []
    handle = model.register_forward_pre_hook(
        lambda module, args, kwargs: found.append(copy.deepcopy(kwargs)), with_kwargs=True
    )
    # transformers exports layers with a window as if the cache began with them, to which no padding applies.
    mask = torch.ones_like(MASK) if hasattr(model.config, "layer_types") else MASK
    model.generate(IDS, attention_mask=mask, max_new_tokens=4, do_sample=False)
    handle.remove()
    return found


def test_inputs_of_a_step_are_tensors_caches_and_plain_values(steps):
    assert len(steps) == 4
    for inputs in steps:
        for leaf in tree_leaves(inputs):
            assert leaf is None or isinstance(leaf, torch.Tensor | Cache | bool | int)


@pytest.mark.slow
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("step", [0, 2], ids=["prefill", "decode"])
def test_a_step_with_a_dynamic_cache_exports(model, steps, step, strict):
    register_dynamic_cache_export_support()
    inputs = steps[step] | {"return_dict": True}
    exported = torch.export.export(model, (), copy.deepcopy(inputs), strict=strict).module()
    with torch.no_grad():
        expected = model(**copy.deepcopy(inputs)).logits
        assert_close(exported(**copy.deepcopy(inputs)).logits, expected, 1e-4)


def test_a_cache_that_generate_returns_exports(model):
    register_dynamic_cache_export_support()
    outputs = model.generate(IDS, max_new_tokens=4, do_sample=False, return_dict_in_generate=True)
    inputs = {"input_ids": outputs.sequences[:, -1:], "past_key_values": outputs.past_key_values}
    exported = torch.export.export(model, (), copy.deepcopy(inputs), strict=False).module()
    assert_close(exported(**copy.deepcopy(inputs)).logits, model(**inputs).logits, 1e-4)


STATIC = GenerationConfig(
    use_cache=True,
    cache_implementation="static",
    cache_config={"batch_size": 1, "max_cache_len": 32, "device": "cpu"},
)


@pytest.mark.slow
def test_executorch_helpers_export_and_generate():
    model = random_model(num_key_value_heads=2)
    ids, embeddings, positions = IDS[:1, :3], EMBEDDINGS[:1, :3], torch.arange(3)
    expected = model.generate(ids, max_new_tokens=6, do_sample=False)
    assert export_with_dynamic_cache(model, ids, torch.ones_like(ids)) is not None
    model.generation_config = STATIC
    exportable = TorchExportableModuleForDecoderOnlyLM(model)
    for inputs in ({"input_ids": ids}, {"inputs_embeds": embeddings}):
        exported = exportable.export(**inputs, cache_position=positions).module()
        logits = exported(**inputs, cache_position=positions)
        assert_close(logits, model(**inputs, use_cache=False).logits, 1e-4)
    program = convert_and_export_with_cache(model)
    assert torch.equal(TorchExportableModuleWithStaticCache.generate(program, ids, 6), expected)


@pytest.mark.slow
def test_a_model_with_smear_exports_with_a_dynamic_cache_alone():
    """transformers makes the static cache of an exported program, without a place for what smear keeps."""
    model = random_model(generation=2026)
    ids = IDS[:1, :3]
    assert export_with_dynamic_cache(model, ids, torch.ones_like(ids)) is not None
    model.generation_config = STATIC
    with pytest.raises(Exception, match="smear cannot be exported with a static cache: use a dynamic one"):
        TorchExportableModuleForDecoderOnlyLM(model).export(input_ids=ids, cache_position=torch.arange(3))


@pytest.mark.slow
@pytest.mark.parametrize("compile_layers", [False, True])
def test_a_compiled_model_generates_the_same(model, compile_layers):
    torch._dynamo.reset()
    expected = model.generate(IDS, attention_mask=MASK, max_new_tokens=4, do_sample=False)
    if compile_layers:
        for layer in model.model.layers:
            layer.forward = torch.compile(layer.forward, backend="eager")
    else:
        model.forward = torch.compile(model.forward, backend="eager", fullgraph=True)
    assert torch.equal(model.generate(IDS, attention_mask=MASK, max_new_tokens=4, do_sample=False), expected)


# The model and its heads


@pytest.fixture(params=HEADS, ids=lambda head: head.__name__)
def any_head(request, generation) -> PreTrainedModel:
    return randomized(request.param(tiny_config(generation, num_labels=3, pad_token_id=0))).eval()


def by_name(outputs) -> dict:
    return {name: value for name, value in outputs.items() if name != "past_key_values"}


def test_copies_give_the_same(any_head, tmp_path):
    expected = by_name(any_head(IDS))
    stored = io.BytesIO()
    torch.save(any_head, stored)
    stored.seek(0)
    any_head.save_pretrained(tmp_path)
    for copied in (
        copy.deepcopy(any_head),
        pickle.loads(pickle.dumps(any_head)),
        torch.load(stored, weights_only=False),
        type(any_head).from_pretrained(tmp_path),
    ):
        assert_close(by_name(copied(IDS)), expected)
        assert torch.equal(copied.get_input_embeddings().weight, any_head.get_input_embeddings().weight)


def test_a_padded_batch_gives_what_each_row_gives_alone(any_head):
    batch = by_name(any_head(IDS * MASK, attention_mask=MASK))
    for row, seen in ((0, slice(3, None)), (1, slice(None))):
        alone = by_name(any_head(IDS[row : row + 1, seen]))
        for name, value in alone.items():
            whole = batch[name][row] if value.dim() == 2 and value.size(1) == 3 else batch[name][row, seen]
            assert_close(whole, value[0], 1e-4)


def test_gradients_reach_hidden_states_and_attentions(any_head):
    any_head.set_attn_implementation("eager")
    outputs = any_head(IDS, output_hidden_states=True, output_attentions=True, use_cache=False)
    states = [outputs.hidden_states[0], outputs.attentions[0]]
    for state in states:
        state.retain_grad()
    next(iter(by_name(outputs).values())).flatten()[0].backward()
    assert all(state.grad is not None for state in states)


def test_every_head_trains(any_head):
    labels = {
        NanochatGPTForCausalLM: {"labels": IDS},
        NanochatGPTForSequenceClassification: {"labels": torch.tensor([0, 2])},
        NanochatGPTForTokenClassification: {"labels": IDS % 3},
        NanochatGPTForQuestionAnswering: {
            "start_positions": torch.tensor([1, 4]),
            "end_positions": torch.tensor([3, 5]),
        },
    }.get(type(any_head))
    if labels is None:
        pytest.skip("the decoder alone has no loss")
    any_head.train()
    any_head.gradient_checkpointing_enable({"use_reentrant": False})
    any_head(IDS, **labels, use_cache=False).loss.backward()
    assert all(parameter.grad is not None for parameter in any_head.parameters())


def test_every_head_initializes_all_of_its_weights(any_head, generation, tmp_path):
    """Those that a checkpoint of the language model lacks as well, which are made on the meta device."""
    saved = random_model(generation=generation)
    saved.save_pretrained(tmp_path)
    loaded = type(any_head).from_pretrained(tmp_path, num_labels=3, pad_token_id=0)
    assert_close(loaded.base_model.embed_tokens.weight, saved.model.embed_tokens.weight)
    for name, parameter in loaded.named_parameters():
        assert parameter.isfinite().all() and (parameter.any() or name.endswith("bias")), name
        assert not (name.endswith("bias") and parameter.any()), name


def test_outputs_are_the_same_as_tuples(any_head):
    named = any_head(IDS, output_hidden_states=True, use_cache=False)
    assert_close(any_head(IDS, output_hidden_states=True, use_cache=False, return_dict=False), named.to_tuple())
    if isinstance(
        any_head, NanochatGPTModel | NanochatGPTForCausalLM
    ):  # transformers' own heads do not read the config
        any_head.config.return_dict = False
        assert_close(any_head(IDS, output_hidden_states=True, use_cache=False), named.to_tuple())
