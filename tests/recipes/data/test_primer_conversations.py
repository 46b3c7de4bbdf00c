"""The primer's conversations are deterministic, sound, short and true, and keep what is held out."""

import hashlib
import os
import re
import subprocess
import sys
from collections import Counter
from random import Random

import pytest

from recipes.data.messages import check_messages
from recipes.data.primer.conversations import KINDS, primer_conversations
from recipes.data.primer.documents import TOPIC_SHARES
from recipes.data.primer.exams import mentions
from recipes.data.primer.inquiries import (
    HELD_OUT_PHRASE_WRAPPERS,
    HELD_OUT_QUESTION_WRAPPERS,
    INQUIRIES,
    PHRASE_WRAPPERS,
    PHRASES,
    QUESTION_WRAPPERS,
)
from recipes.data.primer.problems import STORIES, has_reserved_numbers
from recipes.data.primer.reading import draw_question, talk_of_repetition
from recipes.data.primer.topics import fields
from recipes.utils.calculator import calculator
from recipes.utils.errors import InputError
from tokenizer.chat import Message


@pytest.fixture(scope="module")
def mid() -> list[list[Message]]:
    return primer_conversations("train", stage="mid")


@pytest.fixture(scope="module")
def sft() -> list[list[Message]]:
    return primer_conversations("train", stage="sft")


@pytest.fixture(scope="module")
def user_texts(mid, sft) -> list[str]:
    return [message["content"] for each in mid + sft for message in each if message["role"] == "user"]


def calls(messages: list[Message]) -> list[tuple[str, str]]:
    """Every expression that the assistant has computed, with its result."""
    return [
        (call["function"]["arguments"]["expression"], messages[index + 1]["content"])
        for index, message in enumerate(messages)
        for call in message.get("tool_calls", ())
    ]


@pytest.mark.launch
def test_conversations_do_not_depend_on_the_process_or_its_hash_seed(sft):
    code = (
        "import hashlib; from recipes.data.primer.conversations import primer_conversations as p;"
        "print(hashlib.sha256(repr(p(stage='sft')).encode()).hexdigest())"
    )
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == hashlib.sha256(repr(sft).encode()).hexdigest()


@pytest.mark.slow
def test_another_seed_and_another_stage_give_other_conversations(mid, sft):
    known = set(map(str, sft))
    for others in (primer_conversations(seed=1, stage="sft"), mid):
        assert sum(str(messages) in known for messages in others) < 0.35 * len(others)


@pytest.mark.slow
def test_no_conversation_is_in_train_and_validation_of_any_stage(mid, sft):
    train = set(map(str, mid + sft))
    for stage in ("mid", "sft"):
        validation = primer_conversations("validation", stage=stage)
        assert 0.015 < len(validation) / len({"mid": mid, "sft": sft}[stage]) < 0.04
        assert train.isdisjoint(map(str, validation))


def test_unknown_splits_and_stages_are_input_errors():
    with pytest.raises(InputError, match="'test'.*'train' or 'validation'"):
        primer_conversations("test")
    with pytest.raises(InputError, match="'rl'.*'mid' or 'sft'"):
        primer_conversations(stage="rl")


def test_every_conversation_is_sound_short_and_clean(mid, sft):
    for messages in mid + sft:
        assert check_messages(messages) == messages
        text = "\n".join(message["content"] for message in messages)
        assert len(text) < 600, text  # below 220 tokens, and most far below
        assert text.isascii() and not re.search(r"[{}\\]|  |\?\?|\.\.", text), text


def test_what_the_calculator_is_said_to_answer_is_what_it_answers(mid):
    computed = [call for messages in mid for call in calls(messages)]
    assert len(computed) > 3000
    assert all(calculator(expression) == result for expression, result in computed)


def is_choice(messages):
    return " Choose from: " in messages[-2]["content"]


