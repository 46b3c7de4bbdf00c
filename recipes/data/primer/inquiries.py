"""Inquiries: how conversations and exams ask for a fact, and the sentence that answers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random

from recipes.data.primer.documents import TOPIC_SHARES, TOPICS
from recipes.data.primer.topics import Aspect, Question, Topic, fields, say
from recipes.data.primer.world_tables import Row

# Noun phrases for what a question asks, by the first of the questions that ask for it.
PHRASES = {
    "What is the capital of {country}?": ("the capital of {country}", "the capital city of {country}"),
    "{capital} is the capital of which country?": ("the country whose capital is {capital}",),
    "On which continent is {country}?": ("the continent of {country}", "the continent that {country} is in"),
    "Which language do many people in {country} speak?": ("the language of many people in {country}",),
    "On which continent is {river}?": ("the continent of {river}", "the continent that {river} flows through"),
    "Which river flows past {city}?": ("the river that flows past {city}", "the river of {city}"),
    "Where is {landmark}?": ("the place where {landmark} is",),
    "What is the chemical symbol of {element}?": ("the chemical symbol of {element}", "the symbol for {element}"),
    "Which element has the symbol {symbol}?": ("the element with the symbol {symbol}",),
    "What is the atomic number of {element}?": ("the atomic number of {element}",),
    "Which element has the atomic number {number}?": ("the element with the atomic number {number}",),
    "What is {element} used for?": ("one use of {element}",),
    "Which planet is the {ordinal} from the sun?": ("the {ordinal} planet from the sun",),
    "How many moons does {planet} have?": ("the number of moons of {planet}",),
    "Which planet is known for {fame}?": ("the planet known for {fame}",),
    "Which planet comes after {planet}?": ("the planet after {planet}", "the next planet after {planet}"),
    "Which planet comes before {planet}?": ("the planet before {planet}", "the planet just before {planet}"),
    "If today is {day}, what day will it be tomorrow?": ("the day that comes after {day}",),
    "If today is {day}, what day was it yesterday?": ("the day that comes before {day}",),
    "If today is {day}, what day is the day after tomorrow?": ("the day that comes two days after {day}",),
    "If today is {day}, what was the day before yesterday?": ("the day that comes two days before {day}",),
    "Which month is the {ordinal} month of the year?": ("the {ordinal} month of the year", "the {ordinal} month"),
    "Which place does {month} have among the months?": ("the place of {month} among the months",),
    "Which month comes after {month}?": ("the month after {month}", "the month that comes after {month}"),
    "Which month comes before {month}?": ("the month before {month}", "the month that comes before {month}"),
    "How many days does {month} have?": ("the number of days in {month}",),
    "In the north, in which season is {month}?": ("the season of {month} in the north",),
    "Which season comes after {season}?": ("the season after {season}",),
    "Which season comes before {season}?": ("the season before {season}",),
    "What is the opposite of {word}?": ("the opposite of {word}", "the word that means the opposite of {word}"),
    "What sound do {plural} make?": ("the sound of {plural}", "the sound that {plural} make"),
    "What is a young {animal} called?": ("the name of a young {animal}", "the name of a baby {animal}"),
    "What kind of animal is {an_animal}?": ("the kind of animal that {an_animal} is",),
    "How many legs does {an_animal} have?": ("the number of legs of {an_animal}",),
    "What do {plural} eat?": ("the food of {plural}",),
    "What is the home of {an_animal}?": ("the home of {an_animal}",),
    "What is the color of {thing}?": ("the color of {thing}", "the usual color of {thing}"),
    "What color do you get when you mix {first} and {second} paint?": ("the color of {first} and {second} paint",),
    "How many sides does {a_shape} have?": ("the number of sides of {a_shape}",),
    "How many corners does {a_shape} have?": ("the number of corners of {a_shape}",),
    "How many {part} are there in {whole}?": ("the number of {part} in {whole}",),
    "Who {task}?": ("the word for a person who {task}",),
    "Which part of the body do we use to {task}?": ("the part of the body that we use to {task}",),
    "What is the plural of {singular}?": ("the plural of {singular}",),
    "What is the singular of {plural}?": ("the singular of {plural}",),
    "What is the past tense of {verb}?": ("the past tense of {verb}",),
    "Which verb has the past tense {past}?": ("the verb with the past tense {past}",),
    "Which form of {verb} comes after the word have?": ("the form of {verb} after the word have",),
}

# Wrappers around a question or a noun phrase. Only exams use the held-out ones.
QUESTION_WRAPPERS = (
    "Please tell me: {}",
    "Hello! {}",
    "Hi! {}",
    "I have a question. {}",
    "{} Please answer.",
    "Question: {}",
    "{} Do you know?",
    "Can you answer this? {}",
    "I want to know this: {}",
    "{} Tell me, please.",
    "My question is: {}",
    "{} I need to know it.",
)
HELD_OUT_QUESTION_WRAPPERS = (
    "Here is a question for you: {}",
    "Maybe you can help me. {}",
    "{} I would like to know.",
    "Let us see if you know this. {}",
)
PHRASE_WRAPPERS = (
    "What is {}?",
    "Tell me {}.",
    "Please tell me {}.",
    "Can you tell me {}?",
    "Do you know {}?",
    "I want to know {}.",
    "Could you please tell me {}?",
    "I need to know {}.",
    "Name {}.",
    "Hello! What is {}?",
    "Give me {}, please.",
    "I am looking for {}.",
)
HELD_OUT_PHRASE_WRAPPERS = (
    "I would like to know {}.",
    "Do you remember {}?",
    "Would you tell me {}?",
    "Let me know {}, please.",
)
MANY_RIGHT_ANSWERS = {"food", "home", "use", "weather", "landmark", "product", "source", "task"}  # columns of tables


@dataclass(frozen=True)
class Inquiry:
    """A column of one aspect of a topic, as the thing to ask for."""

    topic: Topic
    aspect: Aspect
    column: str

    @property
    def templates(self) -> tuple[str, ...]:
        """The topic's own questions for the column."""
        return self.aspect.questions[self.column]

    @property
    def held_out_template(self) -> str | None:
        """The last of three or more questions. Documents use it, conversations never do, exams do."""
        return self.templates[-1] if len(self.templates) > 2 else None

    @property
    def phrases(self) -> tuple[str, ...]:
        """Noun phrases for what is asked, to be put into a wrapper."""
        return PHRASES.get(self.templates[0], ())

    @property
    def has_one_answer(self) -> bool:
        """Whether no other answer is right too, so that an exam can ask for it."""
        return self.column not in MANY_RIGHT_ANSWERS

    @cached_property
    def sentence(self) -> str:
        """The phrasing that answers: the first one in which most names of the question precede the answer.

        Such an answer first repeats the question's words, which the model can copy, and then states the fact.
        """
        named = fields(self.templates[0])

        def named_before_answer(phrasing: str) -> int:
            place = phrasing.find(f"{{{self.column}}}")
            return sum(0 <= phrasing.find(f"{{{name}}}") < place for name in named)

        return max(self.aspect.phrasings, key=named_before_answer)

    @cached_property
    def rows(self) -> list[Row]:
        """The rows that have an answer."""
        return self.topic.aspect_rows(self.aspect)

    def ask(self, template: str, row: Row) -> Question:
        """Fill a question or phrase from the row, and add its answer and wrong answers."""
        wrong = self.topic.wrong_answers(self.aspect, self.column, template, row)
        return Question(say(template, row), row[self.column], say(self.sentence, row), wrong, self.templates[0])

    def ask_plainly(self, row: Row, rng: Random) -> Question:
        """One of the topic's questions that conversations may use, without a wrapper."""
        return self.ask(rng.choice([each for each in self.templates if each != self.held_out_template]), row)

    def ask_in_talk(self, row: Row, rng: Random) -> Question:
        """A question as in conversations: 40% noun phrases if there are any; half of the rest wrapped."""
        if self.phrases and rng.random() < 0.4:
            return self.ask(rng.choice(PHRASE_WRAPPERS).format(rng.choice(self.phrases)), row)
        plain = self.ask_plainly(row, rng)
        return plain if rng.random() < 0.5 else _wrap(plain, rng.choice(QUESTION_WRAPPERS))

    def ask_in_exam(self, row: Row, rng: Random) -> Question:
        """A question in a phrasing that no conversation uses."""
        if self.phrases and rng.random() < 0.5:
            return self.ask(rng.choice(HELD_OUT_PHRASE_WRAPPERS).format(rng.choice(self.phrases)), row)
        template = self.held_out_template or rng.choice(self.templates)
        return _wrap(self.ask(template, row), rng.choice(HELD_OUT_QUESTION_WRAPPERS))


INQUIRIES = {
    topic.name: tuple(Inquiry(topic, aspect, column) for aspect in topic.aspects for column in aspect.questions)
    for topic in TOPICS
}


def draw_inquiry(rng: Random) -> Inquiry:
    """A random inquiry; topics and aspects have the same weights as in the documents."""
    name = rng.choices(list(TOPIC_SHARES), weights=TOPIC_SHARES.values())[0]
    inquiries = INQUIRIES[name]
    return rng.choices(inquiries, weights=[each.aspect.weight for each in inquiries])[0]


def draw_choices(question: Question, count: int, rng: Random) -> list[str]:
    """The right answer and wrong ones in random order: `count` choices in all, or fewer if there are not as many."""
    wrong = rng.sample(question.others, min(count - 1, len(question.others)))
    return rng.sample([question.answer, *wrong], len(wrong) + 1)


def _wrap(question: Question, wrapper: str) -> Question:
    return replace(question, text=wrapper.format(question.text))


def offer_choices(question: str, choices: Sequence[str]) -> str:
    """The question with its choices, to be answered by the text of one of them.

    Not by a letter: binding letters to choices takes a larger model than the primer is made for.
    """
    return f"{question} Choose from: {', '.join(choices[:-1])} or {choices[-1]}."
