"""The `evaluate` module of CORE: the mean of all 22 tasks, and never of fewer."""

import os
import random
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import evaluate
import pytest

from evals.core.bundle import core_tasks
from evals.metrics.core.formula import BASELINES

ROOT = Path(__file__).parents[3]
METRIC = str(ROOT / "evals" / "metrics" / "core")
LABELS = list(BASELINES)


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    return evaluate.load(METRIC, cache_dir=str(tmp_path_factory.mktemp("evaluate")), keep_in_memory=True)


@pytest.mark.launch
def test_loads_offline_by_its_path_in_a_fresh_process_without_the_project(tmp_path):
    shutil.copytree(METRIC, tmp_path / "here" / "core")
    code = (
        "import evaluate; metric = evaluate.load('./core');"
        "print(metric.compute(predictions=[0.75], references=['copa'])['core_partial'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "here",
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) == 0.5


def test_its_tasks_are_those_that_are_evaluated():
    assert {label: percent / 100 for label, percent in BASELINES.items()} == {
        task.label: task.baseline for task in core_tasks()
    }
    assert len(BASELINES) == 22


def test_core_is_the_mean_of_the_centered_accuracies(core):
    draw = random.Random(0)
    accuracies = {label: draw.randint(0, 1000) for label in draw.sample(LABELS, 22)}  # in thousandths, in any order
    result = core.compute(predictions=[each / 1000 for each in accuracies.values()], references=list(accuracies))
    baselines = {label: Fraction(str(percent)) / 100 for label, percent in BASELINES.items()}
    expected = {
        label: (Fraction(accuracy, 1000) - baselines[label]) / (1 - baselines[label])
        for label, accuracy in accuracies.items()
    }
    assert result["centered"] == {label: pytest.approx(float(each), rel=1e-12) for label, each in expected.items()}
    assert result["core"] == pytest.approx(float(sum(expected.values()) / 22), rel=1e-12)
    assert (result["core_partial"], result["missing"]) == (None, [])


@pytest.mark.parametrize(("accuracy", "centered"), [(lambda label: BASELINES[label] / 100, 0), (lambda label: 1, 1)])
def test_guessing_scores_0_and_knowing_1(core, accuracy, centered):
    result = core.compute(predictions=[accuracy(label) for label in LABELS], references=LABELS)
    assert result["core"] == pytest.approx(centered, abs=1e-12)


@pytest.mark.parametrize("given", [1, 21])
def test_fewer_tasks_are_no_core(core, given):
    result = core.compute(predictions=[1.0] * given, references=LABELS[:given])
    assert (result["core"], result["core_partial"]) == (None, 1.0)
    assert result["missing"] == LABELS[given:]


@pytest.mark.parametrize(
    ("accuracies", "labels", "named"),
    [
        ([0.5], ["arc_eazy"], "did you mean 'arc_easy'"),
        ([0.5], ["?"], "known are hellaswag_zeroshot, jeopardy"),
        ([0.5, 0.5], ["copa", None], "no task of CORE is called None"),
        ([50], ["copa"], "50.0 for copa is not an accuracy from 0 to 1. Divide percent by 100"),
        ([-0.1], ["copa"], "-0.1 for copa"),
        ([float("nan")], ["copa"], "nan for copa"),
        ([0.5, 0.6, 0.5], ["copa", "piqa", "copa"], "copa is given more than once"),
        ([], [], "no accuracies were given"),
    ],
)
def test_what_is_no_accuracy_of_a_task_is_refused(core, accuracies, labels, named):
    with pytest.raises(ValueError, match=named):
        core.compute(predictions=accuracies, references=labels)
