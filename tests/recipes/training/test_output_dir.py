"""A directory belongs to the run that began in it: to its arguments, and to what it read."""

import json

import pytest
from accelerate import PartialState

from recipes.training.output_dir import agree, claim_inputs, claim_output_dir, hold_output_dir, read_arguments
from recipes.utils import heartbeat
from recipes.utils.errors import InputError
from recipes.utils.fingerprint import fingerprint

FREE = {"save_every", "output_dir"}
INPUTS = {"dataset", "tokenizer"}
GIVEN = {"depth": 2, "seed": 0, "save_every": 5, "dataset": "data", "tokenizer": None, "num_processes": 1}


@pytest.fixture
def state(fresh_accelerate):
    return PartialState(cpu=True)


@pytest.fixture
def begun(tmp_path, state):
    """A run that has made a step."""
    claim(tmp_path, state)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    return tmp_path


def claim(directory, state, **changes) -> bool:
    return claim_output_dir(directory, GIVEN | changes, FREE, INPUTS, state)


def test_a_long_decision_says_what_it_is_at(state, monkeypatch, capsys):
    monkeypatch.setattr(heartbeat, "EVERY", 0.01)
    said = []

    def decide() -> int:
        while not said:
            said.extend(capsys.readouterr().out.splitlines())
        return 7

    assert agree(decide, state, "checking the checkpoint") == 7
    assert said[0] == "still checking the checkpoint, for 0 min"


def test_a_claim_records_what_must_not_change(tmp_path, state):
    assert claim(tmp_path, state) is False
    assert [path.name for path in tmp_path.iterdir()] == ["arguments.json"]
    assert read_arguments(tmp_path) == {name: value for name, value in GIVEN.items() if name not in FREE}


def test_all_that_differs_is_named_and_what_may_change_is_said(begun, state):
    before = (begun / "arguments.json").read_text()
    with pytest.raises(InputError) as error:
        claim(begun, state, depth=3, seed=7, num_processes=2, save_every=9)
    assert str(error.value) == (
        f"output_dir {begun} belongs to a run of another configuration (depth 2 there, 3 now; seed 0 there, 7 now; "
        "num_processes 1 there, 2 now): choose another output_dir, or the same configuration. Only what concerns "
        "logging, evaluating, saving, publishing and the machine may change."
    )
    assert (begun / "arguments.json").read_text() == before


def test_what_changes_no_weight_may_change_and_data_by_another_name(begun, state):
    claim(begun, state, save_every=3, output_dir="elsewhere", dataset="moved/data", tokenizer="moved/tokenizer")


def test_what_an_older_version_did_not_record_is_not_held_against_the_run(begun, state):
    claim(begun, state, new_flag=5)


def test_a_run_from_before_there_were_generations_is_one_of_2025_without_windows(begun, state):
    claim(begun, state, generation=2025, window_pattern="L")
    claim(begun, state, generation=None, window_pattern=None)  # another architecture
    with pytest.raises(InputError, match=r"\(generation 2025 there, 2026 now; window_pattern 'L' there, 'SSSL' now\)"):
        claim(begun, state, generation=2026, window_pattern="SSSL")


def test_a_run_that_never_made_a_step_has_no_claim(tmp_path, state):
    claim(tmp_path, state)
    claim(tmp_path, state, depth=3)
    assert read_arguments(tmp_path)["depth"] == 3


def test_a_finished_run_is_known_and_nothing_is_written_into_it(tmp_path, state):
    (tmp_path / "config.json").write_text("{}")
    assert claim(tmp_path, state) is True
    with hold_output_dir(tmp_path, state):
        assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_run_that_is_held_is_held(tmp_path, state):
    with hold_output_dir(tmp_path / "a" / "run", state):
        assert "process" in (tmp_path / "a" / "run" / ".lock").read_text()
    assert list((tmp_path / "a" / "run").iterdir()) == []


def test_other_data_are_named_and_data_that_moved_are_the_same(begun, state):
    def claim_files(*files):
        claim_inputs(begun, GIVEN, lambda: {"dataset": fingerprint(files)}, state)

    first, second, third = (begun / "data" / name for name in ("0.txt", "1.txt", "2.txt"))
    first.parent.mkdir()
    for path in (first, second, third):
        path.write_text(path.name)
    claim_files(first)
    claim_files(first, second)  # no checkpoint yet: a rerun begins anew
    (begun / "checkpoints" / "step_000001").mkdir(parents=True)
    claim_files(first, second)
    moved = (begun / "data").rename(begun / "moved")
    claim_files(moved / "0.txt", moved / "1.txt")
    with pytest.raises(InputError, match=r"\(--dataset 2\.txt: new\): put back what it began with, or choose another"):
        claim_files(moved / "0.txt", moved / "1.txt", moved / "2.txt")
    (moved / "1.txt").write_text("longer")
    with pytest.raises(InputError, match=r"\(--dataset 0\.txt: missing; --dataset 1\.txt: size 5 -> 6\)"):
        claim_files(moved / "1.txt")


def test_of_a_run_from_before_there_were_fingerprints_the_names_are_compared(begun, state):
    (begun / "checkpoints" / "step_000001").mkdir(parents=True)
    changed = GIVEN | {"dataset": "other"}
    with pytest.raises(InputError, match="dataset 'data' there, 'other' now"):
        claim_inputs(begun, changed, lambda: {"dataset": {}}, state)
    claim_inputs(begun, GIVEN, lambda: {"dataset": {}}, state)
    assert json.loads((begun / "inputs.json").read_text()) == {"dataset": {}}


def test_what_the_main_process_decides_is_what_all_get(state):
    assert agree(lambda: 5, state) == 5
    with pytest.raises(InputError, match="^no$"):
        agree(lambda: (_ for _ in ()).throw(InputError("no")), state)
