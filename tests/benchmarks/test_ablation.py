"""The ablation of generation 2026: every variant differs from its generation in what its name says; runs are kept."""

import json

import pytest
from transformers.utils import logging

from benchmarks import ablation
from modeling_nanochat import NanochatGPTConfig, NanochatGPTForCausalLM
from recipes.training.muon import MUON_2025, MUON_2026, MuonSteps
from recipes.training.optimizers import OptimizerSettings, find_builder
from recipes.utils.errors import InputError

TINY = {"vocab_size": 300, "depth": 2, "max_seq_len": 160, "num_tokens": 640, "total_batch_size": 320, "seeds": "0"}


def arguments(**changes) -> ablation.BenchmarkArguments:
    return ablation.BenchmarkArguments(**{"output_dir": "unused", **TINY, **changes})


def changed_fields(name: str) -> set[str]:
    variant = ablation.VARIANTS[name]
    fields = ablation.model_config(arguments(), variant)
    own = ablation.model_config(arguments(), ablation.Variant(variant.generation))
    return {key for key in fields.keys() | own.keys() if fields.get(key) != own.get(key)}


@pytest.mark.parametrize("name", [name for name in ablation.VARIANTS if ablation.VARIANTS[name].changes])
def test_a_variant_changes_the_feature_in_its_name_and_no_other(name):
    feature = name.split(" ", 2)[2]
    expected = {
        "windows": {"layer_types", "sliding_window"},
        "query-key scale": {"query_key_scale"},
        "rotary base": {"rope_theta"},
        "initialization": {"initial_embedding_std", "initial_head_std", "initial_fc1_scale"},
    }.get(feature, {feature.replace(" ", "_")})
    assert changed_fields(name) == expected
    NanochatGPTConfig(**ablation.model_config(arguments(), ablation.VARIANTS[name]))


@pytest.mark.parametrize("name", [name for name in ablation.VARIANTS if ablation.VARIANTS[name].muon])
def test_a_variants_optimizer_leaves_out_the_step_in_its_name(name):
    variant = ablation.VARIANTS[name]
    model = NanochatGPTForCausalLM(NanochatGPTConfig(**ablation.model_config(arguments(), variant)))
    optimizer = find_builder(f"benchmarks.ablation:{variant.muon}")(model, OptimizerSettings())
    steps = {MuonSteps.of(group) for group in optimizer.param_groups if group["kind"] == "muon"}
    assert len(steps) == 1
    if name.startswith("2025 with") or name.endswith("Muon of 2025"):
        assert steps == {MUON_2026 if name.endswith("Muon of 2026") else MUON_2025}
        return
    (step,) = steps
    differing = {key for key, value in vars(MUON_2026).items() if vars(step)[key] != value}
    assert differing == {
        {
            "Polar Express": "orthogonalization",
            "MuonEq": "equilibrate_rows",
            "Muon+": "renormalize",
            "NorMuon": "second_moment",
        }[name.removeprefix("2026 without ")]
    }


@pytest.mark.slow
def test_runs_are_trained_once_and_compared(tmp_path, capfd):
    logging.disable_progress_bar()
    args = arguments(output_dir=str(tmp_path), only="2026,2026 without smear")
    ablation.main(args)
    first = json.loads((tmp_path / "ablation.json").read_text())["results"]
    assert [each["variant"] for each in first] == ["2026", "2026 without smear"]
    assert all(0 < bits < 20 for each in first for bits in each["val/bpb"])
    assert (tmp_path / "ablation.png").read_bytes().startswith(b"\x89PNG")
    before = (tmp_path / "2026" / "seed_0" / "metrics.jsonl").stat().st_mtime_ns
    capfd.readouterr()
    ablation.main(args)
    assert (tmp_path / "2026" / "seed_0" / "metrics.jsonl").stat().st_mtime_ns == before
    assert "2026 without smear" in capfd.readouterr().out


def test_wrong_flags_are_one_line():
    with pytest.raises(InputError, match="unknown variant '2026 without smera'.*2026 without smear"):
        arguments(only="2026 without smera")
    with pytest.raises(InputError, match="seeds: 'x' is not a number"):
        arguments(seeds="0,x")
    with pytest.raises(InputError, match="less than one step"):
        arguments(num_tokens=100)
