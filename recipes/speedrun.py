"""Train every stage one after the other: `python -m recipes.speedrun`, or `make speedrun`.

Each stage is the command that it prints, so that any of them can be run by hand as well. Finished stages are skipped:
run it again after an interruption.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from evals.samples import PROMPTS, complete, is_right
from modeling_nanochat import NanochatGPTForCausalLM
from recipes.arguments import parse_arguments
from recipes.errors import InputError, exit_on_input_error
from recipes.training.export import is_finished
from recipes.training.tracking import clock, read_metrics

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "recipes" / "configs"


@dataclass
class SpeedrunArguments:
    """Flags of `python -m recipes.speedrun`."""

    preset: str = field(default="auto", metadata={"help": "one of recipes/configs; auto: by the hardware found"})
    run_dir: str | None = field(default=None, metadata={"help": "where everything goes (default: runs/PRESET)"})


def speedrun(args: SpeedrunArguments) -> None:
    """Tokenizer, base model, samples; each stage's headline as it ends."""
    preset = choose_preset(args.preset)
    run_dir = Path(args.run_dir or Path("runs", preset))
    print(f"preset {preset}, into {run_dir}", flush=True)

    tokenizer_dir, base_dir = run_dir / "tokenizer", run_dir / "base"
    tokenizer_config = CONFIGS / "tokenizer" / ("cpu.yaml" if preset == "cpu" else "gpu.yaml")
    run_stage(
        "tokenizer",
        [*python(), "-m", "tokenizer.train", "--config", tokenizer_config, "--output_dir", tokenizer_dir],
        finished=lambda: (tokenizer_dir / "tokenizer.json").exists(),
    )
    pretraining = [ROOT / "recipes" / "pretrain.py", "--config", CONFIGS / f"{preset}.yaml"]
    run_stage(
        "base",
        [*launcher(preset), *pretraining, "--tokenizer", tokenizer_dir, "--output_dir", base_dir],
        finished=lambda: is_finished(base_dir),
    )
    print_headline(base_dir)
    print_samples(base_dir)


def choose_preset(name: str) -> str:
    """The preset called `name`, or the one for the hardware that is there."""
    if name == "auto":
        gpus = torch.cuda.device_count()
        return "cpu" if gpus == 0 else "d12" if gpus < 8 else "d20"
    known = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
    if name not in known:
        raise InputError(f"no preset {name!r} in {CONFIGS}: choose one of {', '.join(known)}.")
    return name


def python() -> list[str]:
    """The interpreter that runs this script."""
    return [sys.executable]


def launcher(preset: str) -> list[str]:
    """`accelerate launch` for the GPUs of this machine; one process, as on a CPU, needs no launcher."""
    gpus = 0 if preset == "cpu" else torch.cuda.device_count()
    if gpus <= 1:
        return python()
    config = ROOT / "accelerate_configs" / "ddp.yaml"
    launch = [*python(), "-m", "accelerate.commands.launch", "--quiet", "--config_file", config]
    return [*launch, "--num_processes", str(gpus)]


def run_stage(name: str, command: list[str | Path], finished: Callable[[], bool]) -> None:
    """Run `command` unless its result is there; ends the program if it fails."""
    if finished():
        print(f"\n== {name}: finished already", flush=True)
        return
    words = [str(word) for word in command]
    print(f"\n== {name}: {shlex.join(words)}", flush=True)
    started = time.perf_counter()
    code = wait_for(subprocess.Popen(words, env=environment()))
    if code != 0:
        sys.exit(code)  # the stage has said why
    if not finished():
        print(f"== {name}: stopped; run the same command again to go on", flush=True)
        sys.exit(0)
    print(f"== {name}: done in {clock(time.perf_counter() - started)}", flush=True)


def wait_for(stage: subprocess.Popen) -> int:
    """The exit code of a stage. A signal is the stage's to answer: it saves a checkpoint before it ends."""
    signal.signal(signal.SIGTERM, lambda number, frame: stage.terminate())
    while True:
        try:
            return stage.wait()
        except KeyboardInterrupt:  # Ctrl-C on a terminal has reached the stage as well
            continue


def environment() -> dict[str, str]:
    """This process's environment, with all cores for the one CPU process where nothing else was asked for."""
    return {"OMP_NUM_THREADS": str(torch.get_num_threads()), **os.environ}


def print_headline(base_dir: Path) -> None:
    """Bits per byte, tokens, time and speed of the base model."""
    records = read_metrics(base_dir / "metrics.jsonl")
    evaluated = [record for record in records if "val/bpb" in record]
    last = [record for record in records if "train/loss" in record][-1]
    speeds = sorted(record["train/tok_per_sec"] for record in records if "train/loss" in record)
    print(
        f"\nbase model: {evaluated[-1]['val/bpb']:.4f} bits per byte after {last['step']:,} steps, "
        f"{clock(last['total_training_time'])} of training, median {speeds[len(speeds) // 2]:,.0f} tokens/s"
    )


def print_samples(base_dir: Path) -> None:
    """The seven prompts, completed greedily, and how many of the six with an answer are right."""
    disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(base_dir)
    model = NanochatGPTForCausalLM.from_pretrained(base_dir)
    completions = complete(model, tokenizer, list(PROMPTS), max_new_tokens=24)
    verdicts = [is_right(prompt, text) for prompt, text in zip(PROMPTS, completions, strict=True)]
    print()
    for prompt, text, verdict in zip(PROMPTS, completions, verdicts, strict=True):
        mark = {True: "right", False: "wrong", None: "free "}[verdict]
        print(f"  {mark}  {prompt}{text.splitlines()[0] if text else ''}")
    print(f"\n{verdicts.count(True)} of {len(verdicts) - verdicts.count(None)} prompts completed right")
    print(f"the model: {base_dir}    its loss: {base_dir / 'loss.png'}")


def main() -> None:
    speedrun(parse_arguments(SpeedrunArguments))


if __name__ == "__main__":
    exit_on_input_error("speedrun", main)
