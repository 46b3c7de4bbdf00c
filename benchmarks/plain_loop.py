"""The training loop that a transformers user would write, to compare with: NanoChatForCausalLM, torch.compile, bf16
autocast, fused AdamW."""

import statistics
import time

import torch
from transformers import NanoChatConfig, NanoChatForCausalLM

from modeling_nanochat import NanochatGPTConfig


def plain_tokens_per_second(config: NanochatGPTConfig, rows: int, steps: int, warmup: int, device: str) -> float:
    """Median tokens/s of `steps` optimizer steps on `rows` rows of random tokens, without the cost of loading data."""
    twin = NanoChatConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        num_key_value_heads=config.num_key_value_heads,
        max_position_embeddings=config.max_position_embeddings,
    )
    model = torch.compile(NanoChatForCausalLM(twin).to(device))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    tokens = torch.randint(0, config.vocab_size, (rows, config.max_position_embeddings), device=device)
    seconds = []
    for _ in range(warmup + steps):
        started = time.perf_counter()
        with torch.autocast(device, torch.bfloat16):
            loss = model(input_ids=tokens, labels=tokens, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()  # waits for a GPU
        seconds.append(time.perf_counter() - started)
    return tokens.numel() / statistics.median(seconds[warmup:])
