"""Every preset plans a run, without data and without weights."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import datasets
import pytest
import yaml
from accelerate import PartialState

from modeling_nanochat import NanochatGPTConfig
from recipes.data.mixtures import read_mixture
from recipes.midtrain import plan_midtraining, take_over
from recipes.pretrain import dry_run
from recipes.training.arguments import MidtrainArguments, PretrainArguments
from recipes.training.posttraining_arguments import GRPOArguments, ModelArguments, SFTArguments
from recipes.training.setup import make_plan
from recipes.utils.arguments import parse_arguments

CONFIGS = Path(__file__).parents[2] / "recipes" / "configs"
PRESETS = {path.stem: path for path in sorted(CONFIGS.glob("*.yaml"))}


def test_the_named_presets_are_there():
    assert {"cpu", "d8", "d12", "d20", "d24", "d26", "d32"} <= set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_dry_runs_and_says_what_it_needs(name, capsys):
    argv = ["--config", str(PRESETS[name]), "--dry_run", "--price_per_gpu_hour", "3"]
    args = parse_arguments(PretrainArguments, argv=argv)
    dry_run(args)
    lines = {line[:13].strip(): line[13:] for line in capsys.readouterr().out.splitlines()}
    assert {"parameters", "horizon", "batch", "memory", "time", "cost"} <= set(lines)
    assert " h on " in lines["time"] and "GB" in lines["memory"] and "$3 a GPU hour" in lines["cost"]


@pytest.mark.parametrize("name", PRESETS)
def test_a_gpu_preset_fits_the_gpu_it_is_planned_for(name, capsys):
    dry_run(parse_arguments(PretrainArguments, argv=["--config", str(PRESETS[name]), "--dry_run"]))
    assert "(fits)" in capsys.readouterr().out


@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith("d")])
def test_what_a_preset_says_of_itself_is_what_its_plan_says(name, capsys):
    comment = PRESETS[name].read_text().splitlines()[0]
    size, hours, gpus = re.search(r"([\d.]+[MB]) parameters.*; an estimated ([\d.]+) h on (\d) H100", comment).groups()
    dry_run(parse_arguments(PretrainArguments, argv=["--config", str(PRESETS[name]), "--dry_run", "--gpus", gpus]))
    plan = capsys.readouterr().out
    parameters = int(re.search(r"^parameters +([\d,]+):", plan, re.MULTILINE)[1].replace(",", ""))
    assert size == (f"{parameters / 1e6:.0f}M" if parameters < 1e9 else f"{parameters / 1e9:.1f}B")
    planned = float(re.search(r"^time +about ([\d.]+) h on", plan, re.MULTILINE)[1])
    assert float(hours) == float(f"{planned:.2g}") or hours == f"{planned:.1f}"
    if steps := re.search(r"([\d,]+) steps", comment):
        assert re.search(rf"^steps +{steps[1]}$", plan, re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "matrix_lr", "embedding_lr"), [("d12", 0.02, 0.2), ("d20", 0.02, 0.1549), ("d32", 0.02828, 0.1732)]
)
def test_midtraining_on_gpus_keeps_the_settings_of_its_base_run(
    name, matrix_lr, embedding_lr, tmp_path, fresh_accelerate
):
    base = parse_arguments(PretrainArguments, argv=["--config", str(PRESETS[name])])
    planned = make_plan(base, 65_536, world_size=8)
    as_planned = {"total_batch_size": planned.total_batch_size, "num_iterations": planned.num_steps}
    (tmp_path / "arguments.json").write_text(json.dumps(asdict(base) | as_planned))
    NanochatGPTConfig.from_depth(base.depth, vocab_size=65_536, max_position_embeddings=2048).save_pretrained(tmp_path)

    config = str(CONFIGS / "mid" / "gpu.yaml")
    args = parse_arguments(MidtrainArguments, argv=["--config", config, "--source", str(tmp_path)])
    args = take_over(args, PartialState(cpu=True))
    rows = datasets.Dataset.from_dict({"length": [700] * 570})
    mid = plan_midtraining(args, 65_536, 8, rows, one_pass=400_000_000 // args.total_batch_size)
    assert 100 < mid.num_steps < 1000
    assert mid.settings == planned.settings
    assert mid.settings.matrix_lr == pytest.approx(matrix_lr, abs=1e-4)
    assert mid.settings.embedding_lr == pytest.approx(embedding_lr, abs=1e-4)
    assert (mid.settings.momentum_start, mid.settings.momentum, mid.schedule.warmdown_ratio) == (0.85, 0.95, 0.2)


@pytest.mark.parametrize(
    ("stage", "kind", "processes", "said"),
    [
        ("sft", "gpu", 8, "32 conversations a step on 8 GPUs"),
        ("grpo", "gpu", 8, "on 8 GPUs: 16 problems x 16 replies a step"),
        ("grpo", "cpu", 1, "8 problems x 8 replies a step"),
    ],
)
def test_what_a_later_stages_preset_says_of_its_batch_is_so(stage, kind, processes, said):
    path = CONFIGS / stage / f"{kind}.yaml"
    assert said in path.read_text().splitlines()[0]
    args = parse_arguments(*STAGES[stage], argv=["--config", str(path)])[0]
    rows = args.per_device_train_batch_size * args.gradient_accumulation_steps * processes
    replies = args.num_generations if stage == "grpo" else 1
    expected = {"32": rows, "16": rows // replies, "8": rows // replies}
    counts = re.findall(r"\d+(?= conversations| problems| replies)", said)
    assert [int(each) for each in counts] == [expected[counts[0]], replies][: len(counts)]


@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith("d")])
def test_a_preset_is_as_deep_as_its_name(name):
    assert yaml.safe_load(PRESETS[name].read_text())["depth"] == int(name[1:])


STAGES = {
    "mid": (MidtrainArguments,),
    "sft": (SFTArguments, ModelArguments),
    "grpo": (GRPOArguments, ModelArguments),
}


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_preset_of_a_later_stage_names_flags_that_exist(stage, kind):
    argv = ["--config", str(CONFIGS / stage / f"{kind}.yaml")]
    source = ["--source", "runs/x/base"] if stage == "mid" else []
    arguments = parse_arguments(*STAGES[stage], argv=argv + source)
    args = arguments if stage == "mid" else arguments[0]
    conversations = getattr(args, "conversations", "primer:mid")
    assert conversations.startswith("primer:") or read_mixture(str(CONFIGS.parents[1] / conversations))
