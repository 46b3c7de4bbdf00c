"""The stories in words and in an order that no conversation uses, for GRPO alone.

A model that knows a story by its wording alone solves some of these and not others, which is what a reward can teach
from. They change the phrasings that GRPO may use; the one that is held out from training is never among them.
"""

import re
from random import Random

from recipes.data.primer.problems import STORIES, Problem, ask

# A pattern in a phrasing, and what may stand there instead.
OTHER_WORDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"\{name\} has (?=\{)", ("{name} owns ", "{name} starts with ", "{name} keeps ")),
    (r"\bgets (?=\{)", ("buys ", "wins ", "is given ")),
    (r"\bgot (?=\{)", ("bought ", "won ", "was given ")),
    (r"\bgetting (?=\{)", ("buying ", "winning ")),
    (r"\bgives away (?=\{)", ("sells ", "hands out ", "throws away ")),
    (r"\bgave away (?=\{)", ("sold ", "handed out ")),
    (r"\bgives (\{\w\}) away", (r"throws \1 away", r"hands \1 out")),
    (r"\bloses (?=\{)", ("drops ", "breaks ", "misses ")),
    (r"\blost (?=\{)", ("dropped ", "broke ")),
    (r"\blosing (?=\{)", ("dropping ", "breaking ")),
    (r"\bfinds (?=\{)", ("picks up ", "wins ")),
    (r"\bfound (?=\{)", ("picked up ", "won ")),
    (r"\bbrings (?=\{)", ("adds ", "carries in ")),
    (r"\btakes (?=\{)", ("borrows ", "removes ")),
    (r"\btook out (?=\{)", ("removed ", "picked out ")),
    (r"\bput in (?=\{)", ("added ", "dropped in ")),
    (r"\bfills (?=\{)", ("packs ", "loads ")),
    (r"\bputs (?=\{)", ("places ", "lays ")),
    (r"\bshares (?=.*equally)", ("divides ", "splits ")),
    (r"\bshare (?=.*equally)", ("divide ", "split ")),
    (r"\bequally\b", ("evenly",)),
    (r"\bboxes\b(?!.* box\b)", ("baskets", "jars", "crates")),
    (r"\bbags\b(?!.* bag\b)", ("sacks", "packs", "bowls")),
    (r"\bchildren\b(?!.* child\b)", ("people", "girls", "boys")),
    (r"\bare left\?", ("remain?", "are still there?")),
    (r"\bin all\?", ("altogether?", "in the end?")),
    (r"\bnow\?", ("in the end?", "after that?")),
)
ASIDES = (  # numbers that nothing is done with
    *("{name} is {n} years old.", "{other} lives at number {n}.", "It is {n} degrees outside."),
    *("There are {n} children in the class of {name}.", "A book of {other} has {n} pages."),
)
# Questions about what there is at the end, which say nothing of whether that is more or less than before.
ABOUT_THE_END = re.compile(r"How many( \{things\})? (are left|are there|are there now|is that in all|are in it now)\?")
ENDS = (
    *("How many {things} are there in the end?", "How many {things} is that now?", "How many are there in the end?"),
    *("How many {things} is that in all?", "What is the number of {things} now?"),
)


def draw_reworded(rng: Random, steps: int) -> Problem:
    """A random problem of 1 to 3 steps in a phrasing of its story that is changed in one way or several."""
    while True:
        story = rng.choice(rng.choice(STORIES[steps]))
        phrasing = told = story.draw_phrasing(rng, "train")
        for change in CHANGES:
            phrasing = change(phrasing, rng) if rng.random() < 0.4 else phrasing
        if phrasing != told:
            return ask(story, phrasing, rng, kind=f"reworded {steps}, {' '.join(story.steps)}, {told}")


def use_other_words(phrasing: str, rng: Random) -> str:
    for pattern, words in OTHER_WORDS:
        if rng.random() < 0.7:
            phrasing = re.sub(pattern, rng.choice(words), phrasing)
    return phrasing


def ask_otherwise(phrasing: str, rng: Random) -> str:
    """Ask in other words for what there is at the end, if that is asked for."""
    return ABOUT_THE_END.sub(rng.choice(ENDS), phrasing)


def ask_first(phrasing: str, rng: Random) -> str:
    """Move the question before what it is about, where it is a sentence of its own."""
    *told, question = split_sentences(phrasing)
    return " ".join([question, *told])


def add_aside(phrasing: str, rng: Random) -> str:
    """Put a sentence with a needless number anywhere but at the end."""
    sentences = split_sentences(phrasing)
    aside = rng.choice(ASIDES).replace("{n}", str(rng.randint(2, 99)))
    sentences.insert(rng.randrange(len(sentences)), aside)
    return " ".join(sentences)


def split_sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.?]) ", text)


CHANGES = (use_other_words, ask_otherwise, ask_first, add_aside)
