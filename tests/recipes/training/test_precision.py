"""What a step computes in, shown by what it keeps, by its gradients, and by the layers that change."""

import copy
from contextlib import nullcontext

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import AutocastKwargs
from transformers import GPT2Config
from transformers.utils.import_utils import is_torchao_available

from modeling_nanochat import NanochatGPTForCausalLM
from recipes.training.optimizers import build_optimizer
from recipes.training.precision import (
    FIRST_LINEAR,
    check_fp8,
    compute_in_bf16,
    fp8_recipe,
    precision_handlers,
    set_compute_dtype,
    suits_fp8,
    without_fp8,
)
from recipes.utils.errors import InputError
from recipes.utils.hardware import choose_precision
from tests.modeling_nanochat.tiny import random_ids, random_model, tiny_config
from tests.recipes.training.test_plan import plan_of

CPU, GPU = torch.device("cpu"), torch.device("cuda")
OWN_CASTS = AutocastKwargs(enabled=False)
needs_torchao = pytest.mark.skipif(not is_torchao_available(), reason="needs torchao")


@pytest.fixture(autouse=True)
def fresh_accelerator():
    """Reset accelerate's state before and after each test: it keeps the precision of the first Accelerator."""
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()


def prepared(model, *handlers, precision="bf16"):
    """`model` as a run prepares it, on a CPU."""
    accelerator = Accelerator(cpu=True, mixed_precision=precision, kwargs_handlers=list(handlers))
    set_compute_dtype(model, accelerator)
    return accelerator.prepare(model)


def training_loss(model, ids):
    return model(input_ids=ids[:, :-1], labels=ids[:, 1:], shift_labels=ids[:, 1:], skip_logits=True).loss


def kept_for_backward(model, ids):
    """Sizes and data types of the activations that a compiled step keeps for its backward pass."""
    parameters = {parameter.data_ptr() for parameter in model.parameters()}
    kept = []

    def note(tensor):
        if tensor.data_ptr() not in parameters and tensor.is_floating_point():
            kept.append((tensor.numel(), tensor.dtype))
        return tensor

    torch._dynamo.reset()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        training_loss(torch.compile(model, backend="aot_eager_decomp_partition"), ids)
    return kept


# bf16 by the model's own casts


@pytest.mark.slow
def test_a_step_keeps_no_activation_in_fp32():
    ids = random_ids(2, 33)
    stream = 2 * 32 * 64  # elements of the residual stream
    kept = kept_for_backward(prepared(random_model(generation=2026), OWN_CASTS), ids)
    large = [dtype for size, dtype in kept if size >= stream]
    assert torch.bfloat16 in large
    assert torch.float32 not in large
    AcceleratorState._reset_state()
    kept = kept_for_backward(prepared(random_model(generation=2026)), ids)
    assert torch.float32 in [dtype for size, dtype in kept if size >= stream]  # autocast does keep such


@pytest.mark.parametrize("generation", [2025, 2026])
def test_loss_and_gradients_are_about_those_of_fp32_and_gradients_are_kept_in_it(generation):
    ids = random_ids(2, 33)
    exact = random_model(generation=generation)
    model = prepared(copy.deepcopy(exact), OWN_CASTS)
    losses = [training_loss(each, ids) for each in (exact, model)]
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=0.01)
    for loss in losses:
        loss.backward()
    for (name, expected), found in zip(exact.named_parameters(), model.parameters(), strict=True):
        assert found.dtype == found.grad.dtype == torch.float32, name
        likeness = torch.cosine_similarity(found.grad.flatten(), expected.grad.flatten(), dim=0)
        assert likeness > 0.98 or expected.grad.norm() < 1e-4, (name, likeness)


@pytest.mark.parametrize("generation", [2025, 2026])
def test_samples_in_the_middle_of_training_are_those_of_its_bf16_checkpoint(generation):
    weights = random_model(generation=generation).eval()
    checkpoint = copy.deepcopy(weights).to(torch.bfloat16)
    model = prepared(weights, OWN_CASTS)
    ids = random_ids(1, 5)
    options = {"max_new_tokens": 8, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    logits = [torch.stack(each.generate(ids, **options).logits) for each in (model, checkpoint)]
    torch.testing.assert_close(logits[0][0], logits[1][0], atol=0.1, rtol=0.1)
    assert model.base_model.compute_dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("precision", "device", "config", "adapters", "own_casts"),
    [
        ("bf16", GPU, tiny_config(2026), False, True),
        ("bf16", CPU, tiny_config(2026), False, False),  # where autocast leaves the norms alone
        ("fp16", GPU, tiny_config(2026), False, False),  # the gradient's scale is accelerate's
        ("no", GPU, tiny_config(2026), False, False),
        ("bf16", GPU, GPT2Config(), False, False),  # its layers do not follow their input
        ("bf16", GPU, tiny_config(2026), True, False),
    ],
)
def test_autocast_is_off_where_the_model_casts_by_itself(precision, device, config, adapters, own_casts):
    handlers = precision_handlers(precision, device, config, adapters)
    assert [handler.enabled for handler in handlers] == [False] * own_casts


# fp8


