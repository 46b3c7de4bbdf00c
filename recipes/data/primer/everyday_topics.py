"""Topics of everyday life, on `everyday_tables`: opposites, animals, colors, things, words."""

from recipes.data.primer.everyday_tables import (
    ANIMALS,
    JOBS,
    MEASURES,
    MIXTURES,
    ORGANS,
    PLURALS,
    PRODUCTS,
    SHAPES,
    THINGS,
    VERBS,
)
from recipes.data.primer.topics import Aspect, Topic
from recipes.data.primer.world_tables import OPPOSITES


def with_article(noun: str) -> str:
    """The noun with the article a or an."""
    return ("an " if noun[0] in "aeiou" else "a ") + noun


OPPOSITE_TOPIC = Topic(
    "opposites",
    OPPOSITES + tuple({"word": row["opposite"], "opposite": row["word"]} for row in OPPOSITES),
    (
        Aspect(
            phrasings=(
                "The opposite of {word} is {opposite}.",
                "{word} is the opposite of {opposite}.",
                "{word} and {opposite} are opposites.",
                "The word {word} means the opposite of {opposite}.",
                "The contrary of {word} is {opposite}.",
                'The opposite of "{word}" is "{opposite}".',
                "Say {word}, and the opposite is {opposite}.",
                "The antonym of {word} is {opposite}.",
            ),
            questions={
                "opposite": (
                    "What is the opposite of {word}?",
                    "Which word is the opposite of {word}?",
                    "What is the contrary of {word}?",
                    "Which word means the opposite of {word}?",
                )
            },
            checks=("Is {opposite} the opposite of {word}?",),
            checked="opposite",
        ),
    ),
    (
        "Many words have an opposite.",
        "Opposites are words that mean the reverse of each other.",
        "Let us play a game with opposites.",
        "Here are some pairs of opposites.",
    ),
)

ANIMAL_TOPIC = Topic(
    "animals",
    tuple(
        row
        | {
            "an_animal": with_article(row["animal"]),
            "a_young": with_article(row["young"]),
            "a_kind": with_article(row["kind"]),
        }
        for row in ANIMALS
    ),
    (
        Aspect(
            phrasings=(
                "{plural} {sound}.",
                "The sound of {an_animal}: it can {sound}.",
                "You can hear {plural} {sound}.",
                "When {plural} make a sound, they {sound}.",
                "What do {plural} do when they are loud? They {sound}.",
            ),
            questions={"sound": ("What sound do {plural} make?", "What do {plural} do to make themselves heard?")},
        ),
        Aspect(
            phrasings=(
                "A young {animal} is called {a_young}.",
                "A baby {animal} is called {a_young}.",
                "The young of {an_animal} is called {a_young}.",
                "{a_young} is a young {animal}.",
                "When {a_young} grows up, it can become {an_animal}.",
            ),
            questions={
                "a_young": (
                    "What is a young {animal} called?",
                    "What is a baby {animal} called?",
                    "What do you call the young of {an_animal}?",
                )
            },
        ),
        Aspect(
            phrasings=(
                "{an_animal} is {a_kind}.",
                "The {animal} is {a_kind}.",
                "{plural} belong to the {kind} group.",
                "Every {animal} is {a_kind}.",
            ),
            questions={"a_kind": ("What kind of animal is {an_animal}?", "Which group of animals is {an_animal} in?")},
            checks=("Is {an_animal} {a_kind}?",),
            checked="a_kind",
        ),
        Aspect(
            phrasings=("{an_animal} has {legs} legs.", "{plural} have {legs} legs.", "The {animal} has {legs} legs."),
            questions={"legs": ("How many legs does {an_animal} have?", "How many legs do {plural} have?")},
        ),
        Aspect(
            phrasings=(
                "{plural} eat {food}.",
                "The food of {an_animal} is {food}.",
                "A hungry {animal} looks for {food}.",
            ),
            questions={"food": ("What do {plural} eat?", "What does a hungry {animal} look for?")},
        ),
        Aspect(
            phrasings=(
                "The home of {an_animal} is {home}.",
                "{an_animal} feels at home in {home}.",
            ),
            questions={"home": ("What is the home of {an_animal}?", "Where does {an_animal} feel at home?")},
        ),
    ),
    (
        "There are many kinds of animals.",
        "Animals differ in how they look, sound and live.",
        "Let us visit the animals.",
        "Animals live on land, in the water and in the air.",
    ),
)

THING_TOPIC = Topic(
    "things",
    THINGS,
    (
        Aspect(
            phrasings=(
                "The color of {thing} is {color}.",
                "The usual color of {thing} is {color}.",
                "{color} is the color of {thing}.",
                "When you think of {thing}, you think of {color}.",
                "If something is as {color} as {thing}, it is really {color}.",
            ),
            questions={
                "color": ("What is the color of {thing}?", "What color is {thing}?", "Which color does {thing} have?")
            },
            checks=("Is {color} the color of {thing}?",),
            checked="color",
        ),
    ),
    ("Colors are everywhere.", "Look around you and name the colors.", "The rainbow has many colors."),
)

MIXTURE_TOPIC = Topic(
    "mixtures",
    MIXTURES,
    (
        Aspect(
            phrasings=(
                "{first} paint mixed with {second} paint makes {color} paint.",
                "If you mix {first} and {second} paint, you get {color}.",
                "{second} and {first} paint together make {color}.",
                "To make {color} paint, mix {first} and {second}.",
            ),
            questions={
                "color": (
                    "What color do you get when you mix {first} and {second} paint?",
                    "What do {first} and {second} paint make?",
                )
            },
        ),
    ),
    ("Painters mix their colors.", "A few paints are enough to make many colors."),
)

