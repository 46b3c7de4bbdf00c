"""Supervised finetuning: `python recipes/sft.py --config recipes/configs/sft/cpu.yaml --output_dir runs/NAME/sft`.

TRL's SFTTrainer on conversations, with the loss on what the assistant writes and the optimizer of pretraining. Every
flag of TRL's SFTConfig and ModelConfig works (`--use_peft`, `--load_in_4bit`, `--packing`), beside our own.
"""

import recipes.utils.quiet  # noqa: F401  # isort: skip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets.utils.logging import disable_progress_bar
from transformers import EarlyStoppingCallback, set_seed
from trl import ModelConfig, SFTConfig, SFTTrainer

from recipes.data.conversations import files_lines, fit_conversations, open_conversations
from recipes.data.messages import choice_wording
from recipes.plots.curves import draw_loss
from recipes.publish.after_training import leave_finished
from recipes.training.checkpoint_files import TRAINERS
from recipes.training.fingerprint import fingerprint_conversations, fingerprint_model
from recipes.training.output_dir import choose_checkpoint, claim_inputs, claim_output_dir, hold_output_dir
from recipes.training.posttraining import (
    PosttrainArguments,
    build_posttraining_optimizer,
    context_length,
    find_source,
    load_chat_model,
    reject_idle_flags,
    save_finished,
    settle_on_hardware,
    take_hub_target,
    use_our_console,
)
from recipes.training.trainer_run import FREE_TO_CHANGE, train, trainer_settings
from recipes.utils.arguments import flag, parse_arguments
from recipes.utils.errors import InputError, exit_on_input_error
from recipes.utils.loading import in_one_line
from recipes.utils.processes import join_processes
from recipes.utils.provenance import record_launch

INPUTS = {"source", "conversations"}


@dataclass
class SFTArguments(PosttrainArguments, SFTConfig):
    """Flags of recipes/sft.py; what differs from TRL's defaults is set here."""

    conversations: str = flag("primer:sft", "name of a source, a .jsonl file, or a mixture's .yaml", path=True)
    early_stopping: bool = flag(False, "end when the evaluation loss has not fallen for early_stopping_patience times")
    early_stopping_patience: int = flag(3, "evaluations without a lower loss that --early_stopping waits", least=1)
    eval_rows: int = flag(1000, "hold_output_dir-out conversations that an evaluation reads at most", least=1)
    output_dir: str = flag(
        "runs/base/sft", "where checkpoints, metrics and the final model go", path=True, resumable=True
    )
    assistant_only_loss: bool = flag(True, "loss on what the assistant writes only")
    max_length: int | None = flag(None, "longest conversation in tokens (default: the model's context)", least=1)
    num_train_epochs: float = flag(1.0, "passes over the conversations", above=0)
    gradient_checkpointing: bool | None = flag(None, "recompute activations in the backward pass: less memory, slower")
    include_num_input_tokens_seen: str = flag(
        "non_padding", "what tokens/s counts: non_padding, all or no", choices=("non_padding", "all", "no")
    )
    eval_strategy: str = flag("steps", "when to evaluate: steps, epoch or no", choices=("steps", "epoch", "no"))
    eval_steps: float = flag(100, "steps between evaluations", above=0)
    save_steps: float = flag(
        100, "steps between checkpoints; the best is kept only if it is saved: as eval_steps", above=0
    )
    save_total_limit: int | None = flag(
        2, "checkpoints kept: the best one and the newest others", least=1, resumable=True
    )
    load_best_model_at_end: bool = flag(True, "the final model is that of the lowest evaluation loss, not the last")

    def __post_init__(self) -> None:
        self.check_flags()
        settle_on_hardware(self)
        self.load_best_model_at_end = self.load_best_model_at_end and self.eval_strategy != "no"
        if self.early_stopping and self.eval_strategy == "no":
            raise InputError("--early_stopping needs evaluations: set --eval_strategy steps or epoch.")
        if self.load_best_model_at_end and self.eval_strategy == "steps" and self.save_steps != self.eval_steps:
            raise InputError(
                f"save_steps {self.save_steps:g} must equal eval_steps {self.eval_steps:g}, or the best model might "
                "not be kept; or set --load_best_model_at_end false, to end with the last."
            )
        if self.early_stopping:
            self.metric_for_best_model = self.metric_for_best_model or "loss"
        SFTConfig.__post_init__(self)


