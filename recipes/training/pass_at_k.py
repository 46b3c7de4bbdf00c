"""pass@k during GRPO: the share of held-out problems that one of k replies solves."""

from pathlib import Path
from typing import Any

import datasets
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from evals.chat.evaluate import evaluate_task
from evals.chat.tasks import Task, number_problem
from recipes.inference.generate import Sampling
from recipes.plots.curves import draw_pass_at_k
from recipes.training.trainer_metrics import MetricsCallback


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
        """Log all three figures after `step` steps. A failure is reported, and training continues."""
        model, tokenizer = self.trainer.accelerator.unwrap_model(self.trainer.model), self.trainer.processing_class
        greedy = Sampling(max_new_tokens=self.sampling.max_new_tokens)
        try:
            once = evaluate_task(model, tokenizer, self.task, greedy, 1, self.batch_size)
            often = evaluate_task(model, tokenizer, self.task, self.sampling, self.samples, self.batch_size)
        except Exception as error:
            self.trainer.accelerator.print(f"step {step:06d} | pass@k failed, training continues: {error}")
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
