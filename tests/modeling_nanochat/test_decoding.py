"""The short way of a single new token does what the whole forward pass does, whatever it is given or not given."""

import copy
import pickle
from functools import partial

import pytest
import torch
from peft import IA3Config, LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from torch import nn
from torch.nn.utils import parametrizations
from transformers import DynamicCache, GenerationMixin, StaticCache, StoppingCriteria
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from modeling_nanochat import NanochatGPTForCausalLM, NanochatGPTModel
from modeling_nanochat.generation_nanochat import SPARE_TOKENS, Decoding, current_decoding, pack
from tests.modeling_nanochat.tiny import MODELS, assert_close, random_ids, random_model, randomized

NEW_TOKENS = 12
SEEN = 9  # tokens of the prompts


@pytest.fixture(params=MODELS)
def model(request) -> NanochatGPTForCausalLM:
    model = random_model(**MODELS[request.param])
    model.generation_config.pad_token_id = 0
    return model


@pytest.fixture
def short_steps(monkeypatch) -> list[str]:
    """The kind of product of each step that takes the short way, as they come."""
    kinds, decode = [], NanochatGPTModel.decode

    def watched(self, decoding, *inputs):
        result = decode(self, decoding, *inputs)
        kinds.append("packed" if any(packed is not None for *_, packed in decoding.packed.values()) else "plain")
        return result

    monkeypatch.setattr(NanochatGPTModel, "decode", watched)
    return kinds


def generate(model, ids: torch.Tensor, **options):
    return model.generate(input_ids=ids, **{"max_new_tokens": NEW_TOKENS, "do_sample": False, **options})


def generate_the_long_way(model, ids: torch.Tensor, **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NanochatGPTForCausalLM, "can_decode", lambda *args: False)
        return generate(model, ids, **options)


def test_every_token_after_the_first_takes_the_short_way(model, short_steps):
    generate(model, random_ids(1, SEEN))
    generate(model, random_ids(3, SEEN))
    assert short_steps == ["plain"] * (NEW_TOKENS - 1) + ["packed"] * (NEW_TOKENS - 1)


# What a step is given


def filled_cache(model: NanochatGPTForCausalLM, ids: torch.Tensor, cache=None) -> DynamicCache:
    """`cache`, or a new dynamic one, with the past of `ids`."""
    cache = DynamicCache(config=model.config) if cache is None else cache
    with torch.no_grad():
        model(ids, past_key_values=cache)
    return cache


def cropped(model, ids):
    cache = filled_cache(model, ids)
    cache.activate_past_recording()
    cache = filled_cache(model, ids[:, :3], cache)
    cache.crop(-3)
    return cache


def recording(model, ids):
    cache = filled_cache(model, ids)
    cache.activate_past_recording()
    return cache


def reordered(model, ids):
    cache = filled_cache(model, ids.flip(0))
    cache.reorder_cache(torch.tensor([1, 0]))
    return cache


def without_config(model, ids):
    return filled_cache(model, ids, DynamicCache())


def static(model, ids):
    return filled_cache(model, ids, StaticCache(config=model.config, max_cache_len=SEEN + 8))


def sliding(model, ids):
    config = copy.deepcopy(model.config)
    config.sliding_window, config.layer_types = 4, ["sliding_attention"] * config.num_hidden_layers
    return filled_cache(model, ids, DynamicCache(config=config))


def offloaded(model, ids):
    if not torch.accelerator.is_available():
        pytest.skip("offloading needs an accelerator")
    return filled_cache(model, ids, DynamicCache(config=model.config, offloading=True))


def empty(model, ids):
    return DynamicCache(config=model.config)


def in_bf16(model, ids):
    cache = filled_cache(model, ids)
    for layer in cache.layers:
        layer.keys, layer.values = layer.keys.bfloat16(), layer.values.bfloat16()
    return cache


def of_another_batch(model, ids):
    return filled_cache(model, ids[:1])


