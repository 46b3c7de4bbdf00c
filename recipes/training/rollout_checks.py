"""Ways of generating replies that TRL offers and that would be wrong for a model, or leave it wrong: one line each."""

import importlib.util
from pathlib import Path

from transformers import NanoChatConfig, PreTrainedModel
from trl import GRPOConfig

from recipes.training.adapters import base_model
from recipes.training.reply_scores import keeps_cut
from recipes.training.rollouts import is_recurrent
from recipes.utils.errors import InputError
from recipes.utils.model_facts import FEATURES_OF_2026

# Options of `generate` that do more than choose the next token of a reply, whose end and cache are not its own.
NOT_SAMPLING = {
    *("cache_implementation", "cache_config", "eos_token_id", "max_length", "max_new_tokens", "max_time"),
    *("min_length", "min_new_tokens", "num_beams", "num_return_sequences", "prompt_lookup_num_tokens"),
    *("return_dict_in_generate", "stop_strings", "use_cache"),
}
# Where vLLM runs models of transformers; older ones compute logits there without a soft cap.
VLLM_BACKEND = "model_executor/models/transformers/causal.py"


def check_generation(config: GRPOConfig, model: PreTrainedModel) -> None:
    """Raise `InputError` for flags by which replies to train on would not come from `model` as it is."""
    if config.use_transformers_continuous_batching:
        raise InputError(
            "use_transformers_continuous_batching rounds the weights that are trained to bf16: leave it out; replies "
            "are batched anyway."
        )
    if config.cache_implementation is not None:
        raise InputError("cache_implementation has no effect here: leave it out; replies have a cache of their own.")
    if useless := sorted(NOT_SAMPLING & (config.generation_kwargs or {}).keys()):
        raise InputError(f"generation_kwargs: {', '.join(useless)} cannot be set here, only how to sample.")
    if keeps_cut(config):
        check_cut(config)
    if config.sampling_rounds > 1:
        check_sampling_rounds(config, base_model(model))
    if config.use_vllm:
        check_vllm(config, base_model(model))


def check_cut(config: GRPOConfig) -> None:
    """Raise `InputError` for flags by which the tokens that the loss counts would not be those sampled from."""
    asked = {
        "top_p": config.top_p < 1,
        "min_p": bool(config.min_p),
        "repetition_penalty": config.repetition_penalty != 1,
        "generation_kwargs": bool(config.generation_kwargs),
        "beta": config.beta > 0,
        "num_iterations": config.num_iterations > 1,
        "entropy_coef": config.entropy_coef > 0,
        "use_adaptive_entropy": config.use_adaptive_entropy,
        "use_vllm": config.use_vllm,
    }
    if names := [name for name, is_asked in asked.items() if is_asked]:
        raise InputError(
            f"temperature {config.temperature:g} with top_k {config.top_k}: above temperature 1 the loss counts the "
            f"tokens of top_k alone, as it cannot with {', '.join(names)}: leave that out, or add --top_k 0."
        )


def check_sampling_rounds(config: GRPOConfig, model: PreTrainedModel) -> None:
    """Raise `InputError` where problems cannot be tried before TRL asks for their replies."""
    replies = config.per_device_train_batch_size * config.steps_per_generation
    if not config.curriculum:
        raise InputError("sampling_rounds draws more problems by the curriculum: leave one of the two out.")
    if config.use_vllm or is_recurrent(model) or config.device.type == "mps":
        raise InputError("sampling_rounds works where our own loop writes the replies: leave it out.")
    if replies % config.num_generations:
        raise InputError(
            f"sampling_rounds needs whole groups in a process, which writes {replies} replies at a time: take a "
            f"multiple of num_generations {config.num_generations}."
        )


def check_vllm(config: GRPOConfig, model: PreTrainedModel) -> None:
    """Raise `InputError` unless vLLM computes what `model` does."""
    described = model.config
    if used := [name for name in FEATURES_OF_2026 if getattr(described, name, None)]:
        raise InputError(
            f"use_vllm: vLLM lacks what makes the model one of generation 2026 ({', '.join(used)}): leave it out."
        )
    if not type(model).__module__.startswith("transformers."):
        raise InputError(
            "use_vllm: vLLM runs no model code that comes with a checkpoint. Convert the model (python -m "
            "recipes.convert --source SFT --output_dir CONVERTED --to nanochat) and train that, or leave it out."
        )
    spec = importlib.util.find_spec("vllm")
    if spec is None or spec.origin is None:
        raise InputError("use_vllm needs vLLM: pip install 'trl[vllm]', or leave it out.")
    if described.model_type == NanoChatConfig.model_type:
        if config.vllm_model_impl != "transformers":
            raise InputError("use_vllm: vLLM knows NanoChat only by --vllm_model_impl transformers: add that.")
        if described.final_logit_softcapping and not caps_logits(Path(spec.origin).parent):
            raise InputError(
                "use_vllm: this version of vLLM leaves out the soft cap of the model's logits, and would sample from "
                "another distribution: take a newer one, or leave it out."
            )


def caps_logits(vllm: Path) -> bool:
    """Whether the vLLM in that directory caps the logits of a model that it takes from transformers."""
    backend = vllm / VLLM_BACKEND
    return backend.is_file() and "final_logit_softcapping" in backend.read_text(encoding="utf-8")