SHAPE_TOPIC = Topic(
    "shapes",
    tuple(row | {"a_shape": with_article(row["shape"])} for row in SHAPES),
    (
        Aspect(
            phrasings=(
                "{a_shape} has {sides} sides.",
                "The {shape} has {sides} sides.",
                "A shape with {sides} equal sides can be {a_shape}.",
            ),
            questions={"sides": ("How many sides does {a_shape} have?", "How many sides are there in {a_shape}?")},
        ),
        Aspect(
            phrasings=("{a_shape} has {sides} corners.", "The {shape} has {sides} corners."),
            questions={"sides": ("How many corners does {a_shape} have?",)},
        ),
    ),
    ("Shapes have sides and corners.", "Geometry is about lines and shapes.", "A circle has no corners."),
)

MEASURE_TOPIC = Topic(
    "measures",
    MEASURES,
    (
        Aspect(
            phrasings=(
                "There are {count} {part} in {whole}.",
                "{whole} has {count} {part}.",
                "{whole} is made of {count} {part}.",
                "{count} {part} make {whole}.",
                "{count} {part} are the same as {whole}.",
            ),
            questions={
                "count": ("How many {part} are there in {whole}?", "How many {part} make {whole}?"),
                "whole": ("What do {count} {part} make?",),
            },
        ),
    ),
    ("We measure time, length and weight.", "Measures help us to compare things."),
)

JOB_TOPIC = Topic(
    "jobs",
    JOBS,
    (
        Aspect(
            phrasings=(
                "{job} {task}.",
                "{job} is a person who {task}.",
                "Somebody who {task} is {job}.",
                "The one who {task} is called {job}.",
            ),
            questions={
                "job": ("Who {task}?", "What do you call a person who {task}?"),
                "task": ("What does {job} do at work?",),
            },
        ),
    ),
    ("People have many different jobs.", "Every job helps somebody."),
)

PRODUCT_TOPIC = Topic(
    "products",
    PRODUCTS,
    (
        Aspect(
            phrasings=(
                "{product} can be made from {source}.",
                "People make {product} from {source}.",
                "To make {product}, you need {source}.",
                "From {source} comes {product}.",
            ),
            questions={
                "source": ("What can {product} be made from?", "What do you need to make {product}?"),
                "product": ("What can be made from {source}?",),
            },
        ),
    ),
    ("Most things are made from something else.", "Have you ever asked what things are made of?"),
)

ORGAN_TOPIC = Topic(
    "organs",
    ORGANS,
    (
        Aspect(
            phrasings=(
                "We use {organ} to {task}.",
                "{organ}: with this part of the body we {task}.",
                "To {task}, the body needs {organ}.",
                "When we {task}, we use {organ}.",
            ),
            questions={
                "organ": ("Which part of the body do we use to {task}?", "With what do we {task}?"),
                "task": ("What can we do with {organ}?",),
            },
        ),
    ),
    ("The human body has many parts.", "Each part of the body has its work."),
)

PLURAL_TOPIC = Topic(
    "plurals",
    PLURALS,
    (
        Aspect(
            phrasings=(
                "The plural of {singular} is {plural}.",
                "One {singular}, two {plural}.",
                "{plural} is the plural of {singular}.",
                "We say one {singular} but many {plural}.",
                "The singular of {plural} is {singular}.",
                "More than one {singular}: {plural}.",
            ),
            questions={
                "plural": ("What is the plural of {singular}?", "How do you say more than one {singular}?"),
                "singular": ("What is the singular of {plural}?",),
            },
        ),
    ),
    ("A noun changes when there is more than one.", "Some plurals are regular and some are not."),
)

VERB_TOPIC = Topic(
    "verbs",
    VERBS,
    (
        Aspect(
            weight=2,
            phrasings=(
                "The past tense of {verb} is {past}.",
                "Today I {verb}. Yesterday I {past}.",
                "{past} is the past tense of {verb}.",
                "We {verb} today, and we {past} yesterday.",
                "The verb {verb} becomes {past} in the past tense.",
                "Every day they {verb}; last week they {past}.",
            ),
            questions={
                "past": ("What is the past tense of {verb}?", "Today I {verb}. What is it for yesterday?"),
                "verb": ("Which verb has the past tense {past}?",),
            },
        ),
        Aspect(
            phrasings=(
                "Now I {verb}, and before now I have {done}.",
                "The forms of {verb} are {verb}, {past}, {done}.",
                "I {verb}, I {past}, I have {done}.",
                "After the word have, {verb} becomes {done}.",
            ),
            questions={"done": ("Which form of {verb} comes after the word have?",)},
        ),
    ),
    ("Verbs tell us what happens, and when.", "In English, many verbs change in the past tense."),
)

EVERYDAY_TOPICS = (
    OPPOSITE_TOPIC,
    ANIMAL_TOPIC,
    THING_TOPIC,
    MIXTURE_TOPIC,
    SHAPE_TOPIC,
    MEASURE_TOPIC,
    JOB_TOPIC,
    PRODUCT_TOPIC,
    ORGAN_TOPIC,
    PLURAL_TOPIC,
    VERB_TOPIC,
)
