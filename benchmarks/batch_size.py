"""Tokens/s and peak memory of a training step by batch size: `python -m benchmarks.batch_size --model_config FILE`.

Batch sizes 1, 2, 4, ... up to the first that does not fit, then some between it and the last that does; forward,
backward, clipping and optimizer as in the training loop, on random tokens, medians over the steps. Each batch size
runs in a process of its own: peaks do not add up, and one that is killed for its memory ends a row of the table only.
Memory is what torch allocated on a GPU (max_memory_allocated), and the resident peak of the process on a CPU.
"""

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection

from recipes.utils.arguments import Arguments, flag, read_command_line
from recipes.utils.errors import InputError, exit_on_input_error, in_one_line, suggest
from tokenizer.special_tokens import SMALLEST_VOCABULARY

PRECISIONS = {  # accelerate's mixed_precision, and torch's precision of products of fp32 matrices
    "fp32": ("no", "highest"),
    "tf32": ("no", "high"),
    "bf16": ("bf16", "high"),
}
FAST_ENOUGH = 0.95  # of the highest speed: the smallest batch size that reaches it is recommended
USABLE = 0.9  # share of the memory that is available now
LOOKS_A_SECOND = 20  # at a process's memory


@dataclass
class BenchmarkArguments(Arguments):
    """Flags of `python -m benchmarks.batch_size`."""

    model_config: str | None = flag(None, "a transformers config.json (default: the model of --depth)", path=True)
    depth: int = flag(12, "of our own model, without model_config", least=1, most=1000)
    vocab_size: int | None = flag(
        None, "of the model (default: as in model_config, or 65,536)", least=SMALLEST_VOCABULARY, most=2**24
    )
    max_seq_len: int = flag(1024, "tokens a row", least=1, most=2**24)
    precisions: str = flag("fp32,tf32,bf16", "what to compare, comma-separated")
    optimizer: str = flag("adamw", "as of recipes/pretrain.py")
    compile: bool = flag(False, "torch.compile the model, as long runs on a GPU do; takes long for each batch size")
    max_batch_size: int = flag(1024, "largest batch size to try", least=1)
    memory_limit: float | None = flag(
        None, "GB that a process may take (default: a GPU's memory, or 90% of what is available)", above=0
    )
    steps: int = flag(5, "measured steps, after one to warm up", least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.precisions.split(","):
            if name.strip() not in PRECISIONS:
                raise InputError(f"precisions: no {name.strip()!r}; {suggest(name.strip(), PRECISIONS)}")


if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("benchmarks.batch_size", BenchmarkArguments)

import psutil
import torch
from accelerate import Accelerator
from accelerate.utils import DynamoBackend, TorchDynamoPlugin
from accelerate.utils.memory import should_reduce_batch_size
from transformers import PretrainedConfig

from recipes.training.loop import rows_loss
from recipes.training.models import build_config, build_model, model_facts
from recipes.training.optimizers import OptimizerSettings, build_optimizer, find_builder
from recipes.utils import loading
from recipes.utils.hardware import available_memory, peak_memory


@dataclass(frozen=True)
class Measurement:
    """Of one batch size: tokens/s and bytes."""

    precision: str
    rows: int
    speed: float
    memory: int


def main(args: BenchmarkArguments) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = model_of(args)
    find_builder(args.optimizer)
    facts = model_facts(config, args.max_seq_len, args.model_config)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    limit = (args.memory_limit * 1e9) if args.memory_limit else default_limit(device)
    print(
        f"{facts.name}: {facts.num_parameters:,} parameters, rows of {args.max_seq_len:,} tokens, {args.optimizer}\n"
        f"{name}, at most {limit / 1e9:.2f} GB\n"
        f"{'precision':<12}{'batch size':>10}{'tokens/s':>14}{'peak memory':>16}",
        flush=True,
    )
    measured: list[Measurement] = []
    for precision in dict.fromkeys(each.strip() for each in args.precisions.split(",")):
        if precision == "tf32" and device.type == "cpu":
            print(f"{precision:<12}skipped: only GPUs have it", flush=True)
            continue
        measured += measure_precision(args, precision, limit)
    print(recommend(measured))


def model_of(args: BenchmarkArguments) -> PretrainedConfig:
    """Configuration of the model to measure."""
    vocab_size = args.vocab_size
    if vocab_size is None:
        vocab_size = loading.load_config(args.model_config).vocab_size if args.model_config else 65_536
    return build_config(vocab_size, args.max_seq_len, args.depth, args.model_config)


def default_limit(device: torch.device) -> float:
    """Bytes that a process may take."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    return USABLE * available_memory()


def measure_precision(args: BenchmarkArguments, precision: str, limit: float) -> Iterator[Measurement]:
    """Measure and print doubled batch sizes up to the first that does not fit, then up to three in between."""
    rows, fits, too_many = 1, 0, None
    while rows <= args.max_batch_size and too_many is None:
        if (result := measure_apart(args, precision, rows, limit)) is None:
            too_many = rows
        else:
            yield result
            fits, rows = rows, 2 * rows
    apart = max(1, fits // 4)
    while fits and too_many is not None and too_many - fits > apart:
        rows = (fits + too_many) // 2
        if (result := measure_apart(args, precision, rows, limit)) is None:
            too_many = rows
        else:
            yield result
            fits = rows


def measure_apart(args: BenchmarkArguments, precision: str, rows: int, limit: float) -> Measurement | None:
    """Measure one batch size in a process of its own, and print it; None if it does not fit into `limit` bytes."""
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=send_measurement, args=(sender, args, precision, rows, limit), daemon=True)
    process.start()
    sender.close()  # so that the pipe ends with the process
    watched = not torch.cuda.is_available()
    while not receiver.poll(1 / LOOKS_A_SECOND):
        if watched and resident(process.pid) > limit:
            process.kill()
            break
    try:
        result = receiver.recv()
    except EOFError:  # killed, by us or by the system
        result = None
    process.join()
    if watched and isinstance(result, Measurement) and result.memory > limit:  # a peak between two looks
        result = None
    if result is None and process.exitcode not in (0, -9):
        raise InputError(f"the process that measured batch size {rows} ended by exit code {process.exitcode}.")
    if isinstance(result, str):
        raise InputError(f"batch size {rows} cannot be measured: {result}")
    figures = f"{result.speed:>14,.0f}{result.memory / 1e9:>13.2f} GB" if result else "does not fit".rjust(14)
    print(f"{precision:<12}{rows:>10}{figures}", flush=True)
    return result


def resident(pid: int) -> int:
    """Bytes of memory that a process holds; 0 once it has ended."""
    try:
        return psutil.Process(pid).memory_info().rss
    except psutil.NoSuchProcess:
        return 0


def send_measurement(sender: Connection, args: BenchmarkArguments, precision: str, rows: int, limit: float) -> None:
    """In the process of a batch size: send its measurement, None if memory runs out, or what else went wrong."""
    try:
        result = measure(args, precision, rows, limit)
    except InputError as error:
        result = str(error)
    except Exception as error:
        if not (isinstance(error, MemoryError) or should_reduce_batch_size(error)):
            result = in_one_line(error)
        else:
            result = None
    sender.send(result)


def measure(args: BenchmarkArguments, precision: str, rows: int, limit: float) -> Measurement:
    """Train a few steps on `rows` rows of random tokens."""
    mixed_precision, products = PRECISIONS[precision]
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision=mixed_precision,
        dynamo_plugin=TorchDynamoPlugin(backend=DynamoBackend.INDUCTOR, dynamic=False) if args.compile else None,
    )
    torch.set_float32_matmul_precision(products)
    device, on_gpu = accelerator.device, accelerator.device.type == "cuda"
    if on_gpu:
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), device)
    config = model_of(args)
    model = build_model(config, args.max_seq_len, device, args.model_config).train()
    model, optimizer = accelerator.prepare(model, build_optimizer(args.optimizer, model, OptimizerSettings()))
    tokens = torch.randint(0, config.vocab_size, (rows, args.max_seq_len + 1), device=device)
    seconds = []
    for _ in range(1 + args.steps):
        started = time.perf_counter()
        accelerator.backward(rows_loss(model, tokens, rows * args.max_seq_len))
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    speed = rows * args.max_seq_len / statistics.median(seconds[1:])
    return Measurement(precision, rows, speed, peak_memory(device))


def recommend(measured: list[Measurement]) -> str:
    """The line that names the smallest batch size that is nearly as fast as the fastest."""
    if not measured:
        return "nothing fits: a smaller max_seq_len or model, or a larger memory_limit, may"
    fastest = max(measured, key=lambda each: each.speed)
    near = (each for each in measured if each.speed >= FAST_ENOUGH * fastest.speed)
    best = min(near, key=lambda each: (each.rows, -each.speed))
    return (
        f"fastest      {fastest.precision}, batch size {fastest.rows}: {fastest.speed:,.0f} tokens/s\n"
        f"recommended  {best.precision}, batch size {best.rows}: {best.speed / fastest.speed:.0%} of the fastest in "
        f"{best.memory / 1e9:.2f} GB (--device_batch_size {best.rows} "
        f"--mixed_precision {PRECISIONS[best.precision][0]})"
    )


if __name__ == "__main__":
    exit_on_input_error("benchmarks.batch_size", lambda: main(ARGS))
