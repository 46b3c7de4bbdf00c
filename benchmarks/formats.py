"""Size and bits per byte of a model in smaller formats: `python -m benchmarks.formats --model runs/NAME/sft`.

Formats: fp32, bf16, int8 and int4 weights (by torchao, an extra), and a LoRA adapter after a few training steps on the
primer, separate and merged. All are measured on the same rows of the primer's validation split.
"""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from recipes.utils.arguments import REQUIRED, Arguments, flag, read_command_line
from recipes.utils.errors import InputError, exit_on_input_error


@dataclass
class BenchmarkArguments(Arguments):
    """Flags of `python -m benchmarks.formats`."""

    model: str = flag(REQUIRED, "directory or Hub id of a causal LM", path=True)
    eval_tokens: int = flag(65_536, "tokens of the primer's validation split to measure on", least=1)
    group_size: int = flag(32, "weights that share a scale in int4", least=1)
    lora_rank: int = flag(8, "of the adapter", least=1)
    lora_steps: int = flag(20, "of its training; without any it would add nothing", least=0)


if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("benchmarks.formats", BenchmarkArguments)

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast, TorchAoConfig
from transformers.utils import logging

import recipes.utils.quiet  # noqa: F401  (before peft)
from evals.bits_per_byte import bits_per_byte, sum_nats_and_bytes
from recipes.data.corpora import open_corpus
from recipes.data.packing import build_rows_loader
from recipes.inference.generate import context_length
from recipes.inference.models import load_model
from tokenizer.encode import token_byte_lengths


def main(args: BenchmarkArguments) -> None:
    logging.set_verbosity_error()
    model, tokenizer = load_model(args.model)
    device, length = model.device, min(512, context_length(model))
    del model
    rows = validation_rows(tokenizer, length, args.eval_tokens)
    byte_lengths = token_byte_lengths(tokenizer)
    print(
        f"{args.model}, {device.type}, {sum(each.numel() for each in rows):,} tokens of the primer's validation split"
    )
    print(f"{'format':<28}{'weights':>12}{'bits per byte':>16}")
    for name, load in formats(args, device, length, tokenizer).items():
        model = load()
        if model is None:
            print(f"{name:<28}{'not installed: torchao or peft':>32}", flush=True)
            continue
        bpb = bits_per_byte(*sum_nats_and_bytes(model, rows, byte_lengths).tolist())
        print(f"{name:<28}{weight_bytes(model) / 1e6:>9.2f} MB{bpb:>16.4f}", flush=True)


def formats(
    args: BenchmarkArguments, device: torch.device, length: int, tokenizer: PreTrainedTokenizerFast
) -> dict[str, Callable[[], PreTrainedModel | None]]:
    """For each format, a function that loads the model. The head is quantized too; the embedding, a lookup, is not."""

    def load(dtype: torch.dtype, bits: int | None = None) -> PreTrainedModel | None:
        if bits is not None and importlib.util.find_spec("torchao") is None:
            return None
        quantized = None if bits is None else torchao_config(bits, args.group_size, device)
        model = AutoModelForCausalLM.from_pretrained(
            args.model, dtype=dtype, device_map=device, quantization_config=quantized
        ).eval()
        if bits is not None and type(model.get_output_embeddings().weight) is torch.nn.Parameter:
            raise InputError(
                f"torchao leaves the weights as they are: group_size {args.group_size} does not fit them."
            )
        return model

    def lora(merged: bool) -> PreTrainedModel | None:
        if importlib.util.find_spec("peft") is None:
            return None
        adapted = with_adapter(load(torch.float32), args, length, tokenizer)
        return adapted.merge_and_unload() if merged else adapted

    return {
        "fp32": lambda: load(torch.float32),
        "bf16": lambda: load(torch.bfloat16),
        "int8 weights, bf16": lambda: load(torch.bfloat16, bits=8),
        "int4 weights, bf16": lambda: load(torch.bfloat16, bits=4),
        f"fp32 + LoRA of rank {args.lora_rank}": lambda: lora(merged=False),
        "the same, merged": lambda: lora(merged=True),
    }


def torchao_config(bits: int, group_size: int, device: torch.device) -> TorchAoConfig:
    """Weight-only quantization, including the head."""
    from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig

    if bits == 8:
        kind = Int8WeightOnlyConfig()
    elif device.type == "cuda":
        kind = Int4WeightOnlyConfig(group_size=group_size, int4_packing_format="tile_packed_to_4d")
    else:  # torchao's kernel for CPUs is a prototype: such a model cannot be saved
        from torchao.prototype.quantization.int4 import PrototypeInt4WeightOnlyConfig

        kind = PrototypeInt4WeightOnlyConfig(group_size=group_size)
    # Without an explicit list, transformers would not quantize the head.
    return TorchAoConfig(kind, modules_to_not_convert=["embed_tokens"])


def with_adapter(
    model: PreTrainedModel, args: BenchmarkArguments, length: int, tokenizer: PreTrainedTokenizerFast
) -> PreTrainedModel:
    """Add a LoRA adapter to `model`, and train it for a few steps on rows of the primer."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    adapted = get_peft_model(model, LoraConfig(r=args.lora_rank, target_modules="all-linear", task_type="CAUSAL_LM"))
    optimizer = torch.optim.AdamW([each for each in adapted.parameters() if each.requires_grad], lr=1e-4)
    batches = primer_rows("train", tokenizer, length)
    for _, tokens in zip(range(args.lora_steps), batches, strict=False):
        tokens = tokens.to(model.device)
        adapted(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return adapted.eval()


def validation_rows(tokenizer: PreTrainedTokenizerFast, length: int, tokens: int) -> list[torch.Tensor]:
    """Batches (8, length + 1) of the concatenated validation split, with at least `tokens` tokens or all there are."""
    batches, seen = [], 0
    for batch in primer_rows("validation", tokenizer, length):
        batches.append(batch)
        seen += batch.numel()
        if seen >= tokens:
            break
    return batches


def primer_rows(split: str, tokenizer: PreTrainedTokenizerFast, length: int) -> Iterator[torch.Tensor]:
    """Batches (8, length + 1) of one pass over a split of the primer."""
    documents = getattr(open_corpus("primer"), split)
    for batch in build_rows_loader(documents, tokenizer, length + 1, 8, packing="concatenated", epochs=1):
        yield batch["tokens"]


def weight_bytes(model: PreTrainedModel) -> int:
    """Bytes of the weights in memory. Quantized weights consist of several tensors: numbers, scales, zero points."""
    return sum(tensor_bytes(each) for each in model.parameters())


def tensor_bytes(tensor: torch.Tensor) -> int:
    """Bytes of a tensor, or of the tensors that it consists of."""
    if hasattr(tensor, "__tensor_flatten__"):
        return sum(tensor_bytes(getattr(tensor, name)) for name in tensor.__tensor_flatten__()[0])
    return tensor.numel() * tensor.element_size()


if __name__ == "__main__":
    exit_on_input_error("benchmarks.formats", lambda: main(ARGS))
