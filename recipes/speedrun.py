"""Train every stage one after the other: `python -m recipes.speedrun`, or `make speedrun`.

Each stage is the command that it prints, so that any of them can be run by hand as well. Finished stages are skipped:
run it again after an interruption.
"""

import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from recipes.utils.arguments import Arguments, flag, read_command_line
from recipes.utils.errors import InputError, exit_on_input_error


@dataclass
class SpeedrunArguments(Arguments):
    """Flags of `python -m recipes.speedrun`."""

    preset: str = flag("auto", "of recipes/configs; auto: by the hardware found", choices=("auto", "cpu", "gpu"))
    run_dir: str | None = flag(
        None,
        "where everything goes (default: runs/cpu on a CPU, runs/dDEPTH on GPUs, with -seedN for a seed)",
        path=True,
    )
    core_bundle: str | None = flag(None, "measure CORE of the base model on the tasks in this directory", path=True)
    price_per_hour: float | None = flag(None, "dollars an hour of this machine, for the report", least=0)
    depth: int | None = flag(
        None,
        "the dial (default: the preset's on a CPU; on GPUs 20 where there are eight, else 12)",
        least=1,
        most=1000,
    )
    seed: int | None = flag(
        None, "of all training stages; other seeds show how much of a result is chance", least=0, below=2**32
    )


if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("speedrun", SpeedrunArguments)

import torch

from evals.core.bundle import available, read_tasks
from evals.samples import print_completions, print_conversation
from recipes.plots.curves import over_run
from recipes.training.output_dir import read_arguments
from recipes.utils.child_process import launcher, wait_for
from recipes.utils.outputs import hold
from recipes.utils.plain_text import clock
from recipes.utils.provenance import ROOT
from recipes.utils.run_directory import (
    CHAT_RESULTS,
    CORE_RESULTS,
    EVALS,
    FINISHED_BY,
    METRICS,
    SAMPLES,
    STAGES,
    TOKENIZER,
    TOKENIZER_EVALUATION,
    check_run,
    read_metrics,
)

CONFIGS = ROOT / "recipes" / "configs"
TASKS = {"cpu": "facts,choice,one_step,multi_step:600", "gpu": "arc_easy,arc_challenge,mmlu,gsm8k,humaneval"}
# Of a base model a few short answers are enough: it does not know when to stop.
BASE_MODEL_LIMITS = ["--max_problems", "50", "--max_new_tokens", "32"]


def speedrun(args: SpeedrunArguments) -> None:
    """All stages into a directory that no other speedrun is writing."""
    preset = choose_preset(args.preset)
    depth = choose_depth(preset, args.depth)
    if args.core_bundle is not None:  # now: it is opened when the base model is trained
        available(read_tasks(Path(args.core_bundle)), Path(args.core_bundle))
    run_dir = Path(args.run_dir or default_run_dir(preset, depth, args.seed))
    check_run(run_dir, new=True)
    with hold(run_dir, "run_dir"):
        check_stages(run_dir, depth=args.depth, seed=args.seed)
        dials = [f", {name} {value}" for name, value in (("depth", depth), ("seed", args.seed)) if value is not None]
        print(f"preset {preset}{''.join(dials)}, into {run_dir}", flush=True)
        run_stages(args, preset, depth, run_dir)


