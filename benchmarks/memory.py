"""The memory of a training step, by torch's own tools beside our estimate: `python -m benchmarks.memory [--depths 4]`.

The real step runs on fake tensors, which have shapes but no contents, so a model of any size needs neither a GPU nor
memory: forward, chunked loss and backward in bf16, as accelerate would run them, and the optimizer's update. Nothing
is timed. Two tools look at it, each at what it sees rightly:

- MemTracker (torch.distributed._tools) sees every operation that is not compiled: weights, gradients, state and update
  of the optimizer, and the whole step of TRL's trainers, which do not compile.
- torch.compile fuses operations, so that most of what MemTracker would count never exists. Here Inductor says what its
  kernels allocate and free, in the order that it has settled on: of both graphs the peak, and between them what is
  kept for the backward pass.

The step is one in the midst of training: gradients of earlier micro-batches and the optimizer's state are there. What
no tool knows is missing: CUDA's context, NCCL's buffers, workspaces of kernels, fragmentation.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from recipes.utils.arguments import Arguments, flag, read_command_line
from recipes.utils.errors import InputError, exit_on_input_error


@dataclass
class BenchmarkArguments(Arguments):
    """Flags of `python -m benchmarks.memory`."""

    depths: list[int] = flag([4, 8, 12, 16, 20, 24, 28, 32], "of the models", least=1, most=1000)
    generations: list[int] = flag([2025, 2026], "of the models", choices=(2025, 2026))
    max_seq_len: int = flag(2048, "tokens a row", least=2, most=2**24)
    rows: int | None = flag(None, "rows at a time (default: as many as fit a card of card_gb by estimate)", least=1)
    card_gb: float = flag(80.0, "memory of the card", above=0)
    compiled: bool = flag(True, "as pretraining compiles the step; false: as TRL's trainers run it")
    gradient_checkpointing: bool = flag(False, "recompute activations in the backward pass")


if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("benchmarks.memory", BenchmarkArguments)

import copy

import torch
from torch._inductor import memory as planning
from torch._inductor.compile_fx import compile_fx, compile_fx_inner
from torch._inductor.graph import GraphLowering
from torch._inductor.utils import fresh_cache
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils._ordered_set import OrderedSet
from transformers.initialization import no_init_weights

from benchmarks.chunks import chunks_as_on_a_gpu
from modeling_nanochat import NanochatGPTConfig, NanochatGPTForCausalLM, loss_nanochat
from recipes.training.attention import has_windows
from recipes.training.dry_run import DEFAULT_VOCABULARY
from recipes.training.loop import rows_loss
from recipes.training.memory import choose_device_batch, estimate_memory
from recipes.training.muon import MUON
from recipes.training.optimizers import OptimizerSettings, build_optimizer
from recipes.training.precision import compute_in_bf16
from recipes.training.windowed_attention import WINDOWED_SDPA
from recipes.utils.model_facts import describe_config, generation_of

CPU = torch.device("cpu")  # of the fakes: those of CUDA need a torch that was built for it
PARTS = ("weights", "gradients", "optimizer", "activations", "loss", "update")


def main(args: BenchmarkArguments) -> None:
    if args.compiled and args.gradient_checkpointing:
        raise InputError("gradient_checkpointing is measured of a step that is not compiled: add --compiled false.")
    kind = "compiled" if args.compiled else "not compiled"
    print(f"torch {torch.__version__}, rows of {args.max_seq_len} tokens, {kind}; GB by the tools / by the estimate")
    print("depth  generation  rows  " + "  ".join(f"{part:>13}" for part in PARTS) + "          total   error")
    for generation in args.generations:
        for depth in args.depths:
            compare(depth, generation, args)


def compare(depth: int, generation: int, args: BenchmarkArguments) -> None:
    """Print one line of the table, and the same as JSON."""
    config = NanochatGPTConfig.from_depth(
        depth, DEFAULT_VOCABULARY[generation], generation=generation, max_position_embeddings=args.max_seq_len
    )
    facts, recompute = describe_config(config, args.max_seq_len), args.gradient_checkpointing
    rows = args.rows or choose_device_batch(facts, args.max_seq_len, recompute, args.card_gb * 1e9)
    measured = measure_step(config, rows, args.compiled, recompute)
    estimate = estimate_memory(facts, rows, args.max_seq_len, recompute, trainer=not args.compiled)
    totals = sum(measured.values()), sum(estimate.values())
    pairs = [(measured.get(part, 0), estimate.get(part, 0)) for part in PARTS] + [totals]
    columns = "  ".join(f"{tool / 1e9:>5.1f} / {ours / 1e9:<5.1f}" for tool, ours in pairs)
    error = totals[1] / totals[0] - 1
    print(f"{depth:>5}  {generation:>10}  {rows:>4}  {columns}  {error:>+6.1%}")
    found = {"depth": depth, "generation": generation, "rows": rows, "measured": measured, "estimate": estimate}
    print(json.dumps(found), flush=True)


def measure_step(
    config: NanochatGPTConfig, rows: int, compiled: bool = True, recompute: bool = False
) -> dict[str, int]:
    """Bytes at the peak of a step, by purpose as in `estimate_memory`: during forward and backward, or the update."""
    with a_fake_gpu():
        model = NanochatGPTForCausalLM(config).train()
        if recompute:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        generation = generation_of(config)
        settings = OptimizerSettings(muon=MUON[generation], weight_decay=0.1 if generation == 2026 else 0.0)
        optimizer = build_optimizer("muon", model, settings)
        optimizer.orthogonalize_dtype = torch.bfloat16
        for parameter in model.parameters():
            parameter.grad = torch.empty_like(parameter)
        update = bytes_of_update(model, optimizer)  # and the optimizer has a state from now on
        passes = (compiled_passes if compiled else eager_passes)(model, rows)
        states = [value for state in optimizer.state.values() for value in state.values()]
        parts = {
            "weights": sum(map(size_of, [*model.parameters(), *model.buffers()])),
            "gradients": sum(map(size_of, model.parameters())),
            "optimizer": sum(map(size_of, states)),
        }
    if update > sum(passes.values()):
        return parts | {"update": update}
    return {**parts, **passes, "weights": parts["weights"] + passes["weights"]}


def size_of(tensor: torch.Tensor) -> int:
    """Bytes of a tensor, which may be a fake."""
    return tensor.numel() * tensor.element_size()


@contextmanager
def a_fake_gpu() -> Iterator[None]:
    """Tensors without contents, and what is decided by the device as on a GPU.

    CUDA's own fakes need a torch that was built for CUDA, so these are of a CPU. Then three things would differ: the
    chunks of the loss, which operations autocast leaves in fp32, and Inductor's rule for a CPU that costly functions
    are computed once and stored.
    """
    with ExitStack() as stack:
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(no_init_weights())
        stack.enter_context(chunks_as_on_a_gpu())
        stack.enter_context(mock.patch("torch._inductor.ir.is_cpu", lambda node: False))
        library = stack.enter_context(torch.library._scoped_library("aten", "IMPL"))
        library.impl("pow.Tensor_Scalar", _power_in_fp32, "AutocastCPU")  # squares as well
        yield


def _power_in_fp32(x: torch.Tensor, exponent: float) -> torch.Tensor:
    with torch.autocast("cpu", enabled=False):
        return torch.pow(x.float(), exponent)


def bytes_of_update(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """The most that the optimizer's update allocates for itself, by MemTracker."""
    optimizer.step()  # the first one makes the state
    tracker = MemTracker()
    tracker.track_external(model, optimizer)
    with tracker:
        before = tracker.get_tracker_snapshot("current")[CPU]["Total"]
        optimizer.step()
    return tracker.get_tracker_snapshot("peak")[CPU]["Total"] - before


