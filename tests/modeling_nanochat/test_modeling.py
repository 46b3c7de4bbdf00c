"""The forward pass against transformers' NanoChat, and what transformers expects of a model."""

import copy
import re
import shutil
import tempfile

import accelerate
import pytest
import torch
from transformers import (
    DynamicCache,
    NanoChatConfig,
    NanoChatForCausalLM,
    Trainer,
    TrainingArguments,
)
from transformers.models.nanochat.modeling_nanochat import NanoChatRotaryEmbedding

from modeling_nanochat import NanochatGPTConfig, NanochatGPTForCausalLM
from modeling_nanochat.layers_nanochat import rotary_angles
from tests.modeling_nanochat.tiny import (
    VOCAB_SIZE,
    assert_close,
    embeddings_for,
    gradients,
    random_ids,
    random_model,
    randomized,
    tiny_config,
)

ATTENTIONS = ["sdpa", "eager"]
KEY_VALUE_HEADS = [1, 2, 4]


def nanochat_with_weights_of(model: NanochatGPTForCausalLM) -> NanoChatForCausalLM:
    """transformers' own NanoChat of the same config, with the same weights by the same names."""
    fields = model.config.to_dict() | {"attn_implementation": model.config._attn_implementation}
    reference = NanoChatForCausalLM(NanoChatConfig(**fields))
    reference.load_state_dict(model.state_dict(), strict=True)
    return reference.eval()


@pytest.fixture(params=[(heads, attention) for heads in KEY_VALUE_HEADS for attention in ATTENTIONS], ids=str)
def pair(request):
    """Ours and transformers' NanoChat with the same random weights."""
    heads, attention = request.param
    ours = random_model(num_key_value_heads=heads, rope_theta=500.0, attn_implementation=attention)
    return ours, nanochat_with_weights_of(ours)


@torch.no_grad()
def test_logits_are_nanochats(pair):
    ours, theirs = pair
    ids = random_ids(3, 40)
    logits = ours(ids).logits
    assert logits.std() > 1 and logits.abs().max() < 15  # nothing vanishes, and the cap holds
    assert_close(logits, theirs(ids).logits)