def run_stages(args: SpeedrunArguments, preset: str, depth: int | None, run_dir: Path) -> None:
    """Tokenizer, base model, its way to an assistant, each with its evaluation and headline; then the report."""

    def train(name: str, *script: str | Path) -> None:
        seed = [] if args.seed is None else ["--seed", str(args.seed)]
        train_stage(name, [*script, *seed], preset, run_dir)

    train_tokenizer(run_dir / "tokenizer", preset)
    base = ["pretrain.py", *config("pretrain", preset), "--tokenizer", run_dir / "tokenizer"]
    train("base", *base, *([] if depth is None else ["--depth", str(depth)]))
    print_headline(run_dir / "base")
    show_samples("base", run_dir)
    if args.core_bundle is not None:
        core = ["evals.core", "--model", run_dir / "base", "--bundle", args.core_bundle]
        run_module("CORE of base", core, preset, writes=run_dir / "base" / EVALS / CORE_RESULTS)
    examine("base", preset, run_dir, BASE_MODEL_LIMITS)

    if preset == "cpu":
        train("mid", "midtrain.py", *config("mid", preset), "--source", run_dir / "base")
        examine("mid", preset, run_dir)
        sft = config("sft", preset)
    else:  # midtraining and SFT in one; the preset names its mixture by a path from the project's root
        sft = [*config("sft", "gpu_2026"), "--conversations", CONFIGS / "mixtures" / "sft_2026.yaml"]
    train("sft", "sft.py", *sft)
    examine("sft", preset, run_dir)
    train("grpo", "grpo.py", *config("grpo", preset))
    examine("grpo", preset, run_dir)
    print_comparison(run_dir)
    show_samples("grpo", run_dir)

    price = [] if args.price_per_hour is None else ["--price_per_hour", str(args.price_per_hour)]
    run_stage("report", [sys.executable, "-m", "evals.report", "--run", run_dir, *price])
    print(f"\nlook at it: {run_dir / 'report.html'}")
    print(f"talk to it: {shlex.join(['python', '-m', 'recipes.chat', '--model', str(run_dir / 'grpo')])}")


def choose_preset(name: str) -> str:
    """`cpu` or `gpu`: the one asked for, or by the hardware that is there."""
    return name if name != "auto" else "gpu" if torch.cuda.device_count() else "cpu"


def choose_depth(preset: str, depth: int | None) -> int | None:
    """The depth asked for, or one for this machine's GPUs; None leaves it to the preset, as on a CPU."""
    if depth is not None or preset == "cpu":
        return depth
    return 20 if torch.cuda.device_count() >= 8 else 12


def default_run_dir(preset: str, depth: int | None, seed: int | None = None) -> Path:
    """A directory for each preset, depth and seed: a run of another must not find these stages finished."""
    of_seed = "" if seed is None else f"-seed{seed}"
    if preset == "cpu":
        return Path("runs", ("cpu" if depth is None else f"cpu-d{depth}") + of_seed)
    return Path("runs", f"d{depth}{of_seed}")


def check_stages(run_dir: Path, **asked: int | None) -> None:
    """Refuse to take the stages of one depth or seed for those of another."""
    for stage in STAGES:
        trained = read_arguments(run_dir / stage)
        for name, value in asked.items():
            if None not in (value, trained.get(name)) and trained[name] != value:
                raise InputError(
                    f"{name} {value}: {run_dir / stage} was trained with {name} {trained[name]}. "
                    f"Choose another run_dir, or give the {name} that this run began with, if any."
                )


def train_tokenizer(directory: Path, preset: str) -> None:
    """The tokenizer, and its comparison with others; on a CPU without asking the Hub for them."""
    train = [sys.executable, "-m", "tokenizer.train", *config("tokenizer", preset), "--output_dir", directory]
    run_stage("tokenizer", train, writes=directory / TOKENIZER)
    compare = [sys.executable, "-m", "tokenizer.evaluate", "--tokenizer", directory, "--output_dir", directory]
    offline = {"HF_HUB_OFFLINE": "1"} if preset == "cpu" else {}
    run_stage("tokenizer's report", compare, writes=directory / TOKENIZER_EVALUATION, environment=offline)


def config(stage: str, preset: str) -> list[str | Path]:
    """The flag that names a stage's preset."""
    return ["--config", CONFIGS / stage / f"{preset}.yaml"]


def train_stage(name: str, script: list[str | Path], preset: str, run_dir: Path) -> None:
    """Run a training script of recipes/ in every process, into the stage's directory."""
    processes, output_dir = num_processes(preset), run_dir / name
    command = [*launcher(processes), ROOT / "recipes" / script[0], *script[1:], "--output_dir", output_dir]
    run_stage(name, command, writes=output_dir / FINISHED_BY, processes=processes)


def examine(name: str, preset: str, run_dir: Path, limits: Sequence[str] = ()) -> None:
    """Ask the model of a stage the tasks' questions."""
    chat = ["evals.chat", "--model", run_dir / name, "--tasks", TASKS[preset], *limits]
    run_module(f"evaluation of {name}", chat, preset, writes=results_of(run_dir, name))


