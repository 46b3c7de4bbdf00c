"""The training loop that pretraining and midtraining share: resumable, interruptible, evaluated as it goes."""

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator

from recipes.data.packing import RowsLoader
from recipes.training.checkpoint_files import describe_newest, step_of, whole_checkpoints
from recipes.training.checkpoints import Checkpointer, TrainingState, unwrap
from recipes.training.export import has_finite_weights
from recipes.training.plan import Plan
from recipes.training.tracking import Console, MetricsLog
from recipes.utils.errors import InputError, writing

MAX_SKIPPED_IN_A_ROW = 10


class Stopped(Exception):
    """A signal asked the run to stop; its checkpoint is written."""


@dataclass
class StopSignal:
    """Remembers that SIGTERM or SIGINT came, for the loop to act on between two steps."""

    received: bool = False
    _previous: dict[int, Callable | int | None] = field(default_factory=dict)

    def __enter__(self) -> "StopSignal":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: object) -> None:
        self.received = True


@dataclass
class Cadence:
    """Steps between events; 0 means only after the last step, -1 never."""

    every: int

    def due(self, step: int, num_steps: int) -> bool:
        """Whether the event is due after `step` steps."""
        if self.every < 0:
            return False
        return step == num_steps or (self.every > 0 and step > 0 and step % self.every == 0)


@dataclass(frozen=True)
class Evaluation:
    """Figures of the bare model, by their names in metrics.jsonl, whenever they are due."""

    name: str
    every: Cadence
    measure: Callable[[torch.nn.Module], dict[str, float]]


