"""A model of 2026 from `--generation 2026` through the later stages, each by the settings of its generation."""

import json
import shutil
from pathlib import Path

import pytest

from recipes.training.checkpoint_files import whole_checkpoints
from tests.recipes.processes import flags, run
from tests.recipes.test_pretrain import assert_one_line

pytestmark = pytest.mark.launch


@pytest.fixture(scope="module")
def base(tiny, tmp_path_factory) -> Path:
    """A finished pretraining run of 2026 with windows in every second layer, its checkpoints with it."""
    output_dir = tmp_path_factory.mktemp("run") / "base"
    longer = {"depth": 2, "max_seq_len": 64, "device_batch_size": 4, "total_batch_size": 512, "eval_every": -1}
    end = run(flags(tiny | longer | {"generation": 2026, "window_pattern": "sl", "output_dir": output_dir}))
    assert end.code == 0, end.stderr
    assert "short run" in end.stdout and "windows      1 of 2 layers see 64 tokens" in end.stdout
    return output_dir


def recorded(directory: Path, *names: str) -> tuple:
    arguments = json.loads((directory / "arguments.json").read_text())
    return tuple(arguments[name] for name in names)


def test_a_run_of_2026_records_its_generation_windows_and_numbers(base):
    assert recorded(base, "generation", "window_pattern", "grad_clip") == (2026, "SL", 0.0)
    assert recorded(base, "embedding_lr", "unembedding_lr", "weight_decay") == (0.3, 0.008, None)
    config = json.loads((base / "config.json").read_text())
    assert config["value_embeddings"] and config["layer_types"] == ["sliding_attention", "full_attention"]
    assert config["initial_embedding_std"] == 0.8


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"generation": 2025}, "generation 2026 there, 2025 now"),
        ({"generation": 2026, "window_pattern": "L"}, "window_pattern 'SL' there, 'L' now"),
    ],
)
def test_another_generation_or_other_windows_are_another_run(base, tiny, tmp_path, changed, said):
    begun = tmp_path / "base"
    shutil.copytree(base, begun)
    (begun / "model.safetensors").unlink()
    longer = {"depth": 2, "max_seq_len": 64, "device_batch_size": 4, "total_batch_size": 512, "window_pattern": "SL"}
    assert_one_line(run(flags(tiny | longer | {"output_dir": begun} | changed)), str(begun), said)


def test_resuming_from_a_checkpoint_of_another_generation_says_so(base, tiny, tmp_path):
    checkpoint = whole_checkpoints(base)[-1]
    longer = {"depth": 2, "max_seq_len": 64, "device_batch_size": 4, "total_batch_size": 512, "eval_every": -1}
    end = run(flags(tiny | longer | {"resume": checkpoint, "output_dir": tmp_path / "base"}))
    sizes = "(2 layers, 128 wide, 512 tokens)"
    assert end.code == 2
    assert end.stderr.splitlines()[-1] == (
        f"pretrain: {checkpoint} holds the weights of another model: it is of generation 2026 {sizes}, and this run's "
        f"model of generation 2025 {sizes}. Resume it with the settings that it was saved with, or start without it."
    )


def test_later_stages_go_on_with_the_numbers_of_the_models_generation(base, sums):
    mid, sft = base.parent / "mid", base.parent / "sft"
    talk = {"source": base, "conversations": sums}
    loop = {"num_iterations": 2, "eval_every": -1, "sample_every": -1, "compile": "false", "output_dir": mid}
    end = run(flags(talk | loop), script="midtrain")
    assert end.code == 0, end.stderr
    assert "muon, warm-started from" in end.stdout and "weight decay 0: weight_decay 0" in end.stdout
    assert recorded(mid, "embedding_lr", "grad_clip", "weight_decay") == (0.3, 0.0, 0.0)
    trainer = {"max_steps": 2, "eval_strategy": "no", "save_steps": 2, "per_device_train_batch_size": 4}
    again = flags(talk | trainer | {"source": mid, "output_dir": sft})
    end = run(again, script="sft")
    assert end.code == 0, end.stderr
    assert recorded(sft, "matrix_lr", "embedding_lr", "unembedding_lr") == (0.02, 0.3, 0.008)
    shutil.rmtree(mid)
    end = run(again, script="sft")  # a finished one needs no source to know its numbers
    assert end.code == 0 and "is finished already" in end.stdout