def eager_passes(model: NanochatGPTForCausalLM, rows: int) -> dict[str, int]:
    """What forward and backward pass allocate at their peak, by MemTracker, of a batch of padded conversations."""
    tokens = torch.zeros(rows, model.config.max_position_embeddings, dtype=torch.long)
    tracker = MemTracker()
    tracker.track_external(model)
    with tracker:
        before = tracker.get_tracker_snapshot("current")[CPU]["Total"]
        with torch.autocast("cpu", torch.bfloat16):
            hidden = model.model(tokens, torch.ones_like(tokens), use_cache=False).last_hidden_state
            # As the model does for a head whose weight is a plain parameter, which a fake is not.
            weight, cap = model.lm_head.weight[: model.config.vocab_size], model.config.final_logit_softcapping
            loss = loss_nanochat.linear_cross_entropy(hidden.flatten(0, 1), weight, tokens.flatten(), cap)
            del hidden
        kept = tracker.get_tracker_snapshot("current")[CPU]["Total"] - before
        loss.backward()
    peak = tracker.get_tracker_snapshot("peak")[CPU]["Total"] - before
    copies = sum(p.numel() * 2 for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name)
    return {"weights": copies, "activations": kept - copies, "loss": peak - kept}


def compiled_passes(model: NanochatGPTForCausalLM, rows: int) -> dict[str, int]:
    """What forward and backward pass allocate at their peak, by Inductor's plan for their kernels."""
    torch._dynamo.reset()
    tokens = torch.zeros(rows, model.config.max_position_embeddings + 1, dtype=torch.long)
    graphs: list[torch.fx.Graph] = []
    peaks: list[int] = []

    def plan(graph: torch.fx.GraphModule, inputs: list[torch.Tensor], **options: Any) -> Callable:
        traced = copy.deepcopy(graph)  # Inductor changes its own
        graphs.append(traced.graph)
        with mock.patch.object(GraphLowering, "codegen", lambda lowered: stop_with_peak(lowered, peaks)):
            try:
                compile_fx_inner(graph, inputs, **options)
            except Exception:  # as Inductor wraps `Planned`
                if len(peaks) < len(graphs):
                    raise

        def run(inputs: list[torch.Tensor]) -> Any:
            return torch.fx.Interpreter(traced).boxed_run(inputs)

        run._boxed_call = True
        return run

    step = torch.compile(
        model,
        backend=lambda graph, inputs: compile_fx(graph, inputs, inner_compile=plan),
        fullgraph=True,
        dynamic=False,
    )
    compute_in_bf16(model)  # as on a GPU, in place of autocast
    if has_windows(model.config, model.config.max_position_embeddings):
        model.set_attn_implementation(WINDOWED_SDPA)
    with fresh_cache():
        rows_loss(step, tokens, num_tokens=tokens[:, 1:].numel()).backward()
    forward, backward = graphs
    copies, activations = what_is_kept(forward, backward, model.lm_head.weight.shape)
    return {"weights": copies, "activations": activations, "loss": max(peaks) - copies - activations}


