"""Topics of the calendar: days, months and seasons."""

from recipes.data.primer.topics import Aspect, Topic
from recipes.data.primer.world_tables import DAY_NAMES, MONTHS, SEASONS, Row


def _day(index: int) -> Row:
    """A day of the week and the days around it."""
    offsets = {"day": 0, "next": 1, "second_next": 2, "third_next": 3, "previous": -1, "second_previous": -2}
    return {name: DAY_NAMES[(index + offset) % 7] for name, offset in offsets.items()}


def _ring(rows: tuple[Row, ...], column: str) -> tuple[Row, ...]:
    """Add the `next` and `previous` values of a column to each row; the first row follows the last."""
    names = [row[column] for row in rows]
    return tuple(
        row | {"next": names[(index + 1) % len(names)], "previous": names[index - 1]} for index, row in enumerate(rows)
    )


DAY_TOPIC = Topic(
    "days",
    tuple(_day(index) for index in range(7)),
    (
        Aspect(
            weight=4,
            phrasings=(
                "If yesterday was {previous}, then tomorrow will be {next}.",
                "If yesterday was {previous}, tomorrow will be {next}.",
                "Yesterday was {previous}, so tomorrow will be {next}.",
                "If yesterday was {previous}, then today is {day} and tomorrow will be {next}.",
                "Yesterday was {previous}. Today is {day}. Tomorrow will be {next}.",
                "If tomorrow will be {next}, then yesterday was {previous}.",
                "When yesterday was {previous}, today is {day}, and so tomorrow will be {next}.",
            ),
            questions={
                "next": (
                    "If yesterday was {previous}, what day will it be tomorrow?",
                    "Yesterday was {previous}. What day is tomorrow?",
                ),
                "previous": ("If tomorrow will be {next}, what day was it yesterday?",),
            },
        ),
        Aspect(
            phrasings=(
                "If today is {day}, then tomorrow will be {next}.",
                "Today is {day}, so tomorrow will be {next}.",
                "The day after {day} is {next}.",
                "{next} comes after {day}.",
                "After {day} comes {next}.",
                "{day} is followed by {next}.",
                "If tomorrow is {next}, then today is {day}.",
            ),
            questions={
                "next": (
                    "If today is {day}, what day will it be tomorrow?",
                    "Which day comes after {day}?",
                    "What is the day after {day}?",
                )
            },
        ),
        Aspect(
            phrasings=(
                "If today is {day}, then yesterday was {previous}.",
                "Today is {day}, so yesterday was {previous}.",
                "The day before {day} is {previous}.",
                "{previous} comes before {day}.",
                "Before {day} comes {previous}.",
                "If yesterday was {previous}, then today is {day}.",
            ),
            questions={
                "previous": (
                    "If today is {day}, what day was it yesterday?",
                    "Which day comes before {day}?",
                    "What is the day before {day}?",
                ),
                "day": ("If yesterday was {previous}, what day is it today?",),
            },
        ),
        Aspect(
            phrasings=(
                "If today is {day}, then in two days it will be {second_next}.",
                "Two days after {day} comes {second_next}.",
                "If today is {day}, then the day after tomorrow will be {second_next}.",
                "The day after tomorrow is {second_next} if today is {day}.",
            ),
            questions={
                "second_next": (
                    "If today is {day}, what day is the day after tomorrow?",
                    "What day comes two days after {day}?",
                )
            },
        ),
        Aspect(
            phrasings=(
                "If today is {day}, then two days ago it was {second_previous}.",
                "Two days before {day} comes {second_previous}.",
                "If today is {day}, then the day before yesterday was {second_previous}.",
            ),
            questions={
                "second_previous": (
                    "If today is {day}, what was the day before yesterday?",
                    "What day comes two days before {day}?",
                )
            },
        ),
        Aspect(
            phrasings=(
                "If today is {day}, then in three days it will be {third_next}.",
                "Three days after {day} comes {third_next}.",
            ),
            questions={"third_next": ("If today is {day}, what day will it be in three days?",)},
        ),
    ),
    (
        "A week has seven days.",
        "The days of the week are Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, and Sunday.",
        "Let us count the days.",
        "The days follow each other in the same order every week.",
    ),
)

MONTH_TOPIC = Topic(
    "months",
    _ring(MONTHS, "month"),
    (
        Aspect(
            phrasings=(
                "{month} is the {ordinal} month of the year.",
                "The {ordinal} month of the year is {month}.",
                "In the year, {month} is the {ordinal} month.",
            ),
            questions={
                "month": ("Which month is the {ordinal} month of the year?", "What is the {ordinal} month?"),
                "ordinal": ("Which place does {month} have among the months?",),
            },
        ),
        Aspect(
            phrasings=(
                "After {month} comes {next}.",
                "The month after {month} is {next}.",
                "{month} is followed by {next}.",
                "If this month is {month}, then next month will be {next}.",
            ),
            questions={"next": ("Which month comes after {month}?", "What is the month after {month}?")},
        ),
        Aspect(
            phrasings=(
                "Before {month} comes {previous}.",
                "The month before {month} is {previous}.",
                "If this month is {month}, then last month was {previous}.",
            ),
            questions={"previous": ("Which month comes before {month}?", "What is the month before {month}?")},
        ),
        Aspect(
            phrasings=(
                "{month} has {length} days.",
                "There are {length} days in {month}.",
                "The month of {month} has {length} days.",
            ),
            questions={"length": ("How many days does {month} have?", "How many days are there in {month}?")},
        ),
        Aspect(
            phrasings=(
                "In the north, {month} is in {season}.",
                "In the northern half of the world, {month} is a month of {season}.",
                "North of the equator, {month} belongs to {season}.",
            ),
            questions={
                "season": (
                    "In the north, in which season is {month}?",
                    "Which season does {month} belong to in the north?",
                )
            },
        ),
    ),
    (
        "A year has twelve months.",
        "The months of the year are January, February, March, April, May, June, July, August, September, October, "
        "November, and December.",
        "In a leap year, February has one day more.",
    ),
)

SEASON_TOPIC = Topic(
    "seasons",
    SEASONS,
    (
        Aspect(
            phrasings=(
                "After {season} comes {next}.",
                "The season after {season} is {next}.",
                "{season} is followed by {next}.",
            ),
            questions={"next": ("Which season comes after {season}?", "What season follows {season}?")},
        ),
        Aspect(
            phrasings=("Before {season} comes {previous}.", "The season before {season} is {previous}."),
            questions={"previous": ("Which season comes before {season}?",)},
        ),
        Aspect(
            phrasings=(
                "In {season}, {weather}.",
                "It is {season} when {weather}.",
                "{season} is the time when {weather}.",
            ),
            questions={"weather": ("What happens in {season}?", "What is {season} like?")},
        ),
    ),
    ("There are four seasons: spring, summer, autumn, and winter.", "The seasons change slowly."),
)

CALENDAR_TOPICS = (DAY_TOPIC, MONTH_TOPIC, SEASON_TOPIC)