@pytest.mark.parametrize("head_dim", [16, 64, 128])
def test_rotary_angles_are_nanochats_bit_for_bit(head_dim):
    """A trained model makes 1e-5 of a frequency's last bit, a random one hides it."""
    sizes = {"hidden_size": 2 * head_dim, "num_attention_heads": 2, "num_key_value_heads": 2}
    positions, x = torch.arange(2048)[None], torch.zeros(1)
    ours = rotary_angles(positions, NanochatGPTConfig(**sizes), torch.float32)
    for our_part, their_part in zip(ours, NanoChatRotaryEmbedding(NanoChatConfig(**sizes))(x, positions), strict=True):
        assert torch.equal(our_part, their_part[..., : head_dim // 2])


def test_rotary_angles_may_be_rounded():
    rounded = rotary_angles(torch.arange(99)[None], NanochatGPTConfig(rotary_dtype="bfloat16"), torch.float32)
    exact = rotary_angles(torch.arange(99)[None], NanochatGPTConfig(), torch.float32)
    for each, other in zip(rounded, exact, strict=True):
        assert each.dtype == torch.float32 and not torch.equal(each, other)
        assert torch.equal(each, other.bfloat16().float())


def moved_to_memory(config) -> NanochatGPTForCausalLM:
    with torch.device("meta"):
        model = NanochatGPTForCausalLM(config)
    return model.to_empty(device="cpu")


def without_weights(config) -> NanochatGPTForCausalLM:
    with accelerate.init_empty_weights():
        model = NanochatGPTForCausalLM(config)
    return model.to_empty(device="cpu")


def loaded(config, **options) -> NanochatGPTForCausalLM:
    with tempfile.TemporaryDirectory() as directory:
        NanochatGPTForCausalLM(config).save_pretrained(directory)
        return NanochatGPTForCausalLM.from_pretrained(directory, **options)


@pytest.mark.parametrize(
    "build",
    [
        NanochatGPTForCausalLM,
        moved_to_memory,
        without_weights,
        loaded,
        lambda config: loaded(config, dtype=torch.bfloat16),
        lambda config: NanochatGPTForCausalLM(config).to(torch.bfloat16).float(),
        lambda config: NanochatGPTForCausalLM(config).half(),
        lambda config: copy.deepcopy(NanochatGPTForCausalLM(config)),
    ],
)
@pytest.mark.parametrize("rounded", [None, "bfloat16"])
def test_angles_are_looked_up_as_they_would_be_computed(build, rounded):
    """Bit for bit, whatever the model has gone through."""
    config = tiny_config(rotary_dtype=rounded)
    table = build(config).model.rotary_table
    for dtype in (torch.float32, torch.bfloat16):
        hidden_states, positions = torch.empty(1, 100, 8, dtype=dtype), torch.arange(100)[None]
        assert table.holds(100, 0, hidden_states.device)
        for angles in zip(table(hidden_states, None, 0), rotary_angles(positions, config, dtype), strict=True):
            assert torch.equal(*angles)


@torch.no_grad()
def test_angles_that_the_table_lacks_are_computed(model):
    ids, length = random_ids(1, 200), model.config.max_position_embeddings
    assert length < 200
    longer = random_model(generation=2026 if model.config.smear else 2025, max_position_embeddings=256)
    assert torch.equal(model(ids, use_cache=False).logits, longer(ids, use_cache=False).logits)
    ids = ids[:, :20]
    before = model(ids, use_cache=False).logits
    model.config.rope_theta /= 2
    changed = random_model(generation=2026 if model.config.smear else 2025, rope_theta=model.config.rope_theta)
    assert torch.equal(model(ids, use_cache=False).logits, changed(ids, use_cache=False).logits)
    assert not torch.equal(before, model(ids, use_cache=False).logits)


def test_the_table_of_angles_is_not_saved(model):
    assert not any("rotary" in name for name in model.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("given", [False, True])
def test_a_compiled_training_step_computes_no_angles(model, given):
    """Unless positions are given, for which they are needed."""
    torch._dynamo.reset()
    ids, computed = random_ids(2, 16), []

    def backend(graph, example_inputs):
        computed.extend(node for node in graph.graph.nodes if str(node.target) in ("cos", "sin"))
        return graph.forward

    positions = {"position_ids": torch.arange(16)[None]} if given else {}
    step = torch.compile(model.train(), fullgraph=True, backend=backend)
    step(ids, labels=ids, skip_logits=True, use_cache=False, **positions)
    assert len(computed) == (2 if given else 0)


@torch.no_grad()
def test_left_padded_logits_are_nanochats(pair):
    ours, _ = pair
    ids, mask = random_ids(2, 20), torch.ones(2, 20, dtype=torch.long)
    mask[0, :7] = 0
    actual, expected = (model(ids, attention_mask=mask).logits for model in pair)
    assert_close(actual[mask.bool()], expected[mask.bool()])
    assert (actual[0, 7:] - ours(ids).logits[0, 7:]).abs().max() > 0.1  # the mask matters


@torch.no_grad()
def test_logits_at_given_positions_are_nanochats(pair):
    ours, theirs = pair
    ids = random_ids(2, 12)
    positions = torch.arange(12).repeat(2, 1) * 9 + torch.tensor([[0], [5]])
    inputs = {"input_ids": ids, "position_ids": positions, "attention_mask": torch.ones_like(ids)}
    assert_close(ours(**inputs).logits, theirs(**inputs).logits)
    assert (ours(**inputs).logits - ours(ids).logits).abs().max() > 0.1


@torch.no_grad()
def test_logits_at_the_end_of_a_long_context_are_nanochats(pair):
    ids = random_ids(1, 16)
    positions = torch.arange(2032, 2048)[None]
    ours, theirs = (model(ids, position_ids=positions).logits for model in pair)
    assert_close(ours, theirs)


@torch.no_grad()
def test_logits_after_a_cache_are_nanochats(pair):
    ids = random_ids(2, 20)
    actual, expected = (
        model(ids[:, 13:], past_key_values=model(ids[:, :13], use_cache=True).past_key_values).logits for model in pair
    )
    assert_close(actual, expected)
    assert_close(actual, pair[0](ids).logits[:, 13:])


@torch.no_grad()
def test_no_position_sees_the_future(model):
    ids, other = random_ids(1, 20), random_ids(1, 20, seed=1)
    other[:, :11] = ids[:, :11]
    first, second = model(ids).logits, model(other).logits
    assert_close(first[:, :11], second[:, :11])
    assert not torch.allclose(first[:, 11:], second[:, 11:], atol=0.1)


@pytest.mark.parametrize("compiled", [False, True])
@torch.no_grad()
def test_documents_packed_by_position_ids_do_not_see_each_other(model, compiled):
    ids = random_ids(1, 20)
    positions = torch.cat((torch.arange(8), torch.arange(12)))[None]
    torch._dynamo.reset()
    forward = torch.compile(model, fullgraph=True, backend="eager") if compiled else model
    packed = forward(ids, position_ids=positions, use_cache=False).logits
    assert_close(packed[:, :8], model(ids[:, :8]).logits)
    assert_close(packed[:, 8:], model(ids[:, 8:]).logits)


@torch.no_grad()
def test_attention_depends_on_relative_positions_only(model):
    ids = random_ids(1, 16)
    positions = torch.arange(16)[None]
    assert_close(model(ids, position_ids=positions + 50).logits, model(ids, position_ids=positions).logits, 1e-4)


@torch.no_grad()
def test_without_a_cap_logits_are_the_heads_own(model):
    ids = random_ids(1, 8)
    capped = model(ids).logits
    model.config.final_logit_softcapping = None
    plain = model(ids).logits
    assert plain.abs().max() > capped.abs().max()
    assert_close(capped, 15 * torch.tanh(plain / 15))


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_logits_are_fp32_whatever_the_weights_are(model, half):
    ids = random_ids(2, 8)
    expected = model(ids).logits
    with torch.autocast("cpu", half):
        under_autocast = model(ids).logits
    in_half = model.to(half)(ids).logits
    for logits in (under_autocast, in_half):
        assert logits.dtype == torch.float32
        assert_close(logits, expected, 0.25)


@torch.no_grad()
def test_logits_to_keep_are_those_of_the_whole(model):
    ids = random_ids(2, 10)
    whole = model(ids).logits
    assert_close(model(ids, logits_to_keep=3).logits, whole[:, -3:])
    kept = torch.tensor([0, 4, 9])
    assert_close(model(ids, logits_to_keep=kept).logits, whole[:, kept])


@torch.no_grad()
def test_embeddings_may_stand_for_ids(model):
    ids = random_ids(2, 10)
    embeddings = embeddings_for(model, ids)
    assert_close(model(**embeddings).logits, model(ids).logits)
    for inputs in ({}, {"input_ids": ids, **embeddings}):
        with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
            model(**inputs)


@torch.no_grad()
def test_hidden_states_and_attentions_come_on_request(generation):
    model = random_model(
        generation=generation, num_hidden_layers=3, num_key_value_heads=2, attn_implementation="eager"
    )
    ids = random_ids(2, 10)
    plain = model(ids)
    assert plain.hidden_states is None and plain.attentions is None

    outputs = model(ids, output_hidden_states=True, output_attentions=True)
    assert [tuple(state.shape) for state in outputs.hidden_states] == [(2, 10, 64)] * 4
    assert [tuple(weights.shape) for weights in outputs.attentions] == [(2, 4, 10, 10)] * 3
    assert_close(outputs.hidden_states[-1], model.model(ids).last_hidden_state)
    for weights in outputs.attentions:
        assert_close(weights.sum(-1), torch.ones(2, 4, 10))
        assert weights.triu(1).count_nonzero() == 0


@torch.no_grad()
def test_a_tuple_comes_on_request(model):
    ids = random_ids(1, 6)
    loss, logits, *_ = model(ids, labels=ids, return_dict=False)
    assert_close((loss, logits), (model(ids, labels=ids).loss, model(ids).logits))


def test_attention_dropout_acts_in_training_only(generation):
    model = random_model(generation=generation, attention_dropout=0.5)
    ids = random_ids(1, 12)
    assert torch.equal(model(ids).logits, model(ids).logits)
    model.train()
    assert not torch.allclose(model(ids).logits, model(ids).logits, atol=1e-2)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_changes_no_gradient(model, use_reentrant):
    model.train()
    checkpointed = copy.deepcopy(model)
    checkpointed.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    assert checkpointed.is_gradient_checkpointing
    ids = random_ids(2, 16)
    for each in (model, checkpointed):
        each(ids, labels=ids, use_cache=False).loss.backward()
    assert_close(gradients(checkpointed), gradients(model), 1e-6)


@pytest.mark.parametrize("size", [VOCAB_SIZE + 13, VOCAB_SIZE - 13])
def test_resized_vocabulary_keeps_what_was_there(model, size):
    ids = random_ids(1, 10, vocab_size=VOCAB_SIZE - 13)
    before = model(ids).logits
    model.resize_token_embeddings(size)
    outputs = model(ids, labels=ids)
    assert outputs.logits.shape == (1, 10, size)
    common = min(size, VOCAB_SIZE)
    assert_close(outputs.logits[..., :common], before[..., :common])
    assert model.config.vocab_size == size
    assert model(torch.tensor([[size - 1] * 3])).logits.isfinite().all()
    assert_close(model(ids, labels=ids, skip_logits=True).loss, outputs.loss)


@pytest.mark.slow  # compiles C++
@pytest.mark.skipif(
    shutil.which("g++") is None or "AVX" not in torch.backends.cpu.get_cpu_capability(),
    reason="flex attention on a CPU needs a C++ compiler and AVX2",
)
@torch.no_grad()
def test_flex_attention_gives_the_same_logits(model):
    ids, mask = random_ids(2, 16), torch.ones(2, 16, dtype=torch.long)
    mask[0, :5] = 0
    expected = model(ids, attention_mask=mask).logits
    model.set_attn_implementation("flex_attention")
    assert_close(model(ids, attention_mask=mask).logits[mask.bool()], expected[mask.bool()])


def test_parallel_plans_name_modules_of_the_model(model):
    modules = dict(model.named_modules())
    plan = {f"model.{name}": how for name, how in model.config.base_model_tp_plan.items()} | model._tp_plan
    named = {}
    for pattern, how in plan.items():
        found = [name for name in modules if re.fullmatch(pattern.replace(".", r"\.").replace("*", r"\d+"), name)]
        assert found, f"{pattern} names no module"
        named |= dict.fromkeys(found, how)
    whole = ["smear_gate"] + ["self_attn"] * model.config.value_embeddings
    matrices = {
        name
        for name, module in modules.items()
        if isinstance(module, torch.nn.Linear) and not any(part in name for part in whole)
    }
    assert set(named) >= matrices, "every matrix is split"
    assert {module.__class__.__name__ for module in modules.values()} >= set(model._no_split_modules)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_training_compiles_without_graph_breaks(model, backend):
    torch._dynamo.reset()
    ids = random_ids(2, 16)
    compiled = copy.deepcopy(model)
    step = torch.compile(compiled, fullgraph=True, backend=backend)
    for each, forward in ((model, model), (compiled, step)):
        each.train()
        loss = forward(ids, labels=ids, skip_logits=True, use_cache=False).loss
        loss.backward()
    assert_close(gradients(compiled), gradients(model))


@pytest.mark.slow
@torch.no_grad()
def test_inference_compiles_without_graph_breaks(model):
    torch._dynamo.reset()
    ids = random_ids(2, 16)
    mask = torch.ones_like(ids)
    forward = torch.compile(model, fullgraph=True, backend="eager")
    assert_close(forward(ids, use_cache=False).logits, model(ids).logits)
    past = DynamicCache(config=model.config)
    model(ids[:, :10], past_key_values=past)
    assert_close(forward(ids[:, 10:], attention_mask=mask, past_key_values=past).logits, model(ids).logits[:, 10:])


def attention_calls(step, *args, **kwargs) -> list[tuple[bool, bool]]:
    """Of each call of SDPA in the graph of `step`, compiled: whether it has a mask, and `is_causal`."""
    torch._dynamo.reset()
    calls = []

    def backend(graph, example_inputs):
        for part in graph.modules():  # checkpointed layers are graphs within the graph
            for node in getattr(getattr(part, "graph", None), "nodes", []):
                if "scaled_dot_product_attention" in str(node.target):
                    calls.append((node.kwargs.get("attn_mask") is not None, node.kwargs.get("is_causal")))
        return graph.forward

    torch.compile(step, fullgraph=True, backend=backend)(*args, **kwargs)
    return calls


def plainly_causal(model) -> list[tuple[bool, bool]]:
    """The calls of rows that need a mask for windows only."""
    windows = [model.config.is_sliding(i) for i in range(model.config.num_hidden_layers)]
    return [(window, not window) for window in windows]


@pytest.mark.slow
@pytest.mark.parametrize("skip_logits", [False, True])
@pytest.mark.parametrize("mode", ["evaluation", "training", "checkpointing"])
def test_compiled_rows_need_no_mask(model, mode, skip_logits):
    """A mask would rule flash attention out, and have the whole square computed instead of half of it."""
    model.train(mode != "evaluation")
    if mode == "checkpointing":
        model.gradient_checkpointing_enable({"use_reentrant": False})
    ids = random_ids(2, 16)
    calls = attention_calls(model, ids, labels=ids, skip_logits=skip_logits, use_cache=False)
    assert calls == plainly_causal(model)


@pytest.mark.slow
def test_compiled_rows_need_no_mask_with_a_cache_of_their_own(model):
    ids = random_ids(2, 16)
    assert attention_calls(model, ids) == plainly_causal(model)
    with torch.no_grad():
        embeddings = embeddings_for(model, ids)
    assert attention_calls(model, **embeddings) == plainly_causal(model)


@pytest.mark.slow
def test_compiled_rows_that_are_not_plainly_causal_keep_their_mask(model):
    ids, ones = random_ids(2, 16), torch.ones(2, 16, dtype=torch.long)
    packed = torch.arange(8).repeat(2, 2)
    for inputs in ({"position_ids": packed}, {"attention_mask": ones.index_fill(1, torch.tensor([0]), 0)}):
        calls = attention_calls(model, ids, use_cache=False, **inputs)
        assert calls == [(True, False)] * model.config.num_hidden_layers
    model.config.is_causal = False
    whole = model(ids, use_cache=False).logits
    model.config.is_causal = True
    assert not torch.allclose(whole[:, 0], model(ids, use_cache=False).logits[:, 0], atol=0.1)


def test_trainer_trains_and_evaluates(generation, tmp_path):
    torch.manual_seed(0)
    model = randomized(NanochatGPTForCausalLM(tiny_config(generation)))
    rows = [{"input_ids": row, "labels": row} for row in random_ids(8, 16)]
    arguments = TrainingArguments(
        tmp_path, max_steps=5, learning_rate=1e-2, per_device_train_batch_size=4, report_to="none", use_cpu=True
    )
    trainer = Trainer(model, arguments, train_dataset=rows, eval_dataset=rows)
    before = trainer.evaluate()["eval_loss"]
    batch = torch.stack([row["labels"] for row in rows])
    assert before == pytest.approx(model(batch, labels=batch).loss.item(), rel=1e-5)
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < before
    assert trainer.predict(rows).predictions.shape == (8, 16, VOCAB_SIZE)
