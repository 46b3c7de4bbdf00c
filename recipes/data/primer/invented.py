"""Entities that do not exist, such as the country Brundavia, and questions about them, which have no answer.

Questions have the form of those about what exists. So has the answer that a model makes up when it has never learnt to
say that it does not know: `The capital of Brundavia is Lisbon.`
"""

from collections.abc import Callable
from random import Random

from recipes.data.primer.everyday_tables import JOBS
from recipes.data.primer.everyday_topics import with_article
from recipes.data.primer.inquiries import INQUIRIES, Inquiry
from recipes.data.primer.topics import Aspect, Question, Topic, fields
from recipes.data.primer.world_tables import COUNTRIES, Row

# Names begin differently in each split, so that no name of one can be in another, nor one that only looks like it.
BEGINNINGS = {
    "train": (
        *("Bru", "Zor", "Quel", "Vor", "Dri", "Ske", "Thu", "Plo", "Gru", "Fre", "Kas", "Mur", "Yel", "Wex", "Jun"),
        *("Nar", "Hob", "Lim", "Rav", "Tos", "Xan", "Glo", "Cri", "Bez", "Dus", "Fan", "Kep", "Osk", "Ulm", "Sny"),
    ),
    "validation": ("Vib", "Zed", "Gop", "Trul", "Lax", "Mep"),
    "exam": ("Kro", "Fim", "Jol", "Wur", "Nib", "Dax", "Pov", "Shra", "Ygg", "Bolm", "Quin", "Rul"),
}
MIDDLES = ("da", "li", "ro", "me", "ta", "vi", "no", "sha", "ba", "go", "ku", "pe")
ENDINGS = {
    "country": ("via", "land", "stan", "dor", "nia", "mora"),
    "city": ("burg", "polis", "ton", "grad", "mont", "dez"),
    "river": ("ra", "lune", "ko", "zi", "vash", "mel"),
    "sight": ("dar", "lin", "mo", "rus", "vel", "nak"),
    "element": ("rium", "nium", "xium", "gon", "zine", "dium"),
    "planet": ("nus", "ros", "thea", "lux", "rion", "pter"),
    "animal": ("blet", "bok", "pod", "ling", "zard", "noo"),
    "person": ("ren", "dak", "lia", "vin", "sen", "mo"),
}


def invent_name(kind: str, split: str, rng: Random) -> str:
    """A name of something that does not exist: `kind` is one of ENDINGS, `split` one of BEGINNINGS."""
    return rng.choice(BEGINNINGS[split]) + rng.choice(MIDDLES) + rng.choice(ENDINGS[kind])


# Questions about people are asked only of those who do not exist: the documents tell of no others.

PEOPLE = Topic(
    "people",
    tuple(
        {"person": "", "job": with_article(job["job"].split()[-1]), "city": country["capital"], "year": str(year)}
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


# What to put in place of what exists, by topic: columns of its rows, and the name that an answer calls it by.


def _country(split: str, rng: Random) -> tuple[Row, str]:
    name = invent_name("country", split, rng)
    return {"country": name, "owner": f"{name}'s"}, name


def _city(split: str, rng: Random) -> tuple[Row, str]:
    name = invent_name("city", split, rng)
    return {"capital": name, "city": name}, name


def _river(split: str, rng: Random) -> tuple[Row, str]:
    name = f"the {invent_name('river', split, rng)}"
    return {"river": name}, name


def _sight(split: str, rng: Random) -> tuple[Row, str]:
    name = f"the {invent_name('sight', split, rng)} {rng.choice(('Tower', 'Bridge', 'Temple', 'Palace'))}"
    return {"landmark": name}, name


def _element(split: str, rng: Random) -> tuple[Row, str]:
    name = invent_name("element", split, rng).lower()
    return {"element": name}, name


def _planet(split: str, rng: Random) -> tuple[Row, str]:
    name = invent_name("planet", split, rng)
    return {"planet": name}, name


def _animal(split: str, rng: Random) -> tuple[Row, str]:
    name = invent_name("animal", split, rng).lower()
    return {"animal": name, "plural": f"{name}s", "an_animal": with_article(name)}, f"{name}s"


def _person(split: str, rng: Random) -> tuple[Row, str]:
    name = f"{invent_name('person', split, rng)} {invent_name('person', split, rng)}"
    return {"person": name}, name


Invent = Callable[[str, Random], tuple[Row, str]]
INVENTIONS: tuple[tuple[str, Invent, float], ...] = (  # topic, what replaces its rows, share
    ("countries", _country, 6),
    ("countries", _city, 2),
    ("rivers", _river, 2),
    ("rivers", _city, 1),
    ("landmarks", _sight, 2),
    ("elements", _element, 4),
    ("planets", _planet, 3),
    ("animals", _animal, 4),
    ("people", _person, 4),
)
ASKABLE = INQUIRIES | {
    "people": tuple(Inquiry(PEOPLE, aspect, column) for aspect in PEOPLE.aspects for column in aspect.questions)
}


def draw_unanswerable(split: str, rng: Random) -> tuple[Question, str]:
    """A question about something that does not exist, and the name of that.

    The question's `answer` and `sentence` are made up, out of a row about something that exists. The exam asks in
    phrasings that no conversation uses.
    """
    topic, invent, _ = rng.choices(INVENTIONS, weights=[share for *_, share in INVENTIONS])[0]
    invented, name = invent(split, rng)
    inquiry = rng.choice([each for each in ASKABLE[topic] if _asks_about(each, invented)])
    row = rng.choice(inquiry.topic.rows if topic == "people" else inquiry.rows) | invented
    return (inquiry.ask_in_exam if split == "exam" else inquiry.ask_in_talk)(row, rng), name


def _asks_about(inquiry: Inquiry, invented: Row) -> bool:
    """Whether each way to ask names something invented and nothing that exists."""
    ways = (*inquiry.templates, *inquiry.phrases)
    return inquiry.column not in invented and all(fields(way) and fields(way) <= invented.keys() for way in ways)
