"""What a cache holds of a model of 2026, smear's embeddings and windows, gives what the whole pass gives."""

import copy
from itertools import pairwise

import pytest
import torch
from transformers import DynamicCache, QuantizedCache, StaticCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from modeling_nanochat import NanochatGPTForCausalLM
from modeling_nanochat.cache_nanochat import LastEmbeddingLayer
from modeling_nanochat.generation_nanochat import SPARE_TOKENS, Decoding, current_decoding
from tests.modeling_nanochat.tiny import VOCAB_SIZE, WINDOW, assert_close, random_ids, random_model

T = 18  # tokens of a text


@pytest.fixture
def model() -> NanochatGPTForCausalLM:
    model = random_model(generation=2026, num_key_value_heads=2)
    model.generation_config.pad_token_id = 0
    return model


def windows(model) -> DynamicCache:
    return DynamicCache(config=model.config)


def recording(model) -> DynamicCache:
    cache = DynamicCache(config=model.config)
    cache.activate_past_recording()
    return cache


def whole(model) -> DynamicCache:
    return DynamicCache()


def static(model) -> StaticCache:
    return StaticCache(config=model.config, max_cache_len=T + 4)


@torch.no_grad()
def fed(model, ids: torch.Tensor, cache, *lengths: int, **inputs) -> torch.Tensor:
    """Logits of `ids` (B, T), in chunks of these lengths; of `inputs`, each chunk is given what it sees."""
    logits, seen = [], 0
    for length in lengths:
        end = seen + length
        given = {name: value[:, seen:end] for name, value in inputs.items()}
        if (mask := inputs.get("attention_mask")) is not None:
            given["attention_mask"] = mask[:, :end] if mask.ndim == 2 else mask[:, :, seen:end, :end]
        logits.append(model(ids[:, seen:end], past_key_values=cache, **given).logits)
        seen = end
    return torch.cat(logits, dim=1)


@pytest.mark.parametrize(
    "lengths", [(T,), (1,) * T, (7, 1, 1, 4, 5), (2, 1, 15), (WINDOW, 1, T - WINDOW - 1)], ids=str
)
@pytest.mark.parametrize("build", [windows, recording, whole, static])
@torch.no_grad()
def test_chunks_give_what_the_whole_gives(model, build, lengths):
    ids = random_ids(2, T)
    assert_close(fed(model, ids, build(model), *lengths), model(ids).logits, 1e-4)


@pytest.mark.parametrize("lengths", [(T,), (7, 1, 1, 9), (4,) + (1,) * (T - 4)], ids=str)
@pytest.mark.parametrize("build", [windows, whole])
@pytest.mark.parametrize("given", ["mask", "mask and positions", "mask in four dimensions", "mask of numbers"])
@torch.no_grad()
def test_left_padding_changes_nothing(model, build, lengths, given):
    ids, mask = random_ids(2, T), torch.ones(2, T, dtype=torch.long)
    mask[0, :6] = 0
    seen = mask[:, None, None].bool() & torch.ones(T, T, dtype=torch.bool).tril()  # (B, 1, T, T)
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    inputs = {
        "mask": {"attention_mask": mask},
        "mask and positions": {"attention_mask": mask, "position_ids": positions},
        "mask in four dimensions": {"attention_mask": seen},
        "mask of numbers": {"attention_mask": torch.zeros(seen.shape).masked_fill(~seen, torch.finfo().min)},
    }[given]
    logits = fed(model, ids, build(model), *lengths, **inputs)
    assert_close(logits[0, 6:], model(ids[:1, 6:]).logits[0], 1e-4)
    assert_close(logits[1], model(ids[1:]).logits[0], 1e-4)


@torch.no_grad()
def test_packed_documents_are_each_document_alone(model):
    ids = random_ids(1, T)
    documents = list(pairwise([0, 1, 8, T]))  # of one token, some, and more than a window
    positions = torch.cat([torch.arange(end - start) for start, end in documents])[None]
    packed = model(ids, position_ids=positions, use_cache=False).logits
    for start, end in documents:
        assert_close(packed[:, start:end], model(ids[:, start:end]).logits, 1e-4)


