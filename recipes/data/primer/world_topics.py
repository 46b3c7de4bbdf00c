"""Topics of the world, on `world_tables`: countries, rivers, landmarks, elements, planets."""

from recipes.data.primer.topics import Aspect, Topic
from recipes.data.primer.world_tables import (
    COUNTRIES,
    ELEMENTS,
    LANDMARKS,
    PLANETS,
    RIVERS,
    Row,
)


def _possessive(name: str) -> str:
    return name + ("'" if name.endswith("s") else "'s")


def _chain(rows: tuple[Row, ...], column: str) -> tuple[Row, ...]:
    """Add the `next` and `previous` values of a column to each row: empty at both ends."""
    names = ["", *(row[column] for row in rows), ""]
    return tuple(row | {"previous": names[i], "next": names[i + 2]} for i, row in enumerate(rows))


COUNTRY_TOPIC = Topic(
    "countries",
    tuple(row | {"owner": _possessive(row["country"])} for row in COUNTRIES),
    (
        Aspect(
            weight=6,
            phrasings=(
                "The capital of {country} is {capital}.",
                "{capital} is the capital of {country}.",
                "{capital} is the capital city of {country}.",
                "The capital city of {country} is {capital}.",
                "{owner} capital is {capital}.",
                "{country} has its capital in {capital}.",
                "The name of the capital of {country} is {capital}.",
                "In {country}, the capital is {capital}.",
                "The city of {capital} is the capital of {country}.",
                "When you are in {capital}, you are in the capital of {country}.",
                "Whoever wants to see the capital of {country} must go to {capital}.",
                "{capital}, the capital of {country}, has many streets and squares.",
                "{country} is the country whose capital is {capital}.",
            ),
            questions={
                "capital": (
                    "What is the capital of {country}?",
                    "Which city is the capital of {country}?",
                    "What is the capital city of {country}?",
                    "What is {owner} capital?",
                    "What is the name of the capital of {country}?",
                ),
                "country": (
                    "{capital} is the capital of which country?",
                    "Which country has {capital} as its capital?",
                    "What country is {capital} the capital of?",
                    "In which country is {capital} the capital?",
                ),
            },
            checks=("Is {capital} the capital of {country}?", "Is the capital of {country} {capital}?"),
            checked="capital",
        ),
        Aspect(
            phrasings=(
                "{country} is in {continent}.",
                "{country} is a country in {continent}.",
                "{country} lies in {continent}.",
                "{country} belongs to {continent}.",
                "One of the countries of {continent} is {country}.",
                "The continent of {country} is {continent}.",
                "{capital} is a city in {continent}.",
            ),
            questions={
                "continent": (
                    "On which continent is {country}?",
                    "Which continent is {country} in?",
                    "Where in the world is {country}?",
                    "What continent does {country} belong to?",
                )
            },
            checks=("Is {country} in {continent}?", "Does {country} lie in {continent}?"),
            checked="continent",
        ),
        Aspect(
            phrasings=(
                "Many people in {country} speak {language}.",
                "In {country}, many people speak {language}.",
                "{language} is spoken in {country}.",
                "On the streets of {capital} you will hear {language}.",
                "If you travel to {country}, it helps to know some {language}.",
                "Children in {country} learn to read {language}.",
            ),
            questions={
                "language": (
                    "Which language do many people in {country} speak?",
                    "What language will you hear in {capital}?",
                    "What language is spoken in {country}?",
                )
            },
        ),
        Aspect(
            weight=2,
            phrasings=(
                "{country} is a country in {continent}, and its capital is {capital}.",
                "The capital of {country}, a country in {continent}, is {capital}.",
                "{capital} is the capital of {country}, where many people speak {language}.",
                "{country} lies in {continent}. Its capital is {capital}, and many people there speak {language}.",
            ),
            questions={},
        ),
    ),
    (
        "Every country has a capital.",
        "Here are some countries and their capitals.",
        "Let us look at the map of the world.",
        "A capital is the city where a country is led from.",
        "Geography is about countries, cities and rivers.",
    ),
)