CACHES = [cropped, recording, reordered, without_config, static, sliding, offloaded, empty, in_bf16, of_another_batch]
MASK = torch.ones(2, SEEN + 1, dtype=torch.long).index_put((torch.tensor(0), torch.arange(4)), torch.tensor(0))
FOUR_D = torch.zeros(2, 1, 1, SEEN + 1).masked_fill(MASK[:, None, None] == 0, -torch.inf)
# As `generate` gives them, and what other callers leave out, add or give in another form.
STEPS = {
    "nothing else": {},
    "positions": {"position_ids": torch.tensor([[5], [SEEN]])},
    "one position for all": {"position_ids": torch.tensor([[3]])},
    "mask": {"attention_mask": MASK},
    "mask and positions": {"attention_mask": MASK, "position_ids": torch.tensor([[5], [SEEN]])},
    "mask of booleans": {"attention_mask": MASK.bool()},
    "mask of floats": {"attention_mask": MASK.float()},
    "mask in four dimensions": {"attention_mask": FOUR_D},
    "mask of the new token alone": {"attention_mask": MASK[:, -1:]},
    "mask of more than there is": {"attention_mask": torch.cat((MASK, MASK), dim=1)},
    "no cache": {"past_key_values": None},
    "two tokens": {"input_ids": random_ids(2, 2, seed=3)},
    "embeddings": {"input_ids": None, "inputs_embeds": torch.randn(2, 1, 64)},
    "embeddings with those of each layer": {
        "input_ids": None,
        "inputs_embeds": torch.randn(2, 1, 64),
        "per_layer_inputs": torch.randn(2, 1, 2, 32),
    },
    "embeddings as well": {"inputs_embeds": torch.randn(2, 1, 64)},
    "neither ids nor embeddings": {"input_ids": None},
    "labels": {"labels": random_ids(2, 1)},
    "use_cache=True": {"use_cache": True},
    "use_cache=False": {"use_cache": False},
    "a tuple": {"return_dict": False},
    "hidden states": {"output_hidden_states": True},
    "attentions": {"output_attentions": True},
    "token types": {"token_type_ids": torch.zeros(2, 1, dtype=torch.long)},
    "one logit": {"logits_to_keep": 1},
    "chosen logits": {"logits_to_keep": torch.tensor([0])},
    **{f"a cache {build.__name__}": {"past_key_values": build} for build in CACHES},
}


def outcome(model: NanochatGPTForCausalLM, inputs: dict, ids: torch.Tensor):
    """What a step gives, or the kind of error that it raises."""
    inputs = {"input_ids": random_ids(2, 1, seed=2), "past_key_values": filled_cache, **inputs}
    if callable(inputs["past_key_values"]):
        inputs["past_key_values"] = inputs["past_key_values"](model, ids)
    try:
        with torch.no_grad():
            outputs = model(**inputs)
    except Exception as error:
        return type(error)
    if isinstance(outputs, tuple):
        return [each for each in outputs if torch.is_tensor(each)]
    found = {name: value for name, value in outputs.items() if name != "past_key_values"}
    cache = inputs["past_key_values"]
    if cache is not None:
        for index, layer in enumerate(cache.layers):
            found[f"{type(layer).__name__} {index}"] = layer.keys.float(), layer.values.float()
    return found


@pytest.mark.parametrize("step", STEPS)
def test_a_step_within_generate_gives_what_it_gives_outside(model, step):
    ids = random_ids(2, SEEN)
    expected = outcome(model, STEPS[step], ids)
    token = current_decoding.set(Decoding())
    try:
        actual = outcome(model, STEPS[step], ids)
    finally:
        current_decoding.reset(token)
    if isinstance(expected, type):
        assert actual is expected
    else:
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5, equal_nan=True)


