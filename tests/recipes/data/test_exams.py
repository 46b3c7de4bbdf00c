"""The exams ask what is known in words and numbers that are not, and grade as a person would."""

import re

import pytest

from recipes.data.primer.conversations import primer_conversations
from recipes.data.primer.documents import primer_documents
from recipes.data.primer.exams import EXAMS, ExamItem, exam, grade, mentions
from recipes.data.primer.inquiries import INQUIRIES
from recipes.data.primer.topics import say
from recipes.utils.errors import InputError


@pytest.mark.parametrize("name", EXAMS)
def test_an_exam_has_different_items_and_depends_on_nothing_but_the_seed(name):
    items = exam(name, 200, seed=1)
    assert items == exam(name, 200, seed=1)
    questions = {item.messages[-1]["content"] for item in items}
    assert len(questions) == 200 and all(item.kind == name for item in items)
    assert len(questions & {item.messages[-1]["content"] for item in exam(name, 200, seed=2)}) < 100


def test_an_unknown_exam_is_an_input_error():
    with pytest.raises(InputError, match="'history'.*facts, choice"):
        exam("history")


@pytest.mark.slow
def test_no_question_of_an_exam_is_in_a_conversation_or_a_document():
    asked = {message["content"] for messages in primer_conversations() for message in messages}
    documents = "\n".join(primer_documents())
    for name in EXAMS:
        for item in exam(name, 50):
            question = item.messages[-1]["content"]
            assert question not in asked and question.splitlines()[0] not in documents


def test_the_facts_of_the_exam_are_in_the_documents():
    documents = "\n".join(primer_documents()).lower()
    for inquiry in (inquiry for each in INQUIRIES.values() for inquiry in each if inquiry.has_one_answer):
        for row in inquiry.rows:
            assert say(inquiry.sentence, row).lower() in documents


@pytest.mark.slow
def test_the_right_sentence_is_right_and_those_of_other_rows_are_wrong():
    for item in exam("facts", 300):
        right = f"It is {item.answer}."
        assert grade(item, right) and (len(item.answer) <= 2 or grade(item, right.upper()))
        assert item.others
        for other in item.others:
            assert not grade(item, f"It is {other}.") and not grade(item, f"{right} It is {other}."), (item, other)
        assert not grade(item, "") and not grade(item, "I do not know.")


def test_the_sentence_that_conversations_teach_is_graded_right():
    for inquiry in (inquiry for each in INQUIRIES.values() for inquiry in each if inquiry.has_one_answer):
        for row in inquiry.rows:
            question = inquiry.ask(inquiry.templates[0], row)
            others = tuple(other for other in question.others if not mentions(question.sentence, other))
            assert others or len(question.others) < 2, question
            assert grade(ExamItem("facts", [], question.answer, others), question.sentence), question


def test_words_are_found_whole_and_symbols_by_their_capitals():
    assert mentions("The capital is panama city.", "Panama City") and not mentions("It is Nigeria.", "Niger")
    assert mentions("Its symbol is As.", "As") and not mentions("as it is", "As")
    assert mentions("It has 12 months.", "12") and not mentions("It has 120 months.", "12")


def test_a_choice_is_right_if_it_names_the_right_one_and_no_other():
    for item in exam("choice"):
        offered = item.messages[-1]["content"].partition(" Choose from: ")[2].rstrip(".")
        choices = {item.answer, *item.others}
        assert 3 <= len(choices) <= 4 and all(choice in offered for choice in choices)
        assert [choice for choice in choices if grade(item, f"{choice}.")] == [item.answer]
        assert not grade(item, "") and not grade(item, offered)


@pytest.mark.parametrize("name", ["one_step", "two_step", "three_step", "multi_step"])
def test_a_problem_is_graded_by_its_last_number(name):
    for item in exam(name, 50):
        assert grade(item, f"The answer is {item.answer}.") and grade(item, f"{item.answer}.0")
        assert not grade(item, f"The answer is {int(item.answer) + 1}.") and not grade(item, "I do not know.")
        assert not grade(item, f"{item.answer} or 0")


def test_problems_in_the_same_words_are_known_to_be_alike():
    problems = exam("multi_step", 600)
    words = {item.alike for item in problems}
    assert len(words) == 28, "each of the 28 stories in its held-out phrasing"
    for item in problems:
        assert len(re.findall(r"\d+", item.messages[0]["content"])) == len(re.findall(r"\{[a-d]\}", item.alike)), item
    for name in ("facts", "choice", "honesty"):
        asked = exam(name)
        assert 10 < len({item.alike for item in asked}) < len(asked) / 2, "one column is asked for many times"


@pytest.mark.parametrize("name", EXAMS)
def test_it_is_known_of_each_item_what_it_is_like(name):
    assert all(item.alike for item in exam(name, 20))