def results_of(run_dir: Path, name: str) -> Path:
    """Where the evaluation of a stage is written."""
    return run_dir / name / EVALS / CHAT_RESULTS


def show_samples(name: str, run_dir: Path) -> None:
    """What the model of a stage writes: completions, and a conversation if it has learnt to have one."""
    path = run_dir / name / EVALS / SAMPLES
    command = [sys.executable, "-m", "evals.samples", "--model", run_dir / name]
    if not run_stage(f"samples of {name}", command, writes=path):
        samples = json.loads(path.read_text())
        print_completions(samples["completions"])
        print_conversation(samples.get("conversation", []))


def run_module(name: str, module: list[str | Path], preset: str, writes: Path) -> None:
    """Run a module with its flags in every process."""
    processes = num_processes(preset)
    command = [*launcher(processes), "-m" if processes == 1 else "--module", *module]
    run_stage(name, command, writes=writes, processes=processes)


def num_processes(preset: str) -> int:
    """One for each GPU of this machine; one on a CPU."""
    return 1 if preset == "cpu" else max(1, torch.cuda.device_count())


def run_stage(
    name: str,
    command: list[str | Path],
    writes: Path | None = None,
    environment: Mapping[str, str] | None = None,
    processes: int = 1,
) -> bool:
    """Run `command` unless what it writes last is there, and return whether it ran; ends the program if it fails.

    Each of its `processes` gets its share of the cores, where nothing else was asked for; `environment` comes on top.
    """
    if writes is not None and writes.exists():
        print(f"\n== {name}: finished already", flush=True)
        return False
    words = [str(word) for word in command]
    print(f"\n== {name}: {shlex.join(words)}", flush=True)
    started = time.perf_counter()
    threads = max(1, torch.get_num_threads() // processes)
    variables = {"OMP_NUM_THREADS": str(threads), **os.environ, **(environment or {})}
    code = wait_for(subprocess.Popen(words, env=variables))
    if code != 0:
        sys.exit(code)  # the stage has said why
    if writes is not None and not writes.exists():
        print(f"== {name}: stopped; run the same command again to continue", flush=True)
        sys.exit(0)
    print(f"== {name}: done in {clock(time.perf_counter() - started)}", flush=True)
    return True


def print_headline(base_dir: Path) -> None:
    """Bits per byte, tokens, time and speed of the base model."""
    records = read_metrics(base_dir / METRICS)
    evaluated = [record for record in records if "val/bpb" in record]
    last = [record for record in records if "train/loss" in record][-1]
    speeds = [record["train/tok_per_sec"] for record in records if "train/loss" in record]
    print(
        f"\nbase model: {evaluated[-1]['val/bpb']:.4f} bits per byte after {last['step']:,} steps, "
        f"{clock(last['total_training_time'])} of training, median {statistics.median(speeds):,.0f} tokens/s"
    )


def print_comparison(run_dir: Path) -> None:
    """Accuracy of each task after each stage; how fast the rollouts were, and what changed by them."""
    records = read_metrics(run_dir / "grpo" / METRICS)
    steps = [record for record in records if "train/reward" in record]
    seconds, completions = (
        statistics.median(record[key] for record in steps) for key in ("train/dt", "train/completions_per_sec")
    )
    print(f"\nreinforcement: {len(steps)} steps, median {seconds:.1f} s a step, {completions:.0f} completions/s")
    print("; ".join(f"{name} from {first} to {last}" for name, first, last in over_run(records)))
    evaluated = [stage for stage in STAGES if results_of(run_dir, stage).exists()]  # DPO is not part of a speedrun
    results = {stage: json.loads(results_of(run_dir, stage).read_text()) for stage in evaluated}
    tasks = {stage: each["tasks"] for stage, each in results.items()}
    print(f"\n{'task':<16}" + "".join(f"{stage:>10}" for stage in tasks))
    for task in tasks["grpo"]:
        shown = (f"{results[task]['accuracy']:>10.1%}" if task in results else " " * 10 for results in tasks.values())
        print(f"{task:<16}{''.join(shown)}")
    for note in results["grpo"].get("notes", []):
        print(note)


if __name__ == "__main__":
    exit_on_input_error("speedrun", lambda: speedrun(ARGS))
