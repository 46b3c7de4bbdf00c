"""What would generate from another model than is trained is refused in a line; what would not is not."""

import sys

import pytest
from transformers import NanoChatConfig, NanoChatForCausalLM

from modeling_nanochat import NanochatGPTForCausalLM
from recipes.grpo import TrainerConfig
from recipes.training.rollout_checks import VLLM_BACKEND, check_generation
from recipes.utils.errors import InputError
from tests.modeling_nanochat.tiny import tiny_config

CONVERTED = NanoChatForCausalLM(
    NanoChatConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
)
BY_TRANSFORMERS = {"use_vllm": True, "vllm_model_impl": "transformers"}


@pytest.fixture
def vllm(tmp_path, monkeypatch):
    """A function that makes a package called vllm, whose backend has that text, importable."""

    def install(text: str) -> None:
        backend = tmp_path / "vllm" / VLLM_BACKEND
        backend.parent.mkdir(parents=True)
        backend.write_text(text)
        (tmp_path / "vllm" / "__init__.py").touch()
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "vllm", raising=False)

    return install


def refused(model, tmp_path, **options) -> str:
    args = TrainerConfig(output_dir=str(tmp_path / "run"), report_to="none", use_cpu=True, bf16=False, **options)
    with pytest.raises(InputError) as error:
        check_generation(args, model)
    return str(error.value)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"use_transformers_continuous_batching": True}, "rounds the weights that are trained to bf16"),
        ({"cache_implementation": "static"}, "cache_implementation has no effect here"),
        ({"generation_kwargs": {"num_beams": 2, "typical_p": 0.9}}, "generation_kwargs: num_beams cannot be set here"),
        ({"temperature": 2.0, "top_k": 3, "top_p": 0.9, "beta": 0.1}, "as it cannot with top_p, beta: leave that out"),
        ({"temperature": 1.5, "num_iterations": 2}, "temperature 1.5 with top_k 50: above temperature 1 the loss"),
        ({"sampling_rounds": 2, "curriculum": False}, "sampling_rounds draws more problems by the curriculum"),
        ({"sampling_rounds": 2, **BY_TRANSFORMERS}, "sampling_rounds works where our own loop writes the replies"),
    ],
)
def test_ways_of_generating_that_do_not_fit_are_refused(tmp_path, options, expected):
    assert expected in refused(CONVERTED, tmp_path, **options)


@pytest.mark.parametrize("options", [{"temperature": 1.0}, {"temperature": 2.0, "top_k": 0}])
def test_up_to_temperature_1_or_without_a_cut_every_way_of_sampling_goes(tmp_path, options):
    args = TrainerConfig(output_dir=str(tmp_path / "run"), report_to="none", use_cpu=True, top_p=0.9, **options)
    check_generation(args, CONVERTED)


def test_problems_are_tried_in_whole_groups_of_a_process(tmp_path):
    args = TrainerConfig(output_dir=str(tmp_path / "run"), report_to="none", use_cpu=True, sampling_rounds=2)
    check_generation(args, CONVERTED)
    args.per_device_train_batch_size = 8  # as of two processes, which TRL allows
    with pytest.raises(InputError, match="which writes 8 replies at a time: take a multiple of num_generations 16"):
        check_generation(args, CONVERTED)


def test_vllm_is_refused_for_our_own_code_and_where_the_soft_cap_is_left_out(tmp_path, vllm):
    ours = {generation: NanochatGPTForCausalLM(tiny_config(generation)) for generation in (2025, 2026)}
    assert "of generation 2026 (" in refused(ours[2026], tmp_path, **BY_TRANSFORMERS)
    assert "--to nanochat) and train that" in refused(ours[2025], tmp_path, **BY_TRANSFORMERS)
    assert "needs vLLM: pip install" in refused(CONVERTED, tmp_path, **BY_TRANSFORMERS)
    vllm("LogitsProcessor(vocab_size, scale=1.0)")
    assert "--vllm_model_impl transformers: add that" in refused(CONVERTED, tmp_path, use_vllm=True)
    assert "leaves out the soft cap" in refused(CONVERTED, tmp_path, **BY_TRANSFORMERS)


def test_vllm_is_allowed_for_a_converted_model_where_logits_are_capped(tmp_path, vllm):
    vllm('LogitsProcessor(vocab_size, soft_cap=getattr(config, "final_logit_softcapping", None))')
    check_generation(
        TrainerConfig(output_dir=str(tmp_path / "run"), report_to="none", use_cpu=True, **BY_TRANSFORMERS), CONVERTED
    )
