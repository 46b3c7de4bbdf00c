"""The training loop that pretraining and midtraining share: resumable, interruptible, evaluated as it goes."""

import gc
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from recipes.data.packing import RowsLoader
from recipes.training.attention import fast_sdpa
from recipes.training.best_checkpoint import EVALUATION, MEASURE, first_candidate, record_best, recorded_best
from recipes.training.checkpoint_files import check_room, describe_newest, step_of, whole_checkpoints
from recipes.training.checkpoints import Checkpointer, TrainingState, unwrap
from recipes.training.export import has_finite_weights
from recipes.training.fsdp import whole_copy
from recipes.training.garbage import RestingCollector
from recipes.training.out_of_memory import rehearse
from recipes.training.plan import Plan
from recipes.training.tracking import Console, MetricsLog
from recipes.utils.errors import InputError, writing
from recipes.utils.hardware import peak_memory
from recipes.utils.heartbeat import heartbeat
from recipes.utils.run_directory import METRICS

MAX_SKIPPED_IN_A_ROW = 10
# Models whose training is over, kept until the process ends. When DDP's reducer is freed, torch joins gloo's threads
# and holds the GIL, which these need to free their last work (torch 2.13): freed right after the last collective, the
# process now and then waits for ever.
_TRAINED: list[torch.nn.Module] = []


@dataclass
class StopSignal:
    """Remembers a SIGTERM or SIGINT, for the loop to act on between two steps."""

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


def is_due(every: int, step: int, num_steps: int) -> bool:
    """Whether what happens each `every` steps is due after `step` of them; 0: only after the last one, -1: never."""
    if every < 0:
        return False
    return step == num_steps or (every > 0 and step > 0 and step % every == 0)


def rows_loss(model: torch.nn.Module, rows: torch.Tensor, num_tokens: int) -> torch.Tensor:
    """Cross-entropy of a micro-batch of rows, (B, T + 1): its sum, divided by the tokens of the whole step.

    Each micro-batch contributes its share of the mean over `num_tokens`, so accumulated gradients equal those of one
    large batch.
    """
    inputs, targets = rows[:, :-1], rows[:, 1:].contiguous()  # (B, T); transformers' own loss views them
    options = {"skip_logits": True} if hasattr(unwrap(model), "loss_without_logits") else {}
    with fast_sdpa(rows.device):  # rows have one shape, for which cuDNN plans once; CORE and samples have many
        return model(
            input_ids=inputs,
            labels=targets,
            shift_labels=targets,
            num_items_in_batch=num_tokens,
            use_cache=False,
            **options,
        ).loss


@dataclass(frozen=True)
class Evaluation:
    """Figures of the bare model, by their names in metrics.jsonl, measured each `every` steps (see `is_due`)."""

    name: str
    every: int
    measure: Callable[[torch.nn.Module], dict[str, float]]


