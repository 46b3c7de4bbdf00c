"""Each step of 2026's Muon follows its definition, alone and with the others; states go only to the same steps."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from recipes.training.muon import (
    MUON_2025,
    MUON_2026,
    ORTHOGONALIZATIONS,
    Muon,
    MuonSteps,
    add_cautious_decay_,
    equilibrate_rows_,
    normalize_neurons_,
    orthogonalize,
    renormalize_,
)
from tests.recipes.training.matrices import gradient, parameter, random, take_steps

SHAPES = {"square": (12, 12), "wide": (8, 24), "tall": (24, 8), "column": (7, 1), "row": (1, 7)}
ONE_ON = {
    "polar_express": replace(MUON_2025, orthogonalization="polar_express"),
    "equilibrate_rows": replace(MUON_2025, equilibrate_rows=True),
    "renormalize": replace(MUON_2025, renormalize=True),
    "second_moment": replace(MUON_2025, second_moment=0.8),
    "cautious": replace(MUON_2025, cautious=True),
}
ONE_OFF = {
    "no polar_express": replace(MUON_2026, orthogonalization="newton_schulz"),
    "no equilibrate_rows": replace(MUON_2026, equilibrate_rows=False),
    "no renormalize": replace(MUON_2026, renormalize=False),
    "no second_moment": replace(MUON_2026, second_moment=None),
    "no cautious": replace(MUON_2026, cautious=False),
}


# Slow and obvious, for one matrix (outputs, inputs) in fp64


def slow_equilibrated(matrix):
    target = (sum(row.norm() ** 2 for row in matrix) / len(matrix)) ** 0.5
    return torch.stack([row * target / row.norm() for row in matrix])


def slow_newton_schulz(matrix):
    return slow_polynomials(matrix / (matrix.norm() + 1e-7), [(3.4445, -4.7750, 2.0315)] * 5)


def slow_polar_express(matrix):
    return slow_polynomials(matrix / (1.01 * matrix.norm() + 1e-6), polar_express_polynomials())


def slow_polynomials(x, polynomials):
    for a, b, c in polynomials:
        x = a * x + b * x @ x.T @ x + c * x @ x.T @ x @ x.T @ x
    return x


def slow_renormalized(matrix):
    return matrix / matrix.norm() * min(matrix.shape) ** 0.5


def slow_normalized(matrix, second_moments, beta2):
    """`second_moments` is a list of one number for each row, or each column where there are more of them."""
    by_row = matrix.shape[0] >= matrix.shape[1]
    neurons = []
    for i, neuron in enumerate(matrix if by_row else matrix.T):
        second_moments[i] = beta2 * second_moments[i] + (1 - beta2) * (neuron**2).mean()
        neurons.append(neuron / second_moments[i] ** 0.5)
    scaled = torch.stack(neurons) if by_row else torch.stack(neurons).T
    return scaled / scaled.norm() * matrix.norm()


def slow_muon(weight, gradients, steps: MuonSteps, lr, weight_decay, momentum):
    """The definition, with each of its steps."""
    weight = weight.double()
    outputs, inputs = weight.shape
    average = torch.zeros_like(weight)
    second_moments = [0.0] * max(outputs, inputs)
    rate = lr * max(1.0, outputs / inputs) ** 0.5
    for each in gradients:
        average = momentum * average + (1 - momentum) * each.double()
        update = momentum * average + (1 - momentum) * each.double()
        if steps.equilibrate_rows:
            update = slow_equilibrated(update)
        update = (
            slow_polar_express(update) if steps.orthogonalization == "polar_express" else slow_newton_schulz(update)
        )
        if steps.renormalize:
            update = slow_renormalized(update)
        if steps.second_moment is not None:
            update = slow_normalized(update, second_moments, steps.second_moment)
        if steps.cautious:
            decays = (update * weight >= 0).double()
            weight = weight - rate * update - rate * weight_decay * decays * weight
        else:
            weight = weight - lr * weight_decay * weight - rate * update
    return weight


@cache
def polar_express_polynomials(lowest=1e-3, iterations=5, safety=2e-2, cushion=2e-2):
    """The algorithm of arXiv 2505.16932: compose the best polynomials for singular values from `lowest` to 1."""
    polynomials, low, high = [], lowest, 1.0
    for iteration in range(iterations):
        # No lower than a share of the highest, or the first iterations would do little for most singular values.
        a, b, c = best_quintic(max(low, cushion * high), high)
        ends = [a * x + b * x**3 + c * x**5 for x in (low, high)]
        if low < cushion * high:  # then it is not centered around 1
            a, b, c = (2 / sum(ends) * each for each in (a, b, c))
        if iteration < iterations - 1:  # a margin for what rounding adds
            a, b, c = a / (1 + safety), b / (1 + safety) ** 3, c / (1 + safety) ** 5
        polynomials.append((a, b, c))
        low = a * low + b * low**3 + c * low**5
        high = 2 - low
    return polynomials


def best_quintic(low, high):
    """The odd polynomial a x + b x^3 + c x^5 that is nearest to 1 from `low` to `high`: its error equioscillates."""
    inner = np.array([(3 * low + high) / 4, (low + 3 * high) / 4])
    for _ in range(50):  # Remez
        points = [low, *inner, high]
        system = [[x, x**3, x**5, sign] for x, sign in zip(points, (1, -1, 1, -1), strict=True)]
        a, b, c, _error = np.linalg.solve(system, np.ones(4))
        root = np.sqrt(9 * b**2 - 20 * a * c)  # of the derivative a + 3 b x^2 + 5 c x^4
        inner = np.sqrt((-3 * b + np.array([-1, 1]) * root) / (10 * c))
    return float(a), float(b), float(c)


# Step by step


def test_polar_express_has_the_polynomials_of_its_paper():
    polynomials = ORTHOGONALIZATIONS["polar_express"].coefficients
    np.testing.assert_allclose(polynomials, polar_express_polynomials(), rtol=1e-11)


def test_polar_express_takes_singular_values_closer_to_one_than_newton_schulz():
    values = torch.logspace(-2, 0, 30)
    values /= values.norm()
    far = {
        method: (orthogonalize(torch.diag(values)[None], method, torch.float32)[0].diagonal() - 1).abs().max()
        for method in ORTHOGONALIZATIONS
    }
    assert far["polar_express"] < 0.15 < 0.3 < far["newton_schulz"]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_equilibrated_rows_have_one_norm_and_the_matrix_keeps_its_own(shape):
    batch = random(3, *shape) * torch.tensor([1e-3, 1.0, 50.0])[:, None, None]
    expected = torch.stack([slow_equilibrated(matrix.double()) for matrix in batch])
    stored_transposed = equilibrate_rows_(batch.mT.clone(), inputs_dim=-2).mT
    result = equilibrate_rows_(batch.clone())
    torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(stored_transposed, result, rtol=1e-5, atol=0)
    torch.testing.assert_close(result.norm(dim=(1, 2)), batch.norm(dim=(1, 2)))
    row_norms = result.norm(dim=2)
    torch.testing.assert_close(row_norms, row_norms[:, :1].expand_as(row_norms))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_renormalized_matrix_has_the_norm_of_a_semi_orthogonal_one(shape):
    result = renormalize_(random(3, *shape))
    torch.testing.assert_close(result.norm(dim=(1, 2)), torch.full((3,), min(shape) ** 0.5))
    torch.testing.assert_close(result[1].double(), slow_renormalized(random(3, *shape)[1].double()), rtol=1e-5, atol=0)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_neurons_are_normalized_by_their_running_second_moment_and_the_norm_stays(shape):
    longer = max(shape)
    moments = [torch.zeros(longer, 1) if shape[0] >= shape[1] else torch.zeros(1, longer) for _ in range(2)]
    slow_moments = [[0.0] * longer for _ in range(2)]
    for seed in range(4):
        updates = random(2, *shape, seed=seed)
        result = normalize_neurons_(updates.clone(), moments, beta2=0.9)
        expected = [slow_normalized(u.double(), m, 0.9) for u, m in zip(updates, slow_moments, strict=True)]
        torch.testing.assert_close(result.double(), torch.stack(expected), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(result.norm(dim=(1, 2)), updates.norm(dim=(1, 2)))
    for moment, slow in zip(moments, slow_moments, strict=True):
        torch.testing.assert_close(moment.flatten().double(), torch.stack(slow), rtol=1e-5, atol=0)


def test_weights_decay_only_where_the_update_makes_them_smaller():
    weights = [torch.tensor([[2.0, -2.0, 2.0, -2.0, 2.0, 0.0]])]
    update = torch.tensor([[0.5, 0.5, -0.5, -0.5, 0.0, 0.5]])
    (result,) = add_cautious_decay_([update.clone()], weights, 0.1)
    torch.testing.assert_close(result - update, torch.tensor([[0.2, 0.0, 0.0, -0.2, 0.2, 0.0]]))


# Together


@pytest.mark.parametrize("transposed", [False, True], ids=["", "transposed"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(
    "steps",
    [MUON_2026, *ONE_ON.values(), *ONE_OFF.values()],
    ids=["2026", *ONE_ON, *ONE_OFF],
)
def test_a_group_equals_the_definition_of_its_steps(steps, shape, transposed):
    params = [parameter(*shape, seed=seed) for seed in range(2)]
    starts = [p.detach().clone() for p in params]
    groups = [{"kind": "muon", "params": params, "transposed": transposed}]
    momentum = {"momentum_start": 0.9, "momentum": 0.9}
    optimizer = Muon(groups, lr=0.05, weight_decay=0.3, orthogonalize_dtype=torch.float32, steps=steps, **momentum)
    take_steps(optimizer, params, 20)
    for number, (p, start) in enumerate(zip(params, starts, strict=True)):
        gradients = [gradient(shape, step, number) for step in range(20)]
        if transposed:
            expected = slow_muon(start.T, [each.T for each in gradients], steps, 0.05, 0.3, 0.9).T
        else:
            expected = slow_muon(start, gradients, steps, 0.05, 0.3, 0.9)
        torch.testing.assert_close(p.detach(), expected.float(), atol=1e-4, rtol=1e-4)


def test_groups_of_one_optimizer_take_steps_of_their_own():
    params = [parameter(8, 24), parameter(8, 24)]
    groups = [{"kind": "muon", "params": params[:1]}, {"kind": "muon", "params": params[1:], "second_moment": 0.9}]
    optimizer = Muon(groups)
    take_steps(optimizer, params, 2)
    assert set(optimizer.state[params[0]]) == {"step", "momentum_buffer"}
    assert optimizer.state[params[1]]["second_moment_buffer"].shape == (1, 24)
    assert not torch.equal(*params)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_zero_gradient_only_decays(shape, dtype):
    p = parameter(*shape)
    start = p.detach().clone()
    optimizer = Muon(
        [{"kind": "muon", "params": [p]}], lr=0.5, weight_decay=0.1, orthogonalize_dtype=dtype, steps=MUON_2026
    )
    p.grad = torch.zeros_like(p)
    optimizer.step()
    torch.testing.assert_close(p.detach(), start * (1 - 0.05 * max(1, shape[0] / shape[1]) ** 0.5))


# States


def state_of(steps: MuonSteps) -> dict:
    p = parameter(8, 24)
    optimizer = Muon([{"kind": "muon", "params": [p]}], steps=steps)
    take_steps(optimizer, [p], 1)
    return optimizer.state_dict()


@pytest.mark.parametrize(
    ("saved", "mine", "message"),
    [
        (
            MUON_2025,
            MUON_2026,
            "the optimizer's state is that of the Muon of 2025, but this one is the Muon of 2026: ",
        ),
        (
            MUON_2026,
            MUON_2025,
            "the optimizer's state is that of the Muon of 2026, but this one is the Muon of 2025: ",
        ),
        (
            ONE_OFF["no equilibrate_rows"],
            MUON_2026,
            "is that of a Muon with orthogonalization=polar_express, equilibrate_rows=False, renormalize=True, ",
        ),
    ],
)
def test_a_state_of_other_steps_is_refused_in_one_line(saved, mine, message):
    optimizer = Muon([{"kind": "muon", "params": [parameter(8, 24)]}], steps=mine)
    with pytest.raises(ValueError) as error:
        optimizer.load_state_dict(state_of(saved))
    assert message in str(error.value) and "start without the state" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_state_that_was_saved_before_there_were_steps_is_that_of_2025():
    state = state_of(MUON_2025)
    for name in MuonSteps.__annotations__:
        del state["param_groups"][0][name]
    p = parameter(8, 24)
    optimizer = Muon([{"kind": "muon", "params": [p]}])
    optimizer.load_state_dict(state)
    take_steps(optimizer, [p], 1)
    with pytest.raises(ValueError, match="the Muon of 2025, but this one is the Muon of 2026"):
        Muon([{"kind": "muon", "params": [p]}], steps=MUON_2026).load_state_dict(state)
