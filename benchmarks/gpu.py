"""GPU benchmarks in one command: `python -m benchmarks.gpu [--depths 12 20]`.

Measures the compiled training step in bf16 with Muon (tokens/s, MFU, peak memory), the attention implementations,
Muon's share of the step, and generation. Needs only torch, transformers and accelerate; tokens are random. To test the
script on a CPU: `--depths 1 --max_seq_len 64 --rows 2 --vocab_size 512`.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from recipes.utils.arguments import Arguments, flag, read_command_line
from recipes.utils.errors import exit_on_input_error


@dataclass
class BenchmarkArguments(Arguments):
    """Flags of `python -m benchmarks.gpu`."""

    depths: list[int] = flag([12, 20], "of the models", least=1, most=1000)
    max_seq_len: int = flag(2048, "tokens a row", least=32, most=2**24)
    rows: int = flag(32, "rows at a time", least=1)
    vocab_size: int = flag(65536, "of the models", least=1, most=2**24)
    attention: list[str] = flag(["sdpa", "flex_attention"], "implementations to compare")
    steps: int = flag(10, "measured steps", least=1)


if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("benchmarks.gpu", BenchmarkArguments)

import torch

from modeling_nanochat import NanochatGPTConfig, NanochatGPTForCausalLM
from recipes.training.optimizers import OptimizerSettings, build_optimizer
from recipes.utils.hardware import peak_flops, peak_memory


def main(args: BenchmarkArguments) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_float32_matmul_precision("high")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    peak = peak_flops(device, torch.bfloat16)
    print(f"{name}, torch {torch.__version__}, peak {peak / 1e12 if peak else float('nan'):,.2f} TFLOP/s")
    for depth in args.depths:
        for attention in args.attention:
            measure_training(depth, attention, args, device, peak)
        measure_generation(depth, args, device)


def measure_training(
    depth: int, attention: str, args: BenchmarkArguments, device: torch.device, peak: float | None
) -> None:
    """Print tokens/s, MFU, peak memory and the optimizer's share of a compiled training step."""
    model = build(depth, args, device)
    model.set_attn_implementation(attention)
    optimizer = build_optimizer("muon", model, OptimizerSettings())
    compiled = torch.compile(model, dynamic=False)
    rows = torch.randint(0, args.vocab_size, (args.rows, args.max_seq_len + 1), device=device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()

    def forward_backward() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            targets = rows[:, 1:]
            compiled(
                rows[:, :-1], labels=targets, shift_labels=targets, skip_logits=True, use_cache=False
            ).loss.backward()

    def update() -> None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    seconds = []
    for _ in range(3 + args.steps):
        seconds.append((timed(forward_backward, device), timed(update, device)))
    gradient, step = (statistics.median(column) for column in zip(*seconds[3:], strict=True))
    tokens = args.rows * args.max_seq_len
    speed = tokens / (gradient + step)
    mfu = speed * model.config.flops_per_token(args.max_seq_len) / peak if peak else float("nan")
    print(
        f"d{depth} {attention}: {speed:,.0f} tokens/s, MFU {mfu:.1%}, {peak_memory(device) / 2**30:.1f} GiB, "
        f"forward and backward {gradient * 1e3:,.0f} ms, clip and Muon {step * 1e3:,.0f} ms "
        f"for {tokens:,} tokens",
        flush=True,
    )


def measure_generation(depth: int, args: BenchmarkArguments, device: torch.device) -> None:
    """Print tokens/s of greedy generation in bf16, batch 1 and 16, with dynamic and static caches."""
    model = build(depth, args, device).to(torch.bfloat16).eval()
    new_tokens = min(128, args.max_seq_len // 2)
    for batch in (1, 16):
        prompt = torch.randint(0, args.vocab_size, (batch, 16), device=device)
        for cache in ("dynamic", "static"):
            options = {"do_sample": False, "cache_implementation": cache, "min_new_tokens": new_tokens}

            def generate(prompt=prompt, options=options) -> None:
                model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=new_tokens, **options)

            generate()
            seconds = statistics.median(timed(generate, device) for _ in range(3))
            print(
                f"d{depth} generate, batch {batch}, {cache} cache: {batch * new_tokens / seconds:,.0f} tokens/s",
                flush=True,
            )


def build(depth: int, args: BenchmarkArguments, device: torch.device) -> NanochatGPTForCausalLM:
    """A new model of the given depth, in fp32."""
    config = NanochatGPTConfig.from_depth(
        depth, vocab_size=args.vocab_size, max_position_embeddings=args.max_seq_len, pad_token_id=0
    )
    with device:
        return NanochatGPTForCausalLM(config)


def timed(function: Callable[[], None], device: torch.device) -> float:
    """Wall-clock seconds of a call, including the GPU's work."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


if __name__ == "__main__":
    exit_on_input_error("benchmarks.gpu", lambda: main(ARGS))
