"""The estimate of memory, held to what torch's own tools say of the same step."""

import pytest

from benchmarks.memory import DEFAULT_VOCABULARY, measure_step
from modeling_nanochat import NanochatGPTConfig
from recipes.training.memory import estimate_memory
from recipes.utils.model_facts import describe_config


def compare(
    depth: int, generation: int, rows: int, compiled: bool, recompute: bool = False, length: int = 2048
) -> tuple[dict, dict]:
    config = NanochatGPTConfig.from_depth(
        depth, DEFAULT_VOCABULARY[generation], generation=generation, max_position_embeddings=length
    )
    facts = describe_config(config, length)
    estimate = estimate_memory(facts, rows, length, recompute, trainer=not compiled)
    return measure_step(config, rows, compiled, recompute), estimate


@pytest.mark.slow
@pytest.mark.parametrize(
    ("depth", "generation", "rows", "compiled", "recompute"),
    [
        (2, 2025, 8, True, False),
        (4, 2026, 4, True, False),
        (4, 2025, 4, False, False),
        (4, 2026, 1, False, True),
    ],
)
def test_the_estimate_is_within_a_tenth_of_what_the_tools_say(depth, generation, rows, compiled, recompute):
    measured, estimate = compare(depth, generation, rows, compiled, recompute)
    assert sum(estimate.values()) == pytest.approx(sum(measured.values()), rel=0.1)
    assert estimate["gradients"] == measured["gradients"]
    assert estimate["optimizer"] == pytest.approx(measured["optimizer"], rel=0.01)
    for part in ("weights", "activations", "loss"):
        assert estimate[part] == pytest.approx(measured[part], abs=0.1 * sum(measured.values()))


@pytest.mark.slow
def test_where_the_update_is_the_peak_the_estimate_says_so():
    measured, estimate = compare(12, 2025, 1, compiled=False, length=64)
    assert set(measured) == set(estimate)
    assert sum(estimate.values()) == pytest.approx(sum(measured.values()), rel=0.1)
