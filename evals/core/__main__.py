"""CORE of a base model: `python -m evals.core --model runs/NAME/base --bundle DIR`.

Any causal LM of transformers will do, as `--model openai-community/gpt2`. `accelerate launch -m evals.core ...`
divides the questions among several processes; the figures stay the same.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from recipes.utils.arguments import REQUIRED, Arguments, flag, read_command_line
from recipes.utils.errors import InputError, exit_on_input_error


@dataclass
class CoreArguments(Arguments):
    """Flags of `python -m evals.core`."""

    model: str = flag(REQUIRED, "directory or Hub id of a causal LM", path=True)
    bundle: str = flag(REQUIRED, "directory of the tasks; python -m evals.core.fetch gets one", path=True)
    tasks: str | None = flag(None, "comma-separated labels (default: all that the bundle holds)")
    max_problems: int | None = flag(None, "examples of each task, always the same ones (default: all)", least=1)
    batch_tokens: int | None = flag(None, "tokens that go through the model at once (default: by device)", least=1)
    output: str | None = flag(
        None, "JSON file of the results (default: evals/core.json in the model's directory)", path=True
    )
    save_answers: bool = flag(False, "keep the decision on every example in the JSON file, in their shuffled order")


if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("evals.core", CoreArguments)

from evals.core.bundle import GPT2_CORE, available, check_enough, choose_tasks, core_tasks, read_tasks
from evals.core.evaluate import CoreResult, TaskResult, evaluate_core
from recipes.inference.models import load_model, results_file
from recipes.utils import atomic
from recipes.utils.processes import join_processes
from recipes.utils.provenance import command_line
from recipes.utils.run_directory import CORE_RESULTS


def evaluate(args: CoreArguments) -> None:
    """Every task's line as it ends, then CORE; the same as JSON."""
    bundle = Path(args.bundle)
    tasks = read_tasks(bundle)
    if args.tasks:
        tasks = choose_tasks(tasks, [label.strip() for label in args.tasks.split(",")])
        if absent := [task for task in tasks if not (bundle / task.file).exists()]:
            raise InputError(f"{bundle} holds no file of task {absent[0].label}: {absent[0].file} is missing.")
    tasks = available(tasks, bundle)
    check_enough(tasks, args.max_problems)
    state = join_processes()
    output = results_file(args.model, CORE_RESULTS, args.output)
    model, tokenizer = load_model(args.model, state.device)
    if not tokenizer.is_fast:
        raise InputError(f"the tokenizer of {args.model} is not a fast one (tokenizer.json): convert it first.")
    state.print(
        f"{'task':<34}{'type':<20}{'shots':>6}{'examples':>9}{'accuracy':>10}{'guessing':>10}{'centered':>10}{'seconds':>9}"
    )

    def tell(result: TaskResult | str) -> None:
        state.print(result if isinstance(result, str) else task_line(result), flush=True)

    result = evaluate_core(model, tokenizer, tasks, bundle, args.max_problems, args.batch_tokens, tell)
    state.print("\n".join(summary(result)))
    if output is not None and state.is_main_process:
        write_results(output, args, result)
        state.print(f"written to {output}")
    state.destroy_process_group()
    if not result.results:
        raise InputError("no task could be measured, for the reasons above.")


def task_line(result: TaskResult) -> str:
    """One task's figures, those of its accuracy in percent."""
    task = result.task
    line = (
        f"{task.label:<34}{task.type:<20}{task.shots:>6}{len(result.right):>9,}{100 * result.accuracy:>10.1f}"
        f"{100 * task.baseline:>10.1f}{100 * result.centered:>10.1f}{result.seconds:>9.1f}"
    )
    if result.too_long:
        line += f"  {result.too_long} longer than the model's context, counted as wrong"
    return line


def summary(result: CoreResult) -> list[str]:
    """CORE, or what there is of it, which is never called so."""
    if result.core is not None:
        return [f"CORE {result.core:.4f} (GPT-2 1.6B: {GPT2_CORE:.4f})"]
    known = {task.label for task in core_tasks()}
    lines = [f"missing for CORE: {', '.join(result.missing)}"]
    if result.mean_centered is not None:
        others = [each.task.label for each in result.results if each.task.label not in known]
        beside = f", {len(others)} of them not CORE's" if others else ""
        measured = f"{len(result.results)} tasks{beside}; CORE has {len(known)}"
        lines.append(f"partial, not CORE: mean centered accuracy {result.mean_centered:.4f} over {measured}")
    return lines


def write_results(path: Path, args: CoreArguments, result: CoreResult) -> None:
    """Write the JSON file; it is never seen half-written."""
    content = {
        "model": args.model,
        "command": command_line(),
        "arguments": asdict(args),
        "max_examples": args.max_problems,
        "core": result.core,
        "core_partial": result.mean_centered if result.core is None else None,
        "missing": result.missing,
        "failed": result.failed,
        "tasks": {each.task.label: as_json(each, args.save_answers) for each in result.results},
    }
    atomic.write_text(path, json.dumps(content, indent=2) + "\n")


def as_json(result: TaskResult, save_answers: bool) -> dict:
    """One task's figures, and with `save_answers` each decision: a choice's place, or whether it was predicted."""
    figures = {
        "type": result.task.type,
        "shots": result.task.shots,
        "count": len(result.right),
        "accuracy": result.accuracy,
        "baseline": result.task.baseline,
        "centered": result.centered,
        "cropped": result.cropped,
        "too_long": result.too_long,
        "seconds": round(result.seconds, 3),
    }
    return figures | ({"answers": result.answers} if save_answers else {})


if __name__ == "__main__":
    exit_on_input_error("evals.core", lambda: evaluate(ARGS))
