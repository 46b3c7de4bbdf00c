"""The primer as conversations: which kinds there are, how many of each, and the split into train and validation."""

from collections.abc import Callable, Sequence
from functools import cache
from random import Random
from zlib import crc32

from recipes.data.messages import assistant, user
from recipes.data.primer.documents import TOPICS
from recipes.data.primer.inquiries import draw_choices, draw_inquiry, offer_choices
from recipes.data.primer.problems import OPERATIONS, compute, draw_problem, has_reserved_numbers, problem_conversation
from recipes.data.primer.reading import talk_of_reading, talk_of_repetition
from recipes.data.primer.reckoning import TOLD_EQUATIONS
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
from recipes.data.primer.topics import fields, say
from recipes.data.sources.spelling import spelling_conversations
from recipes.utils.errors import InputError
from tokenizer.chat import Message

Writer = Callable[[Random], list[Message]]

CONVERSATIONS = {"mid": 16_000, "sft": 6_500}  # of both splits
VALIDATION_SHARE = 1 / 40
SYSTEM_SHARE = 0.04
# Few, so that reinforcement finds problems that are sometimes solved and sometimes not.
TWO_STEP_SHARE, THREE_STEP_SHARE = 5.0, 2.5


def primer_conversations(split: str = "train", seed: int = 0, stage: str = "mid") -> list[list[Message]]:
    """The conversations of the primer for a stage, in random order; equal seeds give equal conversations.

    mid: 16,000 for midtraining; sft: 6,500 others of the same kinds. A conversation that is in train for one
    stage or seed is in validation for none. Raises InputError for an unknown split or stage.
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
    """A conversation, now and then with a system message in front."""
    messages = writer(rng)
    if rng.random() < SYSTEM_SHARE:
        messages = [{"role": "system", "content": rng.choice(SYSTEM_MESSAGES)}, *messages]
    return messages


def _is_validation(messages: Sequence[Message]) -> bool:
    """Decided by the conversation itself, so that the same one never stands in both splits."""
    text = "\n".join(message["content"] for message in messages)
    return crc32(text.encode()) < VALIDATION_SHARE * 2**32


# Questions of fact


def write_fact(rng: Random) -> list[Message]:
    """A question and its answer, a whole sentence."""
    inquiry = draw_inquiry(rng)
    question = inquiry.ask_in_talk(rng.choice(inquiry.rows), rng)
    return [user(question.text), assistant(question.sentence)]


def write_choice(rng: Random) -> list[Message]:
    """A question with three or four answers to choose from; the answer is the sentence that it would be without."""
    while True:
        inquiry = draw_inquiry(rng)
        question = inquiry.ask_in_talk(rng.choice(inquiry.rows), rng)
        if len(question.others) >= 2:
            break
    asked = offer_choices(question.text, draw_choices(question, rng.choice((3, 4, 4)), rng))
    return [user(asked), assistant(question.sentence)]


def write_check(rng: Random) -> list[Message]:
    """A question to be answered with yes or no, and the fact."""
    topic, aspect = rng.choice([(topic, aspect) for topic in TOPICS for aspect in topic.aspects if aspect.checks])
    rows = topic.aspect_rows(aspect)
    row = rng.choice(rows)
    right = rng.random() < 0.5
    others = sorted({other[aspect.checked] for other in rows} - {row[aspect.checked]})
    asked = row if right else row | {aspect.checked: rng.choice(others)}
    answer = f"{'Yes' if right else 'No'}. {say(aspect.tellings[0], row)}"
    return [user(say(rng.choice(aspect.checks), asked)), assistant(answer)]


def write_talk(rng: Random) -> list[Message]:
    """Two or three questions, perhaps the same one of another thing, between a greeting and a word of thanks."""
    messages = _exchange(GREETINGS, GREETING_ANSWER, rng) if rng.random() < 0.3 else []
    for _ in range(rng.choice((2, 2, 3))):
        writer = rng.choices((write_fact, _ask_and_follow_up, write_sum), weights=(4, 4, 1))[0]
        messages += writer(rng)
        if len(messages) >= 6:
            break
    return messages + (_exchange(THANKS, THANKS_ANSWER, rng) if rng.random() < 0.3 else [])


def _ask_and_follow_up(rng: Random) -> list[Message]:
    """A question, then `And Italy?`: the same question about another row."""
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
    """A greeting, a farewell, or who the assistant is."""
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
    """A writer of word problems of so many steps, solved with the calculator."""
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
    """A bare sum."""
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
    """An equation, solved by taking b away and dividing by a."""
    while True:
        equation = rng.choice(TOLD_EQUATIONS)
        values = equation.values
        expressions = ["{c}-{b}".format_map(values), "{product}/{a}".format_map(values)]
        if not any(map(has_reserved_numbers, expressions)):
            return [user(rng.choice(EQUATION_WORDINGS).format(equation=equation)), *compute(expressions)]


@cache
def _spelling() -> list[list[Message]]:
    return list(spelling_conversations("train"))


def write_spelling(rng: Random) -> list[Message]:
    """A word letter by letter, or how often a letter is in it."""
    return rng.choice(_spelling())


# Shares are parts of their sum, by the number of conversations.
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
