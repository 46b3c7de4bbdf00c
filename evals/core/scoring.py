"""What a causal LM makes of questions, many at a time: the answer it would give to each.

Three things make this fast and change no decision. Logits are computed only where something is scored. Answers that
differ in their last token alone need one row. And what else all answers to a question have in common (the solved
examples, the question itself) goes through the model once, for every answer to use its keys and values.
"""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache, PreTrainedModel

from evals.core.questions import Question, Row, common_prefix

SHORTEST_PREFIX = 16  # tokens in common from which a second pass, over the rest, pays
TOKENS_A_LOGIT = 8  # logits are computed at no more than one in so many positions of a full batch


@dataclass
class Group:
    """Rows that begin with the same `prefix`; without one, rows that are the same up to their last token."""

    prefix: list[int]
    rows: list[Row]

    def __post_init__(self) -> None:
        # A row's last token is predicted and never read.
        ends = [tuple(row.ids[len(self.prefix) : -1]) for row in self.rows]
        self.tails = [list(end) for end in dict.fromkeys(ends)]  # what goes through the model after the prefix
        place = {tuple(tail): index for index, tail in enumerate(self.tails)}
        self.tail_of_row = [place[end] for end in ends]

    @property
    def num_tokens(self) -> int:
        """Tokens whose keys and values are held at once."""
        return sum(len(self.prefix) + len(tail) for tail in self.tails)

    @property
    def num_logits(self) -> int:
        """Positions with logits."""
        return sum(max(row.scored for row in self.rows) for _ in self.tails)


@dataclass(frozen=True)
class Score:
    """What the model makes of the scored tokens of a row."""

    loss: float  # mean nats
    predicted: bool  # each is the likeliest token after those before it


@torch.no_grad()
def answer_questions(
    model: PreTrainedModel, questions: Sequence[Question], batch_tokens: int, share_prefixes: bool = True
) -> list[int | bool]:
    """The model's decision on each question: the place of its choice, or whether it predicts the right continuation.

    Args:
        model: any transformers causal LM, in evaluation mode.
        questions: those that fit into the model's context.
        batch_tokens: tokens that go through the model at once; a longer question goes alone.
        share_prefixes: needs a model that `keeps_keys_and_values`.
    """
    groups = [group for question in questions for group in group_rows(question.rows, share_prefixes)]
    scores: dict[int, Score] = {}  # by the identity of the row
    for batch in make_batches(groups, batch_tokens):
        logits = logits_after_prefixes(model, batch) if batch[0].prefix else logits_of_rows(model, batch)
        scores |= score_rows(batch, logits)
    return [decide(question, [scores[id(row)] for row in question.rows]) for question in questions]


def decide(question: Question, scores: Sequence[Score]) -> int | bool:
    """The place of the lowest loss, the first of equals; of a single continuation, whether it is predicted."""
    if question.gold is None:
        return scores[0].predicted
    return min(range(len(scores)), key=lambda place: scores[place].loss)


# What goes through the model together


@torch.no_grad()
def keeps_keys_and_values(model: PreTrainedModel) -> bool:
    """Whether the model's cache is one whose rows can be multiplied; a state-space model's is not."""
    probe = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    return type(getattr(model(probe, use_cache=True), "past_key_values", None)) is DynamicCache


def group_rows(rows: Sequence[Row], share: bool) -> Iterator[Group]:
    """Groups of the rows of one question. Rows that were cropped at different places have nothing in common."""
    by_start = sorted(rows, key=lambda row: len(row.ids) - row.scored)
    for _, same in groupby(by_start, key=lambda row: len(row.ids) - row.scored):
        together = list(same)
        # The last token in common is read with each tail: the first scored one is predicted there.
        length = common_prefix([row.ids[: -row.scored] for row in together]) - 1
        group = Group(together[0].ids[:length] if share and length >= SHORTEST_PREFIX else [], together)
        if len(group.tails) == 1:
            yield Group([], together)
        elif group.prefix:
            yield group
        else:
            yield from (Group([], [row]) for row in together)


def make_batches(groups: Sequence[Group], batch_tokens: int) -> Iterator[list[Group]]:
    """Batches of groups of one kind and of like length, the longest first: what does not fit fails at once."""
    for kind in (True, False):
        batch: list[Group] = []
        longest = most_logits = 0
        same_kind = [group for group in groups if bool(group.prefix) is kind]
        for group in sorted(same_kind, key=lambda group: group.num_tokens, reverse=True):
            longest, most_logits = max(longest, group.num_tokens), max(most_logits, group.num_logits)
            size = len(batch) + 1
            if batch and max(size * longest, TOKENS_A_LOGIT * size * most_logits) > batch_tokens:
                yield batch
                batch, longest, most_logits = [], group.num_tokens, group.num_logits
            batch.append(group)
        if batch:
            yield batch


# Through the model

# For each group the logits after its tails: at the positions of each tail's last tokens (any, V).
Logits = list[list[torch.Tensor]]


def logits_of_rows(model: PreTrainedModel, batch: Sequence[Group]) -> Logits:
    """Whole rows. Padded behind: what comes later is not seen, so it takes neither a mask nor other positions."""
    inputs = [torch.tensor(tail) for group in batch for tail in group.tails]
    scored = [max(row.scored for row in group.rows) for group in batch for _ in group.tails]
    first = min(len(ids) - count for ids, count in zip(inputs, scored, strict=True))
    padded = pad_sequence(inputs, batch_first=True)  # (B, T)
    kept = torch.arange(first, padded.size(1), device=model.device)
    logits = model(padded.to(model.device), logits_to_keep=kept, use_cache=False).logits  # (B, T - first, V)
    each = iter(logits[i, : len(ids) - first] for i, ids in enumerate(inputs))
    return [[next(each) for _ in group.tails] for group in batch]


def logits_after_prefixes(model: PreTrainedModel, batch: Sequence[Group]) -> Logits:
    """Prefixes once, then every tail after the keys and values of its prefix."""
    device = model.device
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

    owner = torch.tensor([index for index, group in enumerate(batch) for _ in group.tails])
    tails = [torch.tensor(tail) for group in batch for tail in group.tails]
    last = torch.tensor([len(tail) - 1 for tail in tails])  # padding must not go beyond the model's last position
    padded = pad_sequence(tails, batch_first=True)  # (R, T)
    cache.batch_select_indices(owner.to(device))
    mask = torch.cat([seen[owner], torch.ones_like(padded, dtype=torch.bool)], dim=1)  # padding behind is not seen
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
    """`position_ids` for a model that takes them; others go by the attention mask."""
    takes_them = "position_ids" in inspect.signature(model.forward).parameters
    return {"position_ids": position_ids.to(model.device)} if takes_them else {}


def score_rows(batch: Sequence[Group], logits: Logits) -> dict[int, Score]:
    """The score of every row of the batch, by the row's identity."""
    rows, losses, predicted = [], [], []
    for group, of_tails in zip(batch, logits, strict=True):
        for row, tail in zip(group.rows, group.tail_of_row, strict=True):
            scores = of_tails[tail][-row.scored :].float()  # (scored, V)
            targets = torch.tensor(row.ids[-row.scored :], device=scores.device)
            rows.append(row)
            losses.append(F.cross_entropy(scores, targets))
            predicted.append((scores.argmax(-1) == targets).all())
    values = zip(torch.stack(losses).tolist(), torch.stack(predicted).tolist(), strict=True)
    return {id(row): Score(*value) for row, value in zip(rows, values, strict=True)}