@pytest.mark.parametrize("fields", [{"output_hidden_states": True}, {"return_dict": False}], ids=str)
def test_options_of_the_config_count(model, fields):
    for name, value in fields.items():
        setattr(model.config, name, value)
    test_a_step_within_generate_gives_what_it_gives_outside(model, "mask and positions")


def test_gradients_flow_through_a_step_within_generate(model):
    ids = random_ids(2, SEEN + 1)
    cache = filled_cache(model, ids[:, :-1])
    token = current_decoding.set(Decoding())
    try:
        model(ids[:, -1:], past_key_values=cache).logits.square().sum().backward()
    finally:
        current_decoding.reset(token)
    assert all(parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize("next_sequence_length", [None, 1, 2])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("extra", [{}, {"logits_to_keep": 1}, {"token_type_ids": torch.ones(2, 9)}, {"labels": None}])
def test_inputs_of_a_step_are_those_that_transformers_makes(model, next_sequence_length, first, extra):
    ids = random_ids(2, SEEN)
    options = {
        "past_key_values": filled_cache(model, ids[:, :-1]),
        "attention_mask": torch.ones_like(ids),
        "inputs_embeds": torch.randn(2, SEEN, 64),
        "next_sequence_length": next_sequence_length,
        "is_first_iteration": first,
        "use_cache": True,
        **extra,
    }
    for positions in ({}, {"position_ids": None}, {"position_ids": torch.arange(SEEN).repeat(2, 1)}):
        actual, expected = (
            prepare(ids, **options, **positions)
            for prepare in (
                model.prepare_inputs_for_generation,
                partial(GenerationMixin.prepare_inputs_for_generation, model),
            )
        )
        assert actual.pop("past_key_values") is expected.pop("past_key_values")
        for inputs in (actual, expected):
            for name in [name for name, value in inputs.items() if value is None]:
                del inputs[name]
        assert_close(actual, expected)


# What the model is


def hook_on_a_block(model):
    model.model.layers[1].mlp.register_forward_hook(lambda module, inputs, output: output * 2)


def hook_on_a_matrix(model):
    """Steers by the last position: it must see (B, T, D) at every step."""

    def steer(module, inputs, output):
        output = output.clone()
        output[:, -1] += 1
        return output

    model.model.layers[0].mlp.fc2.register_forward_hook(steer)


def hook_before_the_head(model):
    model.lm_head.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 1.5,))


def hook_on_the_embedding(model):
    model.model.embed_tokens.register_forward_hook(lambda module, inputs, output: output.roll(1, dims=-1))


def forward_of_its_own(model):
    """As accelerate's hooks do for offloaded layers."""
    layer = model.model.layers[0]
    forward = layer.forward
    layer.forward = lambda *args, **kwargs: forward(*args, **kwargs) * 1.5


def forward_of_a_matrix(model):
    matrix = model.model.layers[0].self_attn.v_proj
    matrix.forward = lambda x: -nn.functional.linear(x, matrix.weight)


def another_class_of_matrix(model):
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    model.model.layers[1].self_attn.v_proj.__class__ = Doubled


def bias(model):
    matrix = model.model.layers[0].mlp.fc1
    matrix.bias = nn.Parameter(torch.ones(matrix.out_features))


def weight_norm(model):
    parametrizations.weight_norm(model.model.layers[0].mlp.fc1)
    model.model.layers[0].mlp.fc1.parametrizations.weight.original0.data *= 2


def adapt_by_lora(model):
    randomized(get_peft_model(model, LoraConfig(target_modules=["q_proj", "fc2"], r=4)), seed=3)


def adapt_by_dora(model):
    randomized(get_peft_model(model, LoraConfig(target_modules=["o_proj", "fc1"], r=4, use_dora=True)), seed=3)


def adapt_by_ia3(model):
    config = IA3Config(target_modules=["k_proj", "v_proj", "fc2"], feedforward_modules=["fc2"])
    randomized(get_peft_model(model, config), seed=3)


def attend_eagerly(model):
    model.set_attn_implementation("eager")


