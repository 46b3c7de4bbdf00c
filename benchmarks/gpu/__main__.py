"""All that a machine can tell about our speed: `accelerate launch -m benchmarks.gpu [--minutes 10]`.

Matmul peak and memory bandwidth, attention kernels, tokens/s, MFU and peak memory of training, DDP's buckets where
there are several processes, the loader's headroom, generation, a resume and a step of GRPO, and from them an estimate
of the hours to GPT-2's CORE. Tokens are random or of the embedded corpus: no network is needed. Each part stands for
itself: what fails, or would not end in time, is one line, and results.json is written anew after every part. What
fails on one of several processes alone ends the run, since the others wait for it; the parts before it are kept.
"""

from benchmarks.gpu.arguments import GPUArguments
from recipes.utils.arguments import read_command_line
from recipes.utils.errors import exit_on_input_error

if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("benchmarks.gpu", GPUArguments)

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list

from benchmarks.gpu import card, report, stages, training
from recipes.training.environment import has_compiler
from recipes.training.out_of_memory import OutOfMemoryOnAll
from recipes.utils.errors import InputError, in_one_line
from recipes.utils.processes import join_processes, launched_with_fsdp


def main(args: GPUArguments) -> None:
    state = join_processes()
    args = with_defaults(args, state.device)
    results: dict[str, Any] = {"machine": card.describe(state)}
    state.print(" | ".join(f"{name} {value}" for name, value in results["machine"].items()))
    started, deadline = time.monotonic(), 60 * args.minutes
    for name, seconds, alone, measure in parts(args, state, results):
        spent = time.monotonic() - started
        (late,) = broadcast_object_list([spent + seconds > deadline])  # all processes decide alike
        if late:
            outcome: Any = f"left out: about {seconds} s, and {max(0.0, deadline - spent):.0f} s are left"
        elif alone and not state.is_main_process:
            outcome = None
        else:
            outcome = attempt(measure, failures=EVERY if alone or state.num_processes == 1 else AGREED)
        state.wait_for_everyone()
        if state.is_main_process:
            results[name] = outcome
            print(report.line(name, outcome), flush=True)
            report.write(results, args, Path(args.output_dir))
    if state.is_main_process:
        report.finish(results, args, Path(args.output_dir))
    state.destroy_process_group()


def with_defaults(args: GPUArguments, device: torch.device) -> GPUArguments:
    """The flags that were left out: full size on a GPU, and on a CPU what it does in seconds."""
    small = device.type == "cpu"
    compiled = "false" if small or not has_compiler() else "true"
    return replace(
        args,
        depths=args.depths or ([1] if small else [12, 20, 24]),
        max_seq_len=args.max_seq_len or (64 if small else 2048),
        vocab_size=args.vocab_size or (512 if small else None),
        rows=args.rows or (2 if small else None),
        compile=compiled if args.compile == "auto" else args.compile,
    )


EVERY = Exception, SystemExit
AGREED = InputError, OutOfMemoryOnAll  # what all processes come to alike; of others, they would wait for the one


def attempt(measure: Callable[[], Any], failures: tuple[type[BaseException], ...] = EVERY) -> Any:
    """What `measure` returns, or in one line why there is nothing: a missing kernel must not lose the other parts."""
    try:
        return measure()
    except failures as error:
        return f"failed: {type(error).__name__}: {in_one_line(error)}"
    finally:
        training.forget()


Part = tuple[str, int, bool, Callable[[], Any]]


def parts(args: GPUArguments, state: Any, results: dict[str, Any]) -> Iterator[Part]:
    """Name, seconds that it may take on a GPU, whether one process does it alone, and what measures it."""
    on_cpu = state.device.type == "cpu"

    def seconds(on_gpu: int) -> int:
        return 0 if on_cpu else on_gpu

    def trained(generation: int) -> Iterator[Part]:
        for depth in args.depths:
            measure = partial(training.measure, args, state, depth, generation)
            yield f"training d{depth} {generation}", seconds(30 + 3 * depth), False, measure

    for kind in dict.fromkeys(args.parts):
        if kind == "card":
            yield "card", seconds(10), True, partial(card.measure, state.device)
        elif kind == "attention":
            yield "attention", seconds(30), True, partial(card.measure_attention, args, state.device)
        elif kind == "training":
            yield from trained(args.generations[0])
        elif kind == "buckets" and state.num_processes > 1 and not launched_with_fsdp():
            depth = args.depths[len(args.depths) // 2]
            for size in training.BUCKETS:
                measure = partial(training.measure, args, state, depth, args.generations[0], bucket=size)
                yield f"buckets {size} MiB, d{depth}", seconds(30 + 3 * depth), False, measure
        elif kind == "loader":
            yield "loader", seconds(30), True, partial(stages.measure_loader, args, results)
        elif kind == "generation":
            for generation in args.generations:
                measure = partial(stages.measure_generation, args, state.device, generation)
                yield f"generation {generation}", seconds(25), True, measure
        elif kind == "resume":
            yield "resume", seconds(40), False, partial(stages.measure_resume, args, state)
        elif kind == "grpo":
            yield "grpo", seconds(60), True, partial(stages.measure_grpo, args, state.device)
        elif kind == "fp8" and not on_cpu and not launched_with_fsdp():
            depth = args.depths[-1]
            measure = partial(training.measure, args, state, depth, args.generations[0], precision="fp8")
            yield f"fp8 d{depth} {args.generations[0]}", seconds(30 + 4 * depth), False, measure
    if "training" in args.parts:  # other generations, if there is time left
        for generation in args.generations[1:]:
            yield from trained(generation)


if __name__ == "__main__":
    exit_on_input_error("benchmarks.gpu", lambda: main(ARGS))
