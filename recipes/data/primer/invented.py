"""Entities that do not exist, such as the country Brundavia, and questions about them, which have no answer.

Questions have the form of those about what exists. So has the answer that a model makes up when it has never learnt to
say that it does not know: `The capital of Brundavia is Lisbon.`
"""

from collections.abc import Sequence
from random import Random

from recipes.data.primer.everyday_tables import JOBS
from recipes.data.primer.inquiries import INQUIRIES, Inquiry
from recipes.data.primer.topics import Aspect, Question, Topic, fields
from recipes.data.primer.world_tables import COUNTRIES, Row

# Names begin differently in each split, so that no name of one can be in another, nor one that only looks like it; and
# with a consonant, so that they follow the article a.
BEGINNINGS = {
    "train": (
        *("Bru", "Zor", "Quel", "Vor", "Dri", "Ske", "Thu", "Plo", "Gru", "Fre", "Kas", "Mur", "Yel", "Wex", "Jun"),
        *("Nar", "Hob", "Lim", "Rav", "Tos", "Xan", "Glo", "Cri", "Bez", "Dus", "Fan", "Kep", "Tesk", "Hulm", "Sny"),
    ),
    "validation": ("Vib", "Zed", "Gop", "Trul", "Lax", "Mep"),
    "exam": ("Kro", "Fim", "Jol", "Wur", "Nib", "Dax", "Pov", "Shra", "Yog", "Bolm", "Quin", "Rul"),
}
MIDDLES = ("da", "li", "ro", "me", "ta", "vi", "no", "sha", "ba", "go", "ku", "pe")
ENDINGS = {
    "country": ("via", "land", "stan", "dor", "nia", "mora"),
    "city": ("burg", "polis", "ton", "grad", "mont", "dez"),
    "river": ("ra", "lune", "ko", "zi", "vash", "mel"),
    "sight": ("dar Tower", "lin Bridge", "mo Temple", "rus Palace", "vel Tower", "nak Bridge"),
    "element": ("rium", "nium", "xium", "gon", "zine", "dium"),
    "planet": ("nus", "ros", "thea", "lux", "rion", "pter"),
    "animal": ("blet", "bok", "pod", "ling", "zard", "noo"),
    "person": ("ren", "dak", "lia", "vin", "sen", "mo"),
}
LOWERCASE = ("element", "animal")


def invent_name(kind: str, split: str, rng: Random) -> str:
    """A name of something that does not exist: `kind` is one of ENDINGS, `split` one of BEGINNINGS."""
    name = rng.choice(BEGINNINGS[split]) + rng.choice(MIDDLES) + rng.choice(ENDINGS[kind])
    return name.lower() if kind in LOWERCASE else name


# Questions about people are asked only of those who do not exist: the documents tell of no others.

PEOPLE = Topic(
    "people",
    tuple(
        {
            "person": "nobody",  # each question puts an invented name here
            "job": job["job"],
            "city": country["capital"],
            "year": str(year),
        }
        for job, country, year in zip(JOBS, COUNTRIES, range(1801, 2000, 7), strict=False)
    ),
    (
        Aspect(
            phrasings=("{person} was {job}.",),
            questions={
                "job": ("Who was {person}?", "What was the job of {person}?", "What did {person} do for a living?")
            },
        ),
        Aspect(
            phrasings=("{person} lived in {city}.",),
            questions={
                "city": ("Where did {person} live?", "In which city did {person} live?", "What was {person}'s home?")
            },
        ),
        Aspect(
            phrasings=("{person} was born in {year}.",),
            questions={
                "year": (
                    "When was {person} born?",
                    "In which year was {person} born?",
                    "What year was {person} born in?",
                )
            },
        ),
    ),
    (),
)


# Topic, kind of the invented name, columns of a row that the name fills, and relative share of the questions.
Invention = tuple[str, str, Row, float]
INVENTIONS: tuple[Invention, ...] = (
    ("countries", "country", {"country": "{}", "owner": "{}'s"}, 6),
    ("countries", "city", {"capital": "{}"}, 2),
    ("rivers", "river", {"river": "the {}"}, 2),
    ("rivers", "city", {"city": "{}"}, 1),
    ("landmarks", "sight", {"landmark": "the {}"}, 2),
    ("elements", "element", {"element": "{}"}, 4),
    ("planets", "planet", {"planet": "{}"}, 3),
    ("animals", "animal", {"animal": "{}", "plural": "{}s", "an_animal": "a {}"}, 4),
    ("people", "person", {"person": "{}"}, 4),
)
ASKABLE = INQUIRIES | {
    "people": tuple(Inquiry(PEOPLE, aspect, column) for aspect in PEOPLE.aspects for column in aspect.questions)
}


def draw_unanswerable(split: str, rng: Random) -> Question:
    """A question about something that does not exist.

    The question's `answer` and `sentence` are made up, out of a row about something that exists. The exam asks in
    phrasings that no conversation uses.
    """
    inquiry, kind, columns = _draw_inquiry(INVENTIONS, rng)
    name = invent_name(kind, split, rng)
    row = rng.choice(inquiry.rows) | {column: template.format(name) for column, template in columns.items()}
    return (inquiry.ask_in_exam if split == "exam" else inquiry.ask_in_talk)(row, rng)


def draw_answerable(rng: Random) -> Question:
    """A question as `draw_unanswerable` asks, but about something that exists."""
    while True:
        inquiry, _, _ = _draw_inquiry([each for each in INVENTIONS if each[0] != PEOPLE.name], rng)
        if inquiry.has_one_answer:
            return inquiry.ask_in_talk(rng.choice(inquiry.rows), rng)


def _draw_inquiry(inventions: Sequence[Invention], rng: Random) -> tuple[Inquiry, str, Row]:
    """Something to ask for, the kind of the name to ask about, and the columns that the name fills."""
    topic, kind, columns, _ = rng.choices(inventions, weights=[share for *_, share in inventions])[0]
    return rng.choice([each for each in ASKABLE[topic] if _asks_about(each, columns)]), kind, columns


def _asks_about(inquiry: Inquiry, columns: Row) -> bool:
    """Whether each way to ask names something in `columns`, and nothing else."""
    ways = (*inquiry.templates, *inquiry.phrases)
    return inquiry.column not in columns and all(fields(way) and fields(way) <= columns.keys() for way in ways)
