"""What the card itself can do: matrix products, memory, and the attention kernels that it has."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from accelerate import PartialState
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.gpu.arguments import GPUArguments
from recipes.training.attention import FLASH_3, has_flash_attention_3
from recipes.training.windowed_attention import attend_within_window
from recipes.utils.errors import in_one_line
from recipes.utils.hardware import has_bf16, peak_flops

HEADS, HEAD_DIM = 10, 128  # a d20's


def describe(state: PartialState) -> dict[str, Any]:
    """The machine, for the head of the results."""
    name = torch.cuda.get_device_name(state.device) if state.device.type == "cuda" else "CPU"
    return {
        "devices": f"{state.num_processes} x {name}",
        "torch": torch.__version__,
        "precision": "bf16" if has_bf16(state.device) else "fp32",
    }


def timed(function: Callable[[], Any], device: torch.device) -> float:
    """Wall-clock seconds of a call, including the GPU's work."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def median_seconds(function: Callable[[], Any], device: torch.device, repeats: int = 5) -> float:
    """Median of several calls, after one that is not counted."""
    function()
    return statistics.median(timed(function, device) for _ in range(repeats))


def dtype_of(device: torch.device) -> torch.dtype:
    """bf16, unless the machine would emulate it."""
    return torch.bfloat16 if has_bf16(device) else torch.float32


def measure(device: torch.device) -> dict[str, float]:
    """FLOP/s of a large matrix product, beside the data sheet's, and bytes/s of copying."""
    size, elements = (512, 2**20) if device.type == "cpu" else (8192, 2**28)
    a = torch.randn(size, size, device=device, dtype=dtype_of(device))
    source = torch.zeros(elements, device=device)
    target = torch.empty_like(source)
    return {
        "matmul TFLOP/s": 2 * size**3 / median_seconds(lambda: a @ a, device) / 1e12,
        "peak TFLOP/s": (peak_flops(device, dtype_of(device)) or float("nan")) / 1e12,
        "bandwidth GB/s": 8 * elements / median_seconds(lambda: target.copy_(source), device) / 1e9,
    }


def measure_attention(args: GPUArguments, device: torch.device) -> dict[str, float | str]:
    """TFLOP/s of causal attention, forward and backward, by every kernel that takes the shape; else why not."""
    tokens, rows = args.max_seq_len, 2 if device.type == "cpu" else 16
    shape = rows, HEADS, tokens, HEAD_DIM
    query, key, value = (
        torch.randn(shape, device=device, dtype=dtype_of(device), requires_grad=True) for _ in range(3)
    )
    flops = 3.5 * 4 * rows * HEADS * tokens**2 * HEAD_DIM / 2  # backward takes 2.5 times; the mask leaves half

    def by_sdpa(backend: SDPBackend) -> None:
        with sdpa_kernel(backend):
            scaled_dot_product_attention(query, key, value, is_causal=True).sum().backward()

    kernels: dict[str, Callable[[], None]] = {
        name: lambda backend=backend: by_sdpa(backend)
        for name, backend in (
            ("cudnn", SDPBackend.CUDNN_ATTENTION),
            ("flash 2", SDPBackend.FLASH_ATTENTION),
            ("efficient", SDPBackend.EFFICIENT_ATTENTION),
            ("math", SDPBackend.MATH),
        )
    }
    if device.type == "cuda":
        kernels |= _flex(query, key, value) | _flash_3(query, key, value)
    window = tokens // 4  # of three layers of four in generation 2026
    seen = (tokens * window - window**2 / 2) / (tokens**2 / 2)  # in windows, of what all tokens before would be
    windowed = _windowed(window, query, key, value)
    return _teraflops(kernels, flops, device) | _teraflops(windowed, flops * seen, device)


def _teraflops(kernels: dict[str, Callable[[], None]], flops: float, device: torch.device) -> dict[str, float | str]:
    found: dict[str, float | str] = {}
    for name, kernel in kernels.items():
        try:
            found[f"{name} TFLOP/s"] = flops / median_seconds(kernel, device) / 1e12
        except Exception as error:  # not built, not for this card, not for this shape, or out of memory
            found[name] = f"not here: {in_one_line(error)}"
    return found


def _windowed(window: int, *inputs: torch.Tensor) -> dict[str, Callable[[], None]]:
    """The two ways in which a model of 2026 attends within windows: by a mask, and on a card that can without."""
    places = torch.arange(inputs[0].size(2), device=inputs[0].device)
    age = places[:, None] - places
    mask = (age >= 0) & (age < window)
    return {
        "windows by a mask": lambda: scaled_dot_product_attention(*inputs, attn_mask=mask).sum().backward(),
        "windows by flash 2": lambda: attend_within_window(*inputs, window, None).sum().backward(),
    }


def _flex(*inputs: torch.Tensor) -> dict[str, Callable[[], None]]:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    tokens = inputs[0].size(2)

    def run() -> None:
        compiled(*inputs, block_mask=mask).sum().backward()

    try:
        compiled = torch.compile(flex_attention, dynamic=False)
        mask = create_block_mask(lambda b, h, q, k: q >= k, None, None, tokens, tokens, inputs[0].device)
    except Exception:
        return {}
    return {"flex": run}


def _flash_3(*inputs: torch.Tensor) -> dict[str, Callable[[], None]]:
    """The Hub's kernel, where the package kernels is installed and has a build."""
    if not has_flash_attention_3():
        return {}
    from kernels import get_kernel

    function = get_kernel(FLASH_3).flash_attn_func

    def run() -> None:
        out = function(*(each.transpose(1, 2) for each in inputs), causal=True)
        (out[0] if isinstance(out, tuple) else out).sum().backward()

    return {"flash 3": run}
