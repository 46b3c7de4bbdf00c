"""metrics.jsonl survives kills and resumes without a gap or a double; the console says what it holds."""

import importlib.util
import json
import math
from types import SimpleNamespace

import pytest
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st

from recipes.training.tracking import TRACKERS, Console, MetricsLog, parse_trackers, step_line
from recipes.utils.errors import InputError
from recipes.utils.plain_text import clock
from recipes.utils.run_directory import read_metrics


def trained(step):
    return {"step": step, "train/loss": 10.0 / step}


def evaluated(step):
    return {"step": step, "val/bpb": 1.0 / step, "val/loss": 2.0 / step}


RECORD = {
    "step": 250,
    "train/loss": 1.23456,
    "train/lrm": 0.5,
    "train/dt": 1.25,
    "train/tok_per_sec": 6553.6,
    "train/mfu": 0.4567,
    "train/grad_norm": 0.3,
    "total_training_time": 300.0,
}


@pytest.fixture
def log(tmp_path):
    """Steps 1 to 4 trained, 2 and 4 evaluated, each after its training record."""
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in (1, 2, 3, 4):
        log.write(trained(step))
        if step % 2 == 0:
            log.write(evaluated(step))
    return log


def test_what_is_written_is_read(log):
    records = [trained(1), trained(2), evaluated(2), trained(3), trained(4), evaluated(4)]
    assert read_metrics(log.path) == log.records == records
    assert all(isinstance(json.loads(line), dict) for line in log.path.read_text().splitlines())


@pytest.mark.parametrize(
    ("step", "kept"),
    [
        (0, []),
        (1, [trained(1)]),
        (2, [trained(1), trained(2)]),  # its evaluation is made again
        (3, [trained(1), trained(2), evaluated(2), trained(3)]),
        (9, [trained(1), trained(2), evaluated(2), trained(3), trained(4), evaluated(4)]),
    ],
)
def test_resuming_keeps_what_the_checkpoint_knew(log, step, kept):
    resumed = MetricsLog(log.path)
    resumed.resume(step)
    assert resumed.records == kept
    assert read_metrics(log.path) == kept
    resumed.write(trained(100))
    assert read_metrics(log.path) == [*kept, trained(100)]


def test_an_evaluation_of_transformers_trainer_is_kept_for_it_precedes_the_checkpoint(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    records = [trained(2), {"step": 2, "val/loss": 1.5}]
    for record in records:
        log.write(record)
    log.resume(2)
    assert read_metrics(log.path) == records


def test_a_half_written_last_line_is_dropped_and_the_next_record_starts_a_new_one(log):
    whole = log.path.read_text()
    last = whole.splitlines()[-1]
    for length in range(1, len(last)):
        log.path.write_text(whole.removesuffix(last + "\n") + last[:length])
        resumed = MetricsLog(log.path)
        resumed.resume(4)
        resumed.write(trained(5))
        assert read_metrics(log.path) == [trained(1), trained(2), evaluated(2), trained(3), trained(4), trained(5)]


def test_every_line_is_json_even_where_a_number_is_none(log):
    log.write({"step": 5, "train/loss": math.nan, "train/grad_norm": math.inf, "train/lrm": 1.0})
    last = json.loads(log.path.read_text().splitlines()[-1], parse_constant=pytest.fail)
    assert last == {"step": 5, "train/loss": None, "train/grad_norm": None, "train/lrm": 1.0}


def test_a_run_that_never_started_has_no_metrics(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.resume(0)
    assert log.records == read_metrics(log.path) == []


# Console


def test_a_line_holds_every_figure_of_its_step():
    assert step_line(RECORD, 1000) == (
        "step 000250/001000 (25.0%) | loss 1.2346 | lrm 0.50 | dt 1,250 ms | tok/sec 6,554 | mfu 45.7% "
        "| total 5:00 | eta 15:38"
    )


def test_a_line_of_reinforcement_holds_the_reward_and_which_groups_teach():
    rollouts = {"train/reward": 0.41234, "train/groups_with_spread": 0.625, "train/completions_per_sec": 35.06}
    line = step_line(RECORD | rollouts, 1000)
    assert "| loss 1.2346 | reward 0.412 | 62% of groups with spread | 35.1 completions/s | lrm 0.50 |" in line


def test_an_unknown_peak_is_said():
    assert "| mfu unknown |" in step_line({**RECORD, "train/mfu": None}, 1000)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0:00"),
        (59.4, "0:59"),
        (59.6, "1:00"),
        (61, "1:01"),
        (3599.7, "1:00:00"),
        (3661, "1:01:01"),
        (1e6, "277:46:40"),
    ],
)
def test_clock_by_hand(seconds, shown):
    assert clock(seconds) == shown


@given(st.floats(0, 1e7))
def test_clock_reads_back_as_the_seconds_it_was_given(seconds):
    total = 0
    for part in clock(seconds).split(":"):
        total = 60 * total + int(part)
    assert total == round(seconds)


def test_the_console_prints_lines_where_there_is_no_terminal(capsys, fresh_accelerate):
    console = Console(Accelerator(cpu=True), num_steps=1000)
    console.say("hello")
    console.step(RECORD)
    console.close()
    assert capsys.readouterr().out.splitlines() == ["hello", step_line(RECORD, 1000)]


def test_the_console_draws_a_bar_on_a_terminal(capsys, monkeypatch, fresh_accelerate):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    console = Console(Accelerator(cpu=True), num_steps=1000, first_step=200)
    console.step(RECORD)
    console.say("sampled")
    console.advance(1000)  # the last steps need not be logged
    console.close()
    shown = capsys.readouterr()
    assert "250/1000" in shown.err and "1000/1000" in shown.err and "loss 1.2346" in shown.err
    assert "sampled" in shown.out and "step 000250" not in shown.out


def test_only_the_main_process_speaks(capsys):
    console = Console(SimpleNamespace(is_main_process=False), num_steps=1000)
    console.say("hello")
    console.step(RECORD)
    console.close()
    assert capsys.readouterr().out == ""


# Trackers


def test_no_trackers_unless_asked_for():
    assert parse_trackers(None) == parse_trackers("") == parse_trackers(" , ") == []


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_is_taken_where_it_is_installed_and_asked_for_where_not(name):
    if importlib.util.find_spec(name):
        assert parse_trackers(f" {name} ,") == [name]
    else:
        with pytest.raises(InputError, match=f"^tracker {name} is not installed: pip install {name}"):
            parse_trackers(name)


def test_an_unknown_tracker_names_those_there_are():
    with pytest.raises(InputError, match=r"unknown tracker 'mlflow' in log_with: choose from trackio, wandb, tensor"):
        parse_trackers("mlflow")
