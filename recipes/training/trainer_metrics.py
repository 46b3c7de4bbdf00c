"""metrics.jsonl and the console line of our own loop, out of what TRL's trainers log."""

import time
from pathlib import Path
from typing import Any

import torch
from transformers import (
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from recipes.training.adapters import base_model
from recipes.training.tracking import Console, MetricsLog
from recipes.utils.hardware import peak_flops, peak_memory
from recipes.utils.model_facts import describe_model
from recipes.utils.run_directory import METRICS

CHATCORE = "chatcore"  # what its figures' names begin with (recipes/training/chat_core.py)
# Of rollouts (GRPO) and of preferences (DPO).
MEASURED_BY_TRL = ("reward", "completions/mean_length", "completions/clipped_ratio", "tools/", "entropy", "logps/")


class MetricsCallback(TrainerCallback):
    """Writes a record and prints a line for every log of a Trainer; counts the seconds of the steps alone."""

    def __init__(self, trainer: Trainer, output_dir: Path) -> None:
        self.trainer = trainer
        self.log = MetricsLog(output_dir / METRICS)
        self.flops_per_token = describe_model(base_model(trainer.model), sequence_length=1).flops_per_token
        dtype = torch.bfloat16 if trainer.args.bf16 else torch.float32
        peak = peak_flops(trainer.args.device, dtype)
        self.peak = peak * trainer.args.world_size if peak else None
        self.seconds = self.total_seconds = 0.0  # of training steps, since the last log and in all
        self.steps = self.tokens = 0  # up to the last log

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Keep the records of the steps before this one, if the run resumes from a checkpoint."""
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
            record |= {
                f"val/{key.removeprefix('eval_')}": logs[key] for key in logs if key.startswith("eval_rewards/")
            }
            accuracy = logs.get("eval_rewards/accuracies")
            more = "" if accuracy is None else f" | val/rewards/accuracies {accuracy:.1%}"
            self.console.say(f"step {state.global_step:06d} | val/loss {logs['eval_loss']:.4f}{more}")
        elif measured := {
            key.removeprefix("eval_"): value for key, value in logs.items() if key.startswith(f"eval_{CHATCORE}")
        }:
            record |= measured
            shown = " | ".join(f"{key} {value:.4f}" for key, value in measured.items())
            self.console.say(f"step {state.global_step:06d} | {shown}")
        self.log.write(record)

    def _training_record(self, state: TrainerState, logs: dict[str, float]) -> dict[str, Any]:
        """The keys of our own loop, and what TRL measures of rollouts and of preferences."""
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
            "train/peak_memory": peak_memory(self.trainer.args.device) / 1e9,  # GB, of one process
            "total_training_time": self.total_seconds,
            "total_training_flops": float(seen * self.flops_per_token),
            "epoch": logs.get("epoch"),
        }
        record |= {f"train/{key}": value for key, value in logs.items() if key.startswith(MEASURED_BY_TRL)}
        if "reward" in logs:
            args = self.trainer.args
            completions = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
            # Of all replies that were tried, where that is more than the step learns from (training/rollouts.py).
            completions = logs.get("tried/replies", completions)
            record["train/completions_per_sec"] = completions * steps / self.seconds
            record["train/reward"] = logs.get("tried/right", logs["reward"])
            record["train/groups_with_spread"] = logs.get("tried/with_spread", 1 - logs["frac_reward_zero_std"])
        self.steps, self.tokens, self.seconds = state.global_step, seen, 0.0
        return record

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """End the progress bar."""
        self.console.close()


def log_like_pretraining(trainer: Trainer, output_dir: Path) -> MetricsCallback:
    """Log to metrics.jsonl and the console as pretraining does, in place of the dictionaries that Trainer prints."""
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    callback = MetricsCallback(trainer, output_dir)
    trainer.add_callback(callback)
    return callback
