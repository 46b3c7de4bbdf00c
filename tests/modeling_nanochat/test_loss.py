"""The loss without logits is the ordinary loss, and the logits never exist at once."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from modeling_nanochat import loss_nanochat
from tests.modeling_nanochat.tiny import VOCAB_SIZE, assert_close, gradients, random_ids, random_model

CHUNK = 7  # tokens


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Several chunks a batch, the last of them not full."""
    monkeypatch.setattr(loss_nanochat, "LOSS_CHUNK_BYTES_CPU", 4 * VOCAB_SIZE * CHUNK)


def labels_with_gaps(ids: torch.Tensor) -> torch.Tensor:
    """`ids` as labels, with one row and a few tokens of another ignored, more than a chunk in all."""
    labels = ids.clone()
    labels[0] = -100
    labels[1, 3:6] = -100
    return labels


def loss_and_gradients(model, ids, scale=1.0, **inputs):
    """Loss and its gradients by every parameter, computed at `scale` times the loss, as a gradient scaler does."""
    model.zero_grad()
    loss = model(ids, use_cache=False, **inputs).loss
    (loss * scale).backward()
    return loss.detach(), {name: gradient / scale for name, gradient in gradients(model).items()}


def variants(ids: torch.Tensor) -> dict[str, dict]:
    gaps = labels_with_gaps(ids)
    shifted = random_ids(*ids.shape, seed=5)
    shifted[2, 4:] = -100
    return {
        "plain": {"labels": ids},
        "ignored labels": {"labels": gaps},
        "num_items_in_batch": {"labels": gaps, "num_items_in_batch": 1000},
        "num_items_in_batch as a tensor": {"labels": gaps, "num_items_in_batch": torch.tensor(1000)},
        "shift_labels": {"labels": gaps, "shift_labels": shifted},
        "scaled": {"labels": gaps, "scale": 1024.0},
    }


@pytest.mark.parametrize("cap", [15.0, 3.0, None])
@pytest.mark.parametrize("variant", variants(random_ids(3, 20)))
def test_loss_without_logits_is_the_ordinary_loss(generation, variant, cap):
    model = random_model(generation=generation, final_logit_softcapping=cap)
    ids = random_ids(3, 20)
    inputs = variants(ids)[variant]
    expected = loss_and_gradients(model, ids, **inputs)
    actual = loss_and_gradients(model, ids, **inputs, skip_logits=True)
    assert_close(actual, expected)


def test_loss_without_logits_has_no_logits(model):
    ids = random_ids(2, 8)
    assert model(ids, labels=ids, skip_logits=True).logits is None
    assert model(ids, skip_logits=True).logits.shape == (2, 8, VOCAB_SIZE)  # nothing to skip them for


@pytest.mark.parametrize("cap", [15.0, None])
def test_loss_without_logits_is_the_ordinary_loss_under_autocast(generation, cap):
    model = random_model(generation=generation, final_logit_softcapping=cap)
    ids = random_ids(3, 20)
    with torch.autocast("cpu", torch.bfloat16):
        loss, actual = loss_and_gradients(model, ids, labels=ids, skip_logits=True)
    exact_loss, exact = loss_and_gradients(model, ids, labels=ids)
    with torch.autocast("cpu", torch.bfloat16):
        _, ordinary = loss_and_gradients(model, ids, labels=ids)
    assert loss.item() == pytest.approx(exact_loss.item(), rel=1e-2)
    for name in exact:
        assert actual[name].dtype == torch.float32
        error, ordinary_error = ((each[name] - exact[name]).norm() / exact[name].norm() for each in (actual, ordinary))
        assert error < max(1.6 * ordinary_error, 0.02), name


@pytest.mark.parametrize("frozen", ["lm_head", "model"])
def test_loss_without_logits_trains_beside_frozen_weights(model, frozen):
    for parameter in getattr(model, frozen).parameters():
        parameter.requires_grad_(False)
    ids = random_ids(3, 20)
    grads = []
    for skip_logits in (False, True):
        model.zero_grad()
        model(ids, labels=ids, skip_logits=skip_logits).loss.backward()
        grads.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    parameters = len(list(model.parameters()))
    assert len(grads[0]) == (parameters - 1 if frozen == "lm_head" else 1)
    assert_close(grads[1], grads[0])


def test_loss_without_logits_accumulates_gradients(model):
    ids = random_ids(4, 20)
    loss_and_gradients(model, ids, labels=ids, num_items_in_batch=76)
    expected = gradients(model)
    model.zero_grad()
    for half in ids.chunk(2):
        model(half, labels=half, num_items_in_batch=76, skip_logits=True).loss.backward()
    assert_close(gradients(model), expected)