def test_a_resized_head_and_plain_linear_layers_follow_their_input(tmp_path):
    """And bitsandbytes, which replaces only torch's own class, finds some to replace in a model that is loaded."""
    model = random_model(generation=2026)
    model.resize_token_embeddings(140)
    prepared(model, OWN_CASTS)
    assert model(random_ids(1, 5)).logits.isfinite().all()
    model.save_pretrained(tmp_path)
    loaded = NanochatGPTForCausalLM.from_pretrained(tmp_path)
    assert {name for name, module in loaded.model.layers[0].named_modules() if type(module) is torch.nn.Linear} == {
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
    }  # fmt: skip


def fp8_model(generation=2026):
    """A tiny model that computes in emulated fp8, and its context for evaluations."""
    model = random_model(generation=generation)
    evaluated = without_fp8(model, "fp8")
    return prepared(model, OWN_CASTS, fp8_recipe(emulate=True), precision="fp8"), evaluated


@needs_torchao
@pytest.mark.parametrize("generation", [2025, 2026])
def test_the_matrices_of_the_blocks_compute_in_fp8_but_the_first(generation):
    plain = dict(NanochatGPTForCausalLM(tiny_config(generation)).named_modules())
    model, _ = fp8_model(generation)
    changed = {name for name, module in model.named_modules() if type(module).__name__ == "Float8Linear"}
    matrices = ("q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2")
    assert changed == {name for name in plain if name.endswith(matrices)} - {FIRST_LINEAR}
    assert changed == {name for name in plain if suits_fp8(plain[name], name)}


@needs_torchao
def test_training_in_fp8_learns_like_bf16_and_saves_a_plain_checkpoint(tmp_path):
    ids = random_ids(4, 33)
    model, evaluated = fp8_model()
    twin = random_model(generation=2026)
    compute_in_bf16(twin)
    optimizers = [build_optimizer("muon", each, plan_of(depth=2).optimizer) for each in (model, twin)]
    losses = []
    for _ in range(12):
        losses.append([])
        for each, optimizer in zip((model, twin), optimizers, strict=True):
            loss = training_loss(each, ids)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses[-1].append(loss.item())
    assert losses[-1][0] < 0.8 * losses[0][0]
    assert losses[0][0] != losses[0][1]  # fp8 was at work
    # Of 5.9 at first. What they end near, when they know the batch by heart, is the rounding's, and the CPU's.
    assert [a for a, _ in losses] == pytest.approx([b for _, b in losses], rel=0.05, abs=0.1)

    model.save_pretrained(tmp_path)
    loaded = NanochatGPTForCausalLM.from_pretrained(tmp_path)
    assert {type(module).__name__ for module in loaded.modules() if isinstance(module, torch.nn.Linear)} == {
        "Linear", "ZeroInitLinear", "MLPInput", "Head", "Gate",
    }  # fmt: skip
    compute_in_bf16(loaded)
    with evaluated(), torch.no_grad():
        assert training_loss(model, ids).item() == training_loss(loaded, ids).item()
    with torch.no_grad():
        assert training_loss(model, ids).item() != training_loss(loaded, ids).item()  # in fp8 again


@needs_torchao
def test_a_step_in_fp8_compiles_to_one_graph():
    ids = random_ids(2, 33)
    model, _ = fp8_model(2025)
    eager = training_loss(model, ids)
    torch._dynamo.reset()
    compiled = training_loss(torch.compile(model, backend="aot_eager", fullgraph=True), ids)
    compiled.backward()
    assert compiled.item() == pytest.approx(eager.item(), rel=1e-3)
    assert all(parameter.grad is not None for parameter in model.parameters())


@needs_torchao
def test_an_evaluation_that_fails_leaves_the_model_in_fp8():
    model, evaluated = fp8_model()
    before = dict(model.named_modules())
    with pytest.raises(ZeroDivisionError), evaluated():
        assert type(model.get_submodule("model.layers.1.mlp.fc1")).__name__ == "MLPInput"
        raise ZeroDivisionError
    assert dict(model.named_modules()) == before


def test_other_precisions_are_evaluated_as_they_are():
    assert without_fp8(NanochatGPTForCausalLM(tiny_config(2025)), "bf16") is nullcontext


def test_fp8_is_refused_where_it_cannot_run_or_does_not_pay(monkeypatch):
    ours = tiny_config(2026)
    with pytest.raises(InputError, match="depth of about 24, and this model has 3.*--fp8_from_depth 3"):
        check_fp8("fp8", ours, 24)
    with pytest.raises(InputError, match="does not train models of type gpt2"):
        check_fp8("fp8", GPT2Config(), 1)
    with pytest.raises(InputError, match="does not train LoRA"):
        check_fp8("fp8", ours, 1, adapters=True)
    with pytest.raises(InputError, match=r"fp8 needs an NVIDIA card.*this is a CPU"):
        choose_precision("fp8", CPU)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100-SXM4-80GB")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    with pytest.raises(InputError, match=r"compute capability 8\.9.*A100"):
        choose_precision("fp8", GPU)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert choose_precision("fp8", GPU) == "fp8"
    monkeypatch.setattr("recipes.training.precision.is_torchao_available", lambda: False)
    with pytest.raises(InputError, match="pip install torchao"):
        check_fp8("fp8", ours, 1)
