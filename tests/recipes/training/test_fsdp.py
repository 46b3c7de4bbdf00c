"""Ranks that each hold rows of the weights train as one process does, and go on with what the other has saved."""

import os

import pytest
import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import patch_environment
from safetensors.torch import load_model
from torch._dynamo.utils import counters

from modeling_nanochat import NanochatGPTConfig, NanochatGPTForCausalLM
from recipes.training.fsdp import (
    blocks,
    compile_parts,
    further_tables,
    load_rows,
    prepare,
    shard_weights,
    whole_copy,
    whole_on_main,
)
from recipes.training.loop import rows_loss
from recipes.training.memory import estimate_memory
from recipes.training.muon import MUON_2026
from recipes.training.optimizers import OptimizerSettings, build_optimizer, shard_over_ranks
from recipes.training.sharding import merge_shards
from recipes.utils.model_facts import describe_config
from recipes.utils.processes import join_processes
from tests.recipes.processes import _server, free_port

GENERATIONS = (2025, 2026)
RANKS, SAVED, LAST = 3, 2, 4  # three ranks divide nothing here evenly, and not all of them have rows of a scalar
T = 16
COMPILATION = {"backend": "aot_eager", "dynamic": False}
LAUNCHED = {"ACCELERATE_USE_CPU": "true", "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}


def build(generation):
    """A model that has learnt something already, so that every weight has a gradient."""
    torch.manual_seed(0)
    config = NanochatGPTConfig.from_depth(2, 97, generation=generation, max_position_embeddings=T)
    model = NanochatGPTForCausalLM(config)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    return model


def build_muon(model, generation):
    """With AdamW's eps so large that rounding of gradients near zero decides no sign."""
    steps = {"muon": MUON_2026} if generation == 2026 else {}
    optimizer = build_optimizer("muon", model, OptimizerSettings(weight_decay=0.1, **steps))
    optimizer.orthogonalize_dtype = torch.float32
    for group in optimizer.param_groups:
        group["eps"] = 1e-2
    return optimizer


def train(model, optimizer, first, last, rank=0, ranks=1, clip=torch.nn.utils.clip_grad_norm_):
    """Steps on this rank's rows of the same batches, and the norms of their gradients."""
    norms = []
    for step in range(first, last):
        rows = torch.randint(0, 97, (2 * RANKS, T + 1), generator=torch.Generator().manual_seed(step))
        for mine in rows[rank::ranks].chunk(2):  # two micro-batches
            rows_loss(model, mine, rows.numel() // (T + 1) * T // ranks).backward()
        norms.append(clip(model.parameters(), 0.5).item())
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
    return norms


def one_process(generation, directory):
    """Train to the end, and save halfway."""
    model = build(generation)
    optimizer = build_muon(model, generation)
    norms = train(model, optimizer, 0, SAVED)
    model.save_pretrained(directory / "saved")
    torch.save(optimizer.state_dict(), directory / "saved" / "optimizer.bin")
    norms += train(model, optimizer, SAVED, LAST)
    torch.save({"weights": model.state_dict(), "norms": norms}, directory / "last.pt")


def one_of_several(rank, port, root):
    """Under FSDP: train to the end and save halfway; then go on from halfway with what one process has saved."""
    torch.set_num_threads(1)
    os.environ |= {**LAUNCHED, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(RANKS)}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    join_processes()
    with patch_environment(accelerate_use_fsdp=False):
        accelerator = Accelerator(cpu=True)
    for generation in GENERATIONS:
        directory = root / str(generation)
        for begin in (0, SAVED):
            model = build(generation)
            shard_weights(model, accelerator)
            optimizer = build_muon(model, generation)
            shard_over_ranks(optimizer, accelerator)
            model, optimizer = prepare(accelerator, model, optimizer)
            norms, ways = [], (rank, RANKS, accelerator.clip_grad_norm_)
            if begin:
                load_rows(model, directory / "saved")
                optimizer.load_state_dict(torch.load(directory / "saved" / "optimizer.bin", weights_only=True))
            else:
                norms += train(model, optimizer, 0, SAVED, *ways)
                if whole := whole_on_main(model):
                    whole.save_pretrained(directory / "sharded")
                dist.barrier()
                torch.save(optimizer.state_dict(), directory / "sharded" / f"{rank}.pt")
            norms += train(model, optimizer, SAVED, LAST, *ways)
            weights = whole_copy(model, accelerator).state_dict()
            torch.save({"weights": weights, "norms": norms}, directory / f"from_{begin}_{rank}.pt")
    model = build(2026)
    compile_parts(model, blocks(model), COMPILATION)
    shard_weights(model, accelerator)
    optimizer = build_muon(model, 2026)
    shard_over_ranks(optimizer, accelerator)
    norms = train(model, optimizer, 0, 1, rank, RANKS, accelerator.clip_grad_norm_)
    torch.save(norms, root / f"compiled_{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("fsdp")
    for generation in GENERATIONS:
        (root / str(generation)).mkdir()
        one_process(generation, root / str(generation))
    port = free_port()
    ranks = [_server().Process(target=one_of_several, args=(rank, port, root)) for rank in range(RANKS)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    assert [rank.exitcode for rank in ranks] == [0] * RANKS
    return root


def load(path):
    return torch.load(path, weights_only=True)


def assert_close(weights, expected):
    """Up to rounding, but for a few weights: cautious decay takes them or not by the sign of what may be nothing."""
    assert weights.keys() == expected.keys()
    for name, values in weights.items():
        off = (values - expected[name]).abs()
        assert (off > 2e-5).float().mean() < 1e-3 and off.max() < 1e-3, name


@pytest.mark.slow
@pytest.mark.parametrize("generation", GENERATIONS)
def test_ranks_with_rows_end_with_the_weights_of_one_process(runs, generation):
    alone = load(runs / str(generation) / "last.pt")
    for rank in range(RANKS):
        shared = load(runs / str(generation) / f"from_0_{rank}.pt")
        assert_close(shared["weights"], alone["weights"])
        assert shared["norms"] == pytest.approx(alone["norms"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("generation", GENERATIONS)
def test_ranks_with_rows_go_on_with_what_one_process_saved(runs, generation):
    alone = load(runs / str(generation) / "last.pt")
    for rank in range(RANKS):
        assert_close(load(runs / str(generation) / f"from_{SAVED}_{rank}.pt")["weights"], alone["weights"])


@pytest.mark.slow
@pytest.mark.parametrize("generation", GENERATIONS)
def test_one_process_goes_on_with_what_ranks_with_rows_saved(runs, generation):
    saved = runs / str(generation) / "sharded"
    model = build(generation)
    load_model(model, saved / "model.safetensors")
    optimizer = build_muon(model, generation)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    optimizer.load_state_dict(merge_shards([load(saved / f"{rank}.pt") for rank in range(RANKS)], parameters))
    train(model, optimizer, SAVED, LAST)
    assert_close(model.state_dict(), load(runs / str(generation) / "last.pt")["weights"])


@pytest.mark.slow
@pytest.mark.parametrize("generation", GENERATIONS)
def test_what_ranks_with_rows_save_is_a_model_like_any_other(runs, generation):
    one, other = (runs / str(generation) / name for name in ("saved", "sharded"))
    states = {"optimizer.bin", *(f"{rank}.pt" for rank in range(RANKS))}
    assert {path.name for path in one.iterdir()} - states == {path.name for path in other.iterdir()} - states
    assert (one / "config.json").read_text() == (other / "config.json").read_text()
    assert (one / "generation_config.json").read_text() == (other / "generation_config.json").read_text()


@pytest.mark.slow
def test_compiled_blocks_compute_the_same_gradients(runs):
    (first, *_) = load(runs / "2026" / "last.pt")["norms"]
    for rank in range(RANKS):
        assert load(runs / f"compiled_{rank}.pt") == pytest.approx([first], rel=1e-5)


@pytest.mark.slow
def test_blocks_that_are_alike_are_compiled_once():
    """Three kinds among twelve, with a window, with value embeddings, and with both; and the loss."""
    torch._dynamo.reset()
    counters.clear()
    settings = NanochatGPTConfig.from_depth(1, 97, generation=2026, max_position_embeddings=T).to_dict()
    model = NanochatGPTForCausalLM(NanochatGPTConfig(**settings | {"num_hidden_layers": 12, "layer_types": None}))
    compile_parts(model, blocks(model), COMPILATION)
    rows_loss(model, torch.zeros(2, T + 1, dtype=torch.long), 2 * T).backward()
    assert counters["stats"]["unique_graphs"] == 4
    assert not counters["graph_break"]


# What ranks hold


@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_estimate_of_memory_knows_what_a_rank_holds_of_a_d40(generation):
    """Its rows of weights and gradients, and in 16 bits what is gathered: all outside the blocks, and two blocks."""
    vocab_size = {2025: 65_536, 2026: 32_768}[generation]
    config = NanochatGPTConfig.from_depth(40, vocab_size, generation=generation)
    with torch.device("meta"):
        model = NanochatGPTForCausalLM(config)
    units = [*blocks(model), *further_tables(model)]
    rows = 4 * sum(-(-len(p) // 8) * p[0].numel() for p in model.parameters())
    sizes = [sum(p.numel() for p in module.parameters()) for module in (model, *units)]
    gathered = 2 * (sizes[0] - sum(sizes[1:]) + 2 * sum(sizes[1:]) / config.num_hidden_layers)
    parts = estimate_memory(describe_config(config, 2048), 1, 2048, False, ranks=8, sharded=True)
    assert parts["weights"] == pytest.approx(rows + gathered, rel=0.01)
    assert parts["gradients"] == pytest.approx(rows + gathered, rel=0.01)
    assert parts["weights"] < sum(p.nbytes for p in model.parameters()) / 3
