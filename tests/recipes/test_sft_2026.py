"""Midtraining and SFT in one stage: from the base model, with its optimizer's state, on packed conversations."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml

from recipes.data.conversations import open_conversations
from recipes.data.messages import assistant, user
from recipes.data.mixtures import read_mixture
from recipes.utils.run_directory import read_metrics
from tests.evals.chat_files import chat_tasks, write_chat_files, write_rows
from tests.recipes import processes
from tests.recipes.processes import flags

CONFIGS = Path(__file__).parents[2] / "recipes" / "configs"
PRESET, MIXTURE = CONFIGS / "sft" / "gpu_2026.yaml", CONFIGS / "mixtures" / "sft_2026.yaml"
ROW = 96  # tokens

launch = pytest.mark.launch
run = partial(processes.run, script="sft")


@pytest.fixture(scope="module")
def base(tiny, tmp_path_factory) -> Path:
    """A base model in the directory of a run."""
    directory = tmp_path_factory.mktemp("run") / "base"
    longer = {"generation": 2026, "max_seq_len": ROW, "total_batch_size": 4 * ROW, "eval_every": -1}
    end = processes.run(flags(tiny | longer | {"output_dir": directory}))
    assert end.code == 0, end.stderr
    return directory


@pytest.fixture(scope="module")
def mixture(tmp_path_factory) -> Path:
    """The preset's, of a few local conversations in the layouts of its sources."""
    root = tmp_path_factory.mktemp("sources")
    talk = [{"messages": [user(f"Say {n}."), assistant(f"{n}.")]} for n in range(20)]
    exam = [{"question": f"{n}?", "subject": "", "choices": [*"wxyz"], "answer": n % 4} for n in range(6)]
    sums = [{"question": f"{n} * 2?", "answer": f"It is <<{n}*2={2 * n}>>{2 * n}.\n#### {2 * n}"} for n in range(5)]
    for split, count in (("train", 20), ("test", 3)):
        write_rows(root / "smoltalk" / f"{split}-00000-of-00001.parquet", talk[:count])
        write_rows(root / "gsm8k" / "main" / f"{split}-00000-of-00001.parquet", sums[:count])
    for split, count in (("auxiliary_train", 6), ("validation", 2)):
        write_rows(root / "mmlu" / "all" / f"{split}-00000-of-00001.parquet", exam[:count])
    entries = [each | {"path": str(root / each["source"])} for each in yaml.safe_load(MIXTURE.read_text())]
    (root / "mixture.yaml").write_text(yaml.safe_dump(entries))
    return root / "mixture.yaml"


@pytest.fixture(scope="module")
def sft(base, mixture) -> dict:
    """Arguments of a run of a second from the preset."""
    return {
        "config": PRESET,
        "source": base,
        "conversations": mixture,
        "per_device_train_batch_size": 2,
        "total_batch_size": 4 * ROW,
        "chatcore_every": -1,
        "eval_strategy": "no",
        "save_steps": 1,
        "save_total_limit": 20,
    }


@pytest.fixture(scope="module")
def finished(sft, tmp_path_factory) -> tuple[Path, processes.Finished]:
    """A run that nobody disturbed, and what it printed."""
    output_dir = tmp_path_factory.mktemp("finished")
    end = run(flags(sft | {"output_dir": output_dir}))
    assert end.code == 0 and not end.stderr, end.stderr
    return output_dir, end


def records(output_dir: Path) -> list[dict]:
    return [record for record in read_metrics(output_dir / "metrics.jsonl") if "train/loss" in record]


def optimizer_after(step: int, output_dir: Path) -> dict:
    return torch.load(output_dir / "checkpoints" / f"checkpoint-{step}" / "optimizer.pt", weights_only=True)


# The data


def test_the_mixture_is_smoltalk_once_mmlu_three_times_and_gsm8k_four_times(mixture):
    parts = {part.source: part.epochs for part in read_mixture(str(MIXTURE))}
    assert parts == {"smoltalk": None, "mmlu": 3, "gsm8k": 4}
    rows = open_conversations(str(mixture))["messages"]
    count = {}
    for messages in rows:
        count[json.dumps(messages)] = count.get(json.dumps(messages), 0) + 1
    assert sorted(count.values()) == 20 * [1] + 6 * [3] + 5 * [4]
    assert len(open_conversations(str(mixture), "validation")) == 3 + 2 + 3, "held-out ones once"


# The optimizer


@launch
def test_it_begins_with_the_base_runs_momentum_and_moments(sft, base, finished, tmp_path):
    """The first step's gradient is the same with the state and without, so each new state follows from the other."""
    file = base / "checkpoints" / "step_000006" / "optimizer.bin"
    assert f"optimizer: muon, warm-started from {file}\n" in finished[1].stdout
    end = run(flags(sft | {"warm_start": "false", "max_steps": 1, "output_dir": tmp_path}))
    assert end.code == 0 and "warm-started" not in end.stdout, end.stderr
    before = torch.load(file, weights_only=True)["state"]
    warm, cold = optimizer_after(1, finished[0]), optimizer_after(1, tmp_path)["state"]
    checked = 0
    for group in warm["param_groups"]:
        start, full, steps = (group[name] for name in ("momentum_start", "momentum", "momentum_warmup"))
        for number in group["params"]:
            was, now, fresh = before[number], warm["state"][number], cold[number]
            assert now["step"].item() == was["step"].item() + 1 == fresh["step"].item() + 6
            for name, old in was.items():
                if name in ("step", "second_moment_buffer"):  # the latter is of the update, which differs
                    continue
                beta = {
                    "exp_avg": group["betas"][0],
                    "exp_avg_sq": group["betas"][1],
                    "momentum_buffer": start + (full - start) * was["step"].item() / steps,
                }[name]
                at_rest = start if name == "momentum_buffer" else beta
                gradient = fresh[name] / (1 - at_rest)  # or its square
                expected = beta * old + (1 - beta) * gradient
                torch.testing.assert_close(now[name], expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())
                checked += 1
    assert checked == 7 + 2 * 8  # momentum of the matrices; moments of tables, head, smear gate and scalars