RIVER_TOPIC = Topic(
    "rivers",
    RIVERS,
    (
        Aspect(
            phrasings=(
                "{river} is a river in {continent}.",
                "{river} flows through {continent}.",
                "One of the great rivers of {continent} is {river}.",
                "The river called {river} is in {continent}.",
            ),
            questions={
                "continent": (
                    "On which continent is {river}?",
                    "Where does {river} flow?",
                    "Which continent does {river} flow through?",
                )
            },
        ),
        Aspect(
            phrasings=(
                "{river} flows past the city of {city}.",
                "The city of {city} lies on {river}.",
                "{city} stands on the banks of {river}.",
                "The river of {city} is {river}.",
            ),
            questions={
                "river": ("Which river flows past {city}?", "On which river does {city} lie?"),
            },
        ),
    ),
    ("Rivers carry water from the mountains to the sea.", "Many cities were built beside a river."),
)

LANDMARK_TOPIC = Topic(
    "landmarks",
    LANDMARKS,
    (
        Aspect(
            phrasings=(
                "{landmark} is in {place}.",
                "{landmark} can be seen in {place}.",
                "If you go to {place}, you can visit {landmark}.",
                "People travel to {place} to see {landmark}.",
            ),
            questions={
                "place": ("Where is {landmark}?", "Where can you see {landmark}?"),
                "landmark": ("Name a famous sight in {place}.",),
            },
        ),
    ),
    ("Some sights are known all over the world.", "Travelers like to visit famous places."),
)

ELEMENT_TOPIC = Topic(
    "elements",
    ELEMENTS,
    (
        Aspect(
            weight=6,
            phrasings=(
                "The chemical symbol of {element} is {symbol}.",
                "The symbol of {element} is {symbol}.",
                "The chemical symbol for {element} is {symbol}.",
                "{symbol} is the chemical symbol of {element}.",
                "{symbol} is the symbol for {element}.",
                "{element} has the symbol {symbol}.",
                "{element} is written as {symbol}.",
                "Chemists write {symbol} for {element}.",
                "The element with the symbol {symbol} is {element}.",
                "In the periodic table, {element} is shown as {symbol}.",
                "{symbol} stands for {element}.",
            ),
            questions={
                "symbol": (
                    "What is the chemical symbol of {element}?",
                    "What is the symbol for {element}?",
                    "Which symbol stands for {element}?",
                    "How do chemists write {element}?",
                ),
                "element": (
                    "Which element has the symbol {symbol}?",
                    "What does the chemical symbol {symbol} stand for?",
                    "{symbol} is the symbol of which element?",
                ),
            },
            checks=("Is {symbol} the chemical symbol of {element}?", "Does {symbol} stand for {element}?"),
            checked="symbol",
        ),
        Aspect(
            weight=3,
            phrasings=(
                "The atomic number of {element} is {number}.",
                "{element} has the atomic number {number}.",
                "{element} has atomic number {number}.",
                "The element with the atomic number {number} is {element}.",
                "Number {number} in the periodic table is {element}.",
                "{element} is element number {number}.",
            ),
            questions={
                "number": (
                    "What is the atomic number of {element}?",
                    "Which atomic number does {element} have?",
                    "What number does {element} have in the periodic table?",
                ),
                "element": (
                    "Which element has the atomic number {number}?",
                    "What is element number {number}?",
                ),
            },
        ),
        Aspect(
            phrasings=(
                "At room temperature, {element} is a {state}.",
                "{element} is a {state} at room temperature.",
                "In a warm room, {element} is a {state}.",
            ),
            questions={
                "state": (
                    "Is {element} a solid, a liquid or a gas at room temperature?",
                    "What state is {element} in at room temperature?",
                )
            },
        ),
        Aspect(
            phrasings=(
                "{element} is used for {use}.",
                "One use of {element} is {use}.",
                "People use {element} for {use}.",
                "{element} is good for {use}.",
            ),
            questions={"use": ("What is {element} used for?", "What do people use {element} for?")},
        ),
        Aspect(
            phrasings=(
                "{element} is a chemical element with the symbol {symbol} and the atomic number {number}.",
                "{element} is an element. Its symbol is {symbol}, and its atomic number is {number}.",
                "{element} ({symbol}) is element number {number}, a {state} at room temperature.",
                "{symbol} is {element}, a {state} that is used for {use}.",
            ),
            questions={},
        ),
    ),
    (
        "Everything around us is made of chemical elements.",
        "Each chemical element has a short symbol.",
        "The periodic table lists the elements.",
        "Chemistry gives every element a name, a symbol and a number.",
    ),
)

