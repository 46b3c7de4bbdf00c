"""Problems, rewards and pass@k: what GRPO needs to know of the problems it trains on."""

from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import datasets
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from evals.chat.evaluate import evaluate_task
from evals.chat.tasks import Task, number_problem
from recipes.data.messages import user
from recipes.data.primer.problems import problems as primer_problems
from recipes.data.sources.gsm8k import gsm8k_problems
from recipes.inference.generate import Sampling
from recipes.plots.curves import draw_pass_at_k
from recipes.training.posttraining import MetricsCallback
from recipes.utils.errors import InputError
from recipes.utils.numerals import ends_in_number
from tokenizer.chat import Message

PRIMER_PROBLEMS = {1: 0.2, 2: 0.4, 3: 0.4}  # share of each number of steps; few easy ones, so as not to forget them


def open_problems(spec: str, split: str, count: int, seed: int = 0) -> datasets.Dataset:
    """Columns `prompt` (messages) and `answer` (a number) of the primer's problems or GSM8K's; at most `count` rows.

    Raises `InputError` for an unknown name, missing files and an unreachable Hub.
    """
    name, _, path = spec.partition(":")
    if name == "primer" and not path:
        ends = [round(share * count) for share in accumulate(PRIMER_PROBLEMS.values(), initial=0.0)]
        drawn = [
            problem
            for steps, (start, end) in zip(PRIMER_PROBLEMS, pairwise(ends), strict=True)
            for problem in primer_problems(split, steps, end - start, seed)
        ]
        rows = {"question": [problem.question for problem in drawn], "answer": [problem.answer for problem in drawn]}
        problems = datasets.Dataset.from_dict(rows)
    elif name == "gsm8k":
        problems = gsm8k_problems(path or None, split)
    else:
        raise InputError(f"no problems called {spec!r}: choose primer, gsm8k, or gsm8k:PATH for local files.")
    problems = problems.shuffle(seed=seed).select(range(min(count, len(problems))))
    return problems.map(lambda row: {"prompt": [user(row["question"])]}, remove_columns="question")


# Rewards, in the form that GRPOTrainer calls them


def right_answer(completions: list[list[Message]], answer: list[str], **kwargs: Any) -> list[float]:
    """1 where the reply's final number equals the answer as a number, else 0."""
    return [float(ends_in_number(right, final_text(reply))) for reply, right in zip(completions, answer, strict=True)]


def called_calculator(completions: list[list[Message]], **kwargs: Any) -> list[float]:
    """1 where the reply calls the calculator and no call fails, else 0."""
    results = [[message["content"] for message in reply if message["role"] == "tool"] for reply in completions]
    return [float(bool(each) and not any(result.startswith("error") for result in each)) for each in results]


def final_text(reply: list[Message]) -> str:
    """Text of the last message, unless that is a call that was never answered."""
    last = reply[-1] if reply else {}
    return last.get("content") or "" if last.get("role") == "assistant" and not last.get("tool_calls") else ""


class PassAtK(TrainerCallback):
    """pass@1 and pass@k on held-out problems before, during and after training: logged, printed, and drawn.

    pass@1 and pass@k are estimated from `samples` sampled replies a problem; greedy is the share solved by the
    likeliest one. Measured between two steps, when the checkpoint of the last one is written.
    """

    def __init__(
        self,
        trainer: Trainer,
        metrics: MetricsCallback,
        problems: datasets.Dataset,
        every: int,
        samples: int,
        sampling: Sampling,
        batch_size: int,
    ) -> None:
        checked = [number_problem(row["prompt"][0]["content"], row["answer"]) for row in problems]
        self.task = Task("held-out problems", "generate", 0.0, checked)
        self.trainer, self.metrics = trainer, metrics
        self.every, self.samples, self.sampling, self.batch_size = every, samples, sampling, batch_size

    @property
    def keys(self) -> tuple[str, str, str]:
        """What is measured, by its names in metrics.jsonl."""
        return "val/greedy", "val/pass@1", f"val/pass@{self.samples}"

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measure where it is due after `state.global_step` steps."""
        if self.every >= 0 and (state.global_step == 0 or (self.every and state.global_step % self.every == 0)):
            self.measure(state.global_step)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measure the result."""
        if self.every >= 0 and state.global_step == state.max_steps:  # and was not stopped by a signal
            self.measure(state.global_step)

    def measure(self, step: int) -> None:
        """Log all three figures after `step` steps. A failure is reported, and training goes on."""
        model, tokenizer = self.trainer.accelerator.unwrap_model(self.trainer.model), self.trainer.processing_class
        greedy = Sampling(max_new_tokens=self.sampling.max_new_tokens)
        try:
            once = evaluate_task(model, tokenizer, self.task, greedy, 1, self.batch_size)
            often = evaluate_task(model, tokenizer, self.task, self.sampling, self.samples, self.batch_size)
        except Exception as error:
            self.trainer.accelerator.print(f"step {step:06d} | pass@k failed, training goes on: {error}")
            self.metrics.restart_clock()
            return
        figures = dict(zip(self.keys, (once.accuracy, often.pass_at(1), often.pass_at(self.samples)), strict=True))
        if self.trainer.is_world_process_zero():
            self.metrics.log.write({"step": step, **figures})
            self.metrics.console.say(f"step {step:06d} | " + " | ".join(f"{k} {v:.1%}" for k, v in figures.items()))
        self.metrics.restart_clock()

    def report(self, chart: Path) -> None:
        """Print what was measured as a table, and draw it."""
        measured = [record for record in self.metrics.log.records if self.keys[0] in record]
        if not measured:
            return
        names = [key.removeprefix("val/") for key in self.keys]
        count = f"{len(self.task.problems)} held-out problems, {self.samples} sampled replies each"
        print(f"\n{count}; right is a reply that ends in the right number")
        print(f"{'step':>6}" + "".join(f"{name:>10}" for name in names))
        for record in measured:
            print(f"{record['step']:>6}" + "".join(f"{record[key]:>10.1%}" for key in self.keys))
        draw_pass_at_k(self.metrics.log.records, dict(zip(self.keys, names, strict=True)), chart)