CHANGES = {
    "reordered": (lambda cache: cache.reorder_cache(torch.tensor([1, 0])), [1, 0]),
    "selected": (lambda cache: cache.batch_select_indices(torch.tensor([1])), [1]),
    "repeated": (lambda cache: cache.batch_repeat_interleave(2), [0, 0, 1, 1]),
    "reordered twice": (lambda cache: [cache.reorder_cache(torch.tensor([1, 1])) for _ in range(2)], [1, 1]),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("build", [windows, whole, static])
@torch.no_grad()
def test_a_batch_is_changed_as_a_whole(model, build, change):
    if build is static and "reordered" not in change:
        pytest.skip("transformers only reorders static caches")
    ids = random_ids(2, T)
    cache = build(model)
    fed(model, ids, cache, T - 3)
    act, rows = CHANGES[change]
    act(cache)
    expected = model(ids[rows]).logits[:, -3:]
    assert_close(fed(model, ids[rows, -3:], cache, 1, 2), expected, 1e-4)


@torch.no_grad()
def test_batches_are_split_and_joined(model):
    """As transformers' own data-parallel caches are: by the tensors of their layers."""
    ids = random_ids(2, T)
    caches = [windows(model) for _ in ids]
    for row, cache in zip(ids, caches, strict=True):
        fed(model, row[None], cache, T - 3)
    joined = DynamicCache(
        [
            (torch.cat([first[0], second[0]]), torch.cat([first[1], second[1]]), first[2])
            for first, second in zip(*caches, strict=True)
        ]
    )
    for layer in joined.layers:
        if isinstance(layer, DynamicSlidingWindowLayer):
            layer.cumulative_length = T - 3  # which the tensors do not tell
    assert_close(fed(model, ids[:, -3:], joined, 3), model(ids).logits[:, -3:], 1e-4)


@pytest.mark.parametrize("removed", [1, 4])
@pytest.mark.parametrize("build", [recording, whole])
@torch.no_grad()
def test_cropped_caches_go_on(model, build, removed):
    """As in assisted decoding: some tokens are taken, others not, again and again."""
    ids, refused = random_ids(2, T), random_ids(2, removed, seed=1)
    cache = build(model)
    for taken in ids[:, :-5].split([3, 2, T - 10], dim=1):  # within the window and beyond it
        model(torch.cat((taken, refused), dim=1), past_key_values=cache)
        cache.crop(-removed)
    assert_close(fed(model, ids[:, -5:], cache, 1, 4), model(ids).logits[:, -5:], 1e-4)


@pytest.mark.parametrize("build", [windows, whole, static])
@torch.no_grad()
def test_copies_go_on_alone_and_reset_caches_begin_anew(model, build):
    ids, other = random_ids(2, T), random_ids(2, T, seed=1)
    cache = build(model)
    fed(model, ids, cache, T - 3)
    twin = copy.deepcopy(cache)
    fed(model, other[:, -3:], cache, 3)
    assert_close(fed(model, ids[:, -3:], twin, 1, 2), model(ids).logits[:, -3:], 1e-4)
    twin.reset()
    assert_close(fed(model, other, twin, 9, 9), model(other).logits, 1e-4)


@torch.no_grad()
def test_a_quantized_cache_keeps_embeddings_as_they_are():
    """transformers has none for windows; the rest of the model has quantized keys and values."""
    model = random_model(generation=2026, layer_types=None, sliding_window=None)
    ids = random_ids(2, T)
    cache = QuantizedCache(backend="fp8", config=model.config)
    logits = fed(model, ids, cache, T - 3, 1, 2)
    assert type(cache.layers[-1]) is DynamicLayer
    assert torch.equal(
        cache.layers[-1].keys[:, 0, -1],
        torch.nn.functional.rms_norm(model.get_input_embeddings()(ids[:, -1]), (64,), eps=1e-6),
    )
    assert (logits - model(ids).logits).abs().mean() < 0.3


# Windows


@torch.no_grad()
def test_layers_with_a_window_hold_no_more_than_it(model):
    ids = random_ids(2, T)
    for cache, kept in ((windows(model), WINDOW - 1), (static(model), WINDOW)):
        fed(model, ids, cache, 9, 1, 8)
        assert [layer.keys.size(2) for layer in cache.layers[:2]] == [kept, kept]
        assert cache.layers[2].keys.size(2) >= T
    assert type(cache.layers[3]) is LastEmbeddingLayer and cache.layers[3].keys.shape == (2, 1, 1, 64)


@pytest.mark.parametrize("build", [windows, whole])
@torch.no_grad()
def test_the_fast_path_goes_on_beyond_windows_and_spare_room(model, build):
    length = WINDOW + SPARE_TOKENS + 20
    ids, cache = random_ids(2, length), build(model)
    fed(model, ids, cache, 7)
    token, decoding = None, Decoding()
    token = current_decoding.set(decoding)
    try:
        logits = torch.cat([model(ids[:, t : t + 1], past_key_values=cache).logits for t in range(7, length)], dim=1)
    finally:
        current_decoding.reset(token)
    assert len(decoding.preallocated) == 4  # it was taken
    assert_close(logits, model(ids).logits[:, 7:], 1e-3)
    if build is windows:
        assert {layer.keys.size(2) for layer in cache.layers if layer.is_sliding} == {WINDOW - 1}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@torch.no_grad()
def test_a_token_sees_its_window_and_nothing_older(attention):
    """Two layers with windows and smear reach 2 (w - 1) + 1 tokens back."""
    model = random_model(
        generation=2026, num_hidden_layers=2, layer_types=["sliding_attention"] * 2, attn_implementation=attention
    )
    reach = 2 * (WINDOW - 1) + 1
    ids = random_ids(1, T)
    logits = model(ids).logits[0, -1]
    for back in (reach, reach + 1):
        changed = ids.clone()
        changed[0, T - 1 - back] = (changed[0, T - 1 - back] + 1) % VOCAB_SIZE
        difference = (model(changed).logits[0, -1] - logits).abs().max()
        assert difference > 1e-3 if back == reach else difference < 1e-5


@torch.no_grad()
def test_a_window_is_the_token_and_those_before_it():
    model = random_model(generation=2026, attn_implementation="eager")
    weights = model(random_ids(1, T), output_attentions=True).attentions
    assert [(layer[0, 0] > 0).sum(-1).max().item() for layer in weights] == [WINDOW, WINDOW, T]
    assert (weights[0][0, 0, -1] > 0).nonzero().flatten().tolist() == list(range(T - WINDOW, T))
