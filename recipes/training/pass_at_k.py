"""pass@k during GRPO: the share of held-out problems that one of k replies solves."""

from pathlib import Path
from typing import Any

import datasets
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from evals.chat.before_after import keep_attempts, print_problems, read_problems
from evals.chat.evaluate import evaluate_task
from evals.chat.tasks import Task, number_problem
from evals.uncertainty import BY_WORDS
from recipes.inference.generate import Sampling
from recipes.plots.curves import STANDARD_ERROR, draw_reinforcement, over_run
from recipes.training.trainer_metrics import MetricsCallback
from recipes.utils.plain_text import share
from recipes.utils.run_directory import BEFORE_AFTER


class PassAtK(TrainerCallback):
    """pass@1 and pass@k on held-out problems before, during and after training: logged, printed, and drawn.

    pass@1 and pass@k are estimated from `samples` sampled replies a problem; greedy is the share solved by the
    likeliest one; each with its standard error, for which problems of one kind are a cluster. Measured between two
    steps, when the checkpoint of the last one is written. The likeliest replies to the first problems are kept
    (evals/chat/before_after.py).
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
        checked = [number_problem(row["prompt"][0]["content"], row["answer"], alike=row["kind"]) for row in problems]
        self.task = Task("held-out problems", "generate", 0.0, checked)
        self.trainer, self.metrics = trainer, metrics
        self.every, self.samples, self.sampling, self.batch_size = every, samples, sampling, batch_size
        self.kept = metrics.log.path.with_name(BEFORE_AFTER)

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
        """Log all three figures and their errors after `step` steps. A failure is reported, and training continues."""
        model, tokenizer = self.trainer.accelerator.unwrap_model(self.trainer.model), self.trainer.processing_class
        greedy = Sampling(max_new_tokens=self.sampling.max_new_tokens)
        try:
            once = evaluate_task(model, tokenizer, self.task, greedy, 1, self.batch_size)
            often = evaluate_task(model, tokenizer, self.task, self.sampling, self.samples, self.batch_size)
        except Exception as error:
            self.trainer.accelerator.print(f"step {step:06d} | pass@k failed, training continues: {error}")
            self.metrics.restart_clock()
            return
        if self.trainer.is_world_process_zero():
            record: dict[str, Any] = {"step": step}
            for key, (result, k) in zip(self.keys, ((once, 1), (often, 1), (often, self.samples)), strict=True):
                record |= {key: result.pass_at(k), key + STANDARD_ERROR: result.standard_error(k)}
            self.metrics.log.write(record)
            shown = " | ".join(f"{key} {self._share(record, key)}" for key in self.keys)
            self.metrics.console.say(f"step {step:06d} | {shown}")
            keep_attempts(self.kept, once, step)
        self.metrics.restart_clock()

    @staticmethod
    def _share(record: dict[str, Any], key: str) -> str:
        """A figure and its error, which records of earlier versions lack; empty for another k, before a resume."""
        return share(record[key], record.get(key + STANDARD_ERROR)) if key in record else ""

    def report(self, chart: Path) -> None:
        """Print what was measured as a table, how the rollouts changed, and the problems kept; draw all figures."""
        measured = [record for record in self.metrics.log.records if self.keys[0] in record]
        if not measured:
            return
        names = [key.removeprefix("val/") for key in self.keys]
        count = f"{len(self.task.problems)} held-out problems, {self.samples} sampled replies each"
        print(f"\n{count}; right is a reply that ends in the right number")
        print(f"{'step':>6}" + "".join(f"{name:>14}" for name in names))
        for record in measured:
            print(f"{record['step']:>6}" + "".join(f"{self._share(record, key):>14}" for key in self.keys))
        if any(record.get(key + STANDARD_ERROR) is not None for record in measured for key in self.keys):
            print(BY_WORDS)
        for name, first, last in over_run(self.metrics.log.records):
            print(f"{name}: {first} in the first tenth of the steps, {last} in the last")
        print_problems(read_problems(self.kept))
        draw_reinforcement(self.metrics.log.records, dict(zip(self.keys, names, strict=True)), chart)
