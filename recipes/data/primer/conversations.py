"""Conversations of the primer: their kinds, the share of each kind, and the split into train and validation."""

from collections.abc import Callable, Sequence
from functools import cache
from random import Random
from zlib import crc32

from recipes.data.messages import assistant, user
from recipes.data.primer.documents import TOPICS
from recipes.data.primer.inquiries import draw_choices, draw_inquiry, offer_choices
from recipes.data.primer.problems import OPERATIONS, compute, draw_problem, has_reserved_numbers, problem_conversation
from recipes.data.primer.reading import talk_of_reading, talk_of_repetition
from recipes.data.primer.reckoning import TRAINING_EQUATIONS
from recipes.data.primer.small_talk import (
    FAREWELL_ANSWER,
    FAREWELLS,
    GREETING_ANSWER,
    GREETINGS,
    IDENTITY,
    SYSTEM_MESSAGES,
    THANKS,
    THANKS_ANSWER,
)
from recipes.data.primer.spelling import spelling_conversations
from recipes.data.primer.topics import fields, say
from recipes.utils.errors import InputError
from tokenizer.chat import Message

Writer = Callable[[Random], list[Message]]

CONVERSATIONS = {"mid": 32_000, "sft": 6_500}  # number for each stage, both splits together
VALIDATION_SHARE = 1 / 40
SYSTEM_SHARE = 0.04
# Small, so that GRPO finds problems that the model solves sometimes but not always.
TWO_STEP_SHARE, THREE_STEP_SHARE = 5.0, 2.5


def primer_conversations(split: str = "train", seed: int = 0, stage: str = "mid") -> list[list[Message]]:
    """The conversations of the primer for a stage, in random order; equal seeds give equal conversations.

    mid: 32,000 for midtraining; sft: 6,500 others of the same kinds. A training conversation of one stage or seed is
    never a validation conversation of another. Raises `InputError` for an unknown split or stage.
    """
    if split not in ("train", "validation"):
        raise InputError(f"primer: no split {split!r}. Use 'train' or 'validation'.")
    if stage not in CONVERSATIONS:
        raise InputError(f"primer: no stage {stage!r}. Use {' or '.join(map(repr, CONVERSATIONS))}.")
    rng = Random(f"{stage} conversations {seed}")
    writers, shares = zip(*KINDS.values(), strict=True)
    written = [_write(writer, rng) for writer in rng.choices(writers, weights=shares, k=CONVERSATIONS[stage])]
    return [messages for messages in written if _is_validation(messages) == (split == "validation")]


def _write(writer: Writer, rng: Random) -> list[Message]:
    """Write a conversation, in 4% of cases with a system message in front."""
    messages = writer(rng)
    if rng.random() < SYSTEM_SHARE:
        messages = [{"role": "system", "content": rng.choice(SYSTEM_MESSAGES)}, *messages]
    return messages


def _is_validation(messages: Sequence[Message]) -> bool:
    """Whether to hold out a conversation: by a hash of its text, so that no conversation is in both splits."""
    text = "\n".join(message["content"] for message in messages)
    return crc32(text.encode()) < VALIDATION_SHARE * 2**32


# Questions of fact


def write_fact(rng: Random) -> list[Message]:
    """A question, answered by a full sentence."""
    inquiry = draw_inquiry(rng)
    question = inquiry.ask_in_talk(rng.choice(inquiry.rows), rng)
    return [user(question.text), assistant(question.sentence)]


def write_choice(rng: Random) -> list[Message]:
    """A question with three or four choices, answered by the same sentence as without choices."""
    while True:
        inquiry = draw_inquiry(rng)
        question = inquiry.ask_in_talk(rng.choice(inquiry.rows), rng)
        if len(question.others) >= 2:
            break
    asked = offer_choices(question.text, draw_choices(question, rng.choice((3, 4, 4)), rng))
    return [user(asked), assistant(question.sentence)]


def write_check(rng: Random) -> list[Message]:
    """A yes-or-no question, answered by yes or no and the fact."""
    topic, aspect = rng.choice([(topic, aspect) for topic in TOPICS for aspect in topic.aspects if aspect.checks])
    rows = topic.aspect_rows(aspect)
    row = rng.choice(rows)
    right = rng.random() < 0.5
    others = sorted({other[aspect.checked] for other in rows} - {row[aspect.checked]})
    asked = row if right else row | {aspect.checked: rng.choice(others)}
    answer = f"{'Yes' if right else 'No'}. {say(aspect.phrasings[0], row)}"
    return [user(say(rng.choice(aspect.checks), asked)), assistant(answer)]


