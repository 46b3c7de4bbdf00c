"""Muon follows its definition; the parameters beside its matrices get torch's AdamW."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.training.muon import MUON_2025, MUON_2026, Muon, orthogonalize
from tests.recipes.training.matrices import gradient, parameter, random, take_steps

SHAPES = {"square": (12, 12), "wide": (8, 24), "tall": (24, 8), "column": (7, 1), "row": (1, 7)}


def slow_orthogonalize(matrix):
    """Five steps of a x + b (x x^T) x + c (x x^T)^2 x, one matrix (R, C), R <= C."""
    x = matrix / matrix.norm()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x - 4.7750 * gram @ x + 2.0315 * gram @ gram @ x
    return x


def slow_muon(weight, gradients, lr, weight_decay=0.0, momentum_warmup=300):
    """The definition, for one matrix (outputs, inputs), in fp64."""
    weight = weight.double()
    outputs, inputs = weight.shape
    average = torch.zeros_like(weight)
    for step, each in enumerate(gradients):
        momentum = 0.85 + (0.95 - 0.85) * min(1.0, step / momentum_warmup)
        average = momentum * average + (1 - momentum) * each.double()
        lookahead = momentum * average + (1 - momentum) * each.double()
        update = slow_orthogonalize(lookahead) if outputs <= inputs else slow_orthogonalize(lookahead.T).T
        weight = weight - lr * weight_decay * weight
        weight = weight - lr * max(1.0, outputs / inputs) ** 0.5 * update
    return weight


# Orthogonalization


def matrix_with_singular_values(values, rows, columns, seed):
    left, _ = torch.linalg.qr(random(rows, len(values), seed=seed, dtype=torch.float64))
    right, _ = torch.linalg.qr(random(columns, len(values), seed=seed + 1, dtype=torch.float64))
    return left @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ right.T


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(0.05, 1.0), min_size=1, max_size=40),
    longer=st.integers(0, 40),
    tall=st.booleans(),
    scale=st.sampled_from([1e-4, 1.0, 1e4]),
    dtype=st.sampled_from([torch.bfloat16, torch.float32]),
    seed=st.integers(0, 1000),
)
def test_singular_values_end_near_one_and_singular_vectors_stay(values, longer, tall, scale, dtype, seed):
    short, long = len(values), len(values) + longer
    rows, columns = (long, short) if tall else (short, long)
    matrix = matrix_with_singular_values(values, rows, columns, seed) * scale
    result = orthogonalize(matrix.float()[None], dtype=dtype)[0]
    singular = torch.linalg.svdvals(result)
    assert singular.min() > 0.6 and singular.max() < 1.3
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    assert (u.T @ result.double() @ vh.T).diagonal().min() > 0.5  # close to U V^T, not to any orthogonal matrix


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", [(64, 256), (256, 64), (96, 200)])
def test_random_matrices_are_orthogonalized(shape, dtype):
    singular = torch.linalg.svdvals(orthogonalize(random(3, *shape), dtype=dtype))
    assert singular.min() > 0.6 and singular.max() < 1.3


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_matrices_of_a_batch_do_not_touch_each_other(shape):
    batch = random(4, *shape) * torch.tensor([1e-3, 1.0, 1e3, 5.0])[:, None, None]
    together = orthogonalize(batch, dtype=torch.float32)
    for matrix, result in zip(batch, together, strict=True):
        torch.testing.assert_close(orthogonalize(matrix[None], dtype=torch.float32)[0], result, atol=1e-4, rtol=0)


def test_a_zero_gradient_gives_a_zero_update():
    assert not orthogonalize(torch.zeros(2, 5, 9)).any()


# Updates


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_muon_equals_its_definition_matrix_by_matrix(shape, transposed, weight_decay):
    params = [parameter(*shape, seed=seed) for seed in range(3)]
    starts = [p.detach().clone() for p in params]
    groups = [{"kind": "muon", "params": params, "transposed": transposed, "weight_decay": weight_decay}]
    optimizer = Muon(groups, lr=0.1, momentum_warmup=4, orthogonalize_dtype=torch.float32)
    take_steps(optimizer, params, 8)
    for number, (p, start) in enumerate(zip(params, starts, strict=True)):
        gradients = [gradient(shape, step, number) for step in range(8)]
        if transposed:
            expected = slow_muon(start.T, [each.T for each in gradients], 0.1, weight_decay, 4).T
        else:
            expected = slow_muon(start, gradients, 0.1, weight_decay, 4)
        torch.testing.assert_close(p.detach(), expected.float(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("steps", [MUON_2025, MUON_2026], ids=str)
def test_bf16_products_move_the_weights_almost_as_fp32_does(steps):
    ends = []
    for dtype in (torch.float32, torch.bfloat16):
        p = parameter(48, 96)
        start = p.detach().clone()
        take_steps(Muon([{"kind": "muon", "params": [p]}], orthogonalize_dtype=dtype, steps=steps), [p], 3)
        ends.append(p.detach() - start)
    assert (ends[0] - ends[1]).norm() < 0.05 * ends[0].norm()


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adamw_groups_equal_torchs_adamw(weight_decay):
    settings_of_adamw = {"lr": 0.03, "betas": (0.8, 0.95), "eps": 1e-10, "weight_decay": weight_decay}
    ours = [parameter(9, 4), parameter(5, seed=1), parameter(2, 3, 4, seed=2)]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    take_steps(Muon([{"kind": "adamw", "params": ours, **settings_of_adamw}]), ours, 6)
    take_steps(torch.optim.AdamW(theirs, **settings_of_adamw), theirs, 6)
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, atol=1e-6, rtol=1e-6)


def make_groups():
    """Two matrices of one shape, one of another stored transposed, and two parameters for AdamW."""
    params = [parameter(8, 16, seed=0), parameter(8, 16, seed=1), parameter(16, 8, seed=2)]
    params += [parameter(10, 8, seed=3), parameter(8, seed=4)]
    groups = [
        {"kind": "muon", "params": params[:2]},
        {"kind": "muon", "params": params[2:3], "transposed": True, "lr": 0.01},
        {"kind": "adamw", "params": params[3:], "lr": 0.02},
    ]
    return params, groups


@pytest.mark.parametrize("steps", [MUON_2025, MUON_2026], ids=str)
def test_a_saved_and_loaded_optimizer_goes_on_identically(tmp_path, steps):
    settings_of_both = {"momentum_warmup": 5, "weight_decay": 0.1, "steps": steps}
    whole, groups = make_groups()
    take_steps(Muon(groups, **settings_of_both), whole, 7)

    first, groups = make_groups()
    optimizer = Muon(groups, **settings_of_both)
    take_steps(optimizer, first, 3)
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")

    resumed, groups = make_groups()
    for p, q in zip(resumed, first, strict=True):
        p.data.copy_(q)
    optimizer = Muon(groups, **settings_of_both)
    optimizer.load_state_dict(torch.load(tmp_path / "optimizer.pt", weights_only=True))
    take_steps(optimizer, resumed, 4, first=3)
    for p, q in zip(resumed, whole, strict=True):
        assert torch.equal(p, q)


def test_a_loaded_state_lies_where_the_parameters_lie():
    """A GPU's fused AdamW reads its count of steps on the GPU, and checkpoints are loaded to the CPU first."""
    params, groups = make_groups()
    optimizer = Muon(groups)
    take_steps(optimizer, params, 1)
    elsewhere = [torch.nn.Parameter(p.detach().to("meta")) for p in params]
    _, groups = make_groups()
    for group, (first, last) in zip(groups, [(0, 2), (2, 3), (3, 5)], strict=True):
        group["params"] = elsewhere[first:last]
    loaded = Muon(groups)
    loaded.load_state_dict(optimizer.state_dict())
    for p in elsewhere[3:]:
        assert {value.device.type for value in loaded.state[p].values()} == {"meta"}


