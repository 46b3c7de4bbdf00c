"""What we know of TRL's and transformers' own flags, whose classes take any value.

What the numbers may be, what may change when a run is resumed, and which flags would change nothing here. A flag that
is ours, or whose default differs here, says all this where it is defined: recipes/training/posttraining_arguments.py.
"""

from collections.abc import Iterator
from dataclasses import replace

from recipes.training.arguments import LARGEST_RATE
from recipes.utils.arguments import Arguments, Limits, find_flags
from recipes.utils.errors import InputError

AT_LEAST_0 = Limits(least=0)
AT_LEAST_1 = Limits(least=1)
ABOVE_0 = Limits(above=0)
SHARE = Limits(least=0, most=1)
RATE = Limits(least=0, most=LARGEST_RATE)
BELOW_1 = Limits(least=0, below=1)
SEED = Limits(least=0, below=2**32)  # numpy's
WORKERS = Limits(least=0, most=256)
LOGGING = Limits(above=0)  # steps, or a share of all steps
PATH = Limits(path=True)


def _named(names: str, limits: Limits) -> Iterator[tuple[str, Limits]]:
    return ((name, limits) for name in names.split())


LIMITS = dict(
    [
        # ModelConfig
        *_named("lora_r lora_alpha", AT_LEAST_1),
        *_named("lora_dropout", BELOW_1),
        # TrainingArguments: the steps
        *_named("per_device_train_batch_size per_device_eval_batch_size gradient_accumulation_steps", AT_LEAST_1),
        *_named("num_train_epochs", ABOVE_0),
        *_named("max_steps local_rank", Limits(least=-1)),
        *_named("seed data_seed", SEED),
        # ... optimization
        *_named("learning_rate weight_decay router_aux_loss_coef", RATE),
        *_named("warmup_steps max_grad_norm", AT_LEAST_0),
        *_named("adam_beta1 adam_beta2 label_smoothing_factor", BELOW_1),
        *_named("neftune_noise_alpha", Limits(above=0, most=LARGEST_RATE)),
        *_named("adam_epsilon", ABOVE_0),
        # ... logging, evaluating, saving
        *_named("logging_steps", LOGGING),
        *_named("eval_steps save_steps", ABOVE_0),
        *_named("eval_delay", AT_LEAST_0),
        *_named("eval_accumulation_steps torch_empty_cache_steps", AT_LEAST_1),
        *_named("save_total_limit", Limits(least=1)),
        # ... the machine
        *_named("dataloader_num_workers", WORKERS),
        *_named("dataloader_prefetch_factor ddp_bucket_cap_mb ddp_timeout", AT_LEAST_1),
        *_named("accelerator_config fsdp_config deepspeed", PATH),
        # SFTConfig
        *_named("max_length", AT_LEAST_1),
        *_named("dataset_num_proc", Limits(least=1, most=256)),
        # DPOConfig
        *_named("precompute_ref_batch_size", AT_LEAST_1),
        *_named("ld_alpha", SHARE),
        *_named("label_smoothing", Limits(least=0, below=0.5)),
        *_named("loss_weights", AT_LEAST_0),
        *_named("f_alpha_divergence_coef", Limits(least=-1000, most=1000)),
        *_named("discopop_tau", ABOVE_0),
        # GRPOConfig: the replies
        *_named("num_generations num_generations_eval", Limits(least=2)),  # they are compared with each other
        *_named("max_completion_length generation_batch_size steps_per_generation", AT_LEAST_1),
        *_named("num_iterations", Limits(least=1, most=1000)),
        *_named("temperature", Limits(least=1e-3)),  # logits are divided by it
        *_named("repetition_penalty", Limits(least=0.01, most=100)),
        *_named("top_p", Limits(above=0, most=1)),
        *_named("top_k", AT_LEAST_0),
        *_named("min_p top_entropy_quantile ref_model_mixup_alpha", SHARE),
        *_named("max_tool_calling_iterations num_completions_to_print ref_model_sync_steps", AT_LEAST_1),
        # ... the loss
        *_named("beta epsilon epsilon_high off_policy_mask_threshold reward_weights", AT_LEAST_0),
        *_named("delta sapo_temperature_neg sapo_temperature_pos", ABOVE_0),
        *_named("vespo_k_pos vespo_lambda_pos vespo_k_neg vespo_lambda_neg", AT_LEAST_0),
        *_named("entropy_coef entropy_coef_min entropy_coef_max entropy_coef_delta entropy_target", AT_LEAST_0),
        # ... vLLM
        *_named("vllm_server_port vllm_group_port", Limits(least=1, most=65535)),
        *_named("vllm_server_timeout", ABOVE_0),
        *_named("vllm_gpu_memory_utilization", Limits(above=0, most=1)),
        *_named("vllm_max_model_length vllm_tensor_parallel_size", AT_LEAST_1),
        *_named("vllm_importance_sampling_cap vllm_importance_sampling_clip_max", ABOVE_0),
        *_named("vllm_importance_sampling_clip_min", AT_LEAST_0),
    ]
)