def test_every_kind_is_there_in_its_share(mid):
    number_of_calls = Counter(
        len(calls(messages)) for messages in mid if len(calls(messages)) * 2 == len(messages) - 2
    )
    choices = sum(is_choice(messages) for messages in mid)
    total = sum(share for _, share in KINDS.values())
    assert abs(choices / len(mid) - KINDS["choices"][1] / total) < 0.02
    few = KINDS["two-step problems"][1] + KINDS["three-step problems"][1] + KINDS["equations"][1]
    assert abs((number_of_calls[2] + number_of_calls[3]) / len(mid) - few / total) < 0.01
    assert sum(messages[0]["role"] == "system" for messages in mid) > 100


def test_the_right_choice_is_offered_at_any_place(mid):
    places = Counter()
    for messages in filter(is_choice, mid):
        choices = re.split(", | or ", messages[-2]["content"].partition(" Choose from: ")[2].rstrip("."))
        named = [place for place, choice in enumerate(choices) if mentions(messages[-1]["content"], choice)]
        assert named, messages
        places[named[-1]] += 1
    assert min(places[place] for place in range(3)) > 0.2 * places.total() and places[3] > 0.12 * places.total()


def test_what_is_asked_about_a_text_stands_in_it():
    rng = Random(0)
    for _ in range(200):
        question, answer = draw_question(rng)
        assert f"{question} ".count(answer.rstrip(".") + ".") == 1
        asked, said = (message["content"] for message in talk_of_repetition(rng))
        assert asked.endswith(f": {said}")


def test_no_conversation_uses_a_wording_of_the_exams(user_texts):
    wrappers = HELD_OUT_QUESTION_WRAPPERS + HELD_OUT_PHRASE_WRAPPERS
    assert not set(wrappers) & set(QUESTION_WRAPPERS + PHRASE_WRAPPERS)
    held_out = [re.sub(r"\{\}", "", wrapper).strip(" .?,") for wrapper in wrappers]
    for text in user_texts:
        assert not any(part in text for part in held_out), text
    asked = set(user_texts)
    for inquiries in INQUIRIES.values():
        for inquiry in inquiries:
            if inquiry.held_out_template:
                for row in inquiry.rows:
                    assert inquiry.ask(inquiry.held_out_template, row).text not in asked


def test_no_conversation_tells_a_story_of_the_exams(user_texts):
    joined = "\n".join(text for text in user_texts if re.search(r"\d", text))
    for steps in (2, 3):
        for story in (story for group in STORIES[steps] for story in group):
            *told, held_out = (
                # A word in place of a name or a thing, digits in place of a number.
                re.sub(r"\\{\w+\\}", r"\\w+", re.sub(r"\\{[abcd]\\}", r"\\d+", re.escape(phrasing)))
                for phrasing in story.phrasings
            )
            assert any(re.search(f"^{pattern}$", joined, re.MULTILINE) for pattern in told), story.phrasings[0]
            assert not re.search(f"^{held_out}$", joined, re.MULTILINE), story.phrasings[-1]


def test_no_conversation_computes_with_reserved_numbers(mid, sft):
    expressions = [expression for messages in mid + sft for expression, _ in calls(messages)]
    sums = [expression for expression in expressions if "count" not in expression]
    assert len(sums) > 4000 and not any(map(has_reserved_numbers, sums))


def test_every_phrase_stands_for_a_question_and_names_what_it_names():
    first_questions = {inquiry.templates[0]: inquiry for each in INQUIRIES.values() for inquiry in each}
    assert INQUIRIES.keys() == TOPIC_SHARES.keys()
    for question, phrases in PHRASES.items():
        inquiry = first_questions[question]
        for phrase in phrases:
            answers = {}
            for row in inquiry.rows:
                assert answers.setdefault(phrase.format_map(row), row[inquiry.column]) == row[inquiry.column]
            assert inquiry.column not in fields(phrase)


def test_every_answer_is_a_sentence_with_the_answer_in_it_and_has_wrong_ones():
    for inquiry in (inquiry for each in INQUIRIES.values() for inquiry in each):
        for row in inquiry.rows:
            question = inquiry.ask(inquiry.templates[0], row)
            assert question.answer.lower() in question.sentence.lower()
            assert question.sentence.endswith(".")
            assert question.others, question
