"""Reinforcement: `python recipes/grpo.py --config recipes/configs/grpo/cpu.yaml --output_dir runs/NAME/grpo`.

TRL's GRPOTrainer on problems with a checkable answer. The model may call the calculator, which TRL runs; a reply earns
1 if its final number is right. The flags are ours and those of TRL's GRPOConfig and ModelConfig.
"""

import recipes.utils.quiet  # noqa: F401  # isort: skip
from recipes.training.posttraining_arguments import GRPOArguments, ModelArguments
from recipes.utils.arguments import read_command_line, resumable_flags

if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("grpo", GRPOArguments, ModelArguments)

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from accelerate import PartialState
from datasets.utils.logging import disable_progress_bar
from transformers import set_seed
from trl import GRPOConfig

from recipes.inference.generate import Sampling
from recipes.publish import after_training
from recipes.training.adapters import base_model, merge_adapters
from recipes.training.chat_model import load_trainable_chat_model, resolve_source
from recipes.training.checkpoint_files import TRAINERS
from recipes.training.curriculum import Curriculum, CurriculumCallback
from recipes.training.export import save_model
from recipes.training.fingerprint import fingerprint_conversations, fingerprint_model
from recipes.training.models import set_special_tokens
from recipes.training.optimizers import build_optimizer, find_builder
from recipes.training.output_dir import choose_checkpoint, claim_inputs, claim_output_dir, hold_output_dir
from recipes.training.pass_at_k import PassAtK
from recipes.training.problems import check_room, open_problems
from recipes.training.rates import posttraining_settings
from recipes.training.rewards import called_calculator, right_answer
from recipes.training.rollout_checks import check_generation
from recipes.training.rollouts import RolloutTrainer
from recipes.training.source_run import with_rates_of_model
from recipes.training.trainer_metrics import log_like_pretraining
from recipes.training.trainer_run import build_trainer_config, fit_rows, refusals_in_one_line, run_settings, train
from recipes.utils.calculator import calculator
from recipes.utils.errors import InputError, exit_on_input_error
from recipes.utils.model_facts import describe_model
from recipes.utils.processes import join_processes, refuse_fsdp
from recipes.utils.provenance import record_launch
from tokenizer.chat import has_chat_format

INPUTS = {"source", "problems"}  # arguments that name what is read: a resumed run must find the same contents
RESUMABLE = resumable_flags(GRPOArguments) | resumable_flags(ModelArguments)


@dataclass
class TrainerConfig(GRPOArguments, GRPOConfig):
    """TRL's configuration, with our flags beside TRL's for trackers to show."""

    __post_init__ = GRPOConfig.__post_init__  # GRPOArguments are checked already


