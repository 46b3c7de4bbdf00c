"""How good a chat model is: `python -m evals.chat --model runs/NAME/sft --tasks facts,choice,gsm8k:PATH`.

`accelerate launch -m evals.chat ...` divides the problems among several processes; the figures stay the same.
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path

from recipes.utils.arguments import REQUIRED, Arguments, flag, read_command_line
from recipes.utils.errors import InputError, exit_on_input_error, in_one_line


@dataclass
class ChatEvalArguments(Arguments):
    """Flags of `python -m evals.chat`."""

    model: str = flag(REQUIRED, "directory or Hub id of a chat model", path=True)
    tasks: str | None = flag(
        None,
        "comma-separated; NAME:PATH takes local files in place of the Hub's, and multi_step:600 as many questions of "
        "an exam of the primer (default: its exams, 200 questions each)",
        path=True,
    )
    batch_size: int = flag(32, "answers that one process works on at a time", least=1)
    max_problems: int | None = flag(None, "problems of each task, drawn from a fixed seed (default: all)", least=1)
    num_samples: int = flag(
        1, "answers to each problem whose answer is generated; more than 1 gives pass@k", least=1, most=10_000
    )
    temperature: float = flag(0.0, "of sampling; 0 takes the likeliest token", least=0)
    top_k: int | None = flag(None, "sample from this many likeliest tokens only", least=1)
    max_new_tokens: int | None = flag(
        None, "tokens of one answer (default: 256; 512 for GSM8K and HumanEval)", least=1
    )
    output: str | None = flag(
        None, "JSON file of the results (default: evals/chat.json in the model's directory)", path=True
    )
    save_replies: bool = flag(False, "keep every problem and what was answered in the JSON file")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_samples > 1 and self.temperature == 0:
            raise InputError(
                f"num_samples {self.num_samples} at temperature 0 would be one answer {self.num_samples} times: "
                "give a --temperature."
            )


if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("evals.chat", ChatEvalArguments)

from evals.chat.evaluate import TaskResult, chat_core, evaluate_task
from evals.chat.tasks import CHAT_CORE, PRIMER_TASKS, Task, notes_on, open_task, split_tasks
from evals.uncertainty import BY_WORDS, PLUS_MINUS
from recipes.data.messages import choice_wording
from recipes.inference.generate import Sampling
from recipes.inference.models import load_chat_model, results_file
from recipes.utils import atomic
from recipes.utils.plain_text import plain_text
from recipes.utils.processes import join_processes
from recipes.utils.provenance import command_line
from recipes.utils.run_directory import CHAT_RESULTS


def evaluate(args: ChatEvalArguments) -> None:
    """Every task's line as it ends, then ChatCORE; the same as JSON."""
    args = replace(args, tasks=args.tasks or ",".join(PRIMER_TASKS))
    names = split_tasks(args.tasks)
    state = join_processes()
    output = results_file(args.model, CHAT_RESULTS, args.output)
    model, tokenizer = load_chat_model(args.model, state.device)
    wording = choice_wording(tokenizer, model.config)
    tasks = [open_task(name, args.max_problems, wording) for name in names]
    samplings = [choose_sampling(args, task) for task in tasks]
    state.print(f"{args.model}: {sum(len(task.problems) for task in tasks):,} problems")
    for task in tasks:
        if task.note:
            state.print(f"{task.name}: {task.note}")
    state.print(table_head(args.num_samples))
    results, failed = [], {}
    for task, sampling in zip(tasks, samplings, strict=True):
        try:
            result = evaluate_task(model, tokenizer, task, sampling, args.num_samples, args.batch_size)
            for each in (result, result.flexible()) if task.flexible else (result,):
                results.append(each)
                state.print(table_line(each, args.num_samples), flush=True)
        except Exception as error:  # on every process: what the others make of it is not lost
            failed[task.name] = in_one_line(error, 300)
            state.print(plain_text(f"{task.name} failed: {failed[task.name]}"), flush=True)
    if results:
        state.print(BY_WORDS if any(problem.alike for task in tasks for problem in task.problems) else PLUS_MINUS)
    if line := core_line(results):
        state.print(line)
    notes = notes_on([result.task for result in results], wording)
    for note in notes:
        state.print(note)
    if output is not None and state.is_main_process:
        write_results(output, args, results, failed, notes)
        state.print(f"written to {output}")
    state.destroy_process_group()
    if not results:
        raise InputError("no task could be measured, for the reasons above.")


