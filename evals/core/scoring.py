"""Batched scoring: the answer of a causal LM to each of many questions.

Three optimizations, none of which changes a decision: logits are computed only at scored positions; answers that
differ only in their last token share a row; and the common prefix of a question's answers (solved examples and the
question itself) goes through the model once, and every answer reuses its keys and values.
"""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from evals.core.questions import Question, Row, common_prefix
from recipes.inference.generate import context_length

SHORTEST_PREFIX = 16  # tokens; sharing a shorter common prefix is not worth a second forward pass
TOKENS_PER_LOGIT = 8  # a full batch computes logits at no more than one in 8 of its positions
PROBE_LENGTHS = (17, 29)  # of the prefixes that test whether a model can reuse them
# Largest mean difference of logits, relative to their standard deviation, that counts as equal: bf16 rounding for
# models that take positions. Models that count positions themselves may be off by so little that bf16 would hide it.
TOLERANCE, TOLERANCE_WITHOUT_POSITIONS = 6e-3, 1e-4


@dataclass
class Group:
    """Rows with a common `prefix`; if it is empty, rows that are equal except for their last token."""

    prefix: tuple[int, ...]
    rows: list[Row]

    def __post_init__(self) -> None:
        # A row's last token is only predicted, so it need not go through the model.
        ends = [row.ids[len(self.prefix) : -1] for row in self.rows]
        self.tails = list(dict.fromkeys(ends))  # distinct rests that go through the model after the prefix
        place = {tail: index for index, tail in enumerate(self.tails)}
        self.tail_of_row = [place[end] for end in ends]

    @property
    def longest_tail(self) -> int:
        """Length of the longest tail in tokens."""
        return max(map(len, self.tails))

    @property
    def first_logit(self) -> int:
        """First position in the tails whose logits are needed; 0 after a prefix."""
        return 0 if self.prefix else min(len(row.ids) - 1 - row.scored for row in self.rows)


@dataclass(frozen=True)
class Score:
    """The model's score on the scored tokens of a row."""

    loss: float  # mean cross-entropy in nats
    predicted: bool  # whether every token is the model's most likely next token


@torch.no_grad()
def answer_questions(
    model: PreTrainedModel, questions: Sequence[Question], batch_tokens: int, share_prefixes: bool = True
) -> list[int | bool]:
    """The model's answer to each question: the index of its choice, or whether it predicts the right continuation.

    Args:
        model: any transformers causal LM, in evaluation mode.
        questions: questions that fit into the model's context.
        batch_tokens: tokens in a batch, including padding; a longer question is a batch of its own.
        share_prefixes: whether to reuse common prefixes; only for models that `can_share_prefixes`.

    Raises `ValueError` if the model's logits are not numbers.
    """
    groups = []
    for question in questions:  # equal answers are scored once, so that rounding cannot decide between them
        groups += group_rows(list(dict.fromkeys(question.rows)), share_prefixes)
    scores: dict[Row, Score] = {}
    for batch in make_batches(groups, batch_tokens):
        logits = logits_after_prefixes(model, batch) if batch[0].prefix else logits_of_rows(model, batch)
        scores |= score_rows(batch, logits)
    return [decide(question, [scores[row] for row in question.rows]) for question in questions]


def decide(question: Question, scores: Sequence[Score]) -> int | bool:
    """The index of the lowest loss (the first of equals); for a single continuation, whether it is predicted."""
    if question.gold is None:
        return scores[0].predicted
    return min(range(len(scores)), key=lambda place: scores[place].loss)


# Grouping and batching


@torch.no_grad()
def can_share_prefixes(model: PreTrainedModel) -> bool:
    """Whether the model can reuse the keys and values of a prefix, by comparing logits with and without reuse.

    It cannot if some layers keep a recurrent state instead of keys and values, or if positions do not follow the
    attention mask or do not start at 0.
    """
    last = min(100, model.config.get_text_config().vocab_size)
    prefixes = [tuple(place * 7 % (last - 1) + 1 for place in range(length)) for length in PROBE_LENGTHS]
    rows = [[Row((*prefix, 3, 4, 5, 6), 3), Row((*prefix, 5, 6, 7), 2)] for prefix in prefixes]
    shared = [Group(prefix, each) for prefix, each in zip(prefixes, rows, strict=True)]
    alone = [Group((), [row]) for each in rows for row in each]
    if max(len(row.ids) for each in rows for row in each) > context_length(model):
        return False  # too short a context for sharing to matter
    try:
        again = [tail[-2:] for tails in logits_after_prefixes(model, shared) for tail in tails]
        whole = [tail[-2:] for tails in logits_of_rows(model, alone) for tail in tails]
    except Exception:  # architectures fail in different ways
        return False
    again, whole = torch.stack(again).float(), torch.stack(whole).float()
    tolerance = TOLERANCE if takes_positions(model) else TOLERANCE_WITHOUT_POSITIONS
    return bool((again - whole).abs().mean() <= tolerance * whole.std())


def group_rows(rows: Sequence[Row], share: bool) -> Iterator[Group]:
    """Group the rows of one question by common prefixes. Rows cropped at different places have none."""
    by_start = sorted(rows, key=lambda row: len(row.ids) - row.scored)
    for _, same in groupby(by_start, key=lambda row: len(row.ids) - row.scored):
        together = list(same)
        # Each tail starts with the last common token, whose logits predict the first scored token.
        length = common_prefix([row.ids[: -row.scored] for row in together]) - 1
        group = Group(together[0].ids[:length] if share and length >= SHORTEST_PREFIX else (), together)
        if len(group.tails) == 1:
            yield Group((), together)
        elif group.prefix:
            yield group
        else:
            yield from (Group((), [row]) for row in together)