@dataclass
class Trainer:
    """All that the loop works with. `sample` gets the bare model."""

    accelerator: Accelerator
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    loader: RowsLoader
    plan: Plan
    checkpointer: Checkpointer
    metrics: MetricsLog
    evaluations: list[Evaluation]
    sample: Callable[[torch.nn.Module], list[str]]
    sample_every: Cadence
    save_every: Cadence
    log_every: int
    grad_clip: float
    peak_flops: float | None

    def train(self, checkpoint: Path | None) -> None:
        """Run to the end of the plan, from `checkpoint` if there is one. Raises `Stopped` after a signal."""
        state = TrainingState()
        if checkpoint is not None:
            state = self._restore(checkpoint)
        if self.accelerator.is_main_process:
            self.metrics.resume(state.step)
        console = Console(self.accelerator, self.plan.num_steps, state.step)
        if checkpoint is not None:
            console.say(f"resuming from {checkpoint}, step {state.step}")
        try:
            with StopSignal() as stop:
                self._run(state, console, stop, evaluate_first=checkpoint is not None)
        finally:
            console.close()

    def _restore(self, checkpoint: Path) -> TrainingState:
        """Load a checkpoint; learning rates and weight decay stay those of this run, should it be another's."""
        groups = self.optimizer.param_groups
        mine = [{name: group[name] for name in ("initial_lr", "weight_decay") if name in group} for group in groups]
        state = self.checkpointer.restore(checkpoint)
        for group, settings in zip(self.optimizer.param_groups, mine, strict=True):
            group.update(settings)
        return state

    def _run(self, state: TrainingState, console: Console, stop: StopSignal, evaluate_first: bool) -> None:
        if evaluate_first:  # the checkpoint was written before its step was evaluated
            self._look(state, console)
        batches = iter(self.loader)
        started, seconds_before = time.perf_counter(), state.seconds
        while state.step < self.plan.num_steps:
            step_started = time.perf_counter()
            lrm = self._set_learning_rates(state.step)
            loss, epoch, stopping = self._forward_backward(batches, stop)
            grad_norm = self._update(loss, state)
            state.step += 1
            state.seconds = seconds_before + time.perf_counter() - started

            done = state.step == self.plan.num_steps
            spoilt = done and self._is_spoilt(loss, state)
            if state.step % self.log_every == 0 or done:
                self._log(state, console, loss, lrm, grad_norm, time.perf_counter() - step_started, epoch)
            if spoilt or state.skipped_in_a_row == MAX_SKIPPED_IN_A_ROW:
                self._give_up(state)
            # What is saved amid skipped steps may be spoilt, and would push good checkpoints out.
            due = self.save_every.due(state.step, self.plan.num_steps) and not state.skipped_in_a_row
            if stopping or due or done:
                path = self.checkpointer.save(state)
                if stopping and not done:
                    console.say(f"stopped by a signal; {path} is saved, the same command goes on from it")
                    raise Stopped
            looked_from = time.perf_counter()
            self._look(state, console)
            started += time.perf_counter() - looked_from  # evaluation does not count as training time

    def _set_learning_rates(self, step: int) -> float:
        multiplier = self.plan.schedule(step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * multiplier
        return multiplier

    def _forward_backward(self, batches: Iterator[dict], stop: StopSignal) -> tuple[float, int, bool]:
        """Gradients of one optimizer step; returns the mean loss of all processes, the epoch, and whether to stop."""
        self.model.train()  # from_pretrained gives it for inference, and so leaves it an evaluation that failed
        total = torch.zeros((), device=self.accelerator.device)
        num_micro_batches = self.plan.accumulation_steps
        tokens_of_this_process = self.plan.total_batch_size // self.plan.world_size
        for index in range(num_micro_batches):
            batch = next(batches)
            rows = batch["tokens"].to(self.accelerator.device, non_blocking=True)  # (B, T + 1)
            last = index == num_micro_batches - 1
            # Gradients travel between processes once an optimizer step, with its last micro-batch.
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                loss = self._loss(rows, tokens_of_this_process)
                self.accelerator.backward(loss)
            total += loss.detach()
        # One small reduction a step: all processes agree on the loss and on whether a signal came to any of them.
        shared = torch.stack([total, torch.tensor(float(stop.received), device=total.device)])
        shared = self.accelerator.reduce(shared, reduction="mean").tolist()
        return shared[0], batch["epoch"], shared[1] > 0

    def _loss(self, rows: torch.Tensor, num_tokens: int) -> torch.Tensor:
        inputs, targets = rows[:, :-1], rows[:, 1:].contiguous()  # transformers' own loss takes views of them
        options = {"skip_logits": True} if hasattr(unwrap(self.model), "loss_without_logits") else {}
        return self.model(
            input_ids=inputs,
            labels=targets,
            shift_labels=targets,
            num_items_in_batch=num_tokens,
            use_cache=False,
            **options,
        ).loss

    def _update(self, loss: float, state: TrainingState) -> float:
        """Clip and step; a step whose loss or gradient is not finite is left out and counted."""
        clip = self.grad_clip or math.inf
        grad_norm = self.accelerator.clip_grad_norm_(self.model.parameters(), clip).item()
        finite = math.isfinite(loss) and math.isfinite(grad_norm)
        # The fp16 scaler looks for infinities itself, and must see them to lower its scale.
        if finite or self.accelerator.scaler is not None:
            self.optimizer.step()
        # DDP keeps gradients as views of its buckets. Set to None, they would be allocated beside the buckets by the
        # next micro-batch whose gradients do not travel: 4 bytes a parameter more. One process has no buckets.
        self.optimizer.zero_grad(set_to_none=self.accelerator.num_processes == 1)
        state.skipped += not finite
        state.skipped_in_a_row = 0 if finite else state.skipped_in_a_row + 1
        return grad_norm

    def _is_spoilt(self, loss: float, state: TrainingState) -> bool:
        """Whether a run that ends here has not come to a model: fp16 alone may leave out a step to lower its scale."""
        skipped = state.skipped_in_a_row and self.accelerator.scaler is None
        return bool(skipped) or not math.isfinite(loss) or not has_finite_weights(self.model)

    def _give_up(self, state: TrainingState) -> None:
        skipped, step = state.skipped_in_a_row, state.step
        found = whole_checkpoints(self.checkpointer.output_dir)
        good = [path for path in found if step_of(path) < step - skipped]  # their weights have made a finite step
        where = f"the last good checkpoint is {good[-1]}" if good else "there is no good checkpoint"
        in_a_row = f"for {skipped} steps in a row, up to step {step}" if skipped > 1 else f"at step {step}"
        what = (
            f"loss or gradient was not finite {in_a_row}" if skipped else f"a weight is not finite after step {step}"
        )
        raise InputError(
            f"{what}; {where}. Lower the learning rates (in another output_dir; --resume takes a checkpoint's path) "
            "or the precision's risk (--mixed_precision no)."
        )

    def _log(
        self,
        state: TrainingState,
        console: Console,
        loss: float,
        lrm: float,
        grad_norm: float,
        seconds: float,
        epoch: int,
    ) -> None:
        plan = self.plan
        speed = plan.total_batch_size / seconds
        flops = plan.facts.flops_per_token
        record = {
            "step": state.step,
            "train/loss": loss,
            "train/lrm": lrm,
            "train/dt": seconds,
            "train/tok_per_sec": speed,
            "train/mfu": speed * flops / (self.peak_flops * plan.world_size) if self.peak_flops else None,
            "train/grad_norm": grad_norm,
            "train/skipped": state.skipped,
            "total_training_time": state.seconds,
            "total_training_flops": float(state.step * plan.total_batch_size * flops),
            "epoch": epoch,
        }
        self._write(record)
        console.step(record)

    def _look(self, state: TrainingState, console: Console) -> None:
        """Evaluate and sample where due. A failure is reported and training goes on: the checkpoint is safe."""
        for evaluation in self.evaluations:
            if evaluation.every.due(state.step, self.plan.num_steps):
                self._evaluate(evaluation, state.step, console)
        if self.sample_every.due(state.step, self.plan.num_steps) and self.accelerator.is_main_process:
            try:
                lines = self.sample(unwrap(self.model))
            except Exception as error:
                lines = [f"step {state.step:06d} | sampling failed, training goes on: {error}"]
            for line in lines:
                console.say(line)

    def _evaluate(self, evaluation: Evaluation, step: int, console: Console) -> None:
        try:
            record = {"step": step, **evaluation.measure(unwrap(self.model))}
        except Exception as error:
            console.say(f"step {step:06d} | {evaluation.name} failed, training goes on: {error}")
        else:
            self._write(record)
            shown = (f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in record.items() if k != "step")
            console.say(f"step {step:06d} | " + " | ".join(shown))

    def _write(self, record: dict) -> None:
        if self.accelerator.is_main_process:
            with writing(self.metrics.path, lambda: describe_newest(self.checkpointer.output_dir)):
                self.metrics.write(record)
        values = {key: value for key, value in record.items() if key != "step" and value is not None}
        self.accelerator.log(values, step=record["step"])
