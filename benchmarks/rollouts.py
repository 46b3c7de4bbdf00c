"""A step of GRPO by our trainer against TRL's own: `python -m benchmarks.rollouts --source runs/cpu/sft`.

Both trainers have the same weights, problems, optimizer and settings, those of recipes/grpo.py, and take turns in one
process. Printed are the medians of each part of a step, by the clock and in CPU time, which says more on a machine
that others use as well; with `OMP_NUM_THREADS=1` both are of one core. Weights are set back after each step, so that
all steps are alike. Every other reply is rewarded, whatever it says: every group has a spread then, and ours cannot
gain by the groups without one, which it spares the way back.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

from recipes.utils.arguments import REQUIRED, Arguments, flag, read_command_line
from recipes.utils.errors import exit_on_input_error


@dataclass
class BenchmarkArguments(Arguments):
    """Flags of `python -m benchmarks.rollouts`; the defaults are the cpu preset's step."""

    source: str = flag(REQUIRED, "the SFT model: directory or Hub id", path=True)
    questions: int = flag(8, "problems of the primer in a step", least=1, most=1000)
    replies: int = flag(8, "replies to each", least=2, most=1000)
    max_completion_length: int = flag(96, "tokens of a reply, calls and results included", least=1, most=2**20)
    steps: int = flag(5, "measured steps of each, with problems of their own", least=1, most=1000)


if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("benchmarks.rollouts", BenchmarkArguments)

import torch
from trl import GRPOConfig, GRPOTrainer, ModelConfig

from recipes.training.chat_model import load_trainable_chat_model
from recipes.training.optimizers import OptimizerSettings, build_optimizer
from recipes.training.problems import open_problems
from recipes.training.rollouts import RolloutTrainer
from recipes.utils.calculator import calculator
from recipes.utils.hardware import has_bf16
from recipes.utils.processes import join_processes

PARTS = ("generation and rewards", "loss", "backward", "optimizer", "whole step")
TRL, OURS = "TRL's", "ours"


def main(args: BenchmarkArguments) -> None:
    problems = open_problems("primer", "train", (args.steps + 1) * args.questions)
    seconds = {name: [] for name in (TRL, OURS)}
    with tempfile.TemporaryDirectory() as directory:
        trainers = {
            name: build(kind, args, problems, directory) for name, kind in ((TRL, GRPOTrainer), (OURS, RolloutTrainer))
        }
        for step in range(args.steps + 1):  # the first one warms up
            asked = problems.select(range(step * args.questions, (step + 1) * args.questions))
            rows = [dict(row) for row in asked for _ in range(args.replies)]
            for name, trainer in trainers.items():
                torch.manual_seed(step)
                seconds[name].append(measure_step(trainer, rows))
    device = trainers[OURS].accelerator.device.type
    length = statistics.mean(trainers[OURS]._metrics["train"]["completions/mean_length"])
    print(f"{args.questions} problems x {args.replies} replies, the model's part {length:.0f} tokens on average")
    print(f"{device}, {torch.get_num_threads()} threads, medians of {args.steps} steps: seconds (of CPU time)")
    print(f"{'':24}{TRL:>16}{OURS:>16}    ratio (of CPU time)")
    for i, part in enumerate(PARTS):
        wall, cpu = ({name: median(seconds[name], i, which) for name in seconds} for which in (0, 1))
        shown = "".join(f"{wall[name]:9.2f} ({cpu[name]:4.2f})" for name in seconds)
        print(f"{part:24}{shown}    {wall[TRL] / wall[OURS]:.2f} x ({cpu[TRL] / cpu[OURS]:.2f} x)")


def build(kind: type[GRPOTrainer], args: BenchmarkArguments, problems, directory: str) -> GRPOTrainer:
    """A trainer of `kind` with a model of its own, as recipes/grpo.py makes it."""
    processes = join_processes()
    model, tokenizer = load_trainable_chat_model(args.source, ModelConfig())
    config = GRPOConfig(
        directory,
        num_generations=args.replies,
        per_device_train_batch_size=args.questions * args.replies,
        max_completion_length=args.max_completion_length,
        top_k=50,
        scale_rewards="none",
        gradient_checkpointing=False,
        report_to="none",
        use_cpu=processes.device.type == "cpu",
        bf16=has_bf16(processes.device),
    )
    optimizer = build_optimizer("muon", model, OptimizerSettings())
    trainer = kind(
        model,
        [every_other],
        config,
        problems,
        tools=[calculator],
        processing_class=tokenizer,
        optimizers=(optimizer, None),
    )
    trainer.current_gradient_accumulation_steps = 1  # which Trainer sets when it trains
    trainer.model_wrapped = trainer.accelerator.prepare(model)
    model.train()
    return trainer


def every_other(completions: list, **kwargs) -> list[float]:
    """Rewards of 0 and 1 in turns."""
    return [float(i % 2) for i in range(len(completions))]


def measure_step(trainer: GRPOTrainer, rows: list[dict]) -> list[tuple[float, float]]:
    """Seconds by the clock and of CPU time of each of `PARTS`."""
    model, made = trainer.model_wrapped, []
    weights = [weight.detach().clone() for weight in model.parameters()]
    parts = [
        timed(lambda: made.append(trainer._generate_and_score_completions(rows))),
        timed(lambda: made.append(trainer.compute_loss(model, made[0]))),
        timed(lambda: made[1].backward()),
        timed(trainer.optimizer.step),
    ]
    trainer.optimizer.zero_grad()
    with torch.no_grad():
        for weight, before in zip(model.parameters(), weights, strict=True):
            weight.copy_(before)
    return [*parts, tuple(map(sum, zip(*parts, strict=True)))]


def timed(function: Callable) -> tuple[float, float]:
    """Seconds of a call by the clock and of CPU time, the GPU's work included."""
    started = time.perf_counter(), time.process_time()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started[0], time.process_time() - started[1]


def median(steps: list[list[tuple[float, float]]], part: int, which: int) -> float:
    """Of a part's seconds over all steps but the first."""
    return statistics.median(step[part][which] for step in steps[1:])


if __name__ == "__main__":
    exit_on_input_error("benchmarks.rollouts", lambda: main(ARGS))