class AssistantTrainer(SFTTrainer):
    """SFTTrainer with the loss that pretraining uses, for the models that have it: 1.7 x the speed on a CPU."""

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """Mean cross-entropy in nats over the assistant's tokens of the whole batch, all processes together."""
        plain = self.args.loss_type == "nll" and not self.args.label_smoothing_factor and not return_outputs
        if not plain or not hasattr(self.accelerator.unwrap_model(model), "loss_without_logits"):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        count = (inputs["labels"][:, 1:] != -100).sum() if num_items_in_batch is None else num_items_in_batch
        count = torch.as_tensor(count).clamp(min=1)  # a batch without any: a loss of 0, not of 0 / 0
        loss = model(**inputs, skip_logits=True, use_cache=False, num_items_in_batch=count).loss
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            loss = loss * self.accelerator.num_processes  # DDP averages, and the count is of all processes
        return loss


def sft(args: SFTArguments, model_args: ModelConfig) -> None:
    """The whole recipe, from arguments to a directory that `from_pretrained` loads."""
    reject_idle_flags(args, model_args)
    output_dir, state = Path(args.output_dir), PartialState()
    arguments = trainer_settings(args, model_args, "sft")
    if claim_output_dir(output_dir, arguments, FREE_TO_CHANGE, INPUTS, state):
        leave_finished(args, output_dir)
        return
    target = take_hub_target(args)
    disable_progress_bar()
    source = find_source(args.source, output_dir)
    set_seed(args.seed)  # for what is new in the model: adapters, embeddings of special tokens
    if args.packing:  # a batch is one long row, whose T x T weights attention must not spell out
        model_args.attn_implementation = model_args.attn_implementation or "sdpa"
    model, tokenizer = load_chat_model(source, model_args, args.max_length, args.trust_remote_code)
    args.max_length = args.max_length or context_length(model)
    wording = choice_wording(tokenizer, model.config)
    opened = {
        split: open_conversations(args.conversations, split, args.seed, wording) for split in ("train", "validation")
    }
    claim_inputs(
        output_dir,
        arguments,
        lambda: {
            "source": fingerprint_model(source),
            "conversations": fingerprint_conversations(args.conversations, **opened),
        },
        state,
    )
    checkpoint = choose_checkpoint(output_dir, args.resume, state, TRAINERS)
    conversations, held_out = (fit_conversations(each, tokenizer, args.max_length) for each in opened.values())

    args.output_dir = str(output_dir / "checkpoints")
    optimizer = build_posttraining_optimizer(args, model, args.weight_decay)
    try:
        trainer = AssistantTrainer(
            model=model,
            args=args,
            train_dataset=conversations,
            eval_dataset=held_out.select(range(min(args.eval_rows, len(held_out)))),
            processing_class=tokenizer,
            optimizers=(optimizer, None),
            callbacks=[EarlyStoppingCallback(args.early_stopping_patience)] if args.early_stopping else None,
        )
    except ValueError as error:
        if "generation" not in str(error):
            raise InputError(f"TRL refuses these flags: {in_one_line(error)}") from error
        raise InputError(
            f"the chat template of {source} does not mark what the assistant writes ({{% generation %}}): mark it, or "
            "train on every token by --assistant_only_loss false."
        ) from None
    metrics = use_our_console(trainer, output_dir)
    trainer.accelerator.print(f"{len(conversations):,} conversations from {args.conversations}, model {source}")
    for line in files_lines(args.conversations):
        trainer.accelerator.print(line)
    precision = trainer.accelerator.mixed_precision
    record_launch(output_dir, data=args.conversations, source=source, precision=precision)
    if train(trainer, checkpoint, output_dir) and trainer.is_world_process_zero():
        save_finished(trainer.accelerator.unwrap_model(trainer.model), tokenizer, source, output_dir, target)
        draw_loss(metrics.log.records, output_dir / "loss.png", f"SFT of {source}", "sft")


def main() -> None:
    args, model_args = parse_arguments(SFTArguments, ModelConfig)
    with hold_output_dir(args.output_dir, join_processes()):
        sft(args, model_args)


if __name__ == "__main__":
    exit_on_input_error("sft", main)