def change_weights(model):
    """An update that no version counter sees, and one that it does."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.data.mul_(1.1)
            parameter.add_(0.01)


LONG = [hook_on_a_block, forward_of_its_own, attend_eagerly]  # these take no step the short way
SHORT = [hook_on_a_matrix, hook_before_the_head, hook_on_the_embedding, forward_of_a_matrix, bias, weight_norm]
SHORT += [another_class_of_matrix, adapt_by_lora, adapt_by_dora, adapt_by_ia3, change_weights]


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("change", LONG + SHORT)
def test_what_a_model_is_besides_its_weights_counts(model, change, batch, short_steps):
    ids = random_ids(batch, SEEN)
    options = {"output_logits": True, "return_dict_in_generate": True}
    before = generate(model, ids, **options)
    del short_steps[:]
    change(model)
    short, long = generate(model, ids, **options), generate_the_long_way(model, ids, **options)
    assert torch.equal(short.sequences, long.sequences)
    assert_close(short.logits, long.logits, 1e-4)
    assert len(short_steps) == (0 if change in LONG else NEW_TOKENS - 1)
    assert change is attend_eagerly or not torch.allclose(before.logits[0], short.logits[0], atol=0.01)


class Changing(StoppingCriteria):
    """Changes the model between two steps."""

    def __init__(self, change, at: int) -> None:
        self.change, self.at = change, at

    def __call__(self, input_ids, scores, **kwargs):
        if input_ids.size(1) == self.at:
            self.change()
        return torch.zeros(len(input_ids), dtype=torch.bool)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("change", [hook_on_a_block, hook_on_a_matrix, adapt_by_lora, attend_eagerly, weight_norm])
def test_a_change_between_two_steps_counts(model, change, batch):
    ids = random_ids(batch, SEEN)
    written = []
    for way in (generate, generate_the_long_way):
        changing = copy.deepcopy(model)
        criteria = [Changing(partial(change, changing), at=SEEN + 4)]
        written.append(way(changing, ids, stopping_criteria=criteria))
    assert torch.equal(*written)
    assert change is attend_eagerly or not torch.equal(written[0], generate(model, ids))


PROMPT_TUNING = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(
    "config",
    [
        PROMPT_TUNING,
        PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
        LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "fc2"], r=4),
    ],
    ids=lambda config: config.peft_type.value,
)
def test_adapted_models_generate_as_their_forward_pass_says(model, config, batch):
    if config is PROMPT_TUNING and model.config.value_embeddings:
        pytest.skip("its virtual tokens are embeddings, which have no value embeddings")
    adapted = randomized(get_peft_model(model, copy.deepcopy(config)), seed=3).eval()  # PEFT writes sizes into it
    ids = random_ids(batch, SEEN)
    expected = ids
    with torch.no_grad():
        for _ in range(NEW_TOKENS):
            logits = adapted(input_ids=expected, attention_mask=torch.ones_like(expected), use_cache=False).logits
            expected = torch.cat((expected, logits[:, -1:].argmax(-1)), dim=1)
    written = generate(adapted, ids, attention_mask=torch.ones_like(ids))
    assert torch.equal(written, expected)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_steps_work_in_half_precision_and_under_autocast(model, batch, dtype, short_steps):
    ids = random_ids(batch, SEEN)
    options = {"output_logits": True, "return_dict_in_generate": True}
    with torch.autocast("cpu", dtype):
        in_autocast = [way(model, ids, **options) for way in (generate, generate_the_long_way)]
    model.to(dtype)
    in_half = [way(model, ids, **options) for way in (generate, generate_the_long_way)]
    assert short_steps == ["plain"] * 2 * (NEW_TOKENS - 1)
    for short, long in (in_autocast, in_half):
        assert_close(short.logits[:4], long.logits[:4], 0.25)


def test_prompt_tuning_of_a_model_with_value_embeddings_is_refused():
    model = get_peft_model(random_model(generation=2026, vocab_size=128), copy.deepcopy(PROMPT_TUNING))
    ids = random_ids(1, SEEN, vocab_size=128)
    for call in (model, model.generate):
        with pytest.raises(ValueError, match="looks up value embeddings by token id"):
            call(input_ids=ids, attention_mask=torch.ones_like(ids))


# What is kept between steps


def test_nothing_of_a_call_outlives_it(model):
    """A cache that `generate` returns holds transformers' own layers: it exports, pickles and copies as they do."""
    ids = random_ids(2, SEEN)
    outputs = generate(model, ids, return_dict_in_generate=True)
    assert current_decoding.get() is None
    assert vars(outputs.past_key_values).keys() == vars(DynamicCache(config=model.config)).keys()
    for layer, expected in zip(outputs.past_key_values.layers, filled_cache(model, ids).layers, strict=True):
        assert type(layer) is type(expected) in (DynamicLayer, DynamicSlidingWindowLayer)
        assert vars(layer).keys() == vars(expected).keys()
    stored = pickle.loads(pickle.dumps(outputs.past_key_values))
    longer = torch.cat((outputs.sequences, random_ids(2, 2, seed=4)), dim=1)
    expected = generate(model, longer)
    for cache in (stored, outputs.past_key_values):
        assert torch.equal(generate(model, longer, past_key_values=cache), expected)


