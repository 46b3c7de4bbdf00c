"""Topics: rows of a table, with phrasings that state their facts, and questions and checks about them."""

from dataclasses import dataclass
from functools import cache, cached_property
from random import Random
from string import Formatter

from recipes.data.primer.world_tables import Row


@cache
def fields(template: str) -> frozenset[str]:
    """Names of the columns that a template uses."""
    return frozenset(name for _, name, _, _ in Formatter().parse(template) if name)


def say(template: str, row: Row) -> str:
    """Fill the template from a row, and capitalize its first letter."""
    text = template.format_map(row)
    return text[0].upper() + text[1:]


@dataclass(frozen=True)
class Aspect:
    """One kind of fact about the rows of a topic.

    Args:
        phrasings: templates of full sentences; the first is the plainest and the most frequent.
        questions: for a column, templates of questions that the column of the row answers.
        checks: templates of yes-or-no questions: yes for the row, no with another row's value in column `checked`.
        weight: relative frequency among the topic's aspects.
    """

    phrasings: tuple[str, ...]
    questions: dict[str, tuple[str, ...]]
    checks: tuple[str, ...] = ()
    checked: str = ""
    weight: int = 1

    @cached_property
    def columns(self) -> frozenset[str]:
        """The columns that the phrasings use."""
        return frozenset().union(*map(fields, self.phrasings))

    def knows(self, row: Row) -> bool:
        """Whether the row has a value in every column that the aspect uses."""
        return all(row[name] for name in self.columns)

    def tell(self, row: Row, rng: Random) -> str:
        """The fact as a sentence, in a random phrasing."""
        template = self.phrasings[0] if rng.random() < 0.25 else rng.choice(self.phrasings)
        return say(template, row)


@dataclass(frozen=True)
class Question:
    """A question about a row, its short answer, and the full sentence that answers it."""

    text: str
    answer: str
    sentence: str
    others: tuple[str, ...]  # wrong answers
    asks_for: str = ""  # the same for all questions that ask for one column of an aspect


@dataclass(frozen=True)
class Topic:
    """Rows of one kind, their aspects, and sentences that can open a document about them."""

    name: str
    rows: tuple[Row, ...]
    aspects: tuple[Aspect, ...]
    openings: tuple[str, ...]

    def aspect_rows(self, aspect: Aspect) -> list[Row]:
        """The rows that have the aspect."""
        return [row for row in self.rows if aspect.knows(row)]

    def ask(self, aspect: Aspect, row: Row, rng: Random) -> Question:
        """A random question about one aspect of a row, asking for any of the columns that have questions."""
        column, templates = rng.choice(list(aspect.questions.items()))
        template = rng.choice(templates)
        others = self.wrong_answers(aspect, column, template, row)
        return Question(say(template, row), row[column], aspect.tell(row, rng), others)

    def wrong_answers(self, aspect: Aspect, column: str, template: str, row: Row) -> tuple[str, ...]:
        """Values of the column in other rows that are certainly wrong answers to the template about this row."""
        # Another row's value is wrong only if that row also differs in everything that the question names.
        named = fields(template) | {column}
        different = [other for other in self.aspect_rows(aspect) if all(other[name] != row[name] for name in named)]
        seen = {row[name] for name in named}
        return tuple(dict.fromkeys(other[column] for other in different if other[column] not in seen))
