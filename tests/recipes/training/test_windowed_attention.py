"""Windows by flash attention: the same model as with a mask, none made where none is needed.

torch has the kernel for GPUs alone. Here a slow one, written after its documentation, stands in for it on the CPU.
"""

import pytest
import torch
from torch.nn import functional as F

from recipes.training import attention, windowed_attention
from recipes.training.attention import choose_attention, describe_attention, set_attention
from recipes.training.windowed_attention import WINDOWED_SDPA, works_on
from tests.modeling_nanochat.tiny import WINDOW, assert_close, random_ids, random_model, tiny_config

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(scope="module")
def calls():
    """How long the windows were that the stand-in has computed."""
    windows = []
    library = torch.library.Library("torch_attn", "IMPL", "CPU")

    def attend(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, is_causal=False, scale=None, window_size=None,
               enable_gqa=False, seqused_k=None, block_table=None, num_splits=None):  # fmt: skip
        windows.append(tuple(window_size))
        before, after = window_size
        texts = torch.bucketize(torch.arange(len(query)), cu_seq_q[1:], right=True)
        places = torch.arange(len(query))
        distance = places[:, None] - places
        seen = (distance <= before) & (distance >= -after) & (texts[:, None] == texts)
        groups = query.size(1) // key.size(1)
        scores = torch.einsum("qhd,khd->hqk", query, key.repeat_interleave(groups, 1)) * scale
        weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
        mixed = torch.einsum("hqk,khd->qhd", weights, value.repeat_interleave(groups, 1))
        return mixed, weights.new_zeros(query.size(1), len(query)), torch.zeros(2, dtype=torch.uint64)

    library.impl("_varlen_attn", attend, "CPU")
    yield windows
    library._destroy()


@pytest.mark.parametrize("heads", [4, 2])
def test_a_model_computes_the_same_without_a_mask(calls, heads):
    model = random_model(generation=2026, num_key_value_heads=heads)
    ids = random_ids(3, 4 * WINDOW)
    with torch.no_grad():
        expected = model(ids).logits
        set_attention(model, WINDOWED_SDPA)
        calls.clear()
        assert_close(model(ids).logits, expected)
    assert calls == [(WINDOW - 1, 0)] * 2  # its layers with windows, which count the token at hand as well


def test_padded_rows_and_generation_are_masked_as_ever(calls):
    model = random_model(generation=2026).eval()
    ids = random_ids(2, 3 * WINDOW)
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    options = {"max_new_tokens": 2 * WINDOW, "do_sample": False, "attention_mask": mask, "pad_token_id": 0}
    expected = model.generate(ids, **options)
    set_attention(model, WINDOWED_SDPA)
    calls.clear()
    assert torch.equal(model.generate(ids, **options), expected)
    assert torch.equal(model.generate(ids[:1], do_sample=False, max_new_tokens=9), expected[:1, : ids.size(1) + 9])


def test_a_compiled_step_has_no_mask_and_one_graph():
    model = random_model(generation=2026)
    set_attention(model, WINDOWED_SDPA)
    nodes = []

    def note(graph, inputs):
        nodes.extend(graph.graph.nodes)
        return lambda *inputs: (torch.zeros(()),)

    torch._dynamo.reset()
    ids = random_ids(2, 4 * WINDOW)
    torch.compile(model, backend=note, fullgraph=True)(input_ids=ids, labels=ids, skip_logits=True, use_cache=False)
    targets = [str(node.target) for node in nodes]
    assert sum("_varlen_attn" in target for target in targets) == 2
    attentions = [node for node in nodes if "scaled_dot_product_attention" in str(node.target)]
    assert [node.kwargs.get("attn_mask") for node in attentions] == [None]


@pytest.mark.parametrize(("off_by", "works"), [(0, True), (1, False), (-1, False), (None, False)])
def test_a_card_is_tried_before_windows_go_to_it(monkeypatch, off_by, works):
    """Its windows, and their gradients, must be those of a mask; None: its kernel fails."""

    def attend(query, key, value, window, scaling):
        places = torch.arange(query.size(2))
        age = places[:, None] - places
        mask = (age >= 0) & (age < window + off_by)
        return F.scaled_dot_product_attention(query, key, value, mask, enable_gqa=True).transpose(1, 2)

    monkeypatch.setattr(windowed_attention, "attend_within_window", attend)
    works_on.cache_clear()
    assert works_on(CPU, 64) is works
    works_on.cache_clear()


@pytest.mark.parametrize(("works", "chosen"), [(True, WINDOWED_SDPA), (False, "sdpa")])
def test_auto_serves_windows_without_a_mask_where_the_card_can(monkeypatch, works, chosen):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(attention, "works_on", lambda device, head_dim: works)
    ours = tiny_config(2026)
    assert choose_attention("auto", GPU, 64, ours, "bf16") == chosen
    assert choose_attention("auto", GPU, WINDOW, ours, "bf16") == "sdpa"  # rows no longer than the window
    assert choose_attention("auto", GPU, 64, tiny_config(2025), "bf16") == "sdpa"
    assert choose_attention("auto", GPU, 64, ours, "no") == "sdpa"
    assert choose_attention("sdpa", GPU, 64, ours, "bf16") == "sdpa"
    assert ("without a mask" in describe_attention(chosen, ours, GPU, 64)) == works
    assert ("read a mask of 64 x 64" in describe_attention(chosen, ours, GPU, 64)) == (not works)
