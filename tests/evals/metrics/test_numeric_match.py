"""The `evaluate` module of numeric matches: it grades as our own evaluation does."""

import os
import subprocess
import sys
from pathlib import Path

import evaluate
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evals.chat.tasks import number_problem
from recipes.data.messages import assistant
from recipes.data.primer.exams import ExamItem, grade
from recipes.training.rewards import right_answer

ROOT = Path(__file__).parents[3]
METRIC = str(ROOT / "evals" / "metrics" / "numeric_match")

NUMBERS = st.one_of(
    st.integers(-20, 20).map(str),
    st.integers(-(10**7), 10**7).map("{:,}".format),
    st.decimals(-1000, 1000, places=2).map(str),
)
PIECES = st.one_of(st.sampled_from(["####", "#", "$", "%", "-", ",", ".", " ", "\n", "e", "/"]), NUMBERS, st.text())
REPLIES = st.lists(PIECES, max_size=8).map("".join)


@pytest.fixture(scope="module")
def numeric_match(tmp_path_factory):
    return evaluate.load(METRIC, cache_dir=str(tmp_path_factory.mktemp("evaluate")), keep_in_memory=True)


@pytest.mark.launch
def test_loads_offline_by_its_path_in_a_fresh_process(tmp_path):
    code = (
        "import evaluate; metric = evaluate.load('evals/metrics/numeric_match');"
        "print(metric.compute(predictions=['It is 4.', 'It is 5.'], references=['4', '4'])['accuracy'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) == 0.5


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(REPLIES, NUMBERS), min_size=1, max_size=10))
@example([("#### 3 or 4", "3"), ("It is 1,400.", "1400.0"), ("-5", "5"), ("12-5", "5"), ("#### 1.2.3", "3")])
@example([("-$5", "5"), ("\u22125", "-5"), (".5", "0.5"), (".5", "5"), ("3/4", "4"), ("1e3", "1000"), ("٥", "5")])
def test_metric_reward_and_exams_grade_alike(numeric_match, graded):
    replies, answers = zip(*graded, strict=True)
    expected = [number_problem("?", answer).is_right(reply) for reply, answer in graded]
    assert [grade(ExamItem("multi_step", [], answer), reply) for reply, answer in graded] == expected
    assert right_answer([[assistant(reply)] for reply in replies], list(answers)) == expected
    result = numeric_match.compute(predictions=replies, references=answers)
    assert result == {"accuracy": sum(expected) / len(expected), "matches": expected}


@given(NUMBERS, st.sampled_from(["{}", "So it is {}.", "3 and 4 make\n#### {}", "#### ${}\n7 more", "{}%"]))
@settings(max_examples=50, deadline=None)
def test_finds_the_right_number(numeric_match, number, reply):
    result = numeric_match.compute(predictions=[reply.format(number)], references=[number])
    assert result == {"accuracy": 1.0, "matches": [True]}


@pytest.mark.parametrize(
    "reference", ["1000", "1,000", "1000.00", "$1,000", "1000%", " 1000 \n", "2 * 500\n#### 1,000"]
)
@pytest.mark.parametrize(("reply", "right"), [("It is 1,000.", True), ("#### 1000.0 of 3", True), ("100", False)])
def test_references_are_numbers_however_written(numeric_match, reference, reply, right):
    assert numeric_match.compute(predictions=[reply], references=[reference])["matches"] == [right]


def test_a_text_without_a_number_is_wrong(numeric_match):
    result = numeric_match.compute(predictions=["", "none", "####", "0"], references=["0"] * 4)
    assert result == {"accuracy": 0.25, "matches": [False, False, False, True]}


def test_batches_added_one_by_one_give_the_whole(numeric_match):
    numeric_match.add_batch(predictions=["1", "2"], references=["1", "1"])
    numeric_match.add(prediction="#### 3", reference="3")
    assert numeric_match.compute() == {"accuracy": 2 / 3, "matches": [True, False, True]}


@pytest.mark.parametrize("reference", ["", "four", "1/2", "5 or 6", "nan", "Infinity", "1.2.3", "####", "1 #### 1/2"])
def test_a_reference_that_is_no_number_is_refused(numeric_match, reference):
    with pytest.raises(ValueError, match=f"reference 1 is {reference!r}, which is not a number"):
        numeric_match.compute(predictions=["1", "2"], references=["1", reference])


@pytest.mark.parametrize(
    ("predictions", "references", "named"),
    [
        (["1", None], ["1", "2"], "prediction 1 is None"),
        (["1", "2"], ["1", None], "reference 1 is None"),
        ([], [], "no texts were given"),
    ],
)
def test_what_is_no_text_is_refused(numeric_match, predictions, references, named):
    with pytest.raises(ValueError, match=named):
        numeric_match.compute(predictions=predictions, references=references)
