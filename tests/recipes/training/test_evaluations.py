"""Bits per byte in the loop: of the compiled model what they are of the bare one, without compiling anew each time."""

from types import SimpleNamespace

import datasets
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import TorchDynamoPlugin
from torch._dynamo.utils import counters

from evals.tokenizer.samples import DOMAINS
from recipes.training import evaluations
from recipes.training.checkpoints import unwrap
from recipes.training.evaluations import bits_per_byte_evaluation, is_compiled
from recipes.training.loop import rows_loss
from tests.modeling_nanochat.tiny import GENERATIONS, random_model


def accelerator(**options) -> Accelerator:
    return Accelerator(cpu=True, **options)


def evaluation(tokenizer, accelerator, rows_at_a_time):
    """Of 10 rows."""
    documents = datasets.Dataset.from_list([{"text": text} for text in DOMAINS.values()]).to_iterable_dataset()
    plan = SimpleNamespace(max_seq_len=32, device_batch_size=rows_at_a_time)
    return bits_per_byte_evaluation(documents, tokenizer, accelerator, plan, 320, every=1)


@pytest.mark.slow
@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_compiled_model_has_the_bits_per_byte_of_the_bare_one_and_is_compiled_once(
    tokenizer, generation, fresh_accelerate, monkeypatch
):
    """Also between steps of training, and with a last batch of fewer rows than the others."""
    model = random_model(generation=generation, vocab_size=len(tokenizer)).train()
    expected = evaluation(tokenizer, accelerator(), 4).measure(model)
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setattr(evaluations, "is_compiled", lambda accelerator: True)
    compiling = accelerator(dynamo_plugin=TorchDynamoPlugin(backend="aot_eager", dynamic=False))
    torch._dynamo.reset()
    counters.clear()
    trained, measure = compiling.prepare(model), evaluation(tokenizer, compiling, 4).measure
    graphs = []
    for _ in range(3):
        rows_loss(trained, torch.zeros(4, 33, dtype=torch.long), 128).backward()
        assert measure(unwrap(trained)) == pytest.approx(expected, rel=1e-5)
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs == [2] * 3, "one of the step, and one of the evaluation"
    assert model.training


def test_on_a_cpu_evaluations_are_too_short_to_compile(fresh_accelerate):
    assert not is_compiled(accelerator(dynamo_plugin=TorchDynamoPlugin(backend="aot_eager")))
