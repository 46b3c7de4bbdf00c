"""The ablation of generation 2026: every variant differs from its generation in what its name says; runs are kept."""

import json
from dataclasses import replace

import pytest
from transformers.utils import logging

from benchmarks import ablation
from modeling_nanochat import NanochatGPTConfig, NanochatGPTForCausalLM
from recipes.training.muon import MUON_2025, MUON_2026, MuonSteps
from recipes.training.optimizers import OptimizerSettings, find_builder
from recipes.training.plan import Plan
from recipes.training.rules import THREE_RATES
from recipes.utils.errors import InputError
from recipes.utils.provenance import ROOT

TINY = {"vocab_size": 300, "depth": 2, "max_seq_len": 160, "num_tokens": 640, "total_batch_size": 320, "seeds": "0"}


def arguments(**changes) -> ablation.BenchmarkArguments:
    return ablation.BenchmarkArguments(**{"output_dir": "unused", **TINY, **changes})


def changed_fields(name: str) -> set[str]:
    variant = ablation.VARIANTS[name]
    fields = ablation.model_config(arguments(), variant).to_dict()
    own = ablation.model_config(arguments(), ablation.Variant(variant.generation)).to_dict()
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
    NanochatGPTConfig(**ablation.model_config(arguments(), ablation.VARIANTS[name]).to_dict())  # as from its file


@pytest.mark.parametrize("name", [name for name in ablation.VARIANTS if ablation.VARIANTS[name].muon])
def test_a_variants_optimizer_leaves_out_the_step_in_its_name(name):
    variant = ablation.VARIANTS[name]
    model = NanochatGPTForCausalLM(ablation.model_config(arguments(), variant))
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


@pytest.mark.parametrize("tokens", [819_200, 3_276_800])  # a short run and a medium one
@pytest.mark.parametrize("name", ablation.VARIANTS)
def test_a_variant_learns_by_the_rules_of_its_generation(name, tokens, tmp_path):
    def plan(name: str) -> Plan:
        args = arguments(output_dir=str(tmp_path), num_tokens=tokens, total_batch_size=8192, max_seq_len=512)
        return ablation.plan_run(args, name, 0, tmp_path).plan

    found, own = plan(name), plan(name[:4])
    for rate in THREE_RATES:
        assert getattr(found.optimizer, rate) == pytest.approx(getattr(own.optimizer, rate)), rate
    assert found.optimizer.weight_decay == pytest.approx(own.optimizer.weight_decay)
    assert found.schedule.final_fraction == own.schedule.final_fraction
    assert found.schedule.warmdown_ratio == pytest.approx(own.schedule.warmdown_ratio, abs=1e-9)
    assert (found.num_steps, found.total_batch_size) == (own.num_steps, own.total_batch_size)


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
    for other in ({"depth": 1}, {"num_tokens": 320}, {"max_seq_len": 80}, {"dataset": "other"}):
        name = next(iter(other)).replace("num_tokens", "num_iterations")
        with pytest.raises(InputError, match=f"2026/seed_0 is another run .*{name} .*: choose another output_dir"):
            ablation.main(replace(args, **other))
    with pytest.raises(InputError, match="vocab_size 400: .* has 300 tokens already"):
        ablation.main(replace(args, vocab_size=400))


@pytest.mark.slow
def test_paths_are_those_of_the_directory_it_is_started_in(tmp_path, monkeypatch):
    logging.disable_progress_bar()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "some.txt").write_text("".join(f"Line {number} of a text.\n\n" for number in range(2000)))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # as there, where `python -m benchmarks.ablation` finds itself
    monkeypatch.chdir(tmp_path)
    ablation.main(arguments(output_dir="runs", dataset="texts", only="2025 with smear", num_tokens=320))
    assert (tmp_path / "runs" / "2025_with_smear" / "seed_0" / "model.safetensors").exists()
    assert json.loads((tmp_path / "runs" / "ablation.json").read_text())["results"][0]["val/bpb"][0] > 0


def test_wrong_flags_are_one_line():
    with pytest.raises(InputError, match="unknown variant '2026 without smera'.*2026 without smear"):
        arguments(only="2026 without smera")
    with pytest.raises(InputError, match="seeds: 'x' is not a number"):
        arguments(seeds="0,x")
    with pytest.raises(InputError, match="seeds 0,1,00: one of them is given twice"):
        arguments(seeds="0,1,00")
    with pytest.raises(InputError, match="total_batch_size 128 is less than a row of 160 tokens"):
        arguments(total_batch_size=128)
    with pytest.raises(InputError, match="less than one step"):
        arguments(num_tokens=300)
