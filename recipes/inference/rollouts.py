"""Many replies at once for reinforcement: one batched loop that keeps the KV cache when a reply calls a tool.

A reply is written in turns: the model's tokens up to one that ends a turn, then perhaps what a tool answers, then the
next turn. An answer is fed token by token while the other replies go on, so nothing is read twice: prompts that are
equal are read once for all replies to them, and replies that are done leave the batch.

Sampling and its options are transformers' own `generate`, but where a reply is drawn from a few tokens only
(`DrawOfFew`); this works with any causal LM.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field

import torch
from transformers import (
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
)

from recipes.inference.generate import attention_for_decoding

# Fields of GenerationConfig by which `generate` samples otherwise, or has a say in it; at 0, 1 or None they do not.
OTHER_WAYS = ("top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff", "watermarking_config")
FEW = 16  # rows that are decoded as fast as half of them, so that it does not pay to begin a new round


@dataclass
class Reply:
    """A reply that is being written."""

    prompt: list[int]
    turns: list[list[int]] = field(default_factory=lambda: [[]])  # tokens of the model
    answers: list[list[int]] = field(default_factory=list)  # tokens of the tool, after each turn but the last
    unread: deque[int] = field(default_factory=deque)  # tokens of the last answer that the model has yet to read
    done: bool = False

    def ids(self, turns: int) -> list[int]:
        """All tokens before turn number `turns`, which are also those that the model continues there."""
        written = zip(self.turns[:turns], self.answers[:turns], strict=True)
        return self.prompt + [token for turn, answer in written for token in turn + answer]


@dataclass(frozen=True)
class Rules:
    """When a turn ends, what follows it, and when a reply is too long."""

    ends: frozenset[int]  # tokens that end a turn
    # The tool's tokens after all tokens before a turn, the turn, and the number of calls before; None: the reply ends.
    answer: Callable[[list[int], list[int], int], list[int] | None]
    most: int  # tokens of a reply, answers included
    context: int  # tokens of prompt and reply before which an answer must end

    def add(self, reply: Reply, token: int) -> None:
        """Add the next token to `reply`: one that the model wrote, or that it read of an answer."""
        if reply.unread:
            reply.unread.popleft()
            return
        turn = reply.turns[-1]
        turn.append(token)
        if token not in self.ends:
            return
        calls = len(reply.answers)
        before = reply.ids(calls)
        answer = self.answer(before, turn, calls)
        length = len(before) + len(turn) + len(answer or ())
        if answer is None or length - len(reply.prompt) > self.most or length >= self.context:
            reply.done = True
            return
        reply.answers.append(answer)
        reply.turns.append([])
        reply.unread.extend(answer)


@torch.no_grad()
def write_replies(
    model: PreTrainedModel, prompts: Sequence[list[int]], config: GenerationConfig, rules: Rules
) -> list[Reply]:
    """Write a reply to each of `prompts`, by `rules`; `config` says how to sample."""
    replies = [Reply(list(prompt)) for prompt in prompts]
    config = copy(config)
    config.update(eos_token_id=None, cache_implementation=None, return_dict_in_generate=True)
    draw = [DrawOfFew.instead_of(config)] if DrawOfFew.suits(config) else []
    with attention_for_decoding(model), _generation_config(model, config):
        ids, mask, cache = read_prompts(model, prompts, config.pad_token_id)
        batch, written = replies, 0
        while written < rules.most and not all(reply.done for reply in batch):
            left = torch.tensor([i for i, reply in enumerate(batch) if not reply.done], device=ids.device)
            if len(left) < len(batch):
                cache.batch_select_indices(left)
                ids, mask, batch = ids[left], mask[left], [reply for reply in batch if not reply.done]
            config.max_new_tokens = rules.most - written
            output = model.generate(
                ids,
                attention_mask=mask,
                past_key_values=cache,
                generation_config=config,
                logits_processor=LogitsProcessorList([*draw, _ReadAnswers(batch)]),
                stopping_criteria=StoppingCriteriaList([_HalfDone(batch, rules)]),
            )
            new = output.sequences.size(1) - ids.size(1)
            ids, cache, written = output.sequences, output.past_key_values, written + new
            mask = torch.cat((mask, mask.new_ones(len(batch), new)), dim=1)
    return replies


def read_prompts(
    model: PreTrainedModel, prompts: Sequence[list[int]], pad: int
) -> tuple[torch.Tensor, torch.Tensor, DynamicCache]:
    """Prompts padded on the left (B, P), their mask, and a cache of all tokens but the last; equal ones read once."""
    distinct = {tuple(prompt): i for i, prompt in enumerate(dict.fromkeys(map(tuple, prompts)))}
    width = max(map(len, distinct))
    ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in distinct], device=model.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in distinct], device=model.device)  # (D, P)
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    if width > 1:
        positions = (mask.cumsum(1) - 1).clamp(min=0)  # as `generate` counts them
        before = slice(None, -1)
        model(
            ids[:, before],
            attention_mask=mask[:, before],
            position_ids=positions[:, before],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
    index = torch.tensor([distinct[tuple(prompt)] for prompt in prompts], device=model.device)
    if width > 1:
        cache.batch_select_indices(index)
    return ids[index], mask[index], cache


@contextmanager
def _generation_config(model: PreTrainedModel, config: GenerationConfig) -> Iterator[None]:
    """Make `config` the model's own for a while: `generate` takes from that what it is given as None."""
    holders = [model]
    if hasattr(model, "get_base_model"):  # peft's `generate` hands its own on to the model that it adapts
        holders.append(model.get_base_model())
    before = [each.generation_config for each in holders]
    model.generation_config = config
    try:
        yield
    finally:
        for each, own in zip(holders, before, strict=True):
            each.generation_config = own


