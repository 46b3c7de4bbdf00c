"""Ranks that share Muon's state train as one process does, and any number of them resumes what others saved."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

from modeling_nanochat import NanochatGPTConfig, NanochatGPTForCausalLM
from recipes.training.memory import estimate_memory
from recipes.training.muon import MUON_2025, MUON_2026, Muon
from recipes.training.sharding import SMALLEST_CUT, Shares, merge_shards
from recipes.utils.model_facts import describe_config, split_parameters
from tests.recipes.training.matrices import parameter, take_steps

STEPS = {"2025": MUON_2025, "2026": MUON_2026}
CASES = [(steps, count) for steps in STEPS for count in (1, 2, 5)]  # matrices of one shape: fewer than ranks, or more
SAVED, LAST = 3, 6  # steps after which all is saved, and training ends
RANKS, OTHERS = 4, 2  # of the run that saves, and of the one that resumes it


def build(case, rank=0, ranks=1):
    """An optimizer of several groups and shapes, and its parameters; of AdamW's three only the first is cut."""
    steps, count = case
    matrices = [parameter(6, 10, seed=seed) for seed in range(count)] + [parameter(24, 10, seed=20)]
    transposed = [parameter(16, 8, seed=21)]
    rest = [parameter(SMALLEST_CUT // 4, 12, seed=22), parameter(SMALLEST_CUT + 1, seed=23), parameter(4, seed=24)]
    groups = [
        {"kind": "muon", "params": matrices},
        {"kind": "muon", "params": transposed, "transposed": True, "lr": 0.01},
        {"kind": "adamw", "params": rest, "lr": 0.02},
    ]
    optimizer = Muon(groups, weight_decay=0.1, orthogonalize_dtype=torch.float32, steps=STEPS[steps])
    optimizer.shard_state(rank, ranks)
    return optimizer, matrices + transposed + rest


def snapshot(optimizer, params):
    return {"weights": [p.detach().clone() for p in params], "optimizer": optimizer.state_dict()}


def train_and_save(case, path, rank=0, ranks=1):
    optimizer, params = build(case, rank, ranks)
    take_steps(optimizer, params, SAVED)
    torch.save(snapshot(optimizer, params), f"{path}.saved")
    take_steps(optimizer, params, LAST - SAVED, first=SAVED)
    torch.save(snapshot(optimizer, params), f"{path}.last")


def resume(case, saved, path, rank=0, ranks=1):
    optimizer, params = build(case, rank, ranks)
    shards = [torch.load(each, weights_only=True) for each in saved]
    for p, weights in zip(params, shards[0]["weights"], strict=True):
        p.data.copy_(weights)
    optimizer.load_state_dict(merge_shards([shard["optimizer"] for shard in shards], params))
    take_steps(optimizer, params, LAST - SAVED, first=SAVED)
    torch.save(snapshot(optimizer, params), f"{path}.last")


def shards_of(directory, case, ranks, moment="saved"):
    return [Path(f"{directory}/{'_'.join(map(str, case))}_{rank}_of_{ranks}.{moment}") for rank in range(ranks)]


def one_of_several(rank, ranks, directory, resumed_from):
    torch.set_num_threads(1)
    store = f"file://{directory}/store_{ranks}_{resumed_from}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=ranks)
    for case in CASES:
        path = shards_of(directory, case, ranks)[rank].with_suffix("")
        if resumed_from is None:
            train_and_save(case, path, rank, ranks)
        else:
            saved = shards_of(directory, case, resumed_from)
            resume(case, saved, f"{path}_after_{resumed_from}", rank, ranks)
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One process and four, each saving halfway; and two that resume what each of them saved."""
    directory = tmp_path_factory.mktemp("ranks")
    for case in CASES:
        train_and_save(case, shards_of(directory, case, 1)[0].with_suffix(""))
    for ranks, resumed_from in [(RANKS, None), (OTHERS, RANKS), (OTHERS, 1)]:
        torch.multiprocessing.spawn(one_of_several, (ranks, str(directory), resumed_from), nprocs=ranks)
    return directory


def load(path):
    return torch.load(path, weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_ranks_that_share_the_state_end_with_the_weights_of_one_process(runs, case):
    (alone,) = shards_of(runs, case, 1, "last")
    ranks = [load(path)["weights"] for path in shards_of(runs, case, RANKS, "last")]
    for expected, first, *others in zip(load(alone)["weights"], *ranks, strict=True):
        torch.testing.assert_close(first, expected, atol=1e-5, rtol=1e-5)
        assert all(torch.equal(first, other) for other in others)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_state_is_kept_once(runs, case):
    (alone,) = shards_of(runs, case, 1)
    states = [load(path)["optimizer"]["state"] for path in shards_of(runs, case, RANKS)]
    *matrices, cut, uneven, small = load(alone)["optimizer"]["state"]
    for index in matrices:
        assert sum(index in state for state in states) == 1
    whole = load(alone)["optimizer"]["state"]
    for name in ("exp_avg", "exp_avg_sq"):
        pieces = [state[cut][name] for state in states]
        torch.testing.assert_close(torch.cat(pieces).view(whole[cut][name].shape), whole[cut][name])
        assert all(
            torch.equal(state[index][name], whole[index][name]) for state in states for index in (uneven, small)
        )


@pytest.mark.slow
@pytest.mark.parametrize("resumed_from", [1, RANKS])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_another_number_of_ranks_resumes_what_was_saved(runs, case, resumed_from):
    (alone,) = shards_of(runs, case, 1, "last")
    for path in shards_of(runs, case, OTHERS):
        resumed = load(f"{path.with_suffix('')}_after_{resumed_from}.last")
        for weights, expected in zip(resumed["weights"], load(alone)["weights"], strict=True):
            torch.testing.assert_close(weights, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_process_resumes_what_ranks_saved(runs, case, tmp_path):
    resume(case, shards_of(runs, case, RANKS), tmp_path / "resumed")
    (alone,) = shards_of(runs, case, 1, "last")
    for weights, expected in zip(load(tmp_path / "resumed.last")["weights"], load(alone)["weights"], strict=True):
        torch.testing.assert_close(weights, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("steps", STEPS)
def test_a_whole_state_is_divided_and_merged_again(steps, ranks):
    optimizer, params = build((steps, 5))
    take_steps(optimizer, params, 2)
    whole = optimizer.state_dict()

    shards = []
    for rank in range(ranks):
        part, _ = build((steps, 5), rank, ranks)
        part.load_state_dict(whole)
        shards.append(part.state_dict())
    merged = merge_shards(shards, params)["state"]

    assert merged.keys() == whole["state"].keys()
    for index, state in whole["state"].items():
        for name, value in state.items():
            assert torch.equal(merged[index][name], value), (index, name)


# Sizes, of models too large to train here


def roles_of(depth, generation):
    vocab_size = {2025: 65_536, 2026: 32_768}[generation]
    with torch.device("meta"):
        model = NanochatGPTForCausalLM(NanochatGPTConfig.from_depth(depth, vocab_size, generation=generation))
    return split_parameters(model)


def state_bytes(roles, ranks):
    """Of each rank: fp32 momentum of its matrices, and two moments of its pieces of the rest."""
    matrices = roles.pop("matrices")
    rest = [p for parameters in roles.values() for p in parameters]
    every_rank = [Shares(matrices, rank, ranks) for rank in range(ranks)]
    return [
        4 * sum(p.numel() for p in matrices if shares.owns(p)) + 8 * sum(shares.piece(p, p).numel() for p in rest)
        for shares in every_rank
    ]


@pytest.mark.parametrize(("generation", "most"), [(2025, 0.72e9), (2026, 1.26e9)])
def test_a_d26_on_eight_ranks_keeps_an_eighth_of_the_state_each(generation, most):
    """In 2026 the value embeddings alone have 709 million weights, each with two moments: 0.71 GB a rank."""
    sizes = state_bytes(roles_of(26, generation), ranks=8)
    (whole,) = state_bytes(roles_of(26, generation), ranks=1)
    assert max(sizes) < most
    assert max(sizes) < 1.01 * whole / 8


@pytest.mark.parametrize("generation", [2025, 2026])
@pytest.mark.parametrize("depth", [12, 20, 24, 26, 32])
def test_updates_travel_as_two_bytes_a_weight_of_the_blocks(depth, generation):
    matrices = roles_of(depth, generation)["matrices"]
    sent = 2 * Shares(matrices, 0, ranks=8).load * 8
    assert sent <= 2.001 * sum(p.numel() for p in matrices)


@pytest.mark.parametrize("ranks", [1, 6, 8])
@pytest.mark.parametrize("generation", [2025, 2026])
def test_the_estimate_of_memory_knows_what_a_rank_keeps(generation, ranks):
    """On 6 ranks, which divide none of the sizes, AdamW's part is whole everywhere."""
    vocab_size = {2025: 65_536, 2026: 32_768}[generation]
    facts = describe_config(NanochatGPTConfig.from_depth(20, vocab_size, generation=generation), 2048)
    estimate = estimate_memory(facts, 1, 2048, False, ranks=ranks)["optimizer"]
    assert estimate == pytest.approx(max(state_bytes(roles_of(20, generation), ranks)), rel=0.01)
