"""The stories of two and three steps in the conversations' own words, put together anew: phrasings for GRPO alone.

A model that has learned each story in a few phrasings knows all the words of these, and solves about as many as it
fails: what a reward teaches most from. None is a held-out phrasing, shares a sentence with one that tells more than a
beginning, or is nearer to it than what conversations show.
"""

import re
from difflib import SequenceMatcher
from functools import cache
from random import Random

from recipes.data.primer.problems import STORIES, Problem, Story, ask
from recipes.data.primer.reworded_stories import split_sentences

# What happens to a pile of things, by the steps of the story: it begins with a, or with a boxes of b; + and - are more
# and fewer, / is shared among so many, and each `*` at the end is what all who have such a pile have together.
TALES = {
    ("a+b", "x-c"): "a +b -c",
    ("a-b", "x+c"): "a -b +c",
    ("a-b", "x-c"): "a -b -c",
    ("a+b", "x+c"): "a +b +c",
    ("a*b", "x+c"): "a*b +c",
    ("a*b", "x-c"): "a*b -c",
    ("a*b", "x/c"): "a*b /c",
    ("a+b", "x/c"): "a +b /c",
    ("a-b", "x/c"): "a -b /c",
    ("a/b", "x-c"): "a /b -c",
    ("a/b", "x+c"): "a /b +c",
    ("b*c", "x+a"): "a +b*c",
    ("b*c", "a-x"): "a -b*c",
    ("a+b", "x*c"): "a +b *c",
    ("a-b", "x*c"): "a -b *c",
    ("a+b", "x-c", "y+d"): "a +b -c +d",
    ("a-b", "x+c", "y-d"): "a -b +c -d",
    ("a+b", "x+c", "y-d"): "a +b +c -d",
    ("a*b", "c*d", "x+y"): "a*b +c*d",
    ("a*b", "c*d", "x-y"): "a*b -c*d",
    ("a*b", "x+c", "y-d"): "a*b +c -d",
    ("a*b", "x-c", "y+d"): "a*b -c +d",
    ("a+b", "x/c", "y+d"): "a +b /c +d",
    ("a-b", "x/c", "y-d"): "a -b /c -d",
    ("a*b", "x/c", "y+d"): "a*b /c +d",
}
# Clauses that follow a subject, and sentences. m and n are the numbers that they give.
CLAUSES = {
    "": ("has {n} {things}", "brings {n} {things}", "finds {n} {things}"),
    "*": (
        *(
            "has {m} boxes with {n} {things} each",
            "has {m} bags of {n} {things}",
            "fills {m} bags with {n} {things} each",
        ),
        *("brings {m} boxes of {n} {things}", "buys {m} bags with {n} {things} in each"),
    ),
    "+": ("gets {n} more", "finds {n} more", "buys {n} more", "gets {n} more from {other}"),
    "-": ("gives away {n}", "loses {n}", "gives {n} of them away", "gives {n} to {other}", "loses {n} of them"),
    "+*": ("gets {m} boxes of {n}", "buys {m} bags with {n} {things} each", "finds {m} bags with {n} in each"),
    "-*": ("gives {n} to each of {m} children", "gives {n} {things} to each of {m} friends"),
    "/": ("shares them equally among {n} children",),
}
SENTENCES = {
    "": ("There are {n} {things} on the table.", "At first {name} has {n} {things}.", "{name} had {n} {things}."),
    "*": (
        *("There are {m} boxes with {n} {things} in each.", "{m} bags hold {n} {things} each."),
        *("There are {m} bags of {n} {things}.", "At first {name} has {m} boxes of {n} {things}."),
    ),
    "+": (
        "{other} brings {n} more.",
        "{other} gives {name} {n} more.",
        "Then {name} gets {n} more.",
        "A friend brings {n} more.",
    ),
    "-": ("{other} takes {n} of them.", "Then {n} of them are lost.", "{name} takes {n} away.", "A friend takes {n}."),
    "+*": ("{other} brings {m} boxes with {n} in each.", "Then {name} gets {m} bags of {n} {things}."),
    "-*": (
        "{m} children take {n} each.",
        "Then each of {m} friends takes {n}.",
        "Each of {m} children takes {n} of them.",
    ),
    "/": ("{n} children share them equally.", "They are shared equally by {n} children."),
}
OF_EACH = {
    "+": ("Each child gets {n} more.", "Then each finds {n} more."),
    "-": ("Each child loses {n}.", "Then each gives {n} away."),
}
ALL_OF_THEM = ("Each of {n} children", "Every one of {n} children")
QUESTIONS = {
    "+": ("How many {things} does {name} have now?", "How many {things} are there now?", "How many is that in all?"),
    "-": ("How many {things} are left?", "How many are left?", "How many {things} are there now?"),
    "/": ("How many {things} does each child get?", "How many does each child get?"),
    "of each": ("How many {things} does each child have now?", "How many has each child now?"),
    "*": ("How many {things} do they have in all?", "How many {things} is that in all?"),
}
CONDITIONS = {
    "+": ("How many {things} does {name} have if {he}", "How many {things} are there if {name}"),
    "-": ("How many {things} are left if {name}", "How many {things} does {name} keep if {he}"),
    "/": ("How many {things} does each child get if {name}",),
}


