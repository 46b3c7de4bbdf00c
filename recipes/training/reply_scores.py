"""Probabilities of replies, several of which answer the same prompt: the prompt is read once for all of them.

TRL reads the prompt again with each reply, and where it has no kernels of its own (on a CPU) it computes logits for
the prompt's tokens and for padding, too. That was two thirds of a GRPO step on a CPU.
"""

from collections import defaultdict
from contextlib import nullcontext

import torch
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache, PreTrainedModel
from trl import GRPOConfig


def keeps_cut(config: GRPOConfig) -> bool:
    """Whether the loss counts just the `top_k` tokens that were sampled from.

    Up to temperature 1 the others have next to no probability. Above, a loss that counted them would make them
    likelier by every wrong reply. The cut is that of the weights which are trained: it is the one that was sampled by
    where each reply is trained on once. DeepSeek-V3.2 (https://arxiv.org/abs/2512.02556) stores it for further passes.
    """
    return config.top_k > 0 and config.temperature > 1


def score_replies(
    model: PreTrainedModel,
    prompts: list[list[int]],
    replies: list[torch.Tensor],
    temperature: float = 1.0,
    learns: list[bool] | None = None,
    top_k: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each token of `replies`, and the entropy where it was chosen: (B, longest reply) each.

    Args:
        prompts: token ids, of one prompt for each reply.
        replies: token ids, at least one each. Results are 0 after the end of a reply.
        temperature: what logits are divided by.
        top_k: the tokens that were sampled from, the likeliest ones (0: all). The others have no part in the
            probabilities, as when the reply was written: else what is learned would be to make them likelier.
        learns: which rows get a gradient (default: all, where gradients are enabled). If none does, one prompt's
            replies still do, so that there is something to differentiate. Entropies never have one.
    """
    groups = defaultdict(list)
    for row, prompt in enumerate(prompts):
        groups[tuple(prompt)].append(row)
    learning = [any(learns[row] for row in rows) if learns is not None else True for rows in groups.values()]
    learning[0] = learning[0] or not any(learning)
    width = max(map(len, replies))
    order, logps, entropies = [], [], []
    for (prompt, rows), learn in zip(groups.items(), learning, strict=True):
        with nullcontext() if learn else torch.no_grad():
            scores = _score_group(model, list(prompt), [replies[row] for row in rows], temperature, top_k)
        for all_scores, of_group in zip((logps, entropies), scores, strict=True):
            all_scores.append(F.pad(of_group, (0, width - of_group.size(1))))
        order += rows
    back = torch.tensor(order, device=model.device).argsort()
    return torch.cat(logps)[back], torch.cat(entropies)[back]


def _score_group(
    model: PreTrainedModel, prompt: list[int], replies: list[torch.Tensor], temperature: float, top_k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores (G, T) of the replies to one prompt, T tokens in the longest."""
    targets = pad_sequence(replies, batch_first=True)  # (G, T), filled up with a token that no one looks at
    written = pad_sequence([torch.ones_like(reply, dtype=torch.bool) for reply in replies], batch_first=True)
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    ids = torch.tensor([prompt], device=targets.device)
    first = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits  # (1, 1, V)
    logits = first.expand(len(replies), 1, -1)
    if targets.size(1) > 1:
        cache.batch_repeat_interleave(len(replies))
        # What fills up a short reply comes after it, so that no mask is needed: nothing before attends to it.
        later = model(input_ids=targets[:, :-1], past_key_values=cache, use_cache=True).logits  # (G, T - 1, V)
        logits = torch.cat((logits, later), dim=1)
    scores = _score_tokens(logits[written], targets[written], temperature, top_k)  # of the N tokens written
    zeros = torch.zeros_like(targets, dtype=torch.float32)
    logps, entropies = (zeros.masked_scatter(written, each) for each in scores)
    return logps, entropies


def score_rows(
    model: torch.nn.Module,
    ids: torch.Tensor,
    mask: torch.Tensor,
    width: int,
    temperature: float,
    top_k: int,
    batch_size: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores (B, width) as of `score_replies`, but of rows (B, P + width) of a prompt and a reply, read row by row.

    `mask` (B, P + width) is 0 where prompts and replies are filled up; there, scores mean nothing. Of `batch_size`
    rows at a time.
    """
    size, parts = batch_size or len(ids), []
    for row in range(0, len(ids), size):
        part, real = ids[row : row + size], mask[row : row + size]
        outputs = model(input_ids=part, attention_mask=real, logits_to_keep=width + 1, use_cache=False)
        logits, written = outputs.logits[:, :-1], part[:, -width:]
        scores = _score_tokens(logits.flatten(0, 1), written.flatten(), temperature, top_k)
        parts.append([each.view(written.shape) for each in scores])
    logps, entropies = map(torch.cat, zip(*parts, strict=True))
    return logps, entropies


def _score_tokens(
    logits: torch.Tensor, tokens: torch.Tensor, temperature: float, top_k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities (N,) of `tokens` (N,) by logits (N, V), and entropies (N,) of what they were drawn from."""
    logits = logits.float() / temperature
    of_tokens = logits.gather(1, tokens[:, None])  # (N, 1)
    if top_k:  # the token that was sampled is one of them, up to rounding
        others = logits.scatter(1, tokens[:, None], -torch.inf).topk(min(top_k, logits.size(1)) - 1).values
        logits = torch.cat((of_tokens, others), dim=1)  # (N, top_k)
    log_sum = logits.logsumexp(dim=-1)  # (N,)
    with torch.no_grad():
        mean_logit = (torch.exp(logits - log_sum[:, None]) * logits).sum(dim=-1)
    return of_tokens[:, 0] - log_sum, log_sum.detach() - mean_logit
