"""What torch.compile makes of the training step, counted on any machine: `python -m benchmarks.graphs [--depths 4]`.

Counts graphs without DDP and pieces with it, calls of attention that need a mask, and Inductor's kernels: how many the
step launches forward and backward, what they read and write, how many of them compute rotary angles, and what the
forward pass keeps for the backward one. Nothing is timed: the kernels, for a CPU, are generated and counted but
neither built nor run, so no compiler is needed. Inductor fuses less of them on a GPU, and takes the same decisions
about what to compute once and what anew.
"""

import json
import re
from dataclasses import asdict, dataclass
from unittest import mock

from recipes.utils.arguments import Arguments, flag, read_command_line
from recipes.utils.errors import exit_on_input_error

PRECISIONS = "fp32", "autocast", "bf16"


@dataclass
class BenchmarkArguments(Arguments):
    """Flags of `python -m benchmarks.graphs`."""

    depths: list[int] = flag([4], "of the models", least=1, most=1000)
    generations: list[int] = flag([2025, 2026], "of the models", choices=(2025, 2026))
    max_seq_len: int = flag(2048, "tokens a row", least=2, most=2**24)
    rows: int = flag(1, "rows at a time", least=1)
    vocab_size: int = flag(32768, "of the models", least=1, most=2**24)
    precision: str = flag("fp32", "fp32; bf16 by autocast, or by the model's own casts", choices=PRECISIONS)
    kernels: bool = flag(True, "count Inductor's kernels, too; the products of the step are then computed")


if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("benchmarks.graphs", BenchmarkArguments)

import torch
from torch._dynamo.backends.distributed import DDPOptimizer
from torch._inductor.async_compile import AsyncCompile
from torch._inductor.graph import GraphLowering
from torch._inductor.utils import fresh_cache

from benchmarks.chunks import chunks_as_on_a_gpu
from modeling_nanochat import NanochatGPTConfig, NanochatGPTForCausalLM
from recipes.training.environment import bucket_size
from recipes.training.loop import rows_loss
from recipes.training.precision import compute_in_bf16
from recipes.utils.model_facts import describe_config

ANGLES = re.compile(r"\b(?:cos|sin|pow)\(")


@dataclass
class Graphs:
    """What one forward pass is traced to."""

    graphs: int = 0
    ddp_pieces: int = 0
    attentions: int = 0
    masked: int = 0  # of them


@dataclass
class Kernels:
    """What Inductor generates for one forward and backward pass."""

    kernels: int = 0  # launches
    angle_kernels: int = 0  # of them, launches that evaluate cos, sin or pow
    megabytes: float = 0.0  # read and written, by the kernels and by the matrix products between them
    kept_megabytes: float = 0.0  # for the backward pass, beside the weights


def main(args: BenchmarkArguments) -> None:
    shape = f"{args.rows} x {args.max_seq_len} tokens, vocabulary {args.vocab_size:,}"
    print(f"torch {torch.__version__}, {shape}, compiled for a CPU; products in {args.precision}")
    print(
        "depth  generation  graphs  pieces under DDP  attentions  with a mask  kernels  with angles       MB  MB kept"
    )
    for depth in args.depths:
        for generation in args.generations:
            config = NanochatGPTConfig.from_depth(
                depth, args.vocab_size, generation=generation, max_position_embeddings=args.max_seq_len
            )
            found = asdict(count_graphs(config, args.rows))
            if args.kernels:
                found |= asdict(count_kernels(config, args.rows, args.precision))
            columns = zip((6, 16, 10, 11, 7, 11, 7, 7), found.values(), strict=False)
            print(f"{depth:>5}  {generation:>10}  " + "  ".join(f"{value:>{width},}" for width, value in columns))
            print(json.dumps({"depth": depth, "generation": generation, **found}), flush=True)


def count_graphs(config: NanochatGPTConfig, rows: int = 1) -> Graphs:
    """Trace the step of a model of any size; its weights are never touched, and so need no memory."""
    with torch.device("meta"):
        model = NanochatGPTForCausalLM(config)
    model.to_empty(device="cpu")
    found = Graphs()
    cap = bucket_size(describe_config(config, config.max_position_embeddings)) * 2**20

    def count(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]):
        found.graphs += 1
        for node in graph.graph.nodes:
            if "scaled_dot_product_attention" in str(node.target):
                found.attentions += 1
                found.masked += node.kwargs.get("attn_mask") is not None
        cuts = DDPOptimizer(cap, lambda piece, inputs: piece.forward)
        cuts.compile_fn(graph, inputs)
        found.ddp_pieces += len(cuts.buckets)
        return lambda *inputs: (torch.zeros(()),)  # the loss alone: a break in the graph would be an error

    step = torch.compile(model, backend=count, fullgraph=True, dynamic=False)
    loss_as_on_a_gpu(step, rows)
    return found


def count_kernels(config: NanochatGPTConfig, rows: int = 1, precision: str = "fp32") -> Kernels:
    """Generate the kernels of the step in a precision of `PRECISIONS`, and count how often it would launch them."""
    found, codegen = Kernels(), GraphLowering.codegen

    def counting_codegen(graph: GraphLowering):
        code = codegen(graph)
        found.megabytes += sum(node.get_read_write_buffers_sizes() for node in graph.scheduler.nodes) / 1e6
        if not graph.is_backward:
            kept = {x.get_name(): x for x in graph.graph_outputs if x.get_name() not in graph.graph_inputs}
            sizes = (int(x.get_layout().storage_size()) * x.get_dtype().itemsize for x in kept.values())
            found.kept_megabytes = sum(sizes) / 1e6
        return code

    def do_not_build(compiler: AsyncCompile, argtypes: list[str], source: str):
        def launch(*inputs) -> None:
            found.kernels += 1
            found.angle_kernels += ANGLES.search(source) is not None

        return launch

    model = NanochatGPTForCausalLM(config)
    if precision == "bf16":
        compute_in_bf16(model)
    step = torch.compile(model, fullgraph=True, dynamic=False)
    with (
        torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast"),
        fresh_cache(),
        mock.patch.object(GraphLowering, "codegen", counting_codegen),
        mock.patch.object(AsyncCompile, "cpp_pybinding", do_not_build),
    ):
        loss_as_on_a_gpu(step, rows).backward()
    found.megabytes, found.kept_megabytes = round(found.megabytes), round(found.kept_megabytes)
    return found


def loss_as_on_a_gpu(step: torch.nn.Module, rows: int) -> torch.Tensor:
    """The loss of `rows` that are as long as the model allows, in chunks of the size that a GPU takes."""
    torch._dynamo.reset()
    tokens = torch.zeros(rows, step.config.max_position_embeddings + 1, dtype=torch.long)
    with chunks_as_on_a_gpu():
        return rows_loss(step, tokens, num_tokens=tokens[:, 1:].numel())


if __name__ == "__main__":
    exit_on_input_error("benchmarks.graphs", lambda: main(ARGS))
