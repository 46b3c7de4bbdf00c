"""How good a chat model is: `python -m evals.chat --model runs/NAME/sft --tasks facts,choice,gsm8k:PATH`.

`accelerate launch -m evals.chat ...` divides the problems among several processes; the figures stay the same.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from evals.chat.evaluate import TaskResult, chat_core, evaluate_task
from evals.chat.tasks import CHAT_CORE, PRIMER_TASKS, open_task
from recipes import atomic
from recipes.arguments import flag, parse_arguments
from recipes.errors import InputError, exit_on_input_error
from recipes.inference.generate import Sampling
from recipes.inference.models import load_chat_model
from recipes.training.run import join_processes


@dataclass
class ChatEvalArguments:
    """Flags of `python -m evals.chat`."""

    model: str = field(metadata={"help": "directory or Hub id of a chat model"})
    tasks: str = flag(",".join(PRIMER_TASKS), "comma-separated; NAME:PATH takes local files in place of the Hub's")
    batch_size: int = flag(32, "answers that one process works on at a time")
    max_problems: int | None = flag(None, "problems of each task, drawn from a fixed seed (default: all)")
    num_samples: int = flag(1, "answers to each problem whose answer is generated; more than 1 gives pass@k")
    temperature: float = flag(0.0, "of sampling; 0 takes the likeliest token")
    top_k: int | None = flag(None, "sample from this many likeliest tokens only")
    max_new_tokens: int = flag(256, "tokens of one answer")
    output: str | None = flag(None, "JSON file of the results (default: evals/chat.json in the model's directory)")
    save_replies: bool = flag(False, "keep every problem and what was answered in the JSON file")

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_problems", "num_samples"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.num_samples > 1 and self.temperature == 0:
            raise InputError(
                f"num_samples {self.num_samples} at temperature 0 would be one answer {self.num_samples} times: "
                "give a --temperature."
            )


def evaluate(args: ChatEvalArguments) -> None:
    """Every task's line as it ends, then ChatCORE; the same as JSON."""
    sampling = Sampling(max_new_tokens=args.max_new_tokens, temperature=args.temperature, top_k=args.top_k)
    names = [name.strip() for name in args.tasks.split(",")]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"task {twice.pop()} stands twice in --tasks.")
    tasks = [open_task(name, args.max_problems) for name in names]
    state = join_processes()
    model, tokenizer = load_chat_model(args.model, state.device)
    output = output_file(args)
    state.print(f"{args.model}: {sum(len(task.problems) for task in tasks):,} problems")
    state.print(table_head(args.num_samples))
    results = []
    for task in tasks:
        results.append(evaluate_task(model, tokenizer, task, sampling, args.num_samples, args.batch_size))
        state.print(table_line(results[-1], args.num_samples), flush=True)
    core = chat_core(results)
    if core is not None:
        among = sum(result.task in CHAT_CORE for result in results)
        state.print(f"ChatCORE {core:.4f}, over {among} of its {len(CHAT_CORE)} tasks")
    if output is not None and state.is_main_process:
        write_results(output, args, results)
        state.print(f"written to {output}")
    state.destroy_process_group()


def output_file(args: ChatEvalArguments) -> Path | None:
    """Where the results go: nowhere by default for a model of the Hub. Raises `InputError` if they cannot go there."""
    if args.output is None and not Path(args.model).is_dir():
        return None
    path = Path(args.output or Path(args.model, "evals", "chat.json"))
    try:  # before the work, which would be lost
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() or not os.access(path.parent, os.W_OK):
            raise InputError(f"cannot write to {path}: choose another --output.")
    except OSError as error:
        raise InputError(f"cannot write to {path}: {error.strerror}.") from None
    return path


# The table


def table_head(num_samples: int) -> str:
    """Names of the columns."""
    passed = f"{f'pass@{num_samples}':>10}" if num_samples > 1 else ""
    columns = f"{'guessing':>10}{'centered':>10}{'seconds':>10}"
    return f"{'task':<16}{'answers':<10}{'problems':>8}{'accuracy':>10}{passed}{columns}"


def table_line(result: TaskResult, num_samples: int) -> str:
    """One task's figures; those of its accuracy in percent."""
    passed = ""
    if num_samples > 1:
        passed = f"{100 * result.pass_at(num_samples):>10.1f}" if result.kind == "generate" else f"{'':>10}"
    return (
        f"{result.task:<16}{result.kind:<10}{result.count:>8,}{100 * result.accuracy:>10.1f}{passed}"
        f"{100 * result.baseline:>10.0f}{100 * result.centered:>10.1f}{result.seconds:>10.1f}"
    )


# The file


def write_results(path: Path, args: ChatEvalArguments, results: list[TaskResult]) -> None:
    """Write the JSON file; it is never seen half-written."""
    tasks = {result.task: as_json(result, args) for result in results}
    content = {"model": args.model, "arguments": asdict(args), "chat_core": chat_core(results), "tasks": tasks}
    atomic.write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def as_json(result: TaskResult, args: ChatEvalArguments) -> dict:
    """One task's figures, and its problems and answers where they were asked for."""
    figures = {
        "kind": result.kind,
        "count": result.count,
        "accuracy": result.accuracy,
        "baseline": result.baseline,
        "centered": result.centered,
        "too_long": result.too_long,
        "seconds": round(result.seconds, 3),
    }
    if args.num_samples > 1 and result.kind == "generate":
        figures |= {f"pass@{k}": result.pass_at(k) for k in (1, args.num_samples)}
    if args.save_replies:
        figures["rows"] = [
            {"messages": problem.messages, "answer": problem.answer, "replies": replies, "right": right}
            for problem, replies, right in zip(result.problems, result.replies, result.verdicts, strict=True)
        ]
    return figures


def main() -> None:
    evaluate(parse_arguments(ChatEvalArguments))


if __name__ == "__main__":
    exit_on_input_error("evals.chat", main)