def test_a_cache_of_inference_mode_is_continued_outside_of_it(model):
    ids = random_ids(2, SEEN)
    with torch.inference_mode():
        outputs = generate(model, ids, return_dict_in_generate=True)
    longer = torch.cat((outputs.sequences.clone(), random_ids(2, 2, seed=4)), dim=1)
    expected = generate(model, longer)
    assert torch.equal(generate(model, longer, past_key_values=outputs.past_key_values), expected)


def test_room_holds_what_a_dynamic_layer_holds():
    """Through growth beyond its room, and whatever else happens to a cache in between."""
    decoding, caches = Decoding(), (DynamicCache(), DynamicCache())
    changes = {
        3: lambda cache: cache.crop(-2),
        5: lambda cache: cache.reorder_cache(torch.tensor([1, 0])),
        7: lambda cache: cache.batch_repeat_interleave(2),
        9: lambda cache: cache.batch_select_indices(torch.tensor([0, 3])),
    }
    for cache in caches:
        cache.update(*torch.ones(2, 2, 2, SPARE_TOKENS - 7, 8), 0)
    for step in range(SPARE_TOKENS + 20):
        new = torch.randn(2, 4 if step in (8, 9) else 2, 2, 1, 8)
        expected = caches[0].update(*new, 0)
        layer = caches[1].layers[0]
        assert all(map(torch.equal, decoding.update(layer, *new), expected))
        assert torch.equal(layer.keys, expected[0]) and torch.equal(layer.values, expected[1])
        for cache in caches:
            changes.get(step, lambda cache: None)(cache)


def test_a_token_is_written_in_place_while_there_is_room():
    decoding, layer = Decoding(), DynamicLayer()
    layer.update(*torch.randn(2, 2, 2, 5, 8))
    places = []
    for _ in range(SPARE_TOKENS + 1):
        decoding.update(layer, *torch.randn(2, 2, 2, 1, 8))
        places.append(layer.keys.data_ptr())
    assert len(set(places[:-1])) == 1 and places[-1] != places[0]


def test_torch_still_has_the_operators_that_pack_weights():
    matrix, x = nn.Linear(5, 7, bias=False), torch.randn(3, 5)
    with torch.no_grad():
        decoding = Decoding()
        torch.testing.assert_close(decoding.linear(x, matrix), matrix(x))
        assert decoding.packed[matrix][-1] is not None
        with torch.autocast("cpu", torch.bfloat16):
            assert pack(matrix.weight, rows=3) is None
        assert pack(matrix.weight.bfloat16(), rows=3) is None
