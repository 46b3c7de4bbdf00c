"""The same problems before and after: what is kept, what survives another process, and what is printed."""

import json

import pytest

from evals.chat.before_after import (
    MOST_CHARACTERS,
    SHOWN,
    Attempt,
    ShownProblem,
    heading,
    keep_attempts,
    one_line,
    print_problems,
    read_problems,
    working,
)
from evals.chat.evaluate import TaskResult
from evals.chat.tasks import RIGHT, WRONG, number_problem
from recipes.data.messages import assistant, calculator_call

REPLIES = {
    right: [*calculator_call("", expression, result), assistant(f"The answer is {result}.")]
    for right, expression, result in ((True, "27+45", "72"), (False, "27-45", "-18"))
}


def result(*verdicts: bool, more: str = "") -> TaskResult:
    """Greedy replies to as many problems as there are verdicts."""
    problems = [number_problem(f"What is 27 plus 45, number {place}?{more}", "72") for place in range(len(verdicts))]
    outcomes = [[RIGHT if verdict else WRONG] for verdict in verdicts]
    return TaskResult("t", "generate", 0.0, outcomes, 0, 1.0, problems, [[REPLIES[verdict]] for verdict in verdicts])


def test_the_working_is_a_line_with_calls_and_results_in_brackets():
    assert working(REPLIES[True]) == "[27+45 = 72] The answer is 72."
    two = [*calculator_call("First\n", "2*3", "6"), *calculator_call("then ", "1/0", "error: division by zero")]
    assert working([*two, assistant("")]) == "First [2*3 = 6] then [1/0 = error: division by zero]"
    assert working([assistant("It is 72.")]) == "It is 72."


def test_the_first_problems_are_kept_whatever_became_of_them(tmp_path):
    path = tmp_path / "kept.json"
    verdicts = [False, True, False, True, False, True, True]
    keep_attempts(path, result(*verdicts), 0)
    assert [each.before.right for each in read_problems(path)] == verdicts[:SHOWN]
    assert all(each.after is None and each.answer == "72" for each in read_problems(path))
    assert "before training;" in heading(read_problems(path))


def test_replies_of_an_earlier_process_stay_beside_the_newest(tmp_path):
    path = tmp_path / "kept.json"
    for step, verdicts in ((0, (False, False)), (5, (True, False)), (10, (True, True))):
        keep_attempts(path, result(*verdicts), step)
    wrong, right = Attempt(0, "[27-45 = -18] The answer is -18.", False), "[27+45 = 72] The answer is 72."
    assert [(each.before, each.after) for each in read_problems(path)] == [(wrong, Attempt(10, right, True))] * 2
    keep_attempts(path, result(True), 0)  # the run begins anew
    assert [(each.before, each.after) for each in read_problems(path)] == [(Attempt(0, right, True), None)]


def test_other_problems_are_not_compared_with_those_before(tmp_path):
    path = tmp_path / "kept.json"
    keep_attempts(path, result(False), 0)
    keep_attempts(path, result(True, more=" Now?"), 4)
    (problem,) = read_problems(path)
    assert problem.before is None and problem.after.step == 4


def test_a_problem_that_does_not_fit_has_no_reply(tmp_path):
    path = tmp_path / "kept.json"
    one = result(False)
    keep_attempts(path, TaskResult("t", "generate", 0.0, [["too long"]], 1, 1.0, one.problems, [[]]), 0)
    (problem,) = read_problems(path)
    assert problem.before.text == "wrong: (no reply)"


@pytest.mark.parametrize(
    "damage",
    ["", "[1, 2]", "null", '{"problems": 1}', '{"problems": [{"question": "?"}]}', '{"problems": [1]}',
     '{"problems": [{"question": "?", "answer": 72, "before": null, "after": null}]}',
     '{"problems": [{"question": "?", "answer": "72", "after": null, '
     '"before": {"step": 0, "working": "", "right": 1}}]}'],
)  # fmt: skip
def test_a_damaged_file_is_as_none_and_is_written_anew(damage, tmp_path):
    path = tmp_path / "kept.json"
    path.write_text(damage)
    assert read_problems(path) == []
    keep_attempts(path, result(True), 3)
    assert len(json.loads(path.read_text())["problems"]) == 1


def test_problems_are_printed_with_both_replies_and_no_control_characters(capsys):
    ends = Attempt(0, "It is\x1b[31m 18.", False), Attempt(10, "[27+45 = 72] It is 72.", True)
    print_problems([ShownProblem("Anna has 27 apples\nand 45 pears. How many?", "72", *ends)])
    assert capsys.readouterr().out.splitlines() == [
        "",
        "The first held-out problem, not chosen by result: likeliest replies before training and after step 10; "
        "a call of the calculator is in brackets.",
        "1. Anna has 27 apples and 45 pears. How many? (72)",
        "   before  wrong: It is[31m 18.",
        "   after   right: [27+45 = 72] It is 72.",
    ]
    print_problems([])
    assert capsys.readouterr().out == ""


def test_of_a_long_reply_the_begin_and_the_end_are_printed():
    text = "Let me see. " + "again and " * 100 + "The answer is 72."
    short = one_line(text)
    assert short.startswith("Let me see.") and " ... " in short and short.endswith("The answer is 72.")
    assert len(short) <= MOST_CHARACTERS + len(" ... ") and one_line(short[:100]) == short[:100]
