"""Hardware: supported precision, peak FLOP/s, memory."""

import re
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import torch

from recipes.utils.errors import InputError

# Peak FLOP/s of dense bf16 matrix products (fp16 for GPUs without bf16), and memory in GB, by the data sheets. The
# first name that is contained in the device's name as whole words counts, so longer names precede their prefixes.
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
FP8_SINCE = (8, 9)  # compute capability: Ada


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware computes matrix products in bf16 natively, without emulation."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else _cpu_flags()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))
    return device.type == "mps"


def _cpu_flags() -> dict[str, bool]:
    """CPU features by /proc/cpuinfo, for torch before 2.12, which does not report them."""
    try:
        with open("/proc/cpuinfo") as lines:
            return {flag: True for line in lines if line.startswith(("flags", "Features")) for flag in line.split()}
    except OSError:
        return {}


def choose_precision(requested: str, device: torch.device) -> str:
    """`mixed_precision` for accelerate: "auto" is bf16 if the hardware supports it, else fp16 on CUDA, else "no"."""
    if requested == "fp16" and device.type == "cpu":
        raise InputError("mixed_precision fp16 needs a GPU: on a CPU choose bf16, or no.")
    if requested == "fp8":
        check_fp8_card(device)
    if requested != "auto":
        return requested
    if has_bf16(device):
        return "bf16"
    return "fp16" if device.type == "cuda" else "no"


def check_fp8_card(device: torch.device) -> None:
    """Raise `InputError` if `device` does not multiply in fp8."""
    capability, name = (0, 0), "a CPU"
    if device.type == "cuda" and not torch.version.hip:
        capability, name = torch.cuda.get_device_capability(device), torch.cuda.get_device_name(device)
    if capability < FP8_SINCE:
        raise InputError(
            f"mixed_precision fp8 needs an NVIDIA card of Ada, Hopper or newer (compute capability 8.9), and this is "
            f"{name}: choose bf16, or leave it out."
        )


def precision_name(mixed_precision: str) -> str:
    """Name of the precision for people: accelerate's "no" (no mixed precision) is fp32."""
    return "fp32" if mixed_precision == "no" else mixed_precision


def gpu_figures(name: str) -> tuple[float, float] | None:
    """Peak FLOP/s and memory in GB of a GPU by its name; None if it is not in the table."""
    # As whole words: an RTX A1000 is not an A100, and a T400 is not a T4.
    return next((figures for known, figures in GPUS.items() if re.search(rf"\b{known}\b", name, re.IGNORECASE)), None)


def peak_flops(device: torch.device, dtype: torch.dtype) -> float | None:
    """Peak FLOP/s of one device: of a GPU by the table, of a CPU by a short measurement; None if unknown."""
    if device.type == "cuda":
        figures = gpu_figures(torch.cuda.get_device_name(device))
        return figures[0] if figures else None
    if device.type != "cpu":
        return None
    # A CPU without bf16 emulates it so slowly that the measurement alone would take minutes.
    return measure_matmul(torch.float32 if dtype == torch.bfloat16 and not has_bf16(device) else dtype)


def measure_matmul(dtype: torch.dtype, size: int = 2048, repeats: int = 5) -> float:
    """Measure the best FLOP/s of a square matrix product on this CPU; takes well under a second."""
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    fastest = float("inf")
    for _ in range(repeats + 1):  # the first run warms up
        started = time.perf_counter()
        a @ b
        fastest = min(fastest, time.perf_counter() - started)
    return 2 * size**3 / fastest


def this_cpu() -> tuple[float, float]:
    """Measured FLOP/s and memory in GB of this machine's CPU."""
    dtype = torch.bfloat16 if has_bf16(torch.device("cpu")) else torch.float32
    return measure_matmul(dtype), psutil.virtual_memory().total / 1e9


def available_memory() -> int:
    """Bytes that can still be used without swapping: of the machine, or of the container (cgroup) if that is less."""
    return min([psutil.virtual_memory().available, *_left_in_cgroups()])


def _left_in_cgroups(root: Path = Path("/sys/fs/cgroup"), me: Path = Path("/proc/self/cgroup")) -> list[int]:
    """What each limit on this process's memory leaves, in version 1 and 2 of Linux's control groups."""
    try:
        lines = [line.split(":", 2) for line in me.read_text().splitlines()]
    except OSError:  # not Linux
        return []
    left = []
    for _, controllers, path in lines:
        if controllers == "memory":
            top, limit, usage = root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        elif controllers == "":
            top, limit, usage = root, "memory.max", "memory.current"
        else:
            continue
        own = top / path.lstrip("/")
        for group in [own, *own.parents]:  # a limit of a group above holds as well
            try:
                values = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
                used = int((group / usage).read_text()) - int(values.get("inactive_file", 0))  # that cache is given up
                left.append(max(0, int((group / limit).read_text()) - used))
            except (OSError, ValueError):  # not there, or "max": without a limit
                pass
            if group == top:
                break
    return left


def check_card(index: int) -> None:
    """Raise `InputError` if this torch has no kernels for the GPU `index`: before it is used, which would fail."""
    properties = torch.cuda.get_device_properties(index)
    architectures = [] if torch.version.hip else torch.cuda.get_arch_list()
    if misfit := find_misfit((properties.major, properties.minor), architectures):
        raise InputError(
            f"torch {torch.__version__} cannot use this GPU, {index} ({properties.name}): {misfit}. Install a build "
            "for it: https://pytorch.org/get-started/locally."
        )


def find_misfit(capability: tuple[int, int], architectures: Sequence[str]) -> str | None:
    """Why a torch that was built for `architectures`, such as sm_90, does not run on a card of this `capability`.

    Kernels run on cards of their own generation that are not older, and PTX (compute_90) on all newer ones.
    """
    major, minor = capability
    for kind, theirs, their_minor, exact in re.findall(r"\b(sm|compute)_(\d+)(\d)([af]?)\b", " ".join(architectures)):
        built_for = int(theirs), int(their_minor)
        if built_for == capability or (
            exact != "a" and built_for < capability and (kind == "compute" or built_for[0] == major)
        ):
            return None
    return f"it is sm_{major}{minor}, and that build is for {', '.join(architectures)}" if architectures else None


def peak_memory(device: torch.device) -> int:
    """Peak memory of this process in bytes: allocated on the GPU, or resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in kilobytes except on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