def choose_sampling(args: ChatEvalArguments, task: Task) -> Sampling:
    """How a task's answers are generated. Raises `InputError` for what cannot be."""
    max_new_tokens = task.max_new_tokens if args.max_new_tokens is None else args.max_new_tokens
    return Sampling(max_new_tokens=max_new_tokens, temperature=args.temperature, top_k=args.top_k)


# The table


def table_head(num_samples: int) -> str:
    """Names of the columns."""
    passed = f"{f'pass@{num_samples}':>10}" if num_samples > 1 else ""
    columns = f"{'guessing':>10}{'centered':>10}{'seconds':>10}"
    return f"{'task':<16}{'answers':<10}{'problems':>8}{'accuracy':>16}{passed}{columns}"


def table_line(result: TaskResult, num_samples: int) -> str:
    """One task's figures; those of its accuracy in percent, with its standard error."""
    error, passed = result.standard_error(), ""
    accuracy = f"{100 * result.accuracy:.1f}" + ("" if error is None else f" ± {100 * error:.1f}")
    if num_samples > 1:
        passed = f"{100 * result.pass_at(num_samples):>10.1f}" if result.kind == "generate" else f"{'':>10}"
    return (
        f"{result.task:<16}{result.kind:<10}{result.count:>8,}{accuracy:>16}{passed}"
        f"{100 * result.baseline:>10.0f}{100 * result.centered:>10.1f}{result.seconds:>10.1f}"
    )


def core_line(results: list[TaskResult]) -> str:
    """ChatCORE, called partial where tasks are missing; nothing where all are."""
    core = chat_core(results)
    if "chat_core" in core:
        return f"ChatCORE {core['chat_core']:.4f}"
    missing = [name for name in CHAT_CORE if name not in {result.task for result in results}]
    among = f"{len(CHAT_CORE) - len(missing)} of its {len(CHAT_CORE)} tasks, without {', '.join(missing)}"
    return f"partial ChatCORE {core['chat_core_partial']:.4f} ({among})" if core else ""


# The file


def write_results(
    path: Path, args: ChatEvalArguments, results: list[TaskResult], failed: dict[str, str], notes: list[str]
) -> None:
    """Write the JSON file; it is never seen half-written."""
    tasks = {result.task: as_json(result, args) for result in results}
    content = {"model": args.model, "command": command_line(), "arguments": asdict(args)}
    content |= {**chat_core(results), "notes": notes, "failed": failed, "tasks": tasks}
    atomic.write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def as_json(result: TaskResult, args: ChatEvalArguments) -> dict:
    """One task's figures, and its problems and answers where they were asked for."""
    figures = {
        "kind": result.kind,
        "count": result.count,
        "accuracy": result.accuracy,
        "standard_error": result.standard_error(),
        "baseline": result.baseline,
        "centered": result.centered,
        "too_long": result.too_long,
        "outcomes": dict(Counter(chain.from_iterable(result.outcomes)).most_common()),
        "seconds": round(result.seconds, 3),
    }
    if args.num_samples > 1 and result.kind == "generate":
        figures |= {f"pass@{k}": result.pass_at(k) for k in (1, args.num_samples)}
    if args.save_replies and result.replies:
        figures["rows"] = [
            {
                "messages": problem.messages,
                "answer": problem.answer,
                "alike": problem.alike or None,
                "replies": replies,
                "outcomes": outcomes,
            }
            for problem, replies, outcomes in zip(result.problems, result.replies, result.outcomes, strict=True)
        ]
    return figures


if __name__ == "__main__":
    exit_on_input_error("evals.chat", lambda: evaluate(ARGS))
