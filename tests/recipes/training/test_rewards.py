"""What a reply earns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.data.messages import assistant, calculator_call
from recipes.training.rewards import called_calculator, final_text, right_answer


def calling(expression: str, result: str, text: str = "") -> list[dict]:
    return [*calculator_call("", expression, result), assistant(text)]


@pytest.mark.parametrize(
    ("text", "answer", "right"),
    [
        ("The answer is 12.", "12", 1),
        ("12.0", "12", 1),
        ("It costs $1,200.", "1200", 1),
        ("1200", "1,200", 1),
        ("It is -3.", "-3", 1),
        ("First 12, then 13.", "12", 0),
        ("12 or so. #### 13", "13", 1),
        ("#### 13 as I said 12", "13", 1),
        ("3", "-3", 0),
        ("112", "12", 0),
        ("twelve", "12", 0),
        ("", "0", 0),
    ],
)
def test_a_reply_is_right_if_its_final_number_is_the_answer_as_a_number(text, answer, right):
    assert right_answer([[assistant(text)]], [answer]) == [right]
    assert right_answer([calling("6*2", "12", text)], [answer]) == [right], "also after a call"


def test_a_result_that_is_not_said_earns_nothing():
    unanswered = calculator_call("It is 12: ", "6*2", "12")
    assert right_answer([unanswered[:1], unanswered, [], [assistant("")]], ["12"] * 4) == [0, 0, 0, 0]
    assert final_text([{"role": "assistant"}]) == final_text([{"role": "assistant", "content": None}]) == ""


def test_the_reward_for_form_wants_a_call_and_no_failed_one():
    replies = [
        calling("6*2", "12", "Who knows."),
        [assistant("12")],
        calling("1/0", "error: division by zero", "12"),
        [*calculator_call("", "6*2", "12"), *calling("x", "error: x does not belong into arithmetic", "12")],
    ]
    assert called_calculator(replies) == [1, 0, 0, 0]


@given(st.integers(-(10**9), 10**9), st.text(alphabet="abc .,!?", max_size=20))
def test_any_words_before_the_right_number_earn_1_and_another_number_0(number, words):
    assert right_answer([[assistant(f"{words} {number:,}.")]], [str(number)]) == [1]
    assert right_answer([[assistant(f"{words} {number + 1}")]], [str(number)]) == [0]
