"""What settings of GRPO gain: `python -m benchmarks.reinforcement --sources runs/a/sft,runs/b/sft --output_dir DIR`.

A setting is the recipe's configuration with a few flags changed. Each is run with several seeds, and each seed may
have an SFT model of its own, since what GRPO adds depends on that, too. The recipe and the evaluation run as users run
them, each in its own process. All answers are greedy and to the same problems, so that the standard error of a gain is
that of the differences, clustered by phrasing. Finished runs are skipped when the command is repeated.
"""

import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.utils.arguments import REQUIRED, Arguments, flag, read_command_line
from recipes.utils.errors import InputError, exit_on_input_error, suggest

ROOT = Path(__file__).parent.parent
# Flags of recipes/grpo.py that differ from its configuration, recipes/configs/grpo/cpu.yaml by default.
SETTINGS: dict[str, dict[str, Any]] = {
    "preset": {},
    "steps_60": {"max_steps": 60},
    "one_round": {"sampling_rounds": 1},  # groups without a spread are left as they come, not replaced
    "no_curriculum": {"sampling_rounds": 1, "curriculum": "false"},
    "temperature_1": {"temperature": 1.0, "top_k": 50},
    "temperature_1.5": {"temperature": 1.5},
    "temperature_3_of_2": {"temperature": 3.0, "top_k": 2},
    "lr_0.05": {"init_lr_frac": 0.05},
    "lr_0.2": {"init_lr_frac": 0.2},
    "embedding_lr_0.2": {"embedding_lr": 0.2},  # pretraining's, of 2025
    "embedding_lr_0.005": {"embedding_lr": 0.005},
    "4_x_16": {"num_generations": 16},  # replies a step as before, to half as many problems
    "scale_by_group": {"scale_rewards": "group"},
    # Nothing is clipped where each reply is trained on once. Half of the steps write replies.
    # To be held against temperature_1.
    "clip_higher": {"num_iterations": 2, "epsilon_high": 0.28, "temperature": 1.0, "top_k": 50},
}