def grpo(args: GRPOArguments, model_args: ModelArguments, processes: PartialState) -> None:
    """Train `args.source` by its rewards into `args.output_dir`, a directory that `from_pretrained` loads."""
    # --- The run: its directory, and whether there is anything left to do
    output_dir = Path(args.output_dir)
    args = with_rates_of_model(args, resolve_source(args.source, output_dir), output_dir)
    config = build_trainer_config(TrainerConfig, args, processes)  # TRL's own class, with our flags
    settings = run_settings(config, model_args, "grpo", processes)
    target = after_training.hub_target(args.push_to_hub, args.hub_model_id, args.hub_private_repo)
    if claim_output_dir(output_dir, settings, RESUMABLE, INPUTS, processes):
        after_training.publish_already_finished(target, output_dir)
        return
    after_training.check_publishing_rights(target)  # now: after the training, a refusal would come late

    find_builder(args.optimizer)  # an unknown optimizer is reported before the model is loaded

    # --- Model
    source = resolve_source(args.source, output_dir)
    set_seed(args.seed)  # for what is new in the model: adapters
    attention, trusted = model_args.attn_implementation, args.trust_remote_code
    model, tokenizer = load_trainable_chat_model(source, model_args, attention, trust_remote_code=trusted)
    if not has_chat_format(tokenizer):
        raise InputError(f"{source} calls tools in a format of its own: take a model with our chat template.")
    context = tokenizer.model_max_length
    if args.max_completion_length >= context:
        raise InputError(
            f"max_completion_length {args.max_completion_length} leaves no room for a question in the model's context "
            f"of {context:,} tokens."
        )
    facts = describe_model(base_model(model), context)
    if not model_args.use_peft:  # the estimate is of training all weights
        fit_rows(config, facts, min(context, 2 * args.max_completion_length), processes)  # a question, and its reply

    check_generation(config, model)

    # --- Data: questions with an answer that is a number. A step samples num_generations replies to each question.
    disable_progress_bar()
    problems = open_problems(args.problems, "train", args.max_problems, args.seed)
    questions = config.generation_batch_size // config.num_generations  # in a step
    if len(problems) < questions:
        raise InputError(f"{len(problems)} problems are too few for one step of {questions}: take a smaller batch.")
    check_room(problems, tokenizer, context, args.max_completion_length)
    held_out = open_problems(args.problems, "validation", args.pass_problems, seed=1)
    claim_inputs(
        output_dir,
        settings,
        lambda: {
            "source": fingerprint_model(source),
            "problems": fingerprint_conversations(args.problems, train=problems),
        },
        processes,
    )
    checkpoint = choose_checkpoint(output_dir, args.resume, processes, TRAINERS)  # to resume from, if there is one

    # --- Optimizer: pretraining's, at init_lr_frac of its learning rates after the same scaling for the model's width:
    # 0.05 in nanochat. A reward says one number about a whole reply, so a gradient is mostly noise, and a large step
    # along it costs what SFT taught; the more replies of a step have something to teach, the larger it may be. TRL's
    # scheduler lets all rates fall in a line to 0 over the run.
    optimizer = build_optimizer(args.optimizer, model, posttraining_settings(args, facts))

    # --- Which problems come next
    curriculum = Curriculum(problems, args.seed) if args.curriculum else None
    if curriculum and checkpoint:
        curriculum.load(checkpoint)

    # --- Trainer. What is left of GRPO with nanochat's settings is close to REINFORCE:
    # - The advantage of a reply is r - mean(r) over the replies to its question, the mean being a baseline that needs
    #   no value model. It is not divided by the deviation (scale_rewards none): that would weigh a question that all
    #   but one reply got right as much as one that half of them did, and rewards of 0 and 1 have one scale already.
    # - On-policy: each reply is trained on once (num_iterations 1), by the model that wrote it. So there is no ratio
    #   of old and new probabilities to clip.
    # - No KL term (beta 0), which would hold a second model in memory: the reward is a check, not a model that could
    #   be gamed.
    # - Above temperature 1 the loss counts only the top_k tokens that were sampled from (training/reply_scores.py).
    # - The loss is the mean over the tokens of all replies (loss_type dapo), not of each reply first, so that a token
    #   of a long reply counts as much as one of a short one. Results of calls are masked: they are not the model's.
    config.reward_weights = [1.0, args.format_reward]
    with refusals_in_one_line():
        trainer = RolloutTrainer(
            model=model,
            args=config,
            train_dataset=problems,
            reward_funcs=[right_answer, called_calculator],
            tools=[calculator],
            processing_class=tokenizer,
            optimizers=(optimizer, None),
            curriculum=curriculum,
            sampling_rounds=args.sampling_rounds,
        )
    if curriculum:
        trainer.add_callback(CurriculumCallback(curriculum))
    metrics = log_like_pretraining(trainer, output_dir)
    sampling = Sampling(args.max_completion_length, args.temperature, args.top_k or None, args.top_p)
    passes = PassAtK(trainer, metrics, held_out, args.pass_every, args.pass_samples, sampling, args.pass_batch_size)
    trainer.add_callback(passes)
    trainer.accelerator.print(f"{len(problems):,} problems from {args.problems}, model {source}")
    record_launch(output_dir, data=args.problems, source=source, precision=trainer.accelerator.mixed_precision)

    # --- Train. Trainer writes a checkpoint every save_steps, `train` its manifest. The same command resumes the run.
    if not train(trainer, checkpoint, output_dir) or not processes.is_main_process:
        return

    # --- Save and publish
    trained = trainer.accelerator.unwrap_model(trainer.model)
    trained = merge_adapters(trained, tokenizer, source, output_dir / "adapter")
    set_special_tokens(trained, tokenizer)
    save_model(trained, tokenizer, output_dir)
    print(f"finished: {output_dir}; talk to it by python -m recipes.chat --model {output_dir}")
    passes.report(output_dir / "pass_at_k.png")
    after_training.publish_finished(target, output_dir)


def main(args: GRPOArguments, model_args: ModelArguments) -> None:
    refuse_fsdp()
    processes = join_processes(args.use_cpu, timedelta(seconds=args.ddp_timeout))
    with hold_output_dir(args.output_dir, processes):
        grpo(args, model_args, processes)


if __name__ == "__main__":
    exit_on_input_error("grpo", lambda: main(*ARGS))
