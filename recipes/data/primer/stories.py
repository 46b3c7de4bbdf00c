"""Short stories about people who ask each other questions of fact, and sentences about favorite colors."""

from collections.abc import Sequence
from random import Random

from recipes.data.primer.everyday_tables import PEOPLE, THINGS
from recipes.data.primer.topics import Question, say
from recipes.data.primer.world_tables import DAY_NAMES, SEASONS

OPENINGS = (
    "{name} and {other} walked home from school.",
    "It was a rainy {day}, and {name} sat at the window with {other}.",
    "One evening {name} and {other} opened an old book.",
    "On {day}, {name} and {other} got ready for a quiz.",
    "{name} and {other} played a game of questions.",
    "The train was slow, so {name} and {other} asked each other questions.",
    "{name} wanted to learn something new every day, and {other} liked to help.",
    "In the library, {name} and {other} found a quiet table.",
    "After dinner, {name} and {other} sat by the fire and talked.",
    "It was {season}, and {name} went for a long walk with {other}.",
    "The teacher was pleased with {name} and {other}, and let them ask each other questions.",
    "{name} had a new friend. The name of the friend was {other}.",
)
EXCHANGES = (
    '"{question}" asked {other}. {name} knew the answer. "{sentence}"',
    '"{question}" asked {other}, and {name} said: "{sentence}"',
    '{other} asked: "{question}" The answer came at once: "{sentence}"',
    '{name} thought for a moment and said: "{sentence}"',
    "{name} had learned this at school: {sentence}",
    '"Did you know?" said {name}. "{sentence}"',
    '"Here is a hard one," said {other}. "{question}" {name} smiled. "{sentence}"',
    '"{question}" {other} wanted to know. {name} wrote down the answer: {answer}.',
    '{other} was not sure, so {name} explained: "{sentence}"',
    'Then {name} asked: "{question}" {other} answered: "{sentence}"',
    "{name} opened {his} notebook and wrote: {sentence}",
)
CLOSINGS = (
    "Then it was time to go home.",
    "They both laughed and went to play in the garden.",
    "{name} was proud of what {he} had learned.",
    "{other} thanked {name}, and they had some soup.",
    "In the evening {name} told {his} family all about it.",
    "That night {name} slept very well.",
    "It had been a good {day}.",
    "They wanted to do it again on {next_day}.",
    "{name} put {his} book back on the shelf.",
    "{other} wrote it all down so as not to forget it.",
)

OWN_FAVORITES = (
    "My favorite color is {color}.",
    "My favorite color is {color}, because {thing} is {color}.",
    "My favorite color is {color}. It is the color of {thing}.",
    "What is your favorite color? My favorite color is {color}.",
    "The color I like best is {color}.",
    "My favorite season is {season}, and my favorite color is {color}.",
    "My name is {name}. My favorite color is {color}.",
)
FAVORITES = (
    'When {name} was asked, {he} said, "My favorite color is {color}."',
    "The favorite color of {name} is {color}, the color of {thing}.",
    "Of all the colors, {name} likes {color} best.",
    "{name} likes {color}, because it makes {name} think of {thing}.",
    "The favorite color of {name} is {color}, and {his} favorite day is {day}.",
    '"My favorite color is {color}," said {name}.',
)


def draw_cast(rng: Random) -> dict[str, str]:
    """Values for the templates: two people, the first one's pronouns, a day, the next day, and a season."""
    hero, friend = rng.sample(PEOPLE, 2)
    index = rng.randrange(7)
    return hero | {
        "other": friend["name"],
        "day": DAY_NAMES[index],
        "next_day": DAY_NAMES[(index + 1) % 7],
        "season": rng.choice(SEASONS)["season"],
    }


def tell_story(questions: Sequence[Question], rng: Random) -> str:
    """A story in which two people ask and answer the questions."""
    cast = draw_cast(rng)
    exchanges = [
        say(template, cast | {"question": question.text, "answer": question.answer, "sentence": question.sentence})
        for template, question in zip(rng.sample(EXCHANGES, len(questions)), questions, strict=True)
    ]
    return " ".join((say(rng.choice(OPENINGS), cast), *exchanges, say(rng.choice(CLOSINGS), cast)))


def tell_favorites(rng: Random) -> str:
    """The favorite color of the speaker, then of one to six other people."""
    own = OWN_FAVORITES[0] if rng.random() < 0.4 else rng.choice(OWN_FAVORITES)
    others = rng.choices(FAVORITES, k=rng.randint(1, 6))
    return " ".join(say(template, draw_cast(rng) | rng.choice(THINGS)) for template in (own, *others))
