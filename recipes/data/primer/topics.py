"""What can be said about the rows of a table: a topic holds the rows and every way to tell, ask and check them."""

from dataclasses import dataclass
from functools import cache, cached_property
from random import Random
from string import Formatter

from recipes.data.primer.world_tables import Row


@cache
def fields(template: str) -> frozenset[str]:
    """Names of the columns that a template speaks of."""
    return frozenset(name for _, name, _, _ in Formatter().parse(template) if name)


def say(template: str, row: Row) -> str:
    """The template filled from a row, its first letter capital."""
    text = template.format_map(row)
    return text[0].upper() + text[1:]


@dataclass(frozen=True)
class Aspect:
    """One fact that every row of a topic has.

    tellings: whole sentences; the first is the plainest, and told most often.
    questions: for a column, the questions whose one answer is that column of the row.
    checks: questions answered with yes, and with no once the column in `checked` is another row's.
    weight: how often the aspect is told, compared with the topic's others.
    """

    tellings: tuple[str, ...]
    questions: dict[str, tuple[str, ...]]
    checks: tuple[str, ...] = ()
    checked: str = ""
    weight: int = 1

    @cached_property
    def columns(self) -> frozenset[str]:
        """The columns that any of the tellings speaks of."""
        return frozenset().union(*map(fields, self.tellings))

    def knows(self, row: Row) -> bool:
        """Whether the row has no empty cell among those that the aspect speaks of."""
        return all(row[name] for name in self.columns)

    def tell(self, row: Row, rng: Random) -> str:
        """The fact as a sentence."""
        template = self.tellings[0] if rng.random() < 0.25 else rng.choice(self.tellings)
        return say(template, row)


@dataclass(frozen=True)
class Question:
    """A question about a row, its short answer, and the whole sentence that answers it."""

    text: str
    answer: str
    sentence: str
    others: tuple[str, ...]  # answers that are wrong for sure


@dataclass(frozen=True)
class Topic:
    """Rows of one kind, the aspects they have in common, and sentences that can open a document about them."""

    name: str
    rows: tuple[Row, ...]
    aspects: tuple[Aspect, ...]
    openings: tuple[str, ...]

    def aspect_rows(self, aspect: Aspect) -> list[Row]:
        """The rows that have the aspect."""
        return [row for row in self.rows if aspect.knows(row)]

    def ask(self, aspect: Aspect, row: Row, rng: Random) -> Question:
        """A question about one aspect of a row, in any direction that has one answer."""
        column, templates = rng.choice(list(aspect.questions.items()))
        template = rng.choice(templates)
        others = self.wrong_answers(aspect, column, template, row)
        return Question(say(template, row), row[column], aspect.tell(row, rng), others)

    def wrong_answers(self, aspect: Aspect, column: str, template: str, row: Row) -> tuple[str, ...]:
        """What is in the column of other rows and is wrong for sure when the template is asked about this row."""
        # Another row's answer is wrong only if that row also differs in what the question names.
        named = fields(template) | {column}
        different = [other for other in self.aspect_rows(aspect) if all(other[name] != row[name] for name in named)]
        seen = {row[name] for name in named}
        return tuple(dict.fromkeys(other[column] for other in different if other[column] not in seen))
