"""What the hardware can do: precision, peak speed, memory."""

import re
import resource
import sys
import time

import psutil
import torch

from recipes.utils.errors import InputError

# Peak of dense bf16 matrix products (fp16 where there is no bf16), FLOP/s, and memory, GB: the vendors' data sheets.
# The first name found in the device's name as whole words counts, so longer names stand before their prefixes.
GPUS = {
    "GB200": (2500e12, 186),
    "B300": (2500e12, 288),
    "B200": (2250e12, 180),
    "GH200": (989e12, 96),
    "H200": (989e12, 141),
    "H100 NVL": (835e12, 94),
    "H100 PCIe": (756e12, 80),
    "H100": (989e12, 80),
    "H800": (989e12, 80),
    "A100-SXM4-40GB": (312e12, 40),
    "A100-PCIE-40GB": (312e12, 40),
    "A100": (312e12, 80),
    "A800": (312e12, 80),
    "L40S": (362e12, 48),
    "L40": (181e12, 48),
    "L4": (121e12, 24),
    "A10G": (70e12, 24),
    "A10": (125e12, 24),
    "A6000": (155e12, 48),
    "RTX 5090": (209e12, 32),
    "RTX 4090": (165e12, 24),
    "RTX 3090": (71e12, 24),
    "V100-SXM2-16GB": (125e12, 16),
    "V100": (125e12, 32),
    "T4": (65e12, 16),
    "MI300X": (1307e12, 192),
    "MI250X": (191e12, 64),
}


def has_bf16(device: torch.device) -> bool:
    """Whether matrix products in bf16 run on the hardware's own units, not by emulation."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else _cpu_flags()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))
    return device.type == "mps"


def _cpu_flags() -> dict[str, bool]:
    """Instruction sets by Linux's own account, for a torch that cannot tell (before 2.12)."""
    try:
        with open("/proc/cpuinfo") as lines:
            return {flag: True for line in lines if line.startswith(("flags", "Features")) for flag in line.split()}
    except OSError:
        return {}


def choose_precision(requested: str, device: torch.device) -> str:
    """`mixed_precision` for accelerate: "auto" is bf16 where the hardware has it, else fp16 on CUDA, else no."""
    if requested == "fp16" and device.type == "cpu":
        raise InputError("mixed_precision fp16 needs a GPU: on a CPU choose bf16, or no.")
    if requested != "auto":
        return requested
    if has_bf16(device):
        return "bf16"
    return "fp16" if device.type == "cuda" else "no"


def precision_name(mixed_precision: str) -> str:
    """What people call it: without mixed precision, which accelerate calls "no", all is in fp32."""
    return "fp32" if mixed_precision == "no" else mixed_precision


def gpu_figures(name: str) -> tuple[float, float] | None:
    """Peak FLOP/s and memory in GB of the GPU whose name contains a known one; None if it is unknown."""
    # In whole words: an RTX A1000 is no A100, a T400 no T4.
    return next((figures for known, figures in GPUS.items() if re.search(rf"\b{known}\b", name, re.IGNORECASE)), None)


def peak_flops(device: torch.device, dtype: torch.dtype) -> float | None:
    """Peak FLOP/s of one device: from the table for GPUs, from a short matrix product for CPUs, None if unknown."""
    if device.type == "cuda":
        figures = gpu_figures(torch.cuda.get_device_name(device))
        return figures[0] if figures else None
    return measure_matmul(dtype) if device.type == "cpu" else None


def measure_matmul(dtype: torch.dtype, size: int = 2048, repeats: int = 5) -> float:
    """Best FLOP/s of a square matrix product on this CPU, in well under a second."""
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    fastest = float("inf")
    for _ in range(repeats + 1):  # the first one warms up
        started = time.perf_counter()
        a @ b
        fastest = min(fastest, time.perf_counter() - started)
    return 2 * size**3 / fastest


def this_cpu() -> tuple[float, float]:
    """The same two figures for the CPU of this machine, by measurement."""
    dtype = torch.bfloat16 if has_bf16(torch.device("cpu")) else torch.float32
    return measure_matmul(dtype), psutil.virtual_memory().total / 1e9


def peak_memory(device: torch.device) -> int:
    """Most bytes this process has held so far: of the GPU's memory, or resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
