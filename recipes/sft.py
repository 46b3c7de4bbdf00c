"""Supervised finetuning: `python recipes/sft.py --config recipes/configs/sft/cpu.yaml --output_dir runs/NAME/sft`.

TRL's SFTTrainer on conversations, with the loss on what the assistant writes and the optimizer of pretraining. The
flags are ours and those of TRL's SFTConfig and ModelConfig (`--packing`, `--use_peft`, `--load_in_4bit`); the few of
TRL's that would change nothing here are refused, and name the one to use.
"""

import recipes.utils.quiet  # noqa: F401  # isort: skip
from recipes.training.posttraining_arguments import ModelArguments, SFTArguments
from recipes.utils.arguments import read_command_line, resumable_flags

if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("sft", SFTArguments, ModelArguments)

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from accelerate import PartialState
from datasets.utils.logging import disable_progress_bar
from transformers import EarlyStoppingCallback, set_seed
from trl import SFTConfig

from evals.chat.tasks import split_tasks
from recipes.data.conversations import files_lines, fit_conversations, open_conversations
from recipes.data.messages import choice_wording
from recipes.plots.curves import draw_loss
from recipes.publish import after_training
from recipes.training.adapters import base_model, merge_adapters
from recipes.training.assistant_trainer import AssistantTrainer
from recipes.training.chat_core import ChatCore
from recipes.training.chat_model import load_trainable_chat_model, resolve_source
from recipes.training.checkpoint_files import TRAINERS
from recipes.training.export import save_model
from recipes.training.fingerprint import fingerprint_chat
from recipes.training.models import set_special_tokens
from recipes.training.optimizers import build_optimizer, find_builder
from recipes.training.output_dir import choose_checkpoint, claim_inputs, claim_output_dir, hold_output_dir
from recipes.training.rates import posttraining_settings
from recipes.training.source_run import warm_start, with_rates_of_model
from recipes.training.trainer_metrics import log_like_pretraining
from recipes.training.trainer_run import (
    accumulate_to,
    build_trainer_config,
    fit_rows,
    refusals_in_one_line,
    run_settings,
    train,
)
from recipes.utils.errors import exit_on_input_error
from recipes.utils.model_facts import describe_model
from recipes.utils.processes import join_processes, refuse_fsdp
from recipes.utils.provenance import record_launch
from recipes.utils.run_directory import LOSS_CHART

INPUTS = {"source", "conversations"}  # arguments that name what is read: a resumed run must find the same contents
RESUMABLE = resumable_flags(SFTArguments) | resumable_flags(ModelArguments)


@dataclass
class TrainerConfig(SFTArguments, SFTConfig):
    """TRL's configuration, with our flags beside TRL's for trackers to show."""

    __post_init__ = SFTConfig.__post_init__  # SFTArguments are checked already


