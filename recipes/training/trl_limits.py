"""What the numbers among TRL's and transformers' own flags may be: their classes take any.

A flag that is ours, or whose default differs here, has its limits where it is defined.
"""

from collections.abc import Iterator

from recipes.training.arguments import LARGEST_RATE
from recipes.utils.arguments import Limits

AT_LEAST_0 = Limits(least=0)
AT_LEAST_1 = Limits(least=1)
ABOVE_0 = Limits(above=0)
SHARE = Limits(least=0, most=1)
RATE = Limits(least=0, most=LARGEST_RATE)
BELOW_1 = Limits(least=0, below=1)
SEED = Limits(least=0, below=2**32)  # numpy's
WORKERS = Limits(least=0, most=256, resumable=True)
LOGGING = Limits(above=0, resumable=True)  # steps, or a share of all steps
PATH = Limits(path=True)


def _named(names: str, limits: Limits) -> Iterator[tuple[str, Limits]]:
    return ((name, limits) for name in names.split())


TRL_LIMITS = dict(
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
        *_named("save_total_limit", Limits(least=1, resumable=True)),
        # ... the machine
        *_named("dataloader_num_workers", WORKERS),
        *_named("dataloader_prefetch_factor ddp_bucket_cap_mb ddp_timeout", AT_LEAST_1),
        *_named("accelerator_config fsdp_config deepspeed", PATH),
        # SFTConfig
        *_named("max_length", AT_LEAST_1),
        *_named("dataset_num_proc", Limits(least=1, most=256)),
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