PLANET_TOPIC = Topic(
    "planets",
    _chain(PLANETS, "planet"),
    (
        Aspect(
            weight=2,
            phrasings=(
                "{planet} is the {ordinal} planet from the sun.",
                "The {ordinal} planet from the sun is {planet}.",
                "Counting from the sun, {planet} is the {ordinal} planet.",
                "The planet that comes {ordinal} from the sun is {planet}.",
            ),
            questions={
                "planet": (
                    "Which planet is the {ordinal} from the sun?",
                    "What is the {ordinal} planet from the sun?",
                    "What is the name of the {ordinal} planet?",
                )
            },
        ),
        Aspect(
            phrasings=(
                "{planet} is {kind}.",
                "The planet {planet} is {kind}.",
                "Astronomers call {planet} {kind}.",
            ),
            questions={"kind": ("What kind of planet is {planet}?", "What sort of world is {planet}?")},
        ),
        Aspect(
            phrasings=("{planet} has {moons}.", "The planet {planet} has {moons}."),
            questions={"moons": ("How many moons does {planet} have?",)},
        ),
        Aspect(
            phrasings=(
                "{planet} is known for {fame}.",
                "The planet known for {fame} is {planet}.",
                "{planet} is famous for {fame}.",
            ),
            questions={
                "planet": ("Which planet is known for {fame}?", "Which planet is famous for {fame}?"),
                "fame": ("What is {planet} known for?",),
            },
        ),
        Aspect(
            phrasings=(
                "After {planet} comes {next}.",
                "The next planet after {planet} is {next}.",
                "Going away from the sun, {planet} is followed by {next}.",
            ),
            questions={"next": ("Which planet comes after {planet}?", "What is the next planet after {planet}?")},
        ),
        Aspect(
            phrasings=(
                "Before {planet} comes {previous}.",
                "The planet just before {planet} is {previous}.",
                "Going toward the sun, the neighbor of {planet} is {previous}.",
            ),
            questions={
                "previous": ("Which planet comes before {planet}?", "What is the planet just before {planet}?")
            },
        ),
    ),
    (
        "Eight planets go around the sun.",
        "The sun is a star, and the planets travel around it.",
        "On a clear night you can see some of the planets.",
        "Astronomy is the study of stars and planets.",
    ),
)

PLANET_NAMES = [row["planet"] for row in PLANETS]
PLANET_LISTS = tuple(
    f"{opening} {', '.join(PLANET_NAMES[:-1])}, and {PLANET_NAMES[-1]}."
    for opening in (
        "The planets of the solar system are:",
        "The planets of the solar system are",
        "The planets of our solar system are:",
        "The eight planets are",
        "The planets, in order from the sun, are",
        "In order from the sun, the planets are:",
        "There are eight planets in the solar system:",
        "From the sun outward come",
        "The names of the planets are",
        "Name the planets of the solar system. They are",
    )
)

WORLD_TOPICS = (COUNTRY_TOPIC, RIVER_TOPIC, LANDMARK_TOPIC, ELEMENT_TOPIC, PLANET_TOPIC)