def make_batches(groups: Sequence[Group], batch_tokens: int) -> Iterator[list[Group]]:
    """Batches of groups of one kind and similar length. Longest first, so that running out of memory shows at once."""
    for kind in (True, False):
        batch: list[Group] = []
        same_kind = [group for group in groups if bool(group.prefix) is kind]
        for group in sorted(same_kind, key=lambda group: len(group.prefix) + group.longest_tail, reverse=True):
            if batch and batch_size([*batch, group]) > batch_tokens:
                yield batch
                batch = []
            batch.append(group)
        if batch:
            yield batch


def batch_size(batch: Sequence[Group]) -> int:
    """Size of a batch in tokens, including padding; or 8 x its positions with logits, if that is more."""
    rows = sum(len(group.tails) for group in batch)
    prefix, tail = max(len(group.prefix) for group in batch), max(group.longest_tail for group in batch)
    return rows * max(prefix + tail, TOKENS_PER_LOGIT * (tail - min(group.first_logit for group in batch)))


# Forward passes

# For each group and each of its tails, the logits at the tail's last positions, (positions, V).
Logits = list[list[torch.Tensor]]


def logits_of_rows(model: PreTrainedModel, batch: Sequence[Group]) -> Logits:
    """Run whole rows, padded on the right: causal attention needs neither a mask nor positions for them."""
    inputs = [torch.tensor(tail) for group in batch for tail in group.tails]
    first = min(group.first_logit for group in batch)
    padded = pad_sequence(inputs, batch_first=True)  # (B, T)
    kept = torch.arange(first, padded.size(1), device=model.device)
    logits = model(padded.to(model.device), logits_to_keep=kept, use_cache=False).logits  # (B, T - first, V)
    each = iter(logits[i, : len(ids) - first] for i, ids in enumerate(inputs))
    return [[next(each) for _ in group.tails] for group in batch]


def logits_after_prefixes(model: PreTrainedModel, batch: Sequence[Group]) -> Logits:
    """Run each prefix once, then every tail with the keys and values of its prefix."""
    device = model.device
    # Padded on the left, so that tails follow their prefix directly.
    prefixes = pad_sequence([torch.tensor(group.prefix) for group in batch], batch_first=True, padding_side="left")
    lengths = torch.tensor([len(group.prefix) for group in batch])
    seen = torch.arange(prefixes.size(1)) >= prefixes.size(1) - lengths[:, None]  # (B, P)
    cache = model(
        prefixes.to(device),
        attention_mask=seen.long().to(device),
        use_cache=True,
        logits_to_keep=1,
        **positions(model, (torch.arange(prefixes.size(1)) - (prefixes.size(1) - lengths[:, None])).clamp(min=0)),
    ).past_key_values

    owner = torch.tensor([index for index, group in enumerate(batch) for _ in group.tails])  # (R,): tail -> prefix
    tails = [torch.tensor(tail) for group in batch for tail in group.tails]
    last = torch.tensor([len(tail) - 1 for tail in tails])  # bounds the positions of padding to the model's context
    padded = pad_sequence(tails, batch_first=True)  # (R, T)
    cache.batch_select_indices(owner.to(device))
    mask = torch.cat([seen[owner], torch.ones_like(padded, dtype=torch.bool)], dim=1)  # causality hides right padding
    logits = model(
        padded.to(device),
        attention_mask=mask.long().to(device),
        past_key_values=cache,
        use_cache=True,
        **positions(model, lengths[owner, None] + torch.minimum(torch.arange(padded.size(1)), last[:, None])),
    ).logits  # (R, T, V)
    each = iter(logits[i, : len(tail)] for i, tail in enumerate(tails))
    return [[next(each) for _ in group.tails] for group in batch]


def positions(model: PreTrainedModel, position_ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """`position_ids` as an argument, for models that take them; others derive positions from the attention mask."""
    return {"position_ids": position_ids.to(model.device)} if takes_positions(model) else {}


def takes_positions(model: PreTrainedModel) -> bool:
    """Whether the model takes position ids. Asks its class, since mixed precision wraps the instance's forward."""
    return "position_ids" in inspect.signature(type(model).forward).parameters


def score_rows(batch: Sequence[Group], logits: Logits) -> dict[Row, Score]:
    rows, losses, predicted = [], [], []
    for group, of_tails in zip(batch, logits, strict=True):
        for row, tail in zip(group.rows, group.tail_of_row, strict=True):
            scores = of_tails[tail][-row.scored :].float()  # (scored, V)
            targets = torch.tensor(row.ids[-row.scored :], device=scores.device)
            rows.append(row)
            losses.append(F.cross_entropy(scores, targets))
            predicted.append((scores.argmax(-1) == targets).all())
    if torch.stack(losses).isnan().any():
        raise ValueError("the model's logits are not numbers (NaN)")
    values = zip(torch.stack(losses).tolist(), torch.stack(predicted).tolist(), strict=True)
    return {row: Score(*value) for row, value in zip(rows, values, strict=True)}