@dataclass
class BenchmarkArguments(Arguments):
    """Flags of `python -m benchmarks.reinforcement`."""

    sources: str = flag(
        REQUIRED, "SFT models, directories or Hub ids, comma-separated: each seed takes the next", path=True
    )
    output_dir: str = flag(REQUIRED, "directory of the runs and the table (reinforcement.json)", path=True)
    settings: str | None = flag(None, "the settings to compare, comma-separated (default: all)")
    recipe_config: str = flag(str(ROOT / "recipes/configs/grpo/cpu.yaml"), "of recipes/grpo.py", path=True)
    tasks: str = flag(
        "multi_step:600,facts,choice,one_step,new_kinds",
        "as of evals.chat: the one that GRPO is to raise, then the others",
        path=True,
    )
    seeds: int = flag(3, "runs of each setting, with seeds 0, 1, ...", least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.chosen():
            if name not in SETTINGS:
                raise InputError(f"settings: unknown setting {name!r}; {suggest(name, SETTINGS)}")

    def chosen(self) -> list[str]:
        """Names of the settings to compare."""
        return [name.strip() for name in self.settings.split(",")] if self.settings else list(SETTINGS)


if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("benchmarks.reinforcement", BenchmarkArguments)

import yaml

from evals.chat.tasks import RIGHT, split_tasks
from evals.uncertainty import standard_error
from recipes.launch.stages import check_flags
from recipes.training.posttraining_arguments import GRPOArguments
from recipes.utils import atomic
from recipes.utils.arguments import resumable_flags
from recipes.utils.child_process import wait_for
from recipes.utils.run_directory import CHAT_RESULTS, EVALS, METRICS, is_finished, read_metrics


@dataclass(frozen=True)
class Run:
    """A run of recipes/grpo.py that is to be made, or has been."""

    setting: str
    seed: int
    source: str
    directory: Path
    config: str
    flags: dict[str, Any]  # those of the setting, and the seed

    @property
    def words(self) -> list[str]:
        """Its command line."""
        # pass@k, which changes nothing of the run, would take as long as the training.
        flags = {"source": self.source, "output_dir": self.directory, "pass_every": -1, **self.flags}
        return [f"--config={self.config}", *(f"--{name}={value}" for name, value in flags.items())]

    @property
    def record(self) -> Path:
        """The file that holds its `identity`."""
        return self.directory.with_suffix(".json")

    @property
    def identity(self) -> dict[str, Any]:
        """What is not to change when it goes on."""
        configured = yaml.safe_load(Path(self.config).read_text(encoding="utf-8"))
        flags = configured | {"source": self.source} | self.flags
        return {name: value for name, value in flags.items() if name not in resumable_flags(GRPOArguments)}


@dataclass(frozen=True)
class Result:
    """What a run changed. Accuracies and their changes are shares: 0.01 is a point.

    Attributes:
        before, after: accuracy on the problems that GRPO is to raise.
        error: standard error of `gain`.
        others: change of every other exam.
        minutes: of training.
    """

    setting: str
    seed: int
    source: str
    before: float
    after: float
    gain: float
    error: float
    others: dict[str, float]
    minutes: float


def main(args: BenchmarkArguments) -> None:
    tasks, runs = split_tasks(args.tasks), plan_runs(args)
    for run in runs:  # now: the last of them would be refused after hours
        check_flags("grpo", run.words)
        check_record(run)
    output_dir, results = Path(args.output_dir), []
    print(table_head(tasks), flush=True)
    for run in runs:
        before_file = output_dir / f"before_{source_number(args, run.seed)}.json"
        before = examine(run.source, args.tasks, before_file)
        train(run)
        after = examine(str(run.directory), args.tasks, run.directory / EVALS / CHAT_RESULTS)
        results.append(compare(run, before, after, tasks[0].partition(":")[0]))
        print(table_line(results[-1]), flush=True)
    print("\n" + "\n".join(summary_line(name, results) for name in args.chosen()))
    content = {"command": vars(args), "settings": {name: SETTINGS[name] for name in args.chosen()}}
    content |= {"results": [vars(result) for result in results]}
    atomic.write_text(output_dir / "reinforcement.json", json.dumps(content, indent=1) + "\n")


def plan_runs(args: BenchmarkArguments) -> list[Run]:
    """Every setting with every seed."""
    sources = [name.strip() for name in args.sources.split(",")]
    sources = [str(Path(name).resolve()) if Path(name).exists() else name for name in sources]
    return [
        Run(
            setting=name,
            seed=seed,
            source=sources[seed % len(sources)],
            directory=Path(args.output_dir, name, f"seed_{seed}"),
            config=args.recipe_config,
            flags={**SETTINGS[name], "seed": seed},
        )
        for name in args.chosen()
        for seed in range(args.seeds)
    ]


def source_number(args: BenchmarkArguments, seed: int) -> int:
    """The place among the sources of the one that a seed starts from."""
    return seed % len(args.sources.split(","))


# Runs and exams


def check_record(run: Run) -> None:
    """Raise `InputError` if the run in the directory was another, as by a configuration that has changed since."""
    if not run.record.exists():
        return
    theirs, mine = json.loads(run.record.read_text(encoding="utf-8")), run.identity
    names = sorted(name for name in theirs.keys() | mine.keys() if theirs.get(name) != mine.get(name))
    if names:
        changed = "; ".join(f"{name} {theirs.get(name)!r} there, {mine.get(name)!r} now" for name in names)
        raise InputError(f"{run.directory} is another run ({changed}): choose another output_dir.")


def train(run: Run) -> None:
    """Make a run unless it was made before, or go on with it."""
    if is_finished(run.directory):
        return
    run.directory.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(run.record, json.dumps(run.identity, indent=1) + "\n")
    # What it prints goes into a file: to follow it as it goes, `tail -f`.
    call([str(ROOT / "recipes" / "grpo.py"), *run.words], run.directory.with_suffix(".log"))
    if not is_finished(run.directory):
        print("stopped; run the same command again to continue", flush=True)
        sys.exit(0)


def examine(model: str, tasks: str, output: Path) -> dict[str, Any]:
    """The results of evals.chat on each task, with every problem's; measured unless they were before."""
    output.parent.mkdir(parents=True, exist_ok=True)
    if not output.exists() or not answers(found := json.loads(output.read_text(encoding="utf-8")), model, tasks):
        words = [f"--model={model}", f"--tasks={tasks}", f"--output={output}", "--save_replies=true"]
        call(["-m", "evals.chat", *words], output.with_suffix(".log"))
        found = json.loads(output.read_text(encoding="utf-8"))
    for name, reason in found["failed"].items():
        raise InputError(f"{name} of {model} failed: {reason}")
    return found["tasks"]


def answers(found: dict[str, Any], model: str, tasks: str) -> bool:
    """Whether the results that were found are those of this model on these tasks, and say which problems are alike."""
    given, tasks_found = found["arguments"], found["tasks"].values()
    mine = (given["model"], given["tasks"], given["save_replies"]) == (model, tasks, True) and not found["failed"]
    return mine and all("alike" in row for task in tasks_found for row in task.get("rows", []))


def call(words: list[str], log: Path) -> None:
    """Run one of our programs and append its output to `log`. Raises `InputError` if it fails."""
    with log.open("a") as output:
        code = wait_for(subprocess.Popen([sys.executable, *words], stdout=output, stderr=subprocess.STDOUT))
    if code != 0:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it said nothing"]
        raise InputError(f"it failed, see {log}: {lines[-1]}. Finished runs are kept.")


# Figures


def compare(run: Run, before: dict[str, Any], after: dict[str, Any], exam: str) -> Result:
    """What a run changed, by the results of its source and its own on each task."""
    gain, error = paired_gain(before[exam]["rows"], after[exam]["rows"])
    records = read_metrics(run.directory / METRICS)
    return Result(
        setting=run.setting,
        seed=run.seed,
        source=run.source,
        before=before[exam]["accuracy"],
        after=after[exam]["accuracy"],
        gain=gain,
        error=error,
        others={name: after[name]["accuracy"] - before[name]["accuracy"] for name in before if name != exam},
        minutes=max(record.get("total_training_time", 0.0) for record in records) / 60,
    )


def paired_gain(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> tuple[float, float]:
    """Mean over the problems of right after less right before, and its standard error.

    The problems are the same ones, so only those count that one model got right and the other did not. Those told in
    the same words are learned together, and are a cluster.
    """
    if [row["messages"] for row in before] != [row["messages"] for row in after]:
        raise InputError("the two models were asked different problems: choose another output_dir.")
    right = [[row["outcomes"] == [RIGHT] for row in rows] for rows in (before, after)]
    differences = [int(is_now) - int(was) for was, is_now in zip(*right, strict=True)]
    error = standard_error(differences, [row["alike"] for row in after])
    return statistics.mean(differences), float("nan") if error is None else error


def table_head(tasks: list[str]) -> str:
    """Names of the columns."""
    exam, *others = [spec.partition(":")[0] for spec in tasks]
    columns = "".join(f"{name:>12}" for name in others)
    return f"in points\n{'setting':<18}{'seed':>4}{exam:>16}{'gain':>16}{columns}{'minutes':>10}"


def table_line(result: Result) -> str:
    """A run's figures, in points."""
    exam = f"{100 * result.before:.1f} -> {100 * result.after:.1f}"
    gain = f"{100 * result.gain:+.1f} +- {100 * result.error:.1f}"
    others = "".join(f"{100 * change:>+12.1f}" for change in result.others.values())
    return f"{result.setting:<18}{result.seed:>4}{exam:>16}{gain:>16}{others}{result.minutes:>10.1f}"


def summary_line(setting: str, results: list[Result]) -> str:
    """A setting's median and worst gain over the seeds, and what it cost the exam that suffered most, in points."""
    mine = [result for result in results if result.setting == setting]
    gains = [100 * result.gain for result in mine]
    line = f"{setting:<18}median gain {statistics.median(gains):+.1f}, worst {min(gains):+.1f}"
    changes = [(change, name) for result in mine for name, change in result.others.items()]
    if not changes:
        return line
    change, name = min(changes)
    return f"{line}; worst change of another exam {100 * change:+.1f} ({name})"


if __name__ == "__main__":
    exit_on_input_error("benchmarks.reinforcement", lambda: main(ARGS))
