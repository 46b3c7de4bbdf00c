"""Which kernel computes attention in training.

The fastest differs by card. On Hopper (sm90) FlashAttention 3 leads, then cuDNN, then FlashAttention 2, by what others
have published. SDPA, torch's own function, reaches the latter two, but reads a mask of T x T for layers with windows,
which none of their kernels takes well: windows are computed by FlashAttention 2 (windowed_attention.py). Where that
does not run, flex attention needs no mask either.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_flash_attention_utils import lazy_import_flash_attention

from modeling_nanochat import NanochatGPTConfig
from recipes.training.windowed_attention import WINDOWED_SDPA, works_on
from recipes.utils.errors import InputError, in_one_line

FLASH_3 = "kernels-community/flash-attn3"  # on the Hub, loaded by the package kernels; it has a backward pass
HOPPER = (9, 0)
# On a CPU, short rows train faster with attention spelled out than with its flash kernel: 1.17 x at 512 tokens,
# compiled (benchmarks/RESULTS.md). Longer ones would need too much memory for their T x T weights.
LONGEST_EAGER_ROW = 1024


def choose_attention(
    requested: str,
    device: torch.device,
    max_seq_len: int,
    config: PretrainedConfig | None = None,
    precision: str = "no",
) -> str:
    """What `--attn_implementation` stands for on this device, as transformers names it.

    Args:
        config: of the model. auto gives flash attention to ours only, and only without dropout, which it ignores.
        precision: accelerate's; flash attention takes 16 bits only.
    """
    if requested == "flex_attention" and device.type == "cpu":
        raise InputError("attn_implementation flex_attention does not train on a CPU: take sdpa, or eager.")
    if requested != "auto":
        return requested
    if device.type == "cpu":
        return "eager" if max_seq_len <= LONGEST_EAGER_ROW else "sdpa"
    if device.type != "cuda":
        return "sdpa"
    on_hopper = torch.cuda.get_device_capability(device) == HOPPER
    suits = isinstance(config, NanochatGPTConfig) and not config.attention_dropout and precision != "no"
    if on_hopper and suits and has_flash_attention_3():
        return FLASH_3
    if suits and has_windows(config, max_seq_len) and works_on(device, config.head_dim):
        return WINDOWED_SDPA
    return "sdpa"


def has_windows(config: PretrainedConfig, max_seq_len: int) -> bool:
    """Whether layers of the model see less than rows of `max_seq_len` tokens."""
    return "sliding_attention" in (getattr(config, "layer_types", None) or ()) and max_seq_len > config.sliding_window


def has_flash_attention_3() -> bool:
    """Whether transformers can load FlashAttention 3 here: `kernels` in a version that it takes, and a build of it."""
    try:
        lazy_import_flash_attention(FLASH_3)
    except Exception:  # not installed, no network, or no build for this torch: there are other kernels
        return False
    return True


def set_attention(model: PreTrainedModel, name: str) -> None:
    """Let `model` compute attention by the kernel called `name`. Raises `InputError` if it cannot be used here."""
    if name == "sdpa" and not model._supports_sdpa:  # of another architecture, for which transformers has chosen eager
        return
    try:
        model.set_attn_implementation(name)
    except Exception as error:  # transformers and kernels raise anything for a kernel that is missing
        raise InputError(
            f"attn_implementation {name} does not work here: {in_one_line(error)}. Leave it out."
        ) from None


def describe_attention(name: str, config: PretrainedConfig, device: torch.device, max_seq_len: int) -> str:
    """The kernel's name, what stands behind it, and what would be faster."""
    if name not in ("sdpa", WINDOWED_SDPA) or device.type != "cuda":
        return name
    line = "sdpa, by cuDNN where it can" if _prefers_cudnn(device) else "sdpa"
    if name == WINDOWED_SDPA:
        line += "; windows by torch's flash attention, without a mask"
    elif has_windows(config, max_seq_len):
        line += (
            f"; layers with windows read a mask of {max_seq_len} x {max_seq_len}, which --attn_implementation "
            "flex_attention, or flash attention by the package kernels, does without"
        )
    return line


def fast_sdpa(device: torch.device) -> AbstractContextManager:
    """Inside it, SDPA takes cuDNN's kernel first on Hopper and newer; torch's own order has it behind the slower ones.

    What is compiled inside keeps that order.
    """
    order = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    return sdpa_kernel(order, set_priority=True) if _prefers_cudnn(device) else nullcontext()


def _prefers_cudnn(device: torch.device) -> bool:
    return device.type == "cuda" and not torch.version.hip and torch.cuda.get_device_capability(device) >= HOPPER
