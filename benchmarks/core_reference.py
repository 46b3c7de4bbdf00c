"""Reference implementation of CORE, one example at a time, to compare the speed and answers of evals/core with.

Each example's rows are a batch of their own, with logits at all positions, as in nanochat's evaluation.
"""

import random
from typing import Any

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.core.bundle import CoreTask


@torch.no_grad()
def answer_one(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: CoreTask,
    examples: list[dict[str, Any]],
    index: int,
    context: int,
) -> int | bool:
    """The model's answer to one of the ordered examples: the index of its choice, or whether it is predicted."""
    rng = random.Random(1234 + index)
    shots = [examples[i] for i in rng.sample([i for i in range(len(examples)) if i != index], task.shots)]
    example, between = examples[index], task.delimiter
    if task.type == "multiple_choice":
        front = "".join(f"{shot['query']}{between}{shot['choices'][shot['gold']]}\n\n" for shot in shots)
        rows = encode(tokenizer, [f"{front}{example['query']}{between}{choice}" for choice in example["choices"]])
        start = 0
        while all(len(row) > start for row in rows) and len({row[start] for row in rows}) == 1:
            start += 1
        spans = [(start, len(row)) for row in rows]
    elif task.type == "schema":
        front = "".join(
            f"{shot['context_options'][shot['gold']]}{between}{shot['continuation']}\n\n" for shot in shots
        )
        rows = encode(
            tokenizer, [f"{front}{option}{between}{example['continuation']}" for option in example["context_options"]]
        )
        length = 0
        while all(len(row) > length for row in rows) and len({row[-1 - length] for row in rows}) == 1:
            length += 1
        spans = [(len(row) - length, len(row)) for row in rows]
    else:
        front = "".join(f"{shot['context'].strip()}{between}{shot['continuation']}\n\n" for shot in shots)
        question = f"{front}{example['context'].strip()}{between}"
        before, whole = encode(tokenizer, [question.strip(), question + example["continuation"]])
        assert whole[: len(before)] == before
        rows, spans = [whole], [(len(before), len(whole))]

    spans = [
        (start - max(0, len(row) - context), end - max(0, len(row) - context))
        for row, (start, end) in zip(rows, spans, strict=True)
    ]
    rows = [row[-context:] for row in rows]
    padded = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)  # (B, T)
    padded = padded.to(model.device)
    logits = model(padded, use_cache=False).logits
    targets = padded.roll(-1, dims=1)
    losses = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none").view_as(targets)
    if task.type == "language_modeling":
        start, end = spans[0]
        return torch.equal(logits.argmax(-1)[0, start - 1 : end - 1], padded[0, start:end])
    means = [losses[i, start - 1 : end - 1].mean().item() for i, (start, end) in enumerate(spans)]
    return means.index(min(means))


def encode(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """Token ids of each text after the token that starts a document."""
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return [[first, *ids] for ids in tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]]
