"""Files as karpathy/nanochat's 2025 versions write them, and what its model computes, spelled out for reference."""

import json
import pickle
from pathlib import Path

import tiktoken
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch.nn import functional as F
from transformers.convert_slow_tokenizer import bytes_to_unicode

from tokenizer.bpe import SPLIT_PATTERN
from tokenizer.special_tokens import SPECIAL_TOKENS

SIZES = {"sequence_len": 64, "n_layer": 2, "n_head": 4, "n_kv_head": 2, "n_embd": 64}


def make_encoding(texts: list[str], tokens: int) -> tiktoken.Encoding:
    """An encoding of `tokens` ranks learnt from `texts`, byte i being rank i, and the special tokens after them."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=tokens, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(texts, trainer)
    byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
    learnt = sorted(backend.get_vocab().items(), key=lambda item: item[1])
    longer = [bytes(byte_of[character] for character in token) for token, _ in learnt if len(token) > 1]
    ranks = {token: rank for rank, token in enumerate([*(bytes([byte]) for byte in range(256)), *longer])}
    return encoding_of(ranks)


def encoding_of(ranks: dict[bytes, int], **changes) -> tiktoken.Encoding:
    """nanochat's encoding with these ranks; `changes` replace what else is in it."""
    special_tokens = {name: len(ranks) + index for index, name in enumerate(SPECIAL_TOKENS)}
    parts = {"pat_str": SPLIT_PATTERN, "mergeable_ranks": ranks, "special_tokens": special_tokens}
    return tiktoken.Encoding("rustbpe", **(parts | changes))


def random_weights(vocab_size: int, rows: int | None = None, seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights under the original's names; embedding and head have `rows` rows, more than `vocab_size` if padded."""
    width, generator = SIZES["n_embd"], torch.Generator().manual_seed(seed)
    kv_width = width // SIZES["n_head"] * SIZES["n_kv_head"]
    shapes = {"transformer.wte.weight": (rows or vocab_size, width), "lm_head.weight": (rows or vocab_size, width)}
    for layer in range(SIZES["n_layer"]):
        block = f"transformer.h.{layer}"
        shapes |= {f"{block}.attn.c_{name}.weight": (width, width) for name in ("q", "proj")}
        shapes |= {f"{block}.attn.c_{name}.weight": (kv_width, width) for name in "kv"}
        shapes |= {f"{block}.mlp.c_fc.weight": (4 * width, width), f"{block}.mlp.c_proj.weight": (width, 4 * width)}
    return {
        name: torch.randn(shape, generator=generator) * (1.0 if "wte" in name else 0.2)
        for name, shape in shapes.items()
    }


def write_original(
    directory: Path,
    encoding: tiktoken.Encoding,
    weights: dict[str, torch.Tensor] | None = None,
    step: int = 300,
    **model_config,
) -> dict[str, torch.Tensor]:
    """Write a checkpoint with its tokenizer; returns its weights, random ones by default."""
    directory.mkdir(parents=True, exist_ok=True)
    weights = random_weights(encoding.n_vocab) if weights is None else weights
    torch.save(weights, directory / f"model_{step:06d}.pt")
    sizes = SIZES | {"vocab_size": encoding.n_vocab} | model_config
    meta = {"step": step, "val_bpb": 0.8, "model_config": sizes, "user_config": {}}
    (directory / f"meta_{step:06d}.json").write_text(json.dumps(meta))
    (directory / "tokenizer.pkl").write_bytes(pickle.dumps(encoding))
    return weights


def norm(x: torch.Tensor) -> torch.Tensor:
    """RMSNorm as the original calls it: without weights and without an epsilon of its own."""
    return F.rms_norm(x, (x.size(-1),))


def original_logits(
    weights: dict[str, torch.Tensor], ids: torch.Tensor, vocab_size: int, angles_in: torch.dtype = torch.bfloat16
) -> torch.Tensor:
    """Logits (B, T, vocab_size) in fp32 of the original model, whose cosines and sines are rounded to `angles_in`."""
    get = {name.removeprefix("_orig_mod."): tensor.float() for name, tensor in weights.items()}
    B, T = ids.shape
    heads, kv_heads = SIZES["n_head"], SIZES["n_kv_head"]
    d = SIZES["n_embd"] // heads
    frequencies = 1.0 / 10000 ** (torch.arange(0, d, 2, dtype=torch.float32) / d)
    angles = torch.outer(torch.arange(T, dtype=torch.float32), frequencies)[None, :, None]  # (1, T, 1, d/2)
    cos, sin = angles.cos().to(angles_in).float(), angles.sin().to(angles_in).float()

    def rotated(x):
        x1, x2 = x[..., : d // 2], x[..., d // 2 :]
        return torch.cat([x1 * cos + x2 * sin, x1 * -sin + x2 * cos], dim=3)

    x = norm(get["transformer.wte.weight"][ids])
    for layer in range(SIZES["n_layer"]):
        block = f"transformer.h.{layer}"
        h = norm(x)
        q, k, v = (
            (h @ get[f"{block}.attn.c_{name}.weight"].T).view(B, T, count, d)
            for name, count in (("q", heads), ("k", kv_heads), ("v", kv_heads))
        )
        q, k = norm(rotated(q)), norm(rotated(k))
        k, v = (each.repeat_interleave(heads // kv_heads, dim=2) for each in (k, v))
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / d**0.5
        scores = scores.masked_fill(torch.ones(T, T).triu(1).bool(), float("-inf"))
        mixed = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v).reshape(B, T, -1)
        x = x + mixed @ get[f"{block}.attn.c_proj.weight"].T
        x = x + (norm(x) @ get[f"{block}.mlp.c_fc.weight"].T).relu().square() @ get[f"{block}.mlp.c_proj.weight"].T
    logits = (norm(x) @ get["lm_head.weight"].T)[..., :vocab_size]
    return 15 * torch.tanh(logits / 15)