# What may change between a run and its continuation, as it does not change what is trained on what. Precision, kernels
# and recomputed activations do change the last bits.
RESUMABLE = {
    # where it goes, and what is logged
    "logging_strategy", "logging_steps", "logging_first_step", "log_on_each_node",
    "logging_nan_inf_filter", "log_level", "log_level_replica", "disable_tqdm", "report_to", "run_name", "project",
    "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id", "skip_memory_metrics", "debug",
    "log_completions", "log_multimodal", "num_completions_to_print", "log_unique_prompts", "log_completions_hub_repo",
    # evaluating
    "do_train", "do_eval", "do_predict", "eval_strategy", "eval_steps", "eval_delay", "eval_on_start",
    "eval_do_concat_batches", "eval_use_gather_object", "eval_accumulation_steps", "per_device_eval_batch_size",
    "prediction_loss_only", "include_for_metrics", "batch_eval_metrics", "bf16_full_eval", "fp16_full_eval",
    "load_best_model_at_end",
    # saving and publishing
    "save_strategy", "save_steps", "save_total_limit", "save_on_each_node", "enable_jit_checkpoint",
    "push_to_hub", "hub_token", "hub_private_repo", "hub_model_id", "hub_strategy", "hub_always_push", "hub_revision",
    # the machine
    "use_cpu", "local_rank", "bf16", "fp16", "tf32", "torch_compile", "torch_compile_backend", "torch_compile_mode",
    "attn_implementation", "gradient_checkpointing", "gradient_checkpointing_kwargs", "activation_checkpointing",
    "activation_checkpointing_kwargs", "activation_offloading", "torch_empty_cache_steps", "dataset_num_proc",
    "dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers", "dataloader_prefetch_factor",
    "dataloader_multiprocessing_context", "dataloader_in_order", "ddp_backend", "ddp_timeout", "ddp_bucket_cap_mb",
    "ddp_find_unused_parameters", "ddp_broadcast_buffers", "ddp_static_graph", "vllm_server_base_url",
    "vllm_server_host", "vllm_server_port", "vllm_server_timeout", "vllm_group_port", "vllm_enable_sleep_mode",
    "vllm_gpu_memory_utilization", "vllm_tensor_parallel_size",
}  # fmt: skip

TRL_FLAGS = LIMITS | {name: replace(LIMITS.get(name, Limits()), resumable=True) for name in RESUMABLE}

REPLACED_BY = {  # what to use instead of a flag that would change nothing here
    "learning_rate": "--init_lr_frac",
    "optim": "--optimizer",
    "optim_args": "--optimizer MODULE:FUNCTION (docs/optimizers.md)",
    "adam_beta1": "--optimizer MODULE:FUNCTION (docs/optimizers.md)",
    "adam_beta2": "--optimizer MODULE:FUNCTION (docs/optimizers.md)",
    "adam_epsilon": "--optimizer MODULE:FUNCTION (docs/optimizers.md)",
    "resume_from_checkpoint": "--resume",
    "model_name_or_path": "--source",
    "model_revision": "--source with a directory of that revision",
    "model_init_kwargs": "--dtype and --attn_implementation",
    "chat_template_path": "--source with a directory that has the template",
    "reward_weights": "--format_reward",
    "hub_token": "HF_TOKEN, or hf auth login",
    "hub_strategy": "--push_to_hub alone, for the finished model",
    "hub_always_push": "--push_to_hub alone, for the finished model",
    "hub_revision": "recipes.publish, and a tag on the Hub",
}


def reject_ineffective_flags(args: Arguments) -> None:
    """Raise `InputError` for a flag of TRL's that would change nothing here, naming what to use instead."""
    for name, each in find_flags(type(args)).items():
        if name in REPLACED_BY and getattr(args, name) != each.default:
            raise InputError(f"{name} has no effect here: use {REPLACED_BY[name]}.")
