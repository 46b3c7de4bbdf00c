"""Files as karpathy/nanochat's code of July 2026 writes them, and what its model computes, spelled out for reference.

The sizes of a model are those of its meta file: sequence_len, vocab_size, n_layer, n_head, n_kv_head, n_embd and
window_pattern. Two heads of keys serve four of queries, and the vocabulary of 609 is padded to 640 rows.
"""

import json
import pickle
from pathlib import Path

import tiktoken
import torch
from torch.nn import functional as F

SIZES = {"sequence_len": 512, "n_layer": 4, "n_head": 4, "n_kv_head": 2, "n_embd": 64, "window_pattern": "SSSL"}
TABLES = ("transformer.wte.", "value_embeds.")  # stored in bf16 where bf16 is computed in


def random_weights(sizes: dict, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights under nanochat's names, none near what it starts with; the tables of embeddings in bf16."""
    width, layers, rows = sizes["n_embd"], sizes["n_layer"], -(-sizes["vocab_size"] // 64) * 64
    kv_width = width // sizes["n_head"] * sizes["n_kv_head"]
    shapes = {"transformer.wte.weight": (rows, width), "lm_head.weight": (rows, width)}
    shapes |= {"resid_lambdas": (layers,), "x0_lambdas": (layers,), "backout_lambda": (1,)}
    shapes |= {"smear_gate.weight": (1, 24), "smear_lambda": (1,)}
    for layer in range(layers):
        block = f"transformer.h.{layer}"
        shapes |= {f"{block}.attn.c_{name}.weight": (width, width) for name in ("q", "proj")}
        shapes |= {f"{block}.attn.c_{name}.weight": (kv_width, width) for name in "kv"}
        shapes |= {f"{block}.mlp.c_fc.weight": (4 * width, width), f"{block}.mlp.c_proj.weight": (width, 4 * width)}
        if has_value_embedding(layer, layers):
            shapes[f"value_embeds.{layer}.weight"] = (rows, kv_width)
            shapes[f"{block}.attn.ve_gate.weight"] = (sizes["n_kv_head"], 12)
    generator = torch.Generator().manual_seed(seed)
    drawn = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    scalars = {name: 0.7 + 0.3 * each.tanh() for name, each in drawn.items() if name.endswith(("lambdas", "lambda"))}
    tables = {name: each.bfloat16() for name, each in drawn.items() if name.startswith(TABLES)}
    return {name: 0.2 * each for name, each in drawn.items()} | scalars | tables


def has_value_embedding(layer: int, layers: int) -> bool:
    """Every other layer has one, the last among them."""
    return (layers - 1 - layer) % 2 == 0


def write_checkpoint(
    directory: Path, encoding: tiktoken.Encoding, weights: dict[str, torch.Tensor], sizes: dict, step: int = 300
) -> None:
    directory.mkdir(parents=True)
    torch.save(weights, directory / f"model_{step:06d}.pt")
    meta = {"step": step, "val_bpb": 0.8, "model_config": sizes, "user_config": {}}
    (directory / f"meta_{step:06d}.json").write_text(json.dumps(meta))
    (directory / "tokenizer.pkl").write_bytes(pickle.dumps(encoding))


def norm(x: torch.Tensor) -> torch.Tensor:
    """RMSNorm as nanochat calls it: without weights and without an epsilon of its own."""
    return F.rms_norm(x, (x.size(-1),))


def reference_logits(weights: dict[str, torch.Tensor], ids: torch.Tensor, sizes: dict) -> torch.Tensor:
    """Logits (T, vocab_size) in fp32 of one row `ids` (T,), as nanochat computes them in fp32."""
    get = {name: tensor.float() for name, tensor in weights.items()}
    layers, heads, kv_heads, D = (sizes[name] for name in ("n_layer", "n_head", "n_kv_head", "n_embd"))
    T, d, context = len(ids), D // heads, sizes["sequence_len"]

    x = norm(get["transformer.wte.weight"][ids])  # (T, D)
    smear = get["smear_lambda"] * torch.sigmoid(x[:, :24] @ get["smear_gate.weight"][0])  # (T,)
    x = torch.cat([x[:1], x[1:] + smear[1:, None] * x[:-1]])

    first, halfway = x, None
    for layer in range(layers):
        block = f"transformer.h.{layer}"
        x = get["resid_lambdas"][layer] * x + get["x0_lambdas"][layer] * first
        h = norm(x)
        q = (h @ get[f"{block}.attn.c_q.weight"].T).view(T, heads, d)
        k = (h @ get[f"{block}.attn.c_k.weight"].T).view(T, kv_heads, d)
        v = (h @ get[f"{block}.attn.c_v.weight"].T).view(T, kv_heads, d)
        if has_value_embedding(layer, layers):
            gate = 3 * torch.sigmoid(h[:, :12] @ get[f"{block}.attn.ve_gate.weight"].T)  # (T, kv_heads)
            v = v + gate[:, :, None] * get[f"value_embeds.{layer}.weight"][ids].view(T, kv_heads, d)
        q, k = 1.2 * norm(rotated(q)), 1.2 * norm(rotated(k))
        letter = "L" if layer == layers - 1 else sizes["window_pattern"][layer % len(sizes["window_pattern"])]
        before = -(-context // 4 // 128) * 128 if letter == "S" else context  # tokens that are seen before itself
        back = torch.arange(T)[:, None] - torch.arange(T)  # (T, T): how far
        seen = (back >= 0) & (back <= before)
        mixed = torch.empty(T, heads, d)
        for head in range(heads):
            shared = head // (heads // kv_heads)
            scores = (q[:, head] @ k[:, shared].T / d**0.5).masked_fill(~seen, float("-inf"))
            mixed[:, head] = scores.softmax(dim=-1) @ v[:, shared]
        x = x + mixed.view(T, D) @ get[f"{block}.attn.c_proj.weight"].T
        x = x + (norm(x) @ get[f"{block}.mlp.c_fc.weight"].T).relu().square() @ get[f"{block}.mlp.c_proj.weight"].T
        if layer == layers // 2:
            halfway = x
    x = norm(x - get["backout_lambda"] * halfway)
    logits = (x @ get["lm_head.weight"].T)[:, : sizes["vocab_size"]]
    return 15 * torch.tanh(logits / 15)


def rotated(x: torch.Tensor) -> torch.Tensor:
    """x (T, heads, d) with the halves of each head rotated by minus the rotary angle of its position, base 100,000."""
    T, d = x.size(0), x.size(2)
    angles = torch.outer(torch.arange(T).float(), 1.0 / 100_000 ** (torch.arange(0, d, 2).float() / d))[:, None]
    x1, x2 = x[..., : d // 2], x[..., d // 2 :]
    return torch.cat([x1 * angles.cos() + x2 * angles.sin(), x2 * angles.cos() - x1 * angles.sin()], dim=-1)


def reference_greedy(weights: dict[str, torch.Tensor], ids: torch.Tensor, sizes: dict, tokens: int) -> torch.Tensor:
    """`ids` (T,) and the `tokens` likeliest ones that follow."""
    for _ in range(tokens):
        ids = torch.cat([ids, reference_logits(weights, ids, sizes)[-1:].argmax(dim=-1)])
    return ids