def draw_recombined(rng: Random, steps: int) -> Problem:
    """A random problem of 2 or 3 steps in a phrasing that no conversation and no exam has."""
    while True:
        story = rng.choice(rng.choice(STORIES[steps]))
        if story.steps not in TALES:
            continue
        form = rng.choice(("sentences", "clauses", "condition"))
        phrasing = tell(TALES[story.steps].split(), form, rng)
        if phrasing and phrasing not in story.phrasings and not is_like_exams(story, phrasing):
            return ask(story, phrasing, rng, kind=f"recombined {steps}, {' '.join(story.steps)}, {form}")


def tell(tale: list[str], form: str, rng: Random) -> str:
    """A tale in sentences, or in clauses of one sentence, or as a question with a condition; empty if it cannot be."""
    if tale[-1].startswith("*"):
        return tell_of_all(tale, rng)
    if form == "sentences":
        return tell_in_sentences(tale, rng)
    if ending(tale) == "of each":  # of others than before, and so in a sentence of its own
        return ""
    clauses = join([draw(CLAUSES, move, rng) for move in tale])
    if form == "condition":
        return f"{rng.choice(CONDITIONS[ending(tale)])} {clauses}?"
    return f"{{name}} {clauses}. {rng.choice(QUESTIONS[ending(tale)])}"


def tell_of_all(tale: list[str], rng: Random) -> str:
    """A tale of several children to each of whom the same happens."""
    *moves, times = tale
    clauses = join([draw(CLAUSES, move, rng) for move in moves])
    children = rng.choice(ALL_OF_THEM).replace("{n}", f"{{{times[1]}}}")
    return f"{children} {clauses}. {rng.choice(QUESTIONS['*'])}".replace("{other}", "a friend")


def tell_in_sentences(tale: list[str], rng: Random) -> str:
    """A sentence for each move."""
    told: list[str] = []
    for place, move in enumerate(tale):
        has_subject = rng.random() < 0.6
        if any(before.startswith("/") for before in tale[:place]):
            told.append(draw(OF_EACH, move, rng))
        elif has_subject:
            told.append(draw(SENTENCES, move, rng))
        else:
            told.append(f"{'{he}' if place else '{name}'} {draw(CLAUSES, move, rng)}.")
    if "{name}" not in told[0]:  # nobody to be called he
        told = [sentence.replace("{he} ", "{name} ", 1) for sentence in told]
    is_named = any("{name}" in sentence for sentence in told)
    questions = [question for question in QUESTIONS[ending(tale)] if is_named or "{name}" not in question]
    return " ".join([*told, rng.choice(questions)])


def ending(tale: list[str]) -> str:
    """What is asked for at the end, a key of `QUESTIONS`: what the last move leaves, or a share after it."""
    return "of each" if any(move.startswith("/") for move in tale[:-1]) else tale[-1][0]


def draw(ways: dict[str, tuple[str, ...]], move: str, rng: Random) -> str:
    """One of the ways to tell a move such as `a`, `+b` or `-b*c`, with its letters in place of m and n."""
    letters = re.findall("[a-d]", move)
    told = rng.choice(ways[re.sub("[a-d]", "", move)])
    return told.replace("{m}", f"{{{letters[0]}}}").replace("{n}", f"{{{letters[-1]}}}")


def join(clauses: list[str]) -> str:
    """Clauses of one sentence: `has 3 apples, gets 4 more and loses 2`."""
    return f"{', '.join(clauses[:-1])} and {clauses[-1]}"


def is_like_exams(story: Story, phrasing: str) -> bool:
    """Whether a phrasing shares a telling sentence with a held-out one, or is nearer to its story's than those shown.

    The first sentence may be shared if it gives one number, and so may a question that gives none.
    """
    first, *later = map(anonymous, split_sentences(phrasing))
    telling = {sentence for sentence in later if "#" in sentence} | ({first} if first.count("#") > 1 else set())
    return bool(telling & held_out_sentences()) or likeness(phrasing, story.phrasings[-1]) >= nearest_shown(story)


@cache
def nearest_shown(story: Story) -> float:
    """How like its held-out phrasing a story is told in conversations; at least a half."""
    *shown, _, held_out = story.phrasings
    return max(0.5, *(likeness(phrasing, held_out) for phrasing in shown))


@cache
def held_out_sentences() -> frozenset[str]:
    """All sentences of held-out phrasings."""
    told = [story.phrasings[-1] for steps in (2, 3) for group in STORIES[steps] for story in group]
    return frozenset(anonymous(sentence) for phrasing in told for sentence in split_sentences(phrasing))


def anonymous(sentence: str) -> str:
    """A sentence without its numbers and people."""
    return re.sub(r"\{(name|he|other)\}", "N", re.sub(r"\{[a-d]\}", "#", sentence))


def likeness(one: str, other: str) -> float:
    """Share of the words of two phrasings that stand in both in the same order."""
    words = (re.findall(r"\{\w+\}|\w+|[?.,]", text.lower()) for text in (one, other))
    return SequenceMatcher(None, *words, autojunk=False).ratio()
