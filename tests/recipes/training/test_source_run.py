"""The optimizer's state goes over whole or not at all, and one line says which."""

import copy
import json
from pathlib import Path

import pytest
import torch
from accelerate import PartialState

from modeling_nanochat import NanochatGPTConfig, NanochatGPTForCausalLM
from recipes.training.arguments import MidtrainArguments
from recipes.training.muon import MUON_2026, MuonSteps
from recipes.training.optimizers import OptimizerSettings, build_optimizer
from recipes.training.source_run import inherit_settings, read_arguments, warm_start
from recipes.utils.errors import InputError


def trained(name: str = "muon", depth: int = 2, **settings) -> torch.optim.Optimizer:
    """An optimizer after one step, over a tiny model."""
    torch.manual_seed(0)
    config = NanochatGPTConfig.from_depth(depth, vocab_size=32, max_position_embeddings=16)
    model = NanochatGPTForCausalLM(config)
    optimizer = build_optimizer(name, model, OptimizerSettings(**settings))
    ids = torch.arange(16).view(1, 16)
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())  # as accelerate does to prepare it
    return optimizer


@pytest.fixture
def source(tmp_path):
    """What a run of Muon leaves, as far as it matters here: two checkpoints, of which the newest counts."""
    for step in (1, 2):
        checkpoint = tmp_path / "checkpoints" / f"step_{step:06d}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "training_state.json").write_text("{}")
        torch.save({}, checkpoint / "optimizer.bin")
    save_state(trained().state_dict(), tmp_path)
    (tmp_path / "arguments.json").write_text(json.dumps({"optimizer": "muon"}))
    return tmp_path


def save_state(state: dict, source: Path) -> None:
    torch.save(state, source / "checkpoints" / "step_000002" / "optimizer.bin")


def test_the_state_is_theirs_and_the_settings_stay_mine(source):
    optimizer = trained(matrix_lr=0.5, momentum=0.6)
    before = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    for state in optimizer.state.values():
        for value in state.values():
            value.zero_()
    line = warm_start(optimizer, "muon", str(source))
    assert line == f"muon, warm-started from {source / 'checkpoints' / 'step_000002' / 'optimizer.bin'}"
    torch.testing.assert_close(optimizer.state_dict()["state"], trained().state_dict()["state"], rtol=0, atol=0)
    after = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    assert before == after
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_the_shares_that_several_ranks_saved_go_over_as_one_state(source):
    whole, parameters = trained().state_dict(), [p for group in trained().param_groups for p in group["params"]]
    for rank, name in enumerate(["optimizer.bin", "optimizer_00001.bin"]):
        optimizer = trained()
        optimizer.shard_state(rank, 2)
        optimizer.load_state_dict(whole)
        assert len(optimizer.state_dict()["state"]) < len(parameters)
        torch.save(optimizer.state_dict(), source / "checkpoints" / "step_000002" / name)
    optimizer = trained()
    optimizer.state.clear()
    assert "warm-started from" in warm_start(optimizer, "muon", str(source))
    torch.testing.assert_close(optimizer.state_dict()["state"], whole["state"], rtol=0, atol=0)


def test_a_second_moment_of_2026_goes_over_too(source):
    saved = trained(muon=MUON_2026).state_dict()
    save_state(saved, source)
    optimizer = trained(muon=MUON_2026, matrix_lr=0.5)
    moments = [state["second_moment_buffer"] for state in optimizer.state.values() if "momentum_buffer" in state]
    for moment in moments:
        moment.fill_(7.0)
    assert "warm-started from" in warm_start(optimizer, "muon", str(source))
    torch.testing.assert_close(optimizer.state_dict()["state"], saved["state"], rtol=0, atol=0)


def test_a_state_from_before_2026_goes_over_to_the_muon_of_2025(source):
    state = trained().state_dict()
    for group in state["param_groups"]:
        for name in MuonSteps.__annotations__:
            del group[name]
    save_state(state, source)
    assert "warm-started from" in warm_start(trained(), "muon", str(source))


@pytest.mark.parametrize(
    ("theirs", "mine", "rate", "matrix"),
    [
        ({"learning_rate": 3e-5}, {}, 3e-5, 0.02),
        ({"learning_rate": 3e-5}, {"matrix_lr": 0.04}, None, 0.04),
        ({"matrix_lr": 0.04}, {"learning_rate": 1e-4}, 1e-4, 0.02),
        ({"matrix_lr": 0.04}, {}, None, 0.04),
    ],
)
def test_one_learning_rate_or_three_go_over_but_never_both(source, fresh_accelerate, theirs, mine, rate, matrix):
    NanochatGPTConfig.from_depth(1, vocab_size=32, max_position_embeddings=16).save_pretrained(source)
    (source / "arguments.json").write_text(json.dumps({"total_batch_size": 64, "max_seq_len": 16} | theirs))
    args = MidtrainArguments(source=str(source), conversations="primer:mid", **mine)
    args = inherit_settings(args, PartialState(cpu=True))
    assert (args.learning_rate, args.matrix_lr) == (rate, matrix)


def swap_optimizer(source):
    save_state(trained("adamw").state_dict(), source)
    return "is another optimizer's"


def modernize(source):
    save_state(trained(muon=MUON_2026).state_dict(), source)
    return "it is that of the Muon of 2026, and this run's is the Muon of 2025"


def rename_optimizer(source):
    (source / "arguments.json").write_text(json.dumps({"optimizer": "adamw"}))
    return "was trained by adamw"


def deepen(source):
    save_state(trained(depth=3).state_dict(), source)
    return "its groups hold [18, 1, 1] parameters, this run's [12, 1, 1]"


def reshape(source):
    state = trained().state_dict()
    state["state"][0]["momentum_buffer"] = torch.zeros(3, 3)
    save_state(state, source)
    return "its momentum_buffer is (3, 3) where a parameter is (128, 128)"


def damage(source):
    (source / "checkpoints" / "step_000002" / "optimizer.bin").write_bytes(b"PK\x03\x04 and nothing more")
    return "does not fit"


def remove(source):
    for path in source.glob("checkpoints/*/optimizer.bin"):
        path.unlink()
    return "holds no checkpoint with its state"


@pytest.mark.parametrize("spoil", [swap_optimizer, modernize, rename_optimizer, deepen, reshape, damage, remove])
def test_a_state_that_is_not_this_optimizers_is_left_and_the_line_says_why(source, spoil):
    reason = spoil(source)
    optimizer = trained()
    before = copy.deepcopy(optimizer.state_dict()["state"])
    line = warm_start(optimizer, "muon", str(source))
    assert line.startswith("muon, starting without state: ") and str(source) in line and reason in line
    assert "\n" not in line
    torch.testing.assert_close(optimizer.state_dict()["state"], before, rtol=0, atol=0)


def test_arguments_of_a_run_are_read_and_damaged_ones_named(source, tmp_path):
    assert read_arguments(str(source)) == {"optimizer": "muon"}
    assert read_arguments("some/model") == {}
    (source / "arguments.json").write_text("{")
    with pytest.raises(InputError, match=r"arguments\.json is damaged"):
        read_arguments(str(source))
