"""Documents of the primer: their kinds, the share of each kind, and the split into train and validation."""

from collections.abc import Callable, Iterable
from functools import lru_cache
from random import Random

from recipes.data.primer.calendar_topics import CALENDAR_TOPICS
from recipes.data.primer.everyday_tables import PEOPLE
from recipes.data.primer.everyday_topics import EVERYDAY_TOPICS
from recipes.data.primer.reading import write_dictation, write_reading
from recipes.data.primer.reckoning import (
    ADDITION,
    DIVISION,
    MULTIPLICATION,
    SUBTRACTION,
    TRAINING_EQUATIONS,
    tell_alphabet,
    tell_comparison,
    tell_equation,
    tell_number,
    tell_spelling,
    tell_sum,
    tell_word_problem,
    work_equation,
)
from recipes.data.primer.stories import tell_favorites, tell_story
from recipes.data.primer.topics import Aspect, Question, Topic, say
from recipes.data.primer.world_topics import PLANET_LISTS, PLANET_TOPIC, WORLD_TOPICS
from recipes.utils.errors import InputError

Writer = Callable[[Random], str]

CORPUS_CHARACTERS = 6_300_000
VALIDATION_SHARE = 0.025
TOPICS = (*WORLD_TOPICS, *CALENDAR_TOPICS, *EVERYDAY_TOPICS)


def primer_documents(split: str = "train", seed: int = 0) -> list[str]:
    """The documents of the primer, about 6 MB of plain text, in random order; equal seeds give equal documents.

    Train and validation share no document. Raises `InputError` for another split.
    """
    if split not in ("train", "validation"):
        raise InputError(f"primer: no split {split!r}. Use 'train' or 'validation'.")
    documents = _all_documents(seed)
    first_train = round(VALIDATION_SHARE * len(documents))
    return documents[first_train:] if split == "train" else documents[:first_train]


@lru_cache(maxsize=1)
def _all_documents(seed: int) -> list[str]:
    """The documents of both splits without duplicates, in random order."""
    texts = (text for name, (write, share) in KINDS.items() for text in _fill(write, share, Random(f"{seed} {name}")))
    documents = list(dict.fromkeys(texts))
    Random(seed).shuffle(documents)
    return documents


def _fill(write: Writer, share: float, rng: Random) -> Iterable[str]:
    """Write documents of one kind until they fill its share of the corpus."""
    room = share / sum(share for _, share in KINDS.values()) * CORPUS_CHARACTERS
    while room > 0:
        text = write(rng)
        room -= len(text)
        yield text


def _join(sentences: Iterable[str], rng: Random) -> str:
    """Join sentences into one paragraph or, less often, one per line."""
    return rng.choice((" ", " ", "\n")).join(sentences)


def _draw_aspect(topic: Topic, rng: Random) -> Aspect:
    """A random aspect of the topic, drawn by weight."""
    return rng.choices(topic.aspects, weights=[aspect.weight for aspect in topic.aspects])[0]


def _draw_asked_aspect(topic: Topic, rng: Random) -> Aspect:
    """A random aspect that has questions: the topic's first one if the aspect drawn has none."""
    aspect = _draw_aspect(topic, rng)
    return aspect if aspect.questions else topic.aspects[0]


def _draw_questions(topic: Topic, count: int, rng: Random) -> list[Question]:
    """Questions about one aspect of several rows."""
    aspect = _draw_asked_aspect(topic, rng)
    rows = topic.aspect_rows(aspect)
    return [topic.ask(aspect, row, rng) for row in rng.sample(rows, min(count, len(rows)))]


def write_sheet(topic: Topic, rng: Random) -> str:
    """One aspect of several rows, each in a phrasing of its own."""
    aspect = _draw_aspect(topic, rng)
    rows = topic.aspect_rows(aspect)
    sentences = [aspect.tell(row, rng) for row in rng.sample(rows, min(rng.randint(3, 16), len(rows)))]
    opening = [rng.choice(topic.openings)] if rng.random() < 0.3 else []
    return _join(opening + sentences, rng)


def write_drill(topic: Topic, rng: Random) -> str:
    """One aspect of several rows, all in the same phrasing."""
    aspect = _draw_aspect(topic, rng)
    template = aspect.phrasings[0] if rng.random() < 0.5 else rng.choice(aspect.phrasings)
    rows = topic.aspect_rows(aspect)
    return _join((say(template, row) for row in rng.sample(rows, min(rng.randint(3, 18), len(rows)))), rng)


def write_portrait(topic: Topic, rng: Random) -> str:
    """Nearly everything about one to three rows."""
    sentences = []
    for row in rng.sample(topic.rows, rng.choice((1, 2, 3))):
        known = [aspect for aspect in topic.aspects if aspect.knows(row)]
        told = [
            aspect.tell(row, rng) for aspect in rng.sample(known, len(known)) for _ in range(rng.choice((1, 1, 2)))
        ]
        sentences += dict.fromkeys(told)
    return _join(sentences, rng)


def write_quiz(topic: Topic, rng: Random) -> str:
    """Questions and answers in one of several layouts."""
    layout = rng.choice(
        (
            "Question: {text}\nAnswer: {answer}",
            "Question: {text}\nAnswer: {sentence}",
            "Q: {text}\nA: {answer}",
            "{text} {sentence}",
            "{text}\n{sentence}",
            "{text} The answer is {answer}.",
        )
    )
    return "\n".join(layout.format_map(vars(question)) for question in _draw_questions(topic, rng.randint(2, 10), rng))


