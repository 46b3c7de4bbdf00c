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


def score_replies(
    model: PreTrainedModel,
    prompts: list[list[int]],
    replies: list[torch.Tensor],
    temperature: float = 1.0,
    learns: list[bool] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each token of `replies`, and the entropy where it was chosen: (B, longest reply) each.

    Args:
        prompts: token ids, of one prompt for each reply.
        replies: token ids, at least one each. Results are 0 after the end of a reply.
        temperature: what logits are divided by.
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
            scores = _score_group(model, list(prompt), [replies[row] for row in rows], temperature)
        for all_scores, of_group in zip((logps, entropies), scores, strict=True):
            all_scores.append(F.pad(of_group, (0, width - of_group.size(1))))
        order += rows
    back = torch.tensor(order, device=model.device).argsort()
    return torch.cat(logps)[back], torch.cat(entropies)[back]


def _score_group(
    model: PreTrainedModel, prompt: list[int], replies: list[torch.Tensor], temperature: float
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
    logits = logits[written].float() / temperature  # (N, V), of the N tokens written
    log_sum = logits.logsumexp(dim=-1)  # (N,)
    logps = logits.gather(1, targets[written][:, None])[:, 0] - log_sum
    with torch.no_grad():
        mean_logit = (torch.exp(logits - log_sum[:, None]) * logits).sum(dim=-1)
    zeros = logits.new_zeros(targets.shape)
    return zeros.masked_scatter(written, logps), zeros.masked_scatter(written, log_sum.detach() - mean_logit)