class Planned(Exception):
    """Ends a compilation where the memory is known."""


def stop_with_peak(graph: GraphLowering, peaks: list[int]) -> None:
    """Append the peak of what a graph of Inductor's holds, its inputs that can be freed included; raises `Planned`."""
    graph._update_scheduler()
    scheduler, outputs = graph.scheduler, OrderedSet(graph.get_output_names())
    inputs = OrderedSet(graph.graph_inputs)
    _, freeable = planning.prepare_planning_info(
        scheduler.nodes, scheduler.name_to_buf, scheduler.name_to_fused_node, inputs, outputs
    )
    for name, buffer in freeable.items():  # torch 2.13 counts what the last kernel reads of an input, not all of it
        tensor = graph.graph_inputs[name]
        buffer.mpi_buffer.size_free = int(tensor.get_numel()) * tensor.get_dtype().itemsize
    peaks.append(planning.estimate_peak_memory(scheduler.nodes, freeable, outputs)[0])
    raise Planned


def what_is_kept(forward: torch.fx.Graph, backward: torch.fx.Graph, head: torch.Size) -> tuple[int, int]:
    """Bytes that the forward pass keeps for the backward pass: of weights in bf16, and of what depends on the tokens.

    The gradient of the head (V, D), which the loss computes in the forward pass, is counted with neither.
    """
    of_tokens: set[str] = set()
    of_weights: set[str] = set()  # or of both; masks are of neither, and count as activations
    for node in forward.nodes:
        is_tokens = node.op == "placeholder" and node.meta["val"].dtype == torch.long
        for names, begins in ((of_tokens, is_tokens), (of_weights, node.op == "placeholder" and not is_tokens)):
            if begins or any(each.name in names for each in node.all_input_nodes):
                names.add(node.name)
    copies = activations = 0
    for node in backward.find_nodes(op="placeholder"):
        value = node.meta["val"]
        if node.name.startswith(("primals", "tangents")):  # the weights themselves, and the gradient of the loss
            continue
        if node.name in of_weights - of_tokens:
            copies += size_of(value)
        elif not (value.shape == head and value.dtype == torch.float32):
            activations += size_of(value)
    return copies, activations


if __name__ == "__main__":
    exit_on_input_error("benchmarks.memory", lambda: main(ARGS))
