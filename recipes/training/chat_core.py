"""ChatCORE during SFT: how well the model answers ARC, MMLU, GSM8K and HumanEval as it is trained."""

from collections.abc import Sequence
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object
from accelerate.utils.memory import clear_device_cache
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from evals.chat.evaluate import TaskResult, chat_core, evaluate_task
from evals.chat.tasks import Task, open_task
from recipes.training.loop import is_due
from recipes.training.trainer_metrics import CHATCORE, MetricsCallback
from recipes.utils.errors import InputError, in_one_line
from recipes.utils.heartbeat import heartbeat

PARTIAL = f"{CHATCORE}_partial"  # without all five tasks, and comparable with nothing else
FIGURES = {"chat_core": CHATCORE, "chat_core_partial": PARTIAL}  # by their names in evals.chat


class ChatCore(TrainerCallback):
    """Measures a chat model's tasks each `every` steps, between two steps: printed, logged, and sent to trackers.

    The figures are `chatcore`, or `chatcore_partial` where some of its five tasks are missing, and the accuracy of
    each task as `chatcore/TASK`. A checkpoint is written before. A task that cannot be opened (no network) or fails
    (out of memory) is named in one line and left out, and training continues; the next time it is tried again. All
    processes share the problems, and agree on what failed.
    """

    def __init__(
        self,
        trainer: Trainer,
        metrics: MetricsCallback,
        specs: Sequence[str],
        every: int,
        max_problems: int,
        wording: str,
    ) -> None:
        self.trainer, self.metrics = trainer, metrics
        self.specs, self.every, self.max_problems, self.wording = specs, every, max_problems, wording
        self.tasks: dict[str, Task] = {}  # those that could be opened

    def open_missing(self) -> dict[str, str]:
        """Open the tasks that are not open yet. Returns why some cannot be, the same on every process."""
        state, failed = PartialState(), {}
        # The first one downloads them; the others find them on the disk.
        with state.local_main_process_first(), heartbeat("opening ChatCORE's tasks", state.is_local_main_process):
            for spec in self.specs:
                if spec not in self.tasks:
                    try:
                        self.tasks[spec] = open_task(spec, self.max_problems, self.wording)
                    except Exception as error:
                        failed[spec] = in_one_line(error, 300)
        for each in gather_object([failed]):
            failed = each | failed  # its own reason first
        self.tasks = {spec: self.tasks[spec] for spec in self.specs if spec not in failed}
        return failed

    def open_at_start(self) -> None:
        """Open the tasks before training, and say which cannot be. Raises `InputError` for local files."""
        for spec, reason in self.open_missing().items():
            if ":" in spec:
                raise InputError(f"chatcore_tasks: {reason}")
            self.trainer.accelerator.print(f"ChatCORE will try {spec} again, which cannot be opened: {reason}")

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measure where it is due after `state.global_step` steps, also where a resumed run begins."""
        if is_due(self.every, state.global_step, state.max_steps):
            self.measure(state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ask for a checkpoint before the measurement."""
        control.should_save = control.should_save or is_due(self.every, state.global_step, state.max_steps)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measure the result: the best model, which Trainer has put back."""
        if self.every >= 0 and state.global_step == state.max_steps:  # and was not stopped by a signal
            self.measure(state.global_step)

    def measure(self, step: int) -> None:
        """Log what can be measured after `step` steps."""
        failed, results = self.open_missing(), []
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        for spec, task in self.tasks.items():
            try:
                results.append(evaluate_task(model, self.trainer.processing_class, task))
            except Exception as error:  # on every process
                failed[spec] = in_one_line(error, 300)
                clear_device_cache(garbage_collection=True)
        if self.trainer.is_world_process_zero():
            for spec, reason in failed.items():
                self.metrics.console.say(f"step {step:06d} | ChatCORE without {spec}, training continues: {reason}")
        if results:
            self.trainer.log({f"eval_{name}": value for name, value in figures(results).items()})
        self.metrics.restart_clock()


def figures(results: Sequence[TaskResult]) -> dict[str, float]:
    """ChatCORE where there is any of its tasks among `results`, and the accuracy of each task."""
    core = {FIGURES[name]: value for name, value in chat_core(results).items()}
    return core | {f"{CHATCORE}/{result.task}": result.accuracy for result in results}
