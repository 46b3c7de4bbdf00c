"""Preferences: `python recipes/dpo.py --config recipes/configs/dpo/cpu.yaml --output_dir runs/NAME/dpo`.

TRL's DPOTrainer on pairs of answers to the same prompt, one preferred to the other, with the optimizer of pretraining.
The flags are ours and those of TRL's DPOConfig and ModelConfig.
"""

import recipes.utils.quiet  # noqa: F401  # isort: skip
from recipes.training.posttraining_arguments import DPOArguments, ModelArguments
from recipes.utils.arguments import read_command_line, resumable_flags

if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("dpo", DPOArguments, ModelArguments)

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from accelerate import PartialState
from datasets.utils.logging import disable_progress_bar
from transformers import set_seed
from trl import DPOConfig

from recipes.data.conversations import files_lines
from recipes.data.preferences import COLUMNS, fit_preferences, open_preferences
from recipes.plots.curves import draw_preferences
from recipes.publish import after_training
from recipes.training.adapters import base_model, merge_adapters
from recipes.training.chat_model import load_trainable_chat_model, resolve_source
from recipes.training.checkpoint_files import TRAINERS
from recipes.training.export import save_model
from recipes.training.fingerprint import fingerprint_conversations, fingerprint_model
from recipes.training.models import set_special_tokens
from recipes.training.optimizers import build_optimizer, find_builder
from recipes.training.output_dir import choose_checkpoint, claim_inputs, claim_output_dir, hold_output_dir
from recipes.training.preference_trainer import build_dpo_trainer
from recipes.training.rates import posttraining_settings
from recipes.training.source_run import with_rates_of_model
from recipes.training.trainer_metrics import log_like_pretraining
from recipes.training.trainer_run import build_trainer_config, refusals_in_one_line, run_settings, train
from recipes.utils.errors import exit_on_input_error
from recipes.utils.model_facts import describe_model
from recipes.utils.processes import join_processes, refuse_fsdp
from recipes.utils.provenance import record_launch
from recipes.utils.run_directory import LOSS_CHART

INPUTS = {"source", "preferences"}  # arguments that name what is read: a resumed run must find the same contents
RESUMABLE = resumable_flags(DPOArguments) | resumable_flags(ModelArguments)


@dataclass
class TrainerConfig(DPOArguments, DPOConfig):
    """TRL's configuration, with our flags beside TRL's for trackers to show."""

    __post_init__ = DPOConfig.__post_init__  # DPOArguments are checked already


def dpo(args: DPOArguments, model_args: ModelArguments, processes: PartialState) -> None:
    """Train `args.source` by preferences into `args.output_dir`, a directory that `from_pretrained` loads."""
    # --- The run: its directory, and whether there is anything left to do
    output_dir = Path(args.output_dir)
    args = with_rates_of_model(args, resolve_source(args.source, output_dir), output_dir)
    config = build_trainer_config(TrainerConfig, args, processes)  # TRL's own class, with our flags
    settings = run_settings(config, model_args, "dpo", processes)
    target = after_training.hub_target(args.push_to_hub, args.hub_model_id, args.hub_private_repo)
    if claim_output_dir(output_dir, settings, RESUMABLE, INPUTS, processes):
        after_training.publish_already_finished(target, output_dir)
        return
    after_training.check_publishing_rights(target)  # now: after the training, a refusal would come late

    find_builder(args.optimizer)  # an unknown optimizer is reported before the model is loaded

    # --- Model
    source = resolve_source(args.source, output_dir)
    set_seed(args.seed)  # for what is new in the model: adapters, embeddings of special tokens
    attention, trusted = model_args.attn_implementation, args.trust_remote_code
    model, tokenizer = load_trainable_chat_model(source, model_args, attention, args.max_length, trusted)
    longest = args.max_length or tokenizer.model_max_length
    config.max_length = None  # TRL would cut what is longer; `fit_preferences` drops it below

    # --- Data: pairs to train on and held-out ones
    disable_progress_bar()
    opened = {split: open_preferences(args.preferences, split, args.seed) for split in ("train", "validation")}
    rows = {split: pairs.select_columns(list(COLUMNS)) for split, pairs in opened.items()}  # wherever they lie
    claim_inputs(
        output_dir,
        settings,
        lambda: {
            "source": fingerprint_model(source),
            "preferences": fingerprint_conversations(args.preferences, **rows),
        },
        processes,
    )
    checkpoint = choose_checkpoint(output_dir, args.resume, processes, TRAINERS)  # to resume from, if there is one
    # What is too long is dropped: two answers cut off at the same length might not even differ.
    pairs, held_out = (fit_preferences(each, tokenizer, longest) for each in opened.values())

    # --- Optimizer: pretraining's, at init_lr_frac of its learning rates after the same scaling for the model's width.
    # TRL's scheduler lets all rates fall in a line to 0 over the run.
    facts = describe_model(base_model(model), sequence_length=1)
    optimizer = build_optimizer(args.optimizer, model, posttraining_settings(args, facts))

    # --- Trainer. The reward of an answer is beta x log(p / p_ref): how much likelier the model finds it than the
    # reference model does, which is the source, frozen. The loss (sigmoid) is -log sigmoid(chosen - rejected), of the
    # rewards of the two answers: only their difference counts, and beta says how soon it is large enough. A model can
    # widen it by making both answers unlikely, and then says something else. So the presets add the cross-entropy of
    # the chosen answer (loss_type sft), which keeps it likely.
    with refusals_in_one_line():
        trainer = build_dpo_trainer(
            model, config, tokenizer, pairs, held_out.select(range(min(args.eval_rows, len(held_out)))), optimizer
        )
    metrics = log_like_pretraining(trainer, output_dir)
    trainer.accelerator.print(f"{len(pairs):,} preferences from {args.preferences}, model {source}")
    for line in files_lines(args.preferences):
        trainer.accelerator.print(line)
    record_launch(output_dir, data=args.preferences, source=source, precision=trainer.accelerator.mixed_precision)

    # --- Train. Trainer writes a checkpoint every save_steps, `train` its manifest. The same command resumes the run.
    if not train(trainer, checkpoint, output_dir) or not processes.is_main_process:
        return

    # --- Save and publish
    trained = trainer.accelerator.unwrap_model(trainer.model)
    trained = merge_adapters(trained, tokenizer, source, output_dir / "adapter")
    set_special_tokens(trained, tokenizer)
    save_model(trained, tokenizer, output_dir)
    print(f"finished: {output_dir}; talk to it by python -m recipes.chat --model {output_dir}")
    draw_preferences(metrics.log.records, output_dir / LOSS_CHART, f"DPO of {source}, loss")
    after_training.publish_finished(target, output_dir)


def main(args: DPOArguments, model_args: ModelArguments) -> None:
    refuse_fsdp()
    processes = join_processes(args.use_cpu, timedelta(seconds=args.ddp_timeout))
    with hold_output_dir(args.output_dir, processes):
        dpo(args, model_args, processes)


if __name__ == "__main__":
    exit_on_input_error("dpo", lambda: main(*ARGS))