@dataclass
class TrainingLoop:
    """The loop of pretraining and midtraining over a prepared model, its optimizer and its rows.

    Attributes:
        plan: number of steps, batch, schedule.
        tokenizer: saved with every checkpoint.
        evaluations: what to measure as training goes, each with its own interval.
        sample: lines to print, given the bare model.
        sample_every, save_every: steps between samples and between checkpoints; 0: only at the end. Samples also take
            -1: never.
        keep_checkpoints: how many of the newest stay on disk; 0: all.
        keep_best: whether the one with the lowest val/bpb stays beside them.
        peak_flops: of one device, for MFU; None where it is not known.
        without_fp8: what to evaluate in, where the model trains in fp8.
    """

    accelerator: Accelerator
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    loader: RowsLoader
    plan: Plan
    tokenizer: PreTrainedTokenizerBase
    output_dir: Path
    evaluations: list[Evaluation]
    sample: Callable[[torch.nn.Module], list[str]]
    sample_every: int
    save_every: int
    keep_checkpoints: int
    keep_best: bool
    log_every: int
    grad_clip: float
    peak_flops: float | None
    without_fp8: Callable[[], AbstractContextManager] = nullcontext

    def __post_init__(self) -> None:
        for group in self.optimizer.param_groups:
            group["initial_lr"] = group["lr"]  # what the schedule multiplies
        self.weight_decays = [group.get("weight_decay") for group in self.optimizer.param_groups]  # the same
        self.metrics = MetricsLog(self.output_dir / METRICS)
        self.checkpointer = Checkpointer(
            self.accelerator,
            unwrap(self.model),
            self.optimizer,
            self.output_dir,
            self.loader,
            self.tokenizer,
            self.keep_checkpoints,
        )

    def run(self, checkpoint: Path | None) -> bool:
        """Train to the end of the plan, from `checkpoint` if there is one.

        Returns False if a signal (Ctrl-C, SIGTERM) stopped the run first; its checkpoint is saved.
        Raises `InputError` if training diverges, the disk is full, or the data cannot be read.
        """
        try:
            state = self._start(checkpoint)
            console = Console(self.accelerator, self.plan.num_steps, state.step)
            with closing(console), StopSignal() as stop, RestingCollector() as collector:
                if self.keep_best:
                    self._announce_best(console)
                if checkpoint is not None:
                    console.say(f"resuming from {checkpoint}, step {state.step}")
                    self._evaluate_and_sample(state, console)  # checkpoints are written before evaluating
                batches = iter(self.loader)
                started, seconds_before = time.perf_counter(), state.seconds
                while state.step < self.plan.num_steps:
                    step_started = time.perf_counter()
                    lrm = self._apply_schedule(state.step)
                    loss, epoch, stopping = self._forward_backward(batches, stop)
                    grad_norm = self._update(loss, state)
                    state.step += 1
                    state.seconds = seconds_before + time.perf_counter() - started

                    done = state.step == self.plan.num_steps
                    diverged = done and self._has_diverged(loss, state)
                    if state.step % self.log_every == 0 or done:
                        self._log(state, console, loss, lrm, grad_norm, time.perf_counter() - step_started, epoch)
                    if diverged or state.skipped_in_a_row == MAX_SKIPPED_IN_A_ROW:
                        self._give_up(state)
                    # Between skipped steps nothing is saved: the weights may be bad, and would push good ones out.
                    due = is_due(self.save_every, state.step, self.plan.num_steps) and not state.skipped_in_a_row
                    if stopping or due or done:
                        path = self.checkpointer.save(state)
                        if stopping and not done:
                            console.say(f"stopped by a signal; {path} is saved, the same command resumes from it")
                            _TRAINED.append(self.model)
                            return False
                    paused = time.perf_counter()
                    self._evaluate_and_sample(state, console)
                    collector.step()
                    started += time.perf_counter() - paused  # evaluation does not count as training time
                if self.keep_best:
                    self._say_best(console)
        finally:
            self.checkpointer.close()
        _TRAINED.append(self.model)
        return True

    def _start(self, checkpoint: Path | None) -> TrainingState:
        """The state of a new run, or that of `checkpoint`, with which metrics.jsonl is brought into line."""
        rehearse(self.accelerator, self.model, self._rehearsal_loss)  # before random states are restored
        if checkpoint is None:
            check_room(self.output_dir, unwrap(self.model))
            state = TrainingState()
        else:
            state = self._restore(checkpoint)
        if self.accelerator.is_main_process:
            self.metrics.resume(state.step)
            # A resumed run's best may be newer than the step that it goes back to. Recorded even where it is no longer
            # asked for: a flag forgotten in the command must not cost the best checkpoint.
            if self.keep_best or recorded_best(self.output_dir):
                record_best(self.output_dir, self.metrics.records)
        return state

    def _rehearsal_loss(self) -> torch.Tensor:
        """That of a micro-batch of the size of all others, which needs as much memory as they do."""
        size = self.plan.device_batch_size, self.plan.max_seq_len + 1
        self.model.train()
        rows = torch.zeros(size, dtype=torch.long, device=self.accelerator.device)
        return rows_loss(self.model, rows, self.plan.total_batch_size // self.plan.world_size)  # as in every step

    def _restore(self, checkpoint: Path) -> TrainingState:
        """Load a checkpoint; learning rates and weight decay stay those of this run if it is another's."""
        groups = self.optimizer.param_groups
        mine = [{name: group[name] for name in ("initial_lr", "weight_decay") if name in group} for group in groups]
        state = self.checkpointer.restore(checkpoint)
        for group, settings in zip(self.optimizer.param_groups, mine, strict=True):
            group.update(settings)
        return state

    def _apply_schedule(self, step: int) -> float:
        """Multiply every group's own rate by the schedule, a pure function of the step: nothing to save or resume.

        So with the momentum and weight decay of Muon's groups, where the schedule has any. Returns the multiplier.
        """
        schedule = self.plan.schedule
        multiplier, momentum = schedule(step), schedule.momentum_at(step)
        for group, weight_decay in zip(self.optimizer.param_groups, self.weight_decays, strict=True):
            group["lr"] = group["initial_lr"] * multiplier
            if group.get("kind") != "muon":
                continue
            if momentum is not None:
                group["momentum_start"] = group["momentum"] = momentum  # no rise of the group's own
            if schedule.cosine_weight_decay:
                group["weight_decay"] = weight_decay * schedule.weight_decay_at(step)
        return multiplier

    def _forward_backward(self, batches: Iterator[dict], stop: StopSignal) -> tuple[float, int, bool]:
        """Gradients of one optimizer step; returns the mean loss of all processes, the epoch, and whether to stop."""
        # from_pretrained returns a model in eval mode, and an evaluation that failed leaves it there.
        self.model.train()
        total = torch.zeros((), device=self.accelerator.device)
        num_micro_batches = self.plan.accumulation_steps
        tokens_of_this_process = self.plan.total_batch_size // self.plan.world_size
        for index in range(num_micro_batches):
            batch = next(batches)
            rows = batch["tokens"].to(self.accelerator.device, non_blocking=True)  # (B, T + 1)
            # DDP averages gradients over the processes in the backward pass. Micro-batches only add to .grad, so one
            # exchange, with the last of them, gives the same sum for a fraction of the traffic.
            last = index == num_micro_batches - 1
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                loss = rows_loss(self.model, rows, tokens_of_this_process)
                self.accelerator.backward(loss)
            total += loss.detach()  # stays on the device: reading it here would make the GPU wait
        # One small reduction a step: all processes agree on the loss and on whether any of them got a signal.
        shared = torch.stack([total, torch.tensor(float(stop.received), device=total.device)])
        shared = self.accelerator.reduce(shared, reduction="mean").tolist()
        return shared[0], batch["epoch"], shared[1] > 0

    def _update(self, loss: float, state: TrainingState) -> float:
        """Clip the gradient and step; a step whose loss or gradient is not finite is skipped and counted."""
        clip = self.grad_clip or math.inf
        grad_norm = self.accelerator.clip_grad_norm_(self.model.parameters(), clip).item()
        finite = math.isfinite(loss) and math.isfinite(grad_norm)
        # The fp16 scaler looks for infinities itself, and must see them to lower its scale.
        if finite or self.accelerator.scaler is not None:
            self.optimizer.step()
        # DDP keeps gradients as views of its buckets. Set to None, they would be allocated beside the buckets by the
        # next micro-batch that is not exchanged: 4 bytes a parameter more. A single process has no buckets.
        self.optimizer.zero_grad(set_to_none=self.accelerator.num_processes == 1)
        state.skipped += not finite
        state.skipped_in_a_row = 0 if finite else state.skipped_in_a_row + 1
        return grad_norm

    def _has_diverged(self, loss: float, state: TrainingState) -> bool:
        """Whether the last step leaves no usable model. With fp16 a skipped step alone only lowers the scale."""
        skipped = state.skipped_in_a_row and self.accelerator.scaler is None
        return bool(skipped) or not math.isfinite(loss) or not has_finite_weights(self.model)

    def _give_up(self, state: TrainingState) -> None:
        skipped, step = state.skipped_in_a_row, state.step
        found = whole_checkpoints(self.output_dir)
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
            "train/peak_memory": peak_memory(self.accelerator.device) / 1e9,  # GB, of one process
            "total_training_time": state.seconds,
            "total_training_flops": float(state.step * plan.total_batch_size * flops),
            "epoch": epoch,
        }
        self._write(record)
        console.step(record)

    def _evaluate_and_sample(self, state: TrainingState, console: Console) -> None:
        """Evaluate and sample if due. A failure is reported and training continues: the checkpoint is safe."""
        due = [each for each in self.evaluations if is_due(each.every, state.step, self.plan.num_steps)]
        samples = is_due(self.sample_every, state.step, self.plan.num_steps)
        if not due and not samples:
            return
        try:
            model = whole_copy(unwrap(self.model), self.accelerator)
        except RuntimeError as error:
            console.say(f"step {state.step:06d} | nothing evaluated, training continues: {error}")
            return
        with self.without_fp8():
            for evaluation in due:
                self._evaluate(evaluation, model, state.step, console)
            if samples and self.accelerator.is_main_process:
                try:
                    # `generate` of a model with adapters passes by their forward.
                    with self.accelerator.autocast(), heartbeat("writing samples"):
                        lines = self.sample(model)
                except Exception as error:
                    lines = [f"step {state.step:06d} | sampling failed, training continues: {error}"]
                for line in lines:
                    console.say(line)

    def _evaluate(self, evaluation: Evaluation, model: PreTrainedModel, step: int, console: Console) -> None:
        try:
            record = {"step": step, **evaluation.measure(model)}
        except Exception as error:
            console.say(f"step {step:06d} | {evaluation.name} failed, training continues: {error}")
        else:
            self._write(record)
            shown = (f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in record.items() if k != "step")
            console.say(f"step {step:06d} | " + " | ".join(shown))
            if self.keep_best and MEASURE in record and self.accelerator.is_main_process:
                self._update_best(step, console)
        gc.collect()  # a failure's traceback may hold a batch in memory, and no other search comes soon

    def _update_best(self, step: int, console: Console) -> None:
        """Keep the checkpoint of `step`, if it was just evaluated as the best, and no longer the one before it."""
        best = record_best(self.output_dir, self.metrics.records)
        if best is not None and best.step == step:
            console.say(f"step {step:06d} | best so far: {recorded_best(self.output_dir)}")
            self.checkpointer.drop_old()

    def _announce_best(self, console: Console) -> None:
        """Say when the first checkpoint is evaluated, if that is not before the end."""
        every = next(each.every for each in self.evaluations if each.name == EVALUATION)
        if first_candidate(self.save_every, every, self.plan.num_steps) == self.plan.num_steps:
            console.say(
                f"keep_best: save_every {self.save_every} and eval_every {every} do not meet before the last step, "
                f"{self.plan.num_steps}, which alone can be the best: choose the same number for both, below that"
            )

    def _say_best(self, console: Console) -> None:
        if self.accelerator.is_main_process and (best := record_best(self.output_dir, self.metrics.records)):
            path = recorded_best(self.output_dir)
            console.say(f"best         step {best.step:,}, {MEASURE} {best.bpb:.4f}: {path} loads by from_pretrained")

    def _write(self, record: dict) -> None:
        if self.accelerator.is_main_process:
            with writing(self.metrics.path, lambda: describe_newest(self.output_dir)):
                self.metrics.write(record)
        values = {key: value for key, value in record.items() if key != "step" and value is not None}
        self.accelerator.log(values, step=record["step"])
