"""Every preset plans a run, without data and without weights."""

from pathlib import Path

import pytest
import yaml
from trl import ModelConfig

from recipes.arguments import parse_arguments
from recipes.data.mixtures import read_mixture
from recipes.grpo import GRPOArguments
from recipes.pretrain import dry_run
from recipes.sft import SFTArguments
from recipes.training.arguments import MidtrainArguments, PretrainArguments

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
def test_a_preset_is_as_deep_as_its_name(name):
    assert yaml.safe_load(PRESETS[name].read_text())["depth"] == int(name[1:])


STAGES = {
    "mid": (MidtrainArguments,),
    "sft": (SFTArguments, ModelConfig),
    "grpo": (GRPOArguments, ModelConfig),
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