def test_parameters_without_a_gradient_are_left_alone():
    params, groups = make_groups()
    before = [p.detach().clone() for p in params]
    optimizer = Muon(groups)
    with_gradient = {1, 3}
    for number in with_gradient:
        params[number].grad = random(*params[number].shape, seed=9)
    optimizer.step()
    assert {n for n, p in enumerate(params) if not torch.equal(p, before[n])} == with_gradient
    assert set(optimizer.state) == {params[n] for n in with_gradient}


def test_a_closure_is_called_with_gradients_on_and_its_loss_returned():
    p = parameter(4, 6)
    optimizer = Muon([{"kind": "muon", "params": [p]}])
    before = p.detach().clone()

    def closure():
        loss = p.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == pytest.approx(before.square().sum().item())
    assert not torch.equal(p, before)


@pytest.mark.parametrize(
    ("group", "named"),
    [
        ({"params": [torch.zeros(2, 2)]}, "'muon' or 'adamw', not None"),
        ({"kind": "sgd", "params": [torch.zeros(2, 2)]}, "'muon' or 'adamw', not 'sgd'"),
        ({"kind": "muon", "params": [torch.zeros(3)]}, "not a matrix"),
        ({"kind": "muon", "params": [torch.zeros(2, 2), torch.zeros(2, 2, 2)]}, "not a matrix"),
        (
            {"kind": "muon", "params": [torch.zeros(2, 2)], "orthogonalization": "svd"},
            "must be 'newton_schulz' or 'polar_express', not 'svd'",
        ),
    ],
)
def test_impossible_groups_are_refused(group, named):
    with pytest.raises(ValueError, match=named):
        Muon([group])