def write_talk(rng: Random) -> list[Message]:
    """Two or three questions, some with a follow-up, sometimes after a greeting and before thanks."""
    messages = _exchange(GREETINGS, GREETING_ANSWER, rng) if rng.random() < 0.3 else []
    for _ in range(rng.choice((2, 2, 3))):
        writer = rng.choices((write_fact, _ask_and_follow_up, write_sum), weights=(4, 4, 1))[0]
        messages += writer(rng)
        if len(messages) >= 6:
            break
    return messages + (_exchange(THANKS, THANKS_ANSWER, rng) if rng.random() < 0.3 else [])


def _ask_and_follow_up(rng: Random) -> list[Message]:
    """A question, then a follow-up such as `And Italy?`: the same question about another row."""
    while True:
        inquiry = draw_inquiry(rng)
        names = fields(inquiry.templates[0])
        if len(names) == 1:
            break
    (name,) = names
    first, second = rng.sample(inquiry.rows, 2)
    question = inquiry.ask_plainly(first, rng)
    follow_up = rng.choice(("And {}?", "What about {}?", "And what about {}?")).format(second[name])
    return [
        *(user(question.text), assistant(question.sentence)),
        *(user(follow_up), assistant(say(inquiry.sentence, second))),
    ]


# Small talk


def _exchange(questions: Sequence[str], answer: str, rng: Random) -> list[Message]:
    return [user(rng.choice(questions)), assistant(answer)]


def write_small_talk(rng: Random) -> list[Message]:
    """A greeting, a farewell, or a question about who the assistant is."""
    kind = rng.random()
    if kind < 0.15:
        return _exchange(GREETINGS, GREETING_ANSWER, rng)
    if kind < 0.25:
        return _exchange(FAREWELLS, FAREWELL_ANSWER, rng)
    row = rng.choice(IDENTITY)
    identity = _exchange(row["questions"].split(" | "), row["answer"], rng)
    return identity if rng.random() < 0.8 else [*_exchange(GREETINGS, GREETING_ANSWER, rng), *identity]


# Numbers and letters


def write_problem(steps: int) -> Writer:
    """A writer of word problems with `steps` steps, solved with the calculator."""
    return lambda rng: problem_conversation(draw_problem(rng, steps))


SUM_WORDINGS = (
    "What is {sum}?",
    "What is {sum}?",
    "{sum}",
    "{sum} = ?",
    "How much is {sum}?",
    "Compute {sum}.",
    "Please compute {sum}.",
    "Tell me what {sum} is.",
)
SPOKEN_SIGNS = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}


def write_sum(rng: Random) -> list[Message]:
    """A calculation without a story, such as `What is 12 times 7?`."""
    while True:
        sign = rng.choice(list(OPERATIONS))
        a, b = rng.randint(2, rng.choice((20, 99, 300))), rng.randint(2, rng.choice((12, 99)))
        a = a * b if sign == "/" else a
        a, b = (max(a, b), min(a, b)) if sign == "-" else (a, b)
        expression = f"{a}{sign}{b}"
        if not has_reserved_numbers(expression) and OPERATIONS[sign](a, b) < 10_000:
            break
    told = rng.choice((expression, f"{a} {sign} {b}", f"{a} {SPOKEN_SIGNS[sign]} {b}"))
    return [user(rng.choice(SUM_WORDINGS).format(sum=told)), *compute((expression,))]


EQUATION_WORDINGS = (
    "If {equation}, what is x?",
    "Solve {equation} for x.",
    "What is x if {equation}?",
    "Solve {equation}.",
    "Find x: {equation}",
)


def write_equation(rng: Random) -> list[Message]:
    """An equation a*x + b = c, solved by subtracting b and dividing by a."""
    while True:
        equation = rng.choice(TRAINING_EQUATIONS)
        values = equation.values
        expressions = ["{c}-{b}".format_map(values), "{product}/{a}".format_map(values)]
        if not any(map(has_reserved_numbers, expressions)):
            return [user(rng.choice(EQUATION_WORDINGS).format(equation=equation)), *compute(expressions)]


@cache
def _spelling() -> list[list[Message]]:
    return list(spelling_conversations("train"))


def write_spelling(rng: Random) -> list[Message]:
    """The spelling of a word, or how often a letter occurs in it."""
    return rng.choice(_spelling())


# Relative shares, by number of conversations.
KINDS: dict[str, tuple[Writer, float]] = {
    "facts": (write_fact, 24),
    "choices": (write_choice, 16),
    "checks": (write_check, 4),
    "talk": (write_talk, 8),
    "small talk": (write_small_talk, 3),
    "one-step problems": (write_problem(1), 30),
    "two-step problems": (write_problem(2), TWO_STEP_SHARE),
    "three-step problems": (write_problem(3), THREE_STEP_SHARE),
    "repetition": (talk_of_repetition, 4),
    "reading": (talk_of_reading, 5),
    "sums": (write_sum, 4),
    "equations": (write_equation, 1),
    "spelling": (write_spelling, 3),
}