def write_choices(topic: Topic, rng: Random) -> str:
    """Questions with three or four choices, and the right answer."""
    answer_style = rng.choice(("It is {answer}.", "The right answer is {answer}.", "Answer: {answer}.", "{sentence}"))
    lines = []
    for question in _draw_questions(topic, rng.randint(1, 5), rng):
        wrong = rng.sample(question.others, min(rng.choice((2, 3)), len(question.others)))
        options = rng.sample([question.answer, *wrong], len(wrong) + 1)
        listed = f"{', '.join(options[:-1])} or {options[-1]}"
        lines.append(f"{question.text} Choose from {listed}. {answer_style.format_map(vars(question))}")
    return "\n".join(lines)


def write_checks(topic: Topic, rng: Random) -> str:
    """Yes-or-no questions, each followed by the answer and the fact."""
    aspect = rng.choice([aspect for aspect in topic.aspects if aspect.checks])
    lines = []
    rows = topic.aspect_rows(aspect)
    for row in rng.sample(rows, min(rng.randint(2, 6), len(rows))):
        others = sorted({other[aspect.checked] for other in rows} - {row[aspect.checked]})
        right = rng.random() < 0.5
        asked = row if right else row | {aspect.checked: rng.choice(others)}
        lines.append(f"{say(rng.choice(aspect.checks), asked)} {'Yes' if right else 'No'}. {aspect.tell(row, rng)}")
    return _join(lines, rng)


def write_topic(topic: Topic) -> Writer:
    """A writer of documents about the topic, of every kind that the topic allows."""
    kinds = {write_sheet: 30, write_drill: 22, write_quiz: 18, write_choices: 8}
    if len(topic.aspects) > 1:
        kinds[write_portrait] = 14
    if any(aspect.checks for aspect in topic.aspects):
        kinds[write_checks] = 6
    return lambda rng: rng.choices(list(kinds), weights=kinds.values())[0](topic, rng)


def write_planet_list(rng: Random) -> str:
    """The planets in order, with a few facts about them before or after."""
    facts = [
        rng.choice(PLANET_TOPIC.aspects[:4]).tell(row, rng) for row in rng.sample(PLANET_TOPIC.rows, rng.randint(2, 5))
    ]
    names = PLANET_LISTS[0] if rng.random() < 0.4 else rng.choice(PLANET_LISTS)
    return _join([names, *facts] if rng.random() < 0.7 else [*facts, names], rng)


def write_sums(rng: Random) -> str:
    """Sums of one operation, or of all four."""
    operations = (ADDITION, SUBTRACTION, MULTIPLICATION, DIVISION)
    drilled = operations if rng.random() < 0.3 else [rng.choice(operations)]
    return _join((tell_sum(rng.choice(drilled), rng) for _ in range(rng.randint(5, 30))), rng)


def write_equations(rng: Random) -> str:
    """Equations with their solutions: most in one sentence, some step by step."""
    work = rng.choice((0.0, 0.0, 0.2, 1.0))
    equations = rng.sample(TRAINING_EQUATIONS, rng.randint(2, 8 if work == 1.0 else 20))
    return _join(((work_equation if rng.random() < work else tell_equation)(each, rng) for each in equations), rng)


def write_word_problems(rng: Random) -> str:
    """A few word problems with their solutions."""
    return "\n".join(tell_word_problem(rng.choice(PEOPLE)["name"], rng) for _ in range(rng.randint(1, 6)))


def write_list_of(tell: Callable[[Random], str]) -> Writer:
    """A writer of several sentences, each written by `tell`."""
    return lambda rng: _join((tell(rng) for _ in range(rng.randint(3, 14))), rng)


def write_story(rng: Random) -> str:
    """A story in which two people talk about one topic."""
    return tell_story(_draw_questions(rng.choice(TOPICS), rng.randint(1, 5), rng), rng)


def write_miscellany(rng: Random) -> str:
    """Facts, or questions with answers, from several topics."""
    questions = [_draw_questions(topic, 1, rng)[0] for topic in rng.sample(TOPICS, rng.randint(3, 9))]
    if rng.random() < 0.5:
        return "\n".join(f"{question.text} {question.sentence}" for question in questions)
    return _join((question.sentence for question in questions), rng)


# Relative shares of the corpus, roughly in proportion to how much there is to learn.
TOPIC_SHARES = {
    "countries": 18,
    "rivers": 1.5,
    "landmarks": 1,
    "elements": 14,
    "planets": 4,
    "opposites": 10,
    "days": 5,
    "months": 2.5,
    "seasons": 0.5,
    "animals": 7,
    "things": 2,
    "mixtures": 0.5,
    "shapes": 0.5,
    "measures": 1.5,
    "jobs": 1.5,
    "products": 1,
    "organs": 0.8,
    "plurals": 2.5,
    "verbs": 3,
}
KINDS: dict[str, tuple[Writer, float]] = {
    topic.name: (write_topic(topic), TOPIC_SHARES[topic.name]) for topic in TOPICS
} | {
    "planet lists": (write_planet_list, 2),
    "sums": (write_sums, 6),
    "equations": (write_equations, 16),
    "word problems": (write_word_problems, 8),
    "dictations": (write_dictation, 9),
    "readings": (write_reading, 6),
    "numbers": (write_list_of(tell_number), 1),
    "comparisons": (write_list_of(tell_comparison), 1.5),
    "spelling": (write_list_of(tell_spelling), 3),
    "alphabet": (write_list_of(tell_alphabet), 1),
    "favorites": (tell_favorites, 2),
    "stories": (write_story, 6),
    "miscellany": (write_miscellany, 3),
}
