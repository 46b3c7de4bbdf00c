"""Train every stage one after the other: `python -m recipes.speedrun`, or `make speedrun`.

Each stage is the command that it prints, so that any of them can be run by hand as well. Finished stages are skipped:
run it again after an interruption.
"""

import json
import os
import shlex
import signal
import statistics
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
from recipes.inference.generate import Sampling, generate_replies
from recipes.inference.models import load_chat_model
from recipes.training.export import is_finished
from recipes.training.tracking import clock, read_metrics
from tokenizer.chat import Message, call_expression

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "recipes" / "configs"
TASKS = {"cpu": "facts,choice,problems1,harder", "gpu": "arc_easy,arc_challenge,mmlu,gsm8k"}
QUESTIONS = (
    "Hello!",
    "What is the capital of France?",
    "Anna has 14 apples and buys 27 more. How many apples does Anna have now?",
    "Who are you?",
)


@dataclass
class SpeedrunArguments:
    """Flags of `python -m recipes.speedrun`."""

    preset: str = field(default="auto", metadata={"help": "one of recipes/configs; auto: by the hardware found"})
    run_dir: str | None = field(default=None, metadata={"help": "where everything goes (default: runs/PRESET)"})


def speedrun(args: SpeedrunArguments) -> None:
    """Tokenizer, base model, midtraining, SFT, GRPO, evaluation; each stage's headline as it ends."""
    preset = choose_preset(args.preset)
    kind = "cpu" if preset == "cpu" else "gpu"
    run_dir = Path(args.run_dir or Path("runs", preset))
    print(f"preset {preset}, into {run_dir}", flush=True)

    run_stage(
        "tokenizer",
        [*python(), "-m", "tokenizer.train", *config("tokenizer", kind), "--output_dir", run_dir / "tokenizer"],
        finished=lambda: (run_dir / "tokenizer" / "tokenizer.json").exists(),
    )
    base = ["pretrain.py", "--config", CONFIGS / f"{preset}.yaml", "--tokenizer", run_dir / "tokenizer"]
    train_stage("base", base, preset, run_dir)
    print_headline(run_dir / "base")
    print_samples(run_dir / "base")

    mixtures = {stage: ["--conversations", CONFIGS / "mixtures" / f"{stage}.yaml"] for stage in ("mid", "sft")}
    given = {stage: [] if kind == "cpu" else mixtures[stage] for stage in mixtures}
    mid = ["midtrain.py", *config("mid", kind), "--source", run_dir / "base", *given["mid"]]
    train_stage("mid", mid, preset, run_dir)
    train_stage("sft", ["sft.py", *config("sft", kind), *given["sft"]], preset, run_dir)
    evaluate_stage("sft", kind, preset, run_dir)
    train_stage("grpo", ["grpo.py", *config("grpo", kind)], preset, run_dir)
    evaluate_stage("grpo", kind, preset, run_dir)
    print_comparison(run_dir)
    print_conversation(run_dir / "grpo")
    print(f"\ntalk to it: {shlex.join(['python', '-m', 'recipes.chat', '--model', str(run_dir / 'grpo')])}")


def config(stage: str, kind: str) -> list[str | Path]:
    """The flag that names a stage's preset for this kind of hardware."""
    return ["--config", CONFIGS / stage / f"{kind}.yaml"]


def train_stage(name: str, script: list[str | Path], preset: str, run_dir: Path) -> None:
    """Run a training script of recipes/, with `launcher`, into the stage's directory."""
    command = [*launcher(preset), ROOT / "recipes" / script[0], *script[1:], "--output_dir", run_dir / name]
    run_stage(name, command, finished=lambda: is_finished(run_dir / name))


def evaluate_stage(name: str, kind: str, preset: str, run_dir: Path) -> None:
    """Examine the model of a stage."""
    evaluation = [
        "evals.chat",
        "--model",
        run_dir / name,
        "--tasks",
        TASKS[kind],
        "--output",
        results_file(run_dir, name),
    ]
    launch = launcher(preset)
    module = ["-m", *evaluation] if launch == python() else ["--module", *evaluation]
    run_stage(f"evaluation of {name}", [*launch, *module], finished=results_file(run_dir, name).exists)


def results_file(run_dir: Path, name: str) -> Path:
    """Where the evaluation of a stage is written."""
    return run_dir / name / "evals" / "chat.json"


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


def print_comparison(run_dir: Path) -> None:
    """Accuracy of each task after SFT and after GRPO, and how fast the rollouts were."""
    steps = [record for record in read_metrics(run_dir / "grpo" / "metrics.jsonl") if "train/reward" in record]
    seconds, completions = (
        statistics.median(record[key] for record in steps) for key in ("train/dt", "train/completions_per_sec")
    )
    print(f"\nreinforcement: {len(steps)} steps, median {seconds:.1f} s a step, {completions:.0f} completions/s")
    accuracies = {}
    for stage in ("sft", "grpo"):
        tasks = json.loads(results_file(run_dir, stage).read_text())["tasks"]
        accuracies[stage] = {name: result["accuracy"] for name, result in tasks.items()}
    print(f"\n{'task':<16}{'after SFT':>12}{'after GRPO':>12}")
    for task, before in accuracies["sft"].items():
        print(f"{task:<16}{before:>12.1%}{accuracies['grpo'].get(task, float('nan')):>12.1%}")


def print_conversation(model_dir: Path) -> None:
    """A conversation with the finished model; it calls the calculator where it has to."""
    model, tokenizer = load_chat_model(str(model_dir))
    messages = []
    print()
    for question in QUESTIONS:
        messages.append({"role": "user", "content": question})
        reply = generate_replies(model, tokenizer, [messages], Sampling(max_new_tokens=128))[0]
        messages += reply
        print(f"  you    {question}")
        for message in reply:
            for line in describe(message):
                print(f"  {line}")


def describe(message: Message) -> list[str]:
    """What a person sees of a message of the reply: its text, the call in it, or a tool's result."""
    if message["role"] == "tool":
        return [f"       = {message['content']}"]
    expression = call_expression(message)
    text = [f"model  {message['content']}"] if message["content"] else []
    return text + ([f"model  [calculator] {expression}"] if expression is not None else [])


def main() -> None:
    speedrun(parse_arguments(SpeedrunArguments))


if __name__ == "__main__":
    exit_on_input_error("speedrun", main)