@settings(max_examples=50, deadline=None)
@given(
    tokens=st.integers(1, 3 * CHUNK + 1),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 30.0]),
    cap=st.sampled_from([None, 15.0, 50.0]),
    ignored=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_linear_cross_entropy_is_cross_entropy_in_fp64(tokens, scale, cap, ignored, seed):
    generator = torch.Generator().manual_seed(seed)
    hidden = (torch.randn(tokens, 8, generator=generator) * scale).requires_grad_()
    weight = torch.randn(VOCAB_SIZE, 8, generator=generator).requires_grad_()
    targets = torch.randint(VOCAB_SIZE, (tokens,), generator=generator)
    targets[torch.rand(tokens, generator=generator) < ignored] = -100

    logits = hidden.double() @ weight.double().T
    capped = logits if cap is None else cap * torch.tanh(logits / cap)
    expected = F.cross_entropy(capped, targets, ignore_index=-100, reduction="sum")
    actual = loss_nanochat.linear_cross_entropy(hidden, weight, targets, cap)
    torch.testing.assert_close(actual.double(), expected, atol=1e-4, rtol=1e-5)
    expected_gradients = torch.autograd.grad(expected, (hidden, weight))
    actual_gradients = torch.autograd.grad(actual, (hidden, weight))
    for actual, expected in zip(actual_gradients, expected_gradients, strict=True):
        assert (actual - expected).norm() <= 1e-4 * expected.norm() + 1e-4


@pytest.mark.parametrize("cap", [None, 15.0])
def test_extreme_logits_give_a_finite_loss_and_gradient(cap):
    hidden = (random_ids(10, 8) * 1e6).float().requires_grad_()
    weight = (random_ids(VOCAB_SIZE, 8, seed=1) - 66.0).requires_grad_()
    loss = loss_nanochat.linear_cross_entropy(hidden, weight, random_ids(10), cap)
    for value in (loss, *torch.autograd.grad(loss, (hidden, weight))):
        assert value.isfinite().all()


class LogitRows(TorchDispatchMode):
    """Records how many rows of logits (or of anything of the vocabulary's width) the largest result held."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.width = weight.size(1)  # of what has rows for the vocabulary, but no logits
        self.most = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        results = function(*args, **(kwargs or {}))
        for result in tree_leaves(results):
            if torch.is_tensor(result) and VOCAB_SIZE in result.shape and self.width not in result.shape:
                self.most = max(self.most, result.numel() // VOCAB_SIZE)
        return results


@pytest.mark.parametrize("autocast", [False, True])
def test_logits_of_a_whole_batch_never_exist_at_once(model, autocast):
    ids = random_ids(3, 20)
    most = {}
    for skip_logits in (False, True):
        with LogitRows(model.lm_head.weight) as rows, torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            model(ids, labels=ids, skip_logits=skip_logits, use_cache=False).loss.backward()
        most[skip_logits] = rows.most
    assert most == {False: 60, True: CHUNK}


class Operations(TorchDispatchMode):
    """Names the operations whose result is as wide, or as long, as the vocabulary."""

    def __init__(self) -> None:
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        results = function(*args, **(kwargs or {}))
        if any(torch.is_tensor(result) and VOCAB_SIZE in result.shape for result in tree_leaves(results)):
            self.names.append(function.overloadpacket.__name__)
        return results


GRADIENTS_OWN = {"eq", "div", "arange", "square", "pow"}  # one-hot targets, probabilities, the cap's slope


@pytest.mark.parametrize("how", ["no_grad", "inference_mode", "frozen"])
@pytest.mark.parametrize("cap", [15.0, 80.0, None])
def test_a_loss_that_nobody_differentiates_computes_no_gradient(how, cap):
    model, ids = random_model(final_logit_softcapping=cap), random_ids(3, 20)
    with Operations() as training:
        expected = model(ids, labels=ids, skip_logits=True).loss
    if how == "frozen":
        model.requires_grad_(False)
    context = {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode, "frozen": torch.enable_grad}[how]
    with context(), Operations() as evaluation:
        loss = model(ids, labels=ids, skip_logits=True).loss
    assert torch.equal(loss, expected) and not loss.requires_grad
    assert set(training.names) & GRADIENTS_OWN and not set(evaluation.names) & GRADIENTS_OWN
    chunks = -(-60 // CHUNK)
    assert evaluation.names.count("mm") + evaluation.names.count("matmul") == chunks  # by the mode
    assert training.names.count("mm") == 2 * chunks


@pytest.mark.parametrize(("frozen", "products"), [("lm_head", 2), ("model", 2), (None, 3)])
def test_gradients_of_frozen_weights_are_not_computed(model, frozen, products):
    """Products of the logits, by the head's input and by its weight."""
    ids = random_ids(3, 20)
    with FlopCounterMode(display=False) as whole, torch.no_grad():
        model(ids, labels=ids, skip_logits=True)
    if frozen:
        getattr(model, frozen).requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        model(ids, labels=ids, skip_logits=True)
    head = 2 * ids.numel() * VOCAB_SIZE * model.config.hidden_size
    assert counter.get_total_flops() - whole.get_total_flops() == (products - 1) * head


class DoubledHead(torch.nn.Linear):
    """Stands for an adapter around the head: its forward is not its weight alone."""

    def forward(self, x):
        return 2 * super().forward(x)


def test_a_head_with_its_own_forward_is_asked_and_not_bypassed(model):
    ids = random_ids(2, 12)
    head = DoubledHead(model.config.hidden_size, model.config.padded_vocab_size, bias=False)
    head.load_state_dict(model.lm_head.state_dict())
    model.lm_head = head
    assert_close(model(ids, labels=ids, skip_logits=True).loss, model(ids, labels=ids).loss, 1e-6)
