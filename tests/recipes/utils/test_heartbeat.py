"""What takes long says so, and nothing is said after it has ended."""

import time

import pytest

from recipes.utils import heartbeat


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(heartbeat, "EVERY", 0.02)


def test_a_long_wait_says_what_for_until_it_ends(capsys):
    said = ""
    with heartbeat.heartbeat("saving"):
        while said.count("\n") < 3:
            time.sleep(0.01)
            said += capsys.readouterr().out
    assert set(said.splitlines()) == {"still saving, for 0 min"}
    capsys.readouterr()
    time.sleep(0.1)
    assert capsys.readouterr().out == ""


def test_a_failure_passes_and_ends_it(capsys):
    with pytest.raises(ValueError, match="lost"), heartbeat.heartbeat("reading"):
        raise ValueError("lost")
    capsys.readouterr()
    time.sleep(0.1)
    assert capsys.readouterr().out == ""


def test_other_ranks_are_silent(capsys):
    with heartbeat.heartbeat("reading", on_this_rank=False):
        time.sleep(0.1)
    assert capsys.readouterr().out == ""
