"""What SFT and GRPO share around TRL's trainers: the model they start from, our optimizers, where the results go."""

import time
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl import ModelConfig, get_peft_config, get_quantization_config

from recipes.publish.after_training import HubTarget, hub_target, publish_finished
from recipes.training.arguments import LARGEST_RATE
from recipes.training.export import save_model
from recipes.training.models import LONGEST_EAGER_ROW, check_causal, set_special_tokens
from recipes.training.optimizers import OptimizerSettings, build_optimizer
from recipes.training.plan import scale_learning_rates
from recipes.training.tracking import Console, MetricsLog
from recipes.training.trl_limits import TRL_LIMITS
from recipes.utils import atomic
from recipes.utils.arguments import Arguments, flag
from recipes.utils.errors import InputError
from recipes.utils.hardware import has_bf16, peak_flops
from recipes.utils.loading import check_decoder, load_config, load_tokenizer, load_weights
from recipes.utils.model_facts import describe_model
from recipes.utils.processes import PATIENCE, join_processes
from recipes.utils.run_directory import STAGES
from tokenizer.chat import add_chat_template

ROLLOUT_KEYS = ("reward", "completions/mean_length", "completions/clipped_ratio", "tools/", "entropy")


INSTEAD = {  # of flags of TRL's that would change nothing here
    "learning_rate": "--init_lr_frac",
    "optim": "--optimizer",
    "optim_args": "--optimizer and a registered one",
    "adam_beta1": "--optimizer and a registered one",
    "adam_beta2": "--optimizer and a registered one",
    "adam_epsilon": "--optimizer and a registered one",
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


@dataclass
class PosttrainArguments(Arguments):
    """Flags of SFT and GRPO beside those of TRL's own configuration."""

    INHERITED = TRL_LIMITS

    source: str = flag("mid", "what to train: base, mid or sft beside output_dir, a directory, or a Hub id", path=True)
    resume: str = flag(
        "auto",
        "auto: from the newest checkpoint in output_dir; none: afresh; or a checkpoint's path",
        path=True,
        resumable=True,
    )
    optimizer: str = flag("muon", "muon, adamw or one registered by register_optimizer")
    init_lr_frac: float = flag(
        0.02, "learning rates of this stage, as a share of pretraining's", above=0, most=LARGEST_RATE
    )
    matrix_lr: float = flag(
        0.02, "pretraining's learning rate of the matrices in the blocks", least=0, most=LARGEST_RATE
    )
    embedding_lr: float = flag(
        0.2, "pretraining's learning rate of the embedding, at width 768", least=0, most=LARGEST_RATE
    )
    unembedding_lr: float = flag(
        0.004, "pretraining's learning rate of the head, at width 768", least=0, most=LARGEST_RATE
    )
    logging_nan_inf_filter: bool = flag(False, "leave losses that are not finite out of the logged mean")
    ddp_find_unused_parameters: bool | None = flag(False, "look for parameters without gradient at every step")
    ddp_timeout: int = flag(
        round(PATIENCE.total_seconds()), "seconds that processes wait for each other", least=1, most=10**9
    )


def settle_on_hardware(args: TrainingArguments) -> None:
    """Devices and precision where nothing was asked for; to be called before TrainingArguments looks at them.

    It would join the processes itself, but on a CPU without their timeout.
    """
    args.use_cpu = args.use_cpu or not torch.accelerator.is_available()
    join_processes(args.use_cpu, timedelta(seconds=args.ddp_timeout))
    if args.bf16 is None and not args.fp16:
        args.bf16 = has_bf16(torch.device("cpu") if args.use_cpu else torch.accelerator.current_accelerator())


def reject_idle_flags(args: TrainingArguments, model_args: ModelConfig) -> None:
    """Raise `InputError` for flags of TRL's that would change nothing here, naming ours for the same purpose.

    And for one that leaves out of the checkpoints what resuming needs.
    """
    if args.save_only_model:
        raise InputError(
            "save_only_model leaves optimizer and random state out of the checkpoints, and the run could not be "
            "resumed from them: leave it out (the finished model holds no more than the model anyway)."
        )
    defaults = {each.name: each.default for each in fields(args)}
    defaults |= {each.name: each.default for each in fields(model_args)}
    given = vars(model_args) | vars(args)
    for name, instead in INSTEAD.items():
        if name in given and given[name] != defaults[name]:
            raise InputError(f"{name} has no effect here: use {instead}.")


def take_hub_target(args: TrainingArguments) -> HubTarget | None:
    """Where the finished model goes, if anywhere; TRL is not told, whose trainers would push every checkpoint."""
    target = hub_target(args)
    args.push_to_hub, args.hub_model_id = False, None
    return target


def find_source(source: str, output_dir: Path) -> str:
    """Directory or Hub id of the model to start from; the name of a stage means the one beside `output_dir`."""
    return str(output_dir.parent / source) if source in STAGES else source


def load_chat_model(
    source: str, model_args: ModelConfig, longest_row: int | None, trust_remote_code: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Any causal LM and its tokenizer, ready to chat: quantized or with adapters where `model_args` say so.

    One without a chat template gets ours, and embeddings for the special tokens it lacks.
    """
    check_decoder(load_config(source, trust_remote_code), source)
    quantization = get_quantization_config(model_args)
    tokenizer = load_tokenizer(source, trust_remote_code=trust_remote_code)
    model = load_weights(
        source,
        tokenizer,
        dtype=model_args.dtype or torch.float32,
        quantization_config=quantization,
        device_map={"": PartialState().device} if quantization else None,
        trust_remote_code=trust_remote_code,
    )
    if tokenizer.chat_template is None:
        add_chat_template(tokenizer)
        if len(tokenizer) > model.get_input_embeddings().num_embeddings:
            model.resize_token_embeddings(len(tokenizer))
    model._keys_to_ignore_on_save = list(model.all_tied_weights_keys)  # or Trainer warns that a tied head is missing
    if not quantization:
        model.to(PartialState().device)  # before the optimizer is built, which goes by where the weights are
    set_special_tokens(model, tokenizer)
    context = context_length(model)
    if longest_row is not None and longest_row > context:
        raise InputError(f"max_length {longest_row:,} is beyond the model's context of {context:,} tokens.")
    tokenizer.model_max_length = context
    if model_args.attn_implementation:
        model.set_attn_implementation(model_args.attn_implementation)
    elif model.device.type == "cpu" and (longest_row or context) <= LONGEST_EAGER_ROW:
        model.set_attn_implementation("eager")
    if not quantization:  # bitsandbytes packs weights for inference as soon as it is asked without gradients
        check_causal(model, source)
    return add_adapters(model, model_args), tokenizer


def context_length(model: PreTrainedModel) -> int:
    """Tokens that the model can see at once."""
    return getattr(model.config, "max_position_embeddings", None) or 1024


def add_adapters(model: PreTrainedModel, model_args: ModelConfig) -> PreTrainedModel:
    """The model with LoRA adapters if `--use_peft` asks for them: on all linear layers where none are named."""
    quantized = model_args.load_in_4bit or model_args.load_in_8bit
    if not model_args.use_peft:
        if quantized:
            raise InputError("a model in 4 or 8 bits cannot be trained whole: add --use_peft.")
        return model
    try:
        from peft import get_peft_model, prepare_model_for_kbit_training
    except ImportError:
        raise InputError("--use_peft needs peft: pip install -e '.[peft]'.") from None
    if model_args.lora_target_modules is None:
        model_args.lora_target_modules = "all-linear"
    if quantized:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    return get_peft_model(model, get_peft_config(model_args))


def build_posttraining_optimizer(
    args: PosttrainArguments, model: PreTrainedModel, weight_decay: float
) -> torch.optim.Optimizer:
    """The optimizer of pretraining at `init_lr_frac` of its learning rates."""
    facts = describe_model(_bare(model), sequence_length=1)
    rates = scale_learning_rates(args, facts, args.init_lr_frac)
    settings = OptimizerSettings(**rates, weight_decay=weight_decay)
    return build_optimizer(args.optimizer, model, settings)


def _bare(model: PreTrainedModel) -> PreTrainedModel:
    return model.get_base_model() if hasattr(model, "peft_config") else model


class MetricsCallback(TrainerCallback):
    """metrics.jsonl and the console line of our own loop, out of what a Trainer logs."""

    def __init__(self, trainer: Trainer, output_dir: Path) -> None:
        self.trainer = trainer
        self.log = MetricsLog(output_dir / "metrics.jsonl")
        self.flops_per_token = describe_model(_bare(trainer.model), sequence_length=1).flops_per_token
        dtype = torch.bfloat16 if trainer.args.bf16 else torch.float32
        peak = peak_flops(trainer.args.device, dtype)
        self.peak = peak * trainer.args.world_size if peak else None
        self.seconds = self.total_seconds = 0.0  # of training steps, since the last log and in all
        self.steps = self.tokens = 0  # up to the last log

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Keep the records of the steps before this one, should the run go on from a checkpoint."""
        if state.is_world_process_zero:
            self.log.resume(state.global_step)
        self.console = Console(self.trainer.accelerator, state.max_steps, state.global_step)
        self.steps, self.tokens = state.global_step, state.num_input_tokens_seen
        self.total_seconds = max((r.get("total_training_time", 0.0) for r in self.log.records), default=0.0)
        self.restart_clock()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count the seconds of the step, its batch included."""
        self.seconds += time.perf_counter() - self.started
        self.console.advance(state.global_step)
        self.restart_clock()

    def restart_clock(self) -> None:
        """Begin the next step now: what happened since the last one was not training."""
        self.started = time.perf_counter()

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave the evaluation out."""
        self.restart_clock()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Leave the checkpoint out."""
        self.restart_clock()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float],
        **kwargs: Any,
    ) -> None:
        """Write one record for a log of training, one for an evaluation."""
        if not state.is_world_process_zero or "train_loss" in logs:  # the summary at the end
            return
        record: dict[str, Any] = {"step": state.global_step}
        if "loss" in logs:
            record |= self._training_record(state, logs)
            self.console.step(record)
        elif "eval_loss" in logs:
            record["val/loss"] = logs["eval_loss"]
            self.console.say(f"step {state.global_step:06d} | val/loss {logs['eval_loss']:.4f}")
        self.log.write(record)

    def _training_record(self, state: TrainerState, logs: dict[str, float]) -> dict[str, Any]:
        """The keys of our own loop, and what TRL measures of rollouts (rewards, lengths, calls of tools)."""
        steps = max(1, state.global_step - self.steps)
        seen = state.num_input_tokens_seen  # by all processes
        tokens = seen - self.tokens
        speed = tokens / self.seconds if self.seconds else 0.0
        full_rate = self.trainer.optimizer.param_groups[0]["initial_lr"]
        self.total_seconds += self.seconds
        record = {
            "train/loss": logs["loss"],
            "train/lrm": logs["learning_rate"] / full_rate if full_rate else 0.0,
            "train/dt": self.seconds / steps,
            "train/tok_per_sec": speed,
            "train/mfu": speed * self.flops_per_token / self.peak if self.peak else None,
            "train/grad_norm": logs.get("grad_norm"),
            "total_training_time": self.total_seconds,
            "total_training_flops": float(seen * self.flops_per_token),
            "epoch": logs.get("epoch"),
        }
        record |= {f"train/{key}": value for key, value in logs.items() if key.startswith(ROLLOUT_KEYS)}
        if "reward" in logs:
            args = self.trainer.args
            completions = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
            record["train/completions_per_sec"] = completions * steps / self.seconds
        self.steps, self.tokens, self.seconds = state.global_step, seen, 0.0
        return record

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """End the progress bar."""
        self.console.close()


def use_our_console(trainer: Trainer, output_dir: Path) -> MetricsCallback:
    """Log as our own loop does, in place of the dictionaries or the bar that Trainer prints."""
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    callback = MetricsCallback(trainer, output_dir)
    trainer.add_callback(callback)
    return callback


def save_finished(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    source: str,
    output_dir: Path,
    target: HubTarget | None = None,
) -> None:
    """The model into `output_dir` and to `target`; adapters are merged into the full weights of `source`, and kept."""
    if hasattr(model, "peft_config"):
        model = merge_adapters(model, tokenizer, source, output_dir / "adapter")
    set_special_tokens(model, tokenizer)
    save_model(model, tokenizer, output_dir)
    print(f"finished: {output_dir}; talk to it by python -m recipes.chat --model {output_dir}")
    if target is not None:
        publish_finished(target, output_dir)


def merge_adapters(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: str, adapter_dir: Path
) -> PreTrainedModel:
    """Save the adapters to `adapter_dir`, and merge them into `source` in fp32 (which may have been quantized)."""
    from peft import PeftModel

    with atomic.new_directory(adapter_dir) as directory:
        model.save_pretrained(directory)
    base = type(model.get_base_model()).from_pretrained(source, dtype=torch.float32)
    if len(tokenizer) > base.get_input_embeddings().num_embeddings:
        base.resize_token_embeddings(len(tokenizer))
    return PeftModel.from_pretrained(base, adapter_dir).merge_and_unload()
