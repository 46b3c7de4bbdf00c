"""Quantized weights. torchao is not among the installed packages: `make test` runs this file a second time with it."""

import pytest
import torch
from transformers import AutoModelForCausalLM, TorchAoConfig
from transformers.utils.import_utils import is_torchao_available

from modeling_nanochat import NanochatGPTForCausalLM
from tests.modeling_nanochat.tiny import assert_close, random_ids, random_model

needs_torchao = pytest.mark.skipif(not is_torchao_available(), reason="needs torchao")


@pytest.fixture(params=[2025, 2026])
def model(request) -> NanochatGPTForCausalLM:
    return random_model(generation=request.param)


@needs_torchao
@torch.no_grad()
def test_weights_of_eight_bits_give_nearly_the_same(model):
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    ids = random_ids(2, 9)
    expected = model(ids).logits
    quantize_(model, Int8WeightOnlyConfig())
    outputs = model(ids, labels=ids)
    assert 0 < (outputs.logits - expected).abs().mean() < 0.2
    assert_close(model(ids, labels=ids, skip_logits=True).loss, outputs.loss)
    written = model.generate(ids, max_new_tokens=8, do_sample=False, pad_token_id=0)
    whole = model(written).logits[:, 8:-1]
    assert (whole.gather(-1, written[:, 9:, None])[..., 0] - whole.amax(-1)).abs().max() < 0.05


@needs_torchao
@torch.no_grad()
def test_a_checkpoint_is_quantized_by_groups_of_weights_as_it_is_loaded_and_saved_so(model, tmp_path):
    from torchao.quantization import Int8DynamicActivationIntxWeightConfig

    ids = random_ids(2, 9)
    expected = model(ids).logits
    model.save_pretrained(tmp_path / "plain")
    config = TorchAoConfig(Int8DynamicActivationIntxWeightConfig())
    quantized = AutoModelForCausalLM.from_pretrained(tmp_path / "plain", quantization_config=config)
    logits = quantized(ids).logits
    assert 0 < (logits - expected).abs().mean() < 0.3
    quantized.save_pretrained(tmp_path / "quantized")
    assert_close(AutoModelForCausalLM.from_pretrained(tmp_path / "quantized")(ids).logits, logits)
    if model.config.smear:  # gates have fewer channels than a group
        assert type(quantized.model.smear_gate.weight) is torch.nn.Parameter


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_checkpoint_loads_in_half_the_bits(model, tmp_path, dtype):
    ids = random_ids(2, 9)
    expected = model(ids).logits
    model.save_pretrained(tmp_path)
    half = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype)
    assert_close(half(ids).logits.float(), expected, 0.3)
    kept = {name for name, each in half.named_parameters() if each.dtype != dtype}
    assert all("gate" in name for name in kept), "only gates keep fp32, in fp16"
    assert half.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0).shape == (2, 13)
