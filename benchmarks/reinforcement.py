"""Gain of GRPO over an SFT model, for several seeds: `python -m benchmarks.reinforcement --source runs/cpu/sft`.

The recipe and the evaluation run as users run them, each in its own process. Each exam has 200 problems, which are
answered greedily and are the same for all seeds.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from recipes.utils.arguments import REQUIRED, Arguments, flag, read_command_line
from recipes.utils.errors import exit_on_input_error

ROOT = Path(__file__).parent.parent


@dataclass
class BenchmarkArguments(Arguments):
    """Flags of `python -m benchmarks.reinforcement`."""

    source: str = flag(REQUIRED, "the SFT model: directory or Hub id", path=True)
    recipe_config: str = flag(str(ROOT / "recipes/configs/grpo/cpu.yaml"), "of recipes/grpo.py", path=True)
    tasks: str = flag("facts,choice,one_step,multi_step", "as of evals.chat", path=True)
    seeds: int = flag(3, "runs of GRPO, with seeds 0, 1, ...", least=1)


if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("benchmarks.reinforcement", BenchmarkArguments)

from recipes.utils.run_directory import METRICS, read_metrics


def main(args: BenchmarkArguments) -> None:
    source = str(Path(args.source).resolve()) if Path(args.source).exists() else args.source
    with tempfile.TemporaryDirectory() as directory:
        before = examine(source, args.tasks, Path(directory, "before.json"))
        print(line("SFT", before), flush=True)
        gains = []
        for seed in range(args.seeds):
            output_dir = Path(directory, f"seed{seed}")
            flags = {
                "config": args.recipe_config,
                "source": source,
                "output_dir": output_dir,
                "seed": seed,
                "pass_every": -1,
            }
            run(["recipes/grpo.py", *(word for name, value in flags.items() for word in (f"--{name}", str(value)))])
            after = examine(str(output_dir), args.tasks, Path(directory, f"after{seed}.json"))
            steps = [record for record in read_metrics(output_dir / METRICS) if "train/reward" in record]
            seconds = statistics.median(record["train/dt"] for record in steps)
            print(line(f"seed {seed}", after) + f"   median {seconds:.1f} s a step", flush=True)
            gains.append({task: after[task] - before[task] for task in before})
    print(line("mean gain", {task: statistics.mean(gain[task] for gain in gains) for task in before}))
    print(line("least gain", {task: min(gain[task] for gain in gains) for task in before}))


def examine(model: str, tasks: str, output: Path) -> dict[str, float]:
    """Accuracy of a model on each task."""
    run(["-m", "evals.chat", "--model", model, "--tasks", tasks, "--output", str(output)])
    return {name: result["accuracy"] for name, result in json.loads(output.read_text())["tasks"].items()}


def run(words: list[str]) -> None:
    """Run a command of the project; print its output only if it fails."""
    process = subprocess.run(
        [sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if process.returncode != 0:
        sys.exit(process.stdout)


def line(name: str, figures: dict[str, float]) -> str:
    """A line of values in percent or percentage points."""
    return f"{name:<12}" + "".join(f"{task} {100 * value:6.1f}   " for task, value in figures.items())


if __name__ == "__main__":
    exit_on_input_error("benchmarks.reinforcement", lambda: main(ARGS))
