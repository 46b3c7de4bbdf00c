"""Reinforcement: `python recipes/grpo.py --config recipes/configs/grpo/cpu.yaml --output_dir runs/NAME/grpo`.

TRL's GRPOTrainer on problems with a checkable answer. The model may call the calculator, which TRL runs; a reply earns
1 if its final number is right. Every flag of TRL's GRPOConfig and ModelConfig works, beside our own.
"""

import recipes.utils.quiet  # noqa: F401  # isort: skip
from dataclasses import dataclass
from pathlib import Path

from accelerate import PartialState
from datasets.utils.logging import disable_progress_bar
from transformers import set_seed
from trl import GRPOConfig, GRPOTrainer, ModelConfig

from recipes.inference.generate import Sampling
from recipes.publish.after_training import leave_finished
from recipes.training.arguments import LARGEST_RATE
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
from recipes.training.rollouts import PassAtK, called_calculator, open_problems, right_answer
from recipes.training.trainer_run import FREE_TO_CHANGE, train, trainer_settings
from recipes.utils.arguments import flag, parse_arguments
from recipes.utils.calculator import calculator
from recipes.utils.errors import InputError, exit_on_input_error
from recipes.utils.loading import in_one_line
from recipes.utils.processes import join_processes
from recipes.utils.provenance import record_launch
from tokenizer.chat import has_chat_format

INPUTS = {"source", "problems"}


@dataclass
class GRPOArguments(PosttrainArguments, GRPOConfig):
    """Flags of recipes/grpo.py; what differs from TRL's defaults is set here, by nanochat's example."""

    source: str = flag("sft", "what to train: base, mid or sft beside output_dir, a directory, or a Hub id", path=True)
    problems: str = flag("primer", "primer, or gsm8k, or gsm8k:PATH for local files", path=True)
    max_problems: int = flag(10_000, "problems to train on at most", least=1)
    format_reward: float = flag(
        0.0, "reward for calling the calculator without an error, beside 1 for the answer", least=0
    )
    pass_every: int = flag(60, "steps between measurements of pass@k; 0: only before and after, -1: never", least=-1)
    pass_problems: int = flag(200, "hold_output_dir-out problems that pass@k is measured on", least=1)
    pass_samples: int = flag(8, "sampled replies to each of them: the k", least=1, most=10_000)
    pass_batch_size: int = flag(64, "replies that a process works on at a time for pass@k", least=1)
    output_dir: str = flag(
        "runs/base/grpo", "where checkpoints, metrics and the final model go", path=True, resumable=True
    )
    init_lr_frac: float = flag(
        0.05, "learning rates of this stage, as a share of pretraining's", above=0, most=LARGEST_RATE
    )
    num_train_epochs: float = flag(1.0, "passes over the problems", above=0)
    per_device_train_batch_size: int = flag(16, "replies that a process trains on at a time", least=1)
    num_generations: int = flag(16, "replies to each problem, compared with each other", least=2)
    max_completion_length: int = flag(256, "tokens of a reply, calls and results included", least=1)
    top_k: int = flag(50, "replies are sampled from so many likeliest tokens; 0: from all", least=0)
    loss_type: str = flag("dapo", "the loss is averaged over the tokens of all replies")
    scale_rewards: str = flag("none", "advantages are r - mean(r), not divided by the deviation")
    save_total_limit: int | None = flag(2, "newest checkpoints kept", least=1, resumable=True)
    logging_steps: float = flag(1, "steps between logs", above=0, resumable=True)
    gradient_checkpointing: bool | None = flag(None, "recompute activations in the backward pass: less memory, slower")

    def __post_init__(self) -> None:
        self.check_flags()
        settle_on_hardware(self)
        GRPOConfig.__post_init__(self)


def grpo(args: GRPOArguments, model_args: ModelConfig) -> None:
    """The whole recipe, from arguments to a directory that `from_pretrained` loads."""
    reject_idle_flags(args, model_args)
    output_dir, state = Path(args.output_dir), PartialState()
    arguments = trainer_settings(args, model_args, "grpo")
    if claim_output_dir(output_dir, arguments, FREE_TO_CHANGE, INPUTS, state):
        leave_finished(args, output_dir)
        return
    target = take_hub_target(args)
    disable_progress_bar()
    source = find_source(args.source, output_dir)
    set_seed(args.seed)  # for what is new in the model: adapters
    model, tokenizer = load_chat_model(source, model_args, None, args.trust_remote_code)
    if not has_chat_format(tokenizer):
        raise InputError(f"{source} calls tools in a format of its own: take a model with our chat template.")
    context = context_length(model)
    if args.max_completion_length >= context:
        raise InputError(
            f"max_completion_length {args.max_completion_length} leaves no room for a question in the model's context "
            f"of {context:,} tokens."
        )
    problems = open_problems(args.problems, "train", args.max_problems, args.seed)
    at_once = args.generation_batch_size // args.num_generations
    if len(problems) < at_once:
        raise InputError(f"{len(problems)} problems are too few for one step of {at_once}: take a smaller batch.")
    held_out = open_problems(args.problems, "validation", args.pass_problems, seed=1)

    claim_inputs(
        output_dir,
        arguments,
        lambda: {
            "source": fingerprint_model(source),
            "problems": fingerprint_conversations(args.problems, train=problems),
        },
        state,
    )
    checkpoint = choose_checkpoint(output_dir, args.resume, state, TRAINERS)
    args.output_dir = str(output_dir / "checkpoints")
    args.reward_weights = [1.0, args.format_reward]
    optimizer = build_posttraining_optimizer(args, model, args.weight_decay)
    try:
        trainer = GRPOTrainer(
            model=model,
            args=args,
            train_dataset=problems,
            reward_funcs=[right_answer, called_calculator],
            tools=[calculator],
            processing_class=tokenizer,
            optimizers=(optimizer, None),
        )
    except ValueError as error:
        raise InputError(f"TRL refuses these flags: {in_one_line(error)}") from error
    metrics = use_our_console(trainer, output_dir)
    sampling = Sampling(args.max_completion_length, args.temperature, args.top_k or None, args.top_p)
    passes = PassAtK(trainer, metrics, held_out, args.pass_every, args.pass_samples, sampling, args.pass_batch_size)
    trainer.add_callback(passes)
    trainer.accelerator.print(f"{len(problems):,} problems from {args.problems}, model {source}")
    precision = trainer.accelerator.mixed_precision
    record_launch(output_dir, data=args.problems, source=source, precision=precision)
    if train(trainer, checkpoint, output_dir) and trainer.is_world_process_zero():
        save_finished(trainer.accelerator.unwrap_model(trainer.model), tokenizer, source, output_dir, target)
        passes.report(output_dir / "pass_at_k.png")


def main() -> None:
    args, model_args = parse_arguments(GRPOArguments, ModelConfig)
    with hold_output_dir(args.output_dir, join_processes()):
        grpo(args, model_args)


if __name__ == "__main__":
    exit_on_input_error("grpo", main)