@launch
def test_rates_are_a_share_of_the_base_models_and_fall_in_the_second_half(finished):
    output_dir, _ = finished
    groups = optimizer_after(1, output_dir)["param_groups"]
    width = (128 / 768) ** -0.5
    # matrices, embedding, head, value embeddings, residual scalars, smear and backout
    full = [0.02, 0.3 * width, 0.008 * width, 0.15 * width, 0.005, 0.5, 0.2]
    assert [group["initial_lr"] for group in groups] == pytest.approx([0.8 * rate for rate in full])
    multipliers = [record["train/lrm"] for record in records(output_dir)]
    steps, falling = len(multipliers), round(len(multipliers) / 2)
    assert steps >= 5
    assert multipliers == pytest.approx([min(1, (steps - step) / falling) for step in range(steps)])
    assert all(record["train/grad_norm"] is not None for record in records(output_dir))


@launch
def test_a_source_without_an_optimizers_state_is_said_and_trained(sft, student, tmp_path):
    end = run(flags(sft | {"source": student, "max_steps": 1, "output_dir": tmp_path}))
    assert end.code == 0, end.stderr
    assert f"optimizer: muon, starting without state: {student} holds no checkpoint with its state\n" in end.stdout


@launch
def test_a_resumed_run_has_its_own_state_and_not_the_sources(sft, finished, tmp_path):
    stopped = run(flags(sft | {"output_dir": tmp_path}), before=stop_after_3_steps)
    assert stopped.code == 0 and "stopped by a signal" in stopped.stdout, stopped.stderr
    end = run(flags(sft | {"output_dir": tmp_path}))
    assert end.code == 0 and "warm-started" not in end.stdout, end.stderr
    assert [r["train/loss"] for r in records(tmp_path)] == [r["train/loss"] for r in records(finished[0])]


def stop_after_3_steps() -> None:
    """In the training process: a signal after its third step."""
    import signal

    from recipes.training import trainer_run

    on_step_end = trainer_run.StopCallback.on_step_end

    def stopping(self, args, state, control, **kwargs):
        if state.global_step == 3:
            signal.raise_signal(signal.SIGTERM)
        return on_step_end(self, args, state, control, **kwargs)

    trainer_run.StopCallback.on_step_end = stopping


# The batch


@launch
def test_a_batch_in_tokens_is_as_many_accumulated_micro_batches(sft, finished, tmp_path):
    by_hand = {name: value for name, value in sft.items() if name not in ("config", "total_batch_size")}
    preset = {name: value for name, value in yaml.safe_load(PRESET.read_text()).items() if name not in sft}
    preset["gradient_accumulation_steps"] = 2
    by_hand |= {name: str(value).lower() if isinstance(value, bool) else value for name, value in preset.items()}
    end = run(flags(by_hand | {"max_steps": 2, "warmdown_ratio": 0, "output_dir": tmp_path}))
    assert end.code == 0, end.stderr
    assert [r["train/loss"] for r in records(tmp_path)] == [r["train/loss"] for r in records(finished[0])[:2]]


@launch
@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"total_batch_size": 1000}, "total_batch_size 1000 is not a multiple of 192 (per_device_train_batch_size 2 x "
            "max_length 96 x 1 process). Nearest that work: 960, 1152."),
        ({"total_batch_size": 100}, "Nearest that work: 192."),
        ({"gradient_accumulation_steps": 2}, "give total_batch_size or gradient_accumulation_steps, not both"),
        ({"packing": "false"}, "total_batch_size counts tokens of full rows: set --packing true with it"),
        ({"lr_scheduler_type": "cosine"}, "give warmdown_ratio or lr_scheduler_type, not both"),
        ({"warmdown_ratio": 1.5}, "warmdown_ratio must be"),
    ],
)  # fmt: skip
def test_a_batch_or_schedule_that_cannot_be_is_told_in_one_line(sft, tmp_path, wrong, expected):
    end = run(flags(sft | wrong | {"output_dir": tmp_path}))
    assert end.code == 2, end.stderr
    (line,) = end.stderr.splitlines()
    assert line.startswith("sft: ") and expected in line, line


# The whole preset


@launch
@pytest.mark.slow
def test_the_preset_as_it_is_finds_the_base_model_beside_it_and_measures_chatcore(sft, base, mixture, tmp_path):
    output_dir = base.parent / "sft"
    tasks = chat_tasks(write_chat_files(tmp_path / "exams"))
    small = {name: sft[name] for name in ("config", "per_device_train_batch_size", "total_batch_size")}
    few = {"chatcore_tasks": ",".join(tasks.values()), "chatcore_max_problems": 3}
    end = run(flags(small | few | {"conversations": mixture, "output_dir": output_dir}))
    assert end.code == 0 and not end.stderr, end.stderr
    assert f"model {base}" in end.stdout
    last = records(output_dir)[-1]["step"]
    assert f"step {last:06d} | chatcore " in end.stdout and f"step {last:06d} | val/loss" in end.stdout
    assert (output_dir / "model.safetensors").exists() and (output_dir / "loss.png").exists()