def sft(args: SFTArguments, model_args: ModelArguments, processes: PartialState) -> None:
    """Finetune `args.source` into `args.output_dir`, a directory that `from_pretrained` loads."""
    # --- The run: its directory, and whether there is anything left to do
    output_dir = Path(args.output_dir)
    args = with_rates_of_model(args, resolve_source(args.source, output_dir), output_dir)
    config = build_trainer_config(TrainerConfig, args, processes)  # TRL's own class, with our flags
    settings = run_settings(config, model_args, "sft", processes)
    target = after_training.hub_target(args.push_to_hub, args.hub_model_id, args.hub_private_repo)
    if claim_output_dir(output_dir, settings, RESUMABLE, INPUTS, processes):
        after_training.publish_already_finished(target, output_dir)
        return
    after_training.check_publishing_rights(target)  # now: after the training, a refusal would come late

    find_builder(args.optimizer)  # an unknown optimizer or task is reported before the model is loaded
    chat_tasks = split_tasks(args.chatcore_tasks)

    # --- Model
    source = resolve_source(args.source, output_dir)
    set_seed(args.seed)  # for what is new in the model: adapters, embeddings of special tokens
    # A packed batch has a mask of its own: eager attention would spell out its T x T weights beside it.
    attention = model_args.attn_implementation or ("sdpa" if args.packing else None)
    model, tokenizer = load_trainable_chat_model(
        source, model_args, attention, args.max_length, args.trust_remote_code
    )
    config.max_length = args.max_length or tokenizer.model_max_length
    if args.total_batch_size is not None:
        config.gradient_accumulation_steps = accumulate_to(args.total_batch_size, config)
    facts = describe_model(base_model(model), config.max_length)
    if not model_args.use_peft:  # the estimate is of training all weights
        fit_rows(config, facts, config.max_length, processes)

    # --- Data: conversations to train on and held-out ones. Exam questions are worded as in earlier stages.
    disable_progress_bar()
    wording = choice_wording(tokenizer, model.config)
    opened = {
        split: open_conversations(args.conversations, split, args.seed, wording) for split in ("train", "validation")
    }
    claim_inputs(output_dir, settings, lambda: fingerprint_chat(source, args.conversations, opened), processes)
    checkpoint = choose_checkpoint(output_dir, args.resume, processes, TRAINERS)  # to resume from, if there is one
    # What is too long ends after the last reply that fits: half a reply would teach the model to stop anywhere.
    conversations, held_out = (fit_conversations(each, tokenizer, config.max_length) for each in opened.values())

    # --- Optimizer: pretraining's, Muon for the matrices and AdamW for the rest. Its learning rates are scaled for the
    # model's width by the same rule, then by init_lr_frac: 0.02 in nanochat. The model can write already and is to
    # learn a form of conversation from few rows; at full rates it would forget more than they teach. TRL's scheduler
    # lets all rates fall in a line to 0 over the run. Where SFT follows the base model at once, over far more rows, it
    # goes on as pretraining did: with its optimizer's state, 0.8 of its rates, and the shape of its schedule.
    optimizer = build_optimizer(args.optimizer, model, posttraining_settings(args, facts))
    started = warm_start(optimizer, args.optimizer, source) if args.warm_start and checkpoint is None else None

    # --- Trainer. The loss is on the assistant's tokens alone (assistant_only_loss), calls of tools included, results
    # not: a user's words and a calculator's results are given to the model when it chats, never its to predict. The
    # chat template marks these tokens by {% generation %}.
    no_marks = (
        f"the chat template of {source} does not mark what the assistant writes ({{% generation %}}): mark it, or "
        "train on every token by --assistant_only_loss false."
    )
    with refusals_in_one_line({"generation": no_marks}):
        trainer = AssistantTrainer(
            model=model,
            args=config,
            train_dataset=conversations,
            eval_dataset=held_out.select(range(min(args.eval_rows, len(held_out)))),
            processing_class=tokenizer,
            optimizers=(optimizer, None),
            callbacks=[EarlyStoppingCallback(args.early_stopping_patience)] if args.early_stopping else None,
        )
    metrics = log_like_pretraining(trainer, output_dir)
    if args.chatcore_every >= 0:
        core = ChatCore(trainer, metrics, chat_tasks, args.chatcore_every, args.chatcore_max_problems, wording)
        core.open_at_start()
        trainer.callback_handler.callbacks.insert(0, core)  # so that its last figures come before trackers are closed
    trainer.accelerator.print(f"{len(conversations):,} conversations from {args.conversations}, model {source}")
    for line in files_lines(args.conversations):
        trainer.accelerator.print(line)
    if started is not None:
        trainer.accelerator.print(f"optimizer: {started}")
    record_launch(output_dir, data=args.conversations, source=source, precision=trainer.accelerator.mixed_precision)

    # --- Train. Trainer writes a checkpoint every save_steps, and `train` its manifest; after Ctrl-C or SIGTERM the
    # same command resumes from the newest. At the end Trainer puts back the weights of the lowest evaluation loss.
    if not train(trainer, checkpoint, output_dir) or not processes.is_main_process:
        return

    # --- Save and publish
    trained = trainer.accelerator.unwrap_model(trainer.model)
    trained = merge_adapters(trained, tokenizer, source, output_dir / "adapter")
    set_special_tokens(trained, tokenizer)
    save_model(trained, tokenizer, output_dir)
    print(f"finished: {output_dir}; talk to it by python -m recipes.chat --model {output_dir}")
    draw_loss(metrics.log.records, output_dir / LOSS_CHART, f"SFT of {source}", "sft")
    after_training.publish_finished(target, output_dir)


def main(args: SFTArguments, model_args: ModelArguments) -> None:
    refuse_fsdp()
    processes = join_processes(args.use_cpu, timedelta(seconds=args.ddp_timeout))
    with hold_output_dir(args.output_dir, processes):
        sft(args, model_args, processes)


if __name__ == "__main__":
    exit_on_input_error("sft", lambda: main(*ARGS))