class DrawOfFew(LogitsProcessor):
    """Draws the next token among the `top_k` likeliest, and leaves no other to choose.

    As `generate` samples, which draws a random number for every token of the vocabulary, though: a sixth of the time
    that a small model takes on a CPU.
    """

    def __init__(self, top_k: int, temperature: float) -> None:
        self.top_k, self.temperature = top_k, temperature

    @staticmethod
    def suits(config: GenerationConfig) -> bool:
        """Whether `config` samples by `top_k` and `temperature` alone."""
        others = any(getattr(config, name) not in (None, 0.0, 1.0) for name in OTHER_WAYS)
        return bool(config.do_sample and config.top_k and not others)

    @classmethod
    def instead_of(cls, config: GenerationConfig) -> "DrawOfFew":
        """One that samples by `config`, which is told to take what is left."""
        drawn = cls(config.top_k, 1.0 if config.temperature is None else config.temperature)
        config.update(do_sample=False, top_k=None, temperature=None)
        return drawn

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        few, tokens = scores.topk(min(self.top_k, scores.size(1)))  # (B, k) each
        places = torch.multinomial((few / self.temperature).softmax(-1), 1)  # (B, 1)
        return torch.full_like(scores, -torch.inf).scatter_(1, tokens.gather(1, places), 0.0)


class _ReadAnswers(LogitsProcessor):
    """Makes the next token that of the tool's answer where one waits to be read."""

    def __init__(self, batch: list[Reply]) -> None:
        self.batch = batch

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        forced = [(row, reply.unread[0]) for row, reply in enumerate(self.batch) if reply.unread]
        if forced:
            rows, tokens = torch.tensor(forced, device=scores.device).unbind(1)
            scores[rows] = -torch.inf
            scores[rows, tokens] = 0.0
        return scores


class _HalfDone(StoppingCriteria):
    """Keeps account of what is written, and ends a round when half of its replies are done, if there are many."""

    def __init__(self, batch: list[Reply], rules: Rules) -> None:
        self.batch, self.rules = batch, rules

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs) -> torch.BoolTensor:
        for reply, token in zip(self.batch, input_ids[:, -1].tolist(), strict=True):
            if not reply.done:
                self.rules.add(reply, token)
        done, rows = sum(reply.done for reply in self.batch), len(self.batch)
        stop = done == rows or (rows > FEW and 2 * done >= rows)
        return torch.full((len(self.batch),), stop, dtype=torch.bool, device=input_ids.device)
