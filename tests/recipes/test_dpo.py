"""DPO as its users meet it: what it learns, keeps and leaves, from pairs of a user's and adapters."""

import json
import signal
from functools import partial
from pathlib import Path

import pytest
import torch
from matplotlib import image
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from recipes.data.messages import assistant, calculator_call, user
from recipes.utils.run_directory import read_metrics
from tests.recipes import processes
from tests.recipes.processes import Running, flags
from tests.recipes.test_exactness import assert_same_run
from tests.recipes.test_pretrain import register_optimizers

pytestmark = pytest.mark.launch

run = partial(processes.run, script="dpo")


@pytest.fixture(scope="module")
def dpo(student, pairs) -> dict:
    """Arguments of a run of seconds: everything but the output directory."""
    return {
        "source": student,
        "preferences": pairs,
        "per_device_train_batch_size": 16,
        "init_lr_frac": 0.2,
        "eval_steps": 5,
        "save_steps": 5,
        "bf16": "false",
    }


@pytest.fixture(scope="module")
def finished(dpo, tmp_path_factory) -> tuple[Path, processes.Finished]:
    """A run that nobody disturbed, and what it printed."""
    output_dir = tmp_path_factory.mktemp("finished")
    end = run(flags(dpo | {"output_dir": output_dir}))
    assert end.code == 0, end.stderr
    return output_dir, end


def records_with(key: str, output_dir: Path) -> list[dict]:
    return [record for record in read_metrics(output_dir / "metrics.jsonl") if key in record]


# A run


def test_it_learns_to_prefer_what_was_chosen_and_says_so_in_the_keys_of_pretraining(finished, pairs):
    output_dir, end = finished
    trained, evaluated = (records_with(key, output_dir) for key in ("train/loss", "val/loss"))
    assert [record["step"] for record in trained] == list(range(1, 16)), "one pass over 237 pairs"
    assert trained[0]["train/loss"] == pytest.approx(0.693, abs=1e-3), "the model is the reference: a reward of 0"
    assert trained[-1]["train/loss"] < 0.5 and trained[-1]["train/rewards/accuracies"] > 0.9
    assert [record["step"] for record in evaluated] == [5, 10, 15]
    assert evaluated[-1]["val/rewards/accuracies"] == 1
    assert evaluated[-1]["val/rewards/margins"] > evaluated[0]["val/rewards/margins"] > 0
    assert trained[0].keys() >= {
        *("step", "epoch", "train/lrm", "train/dt", "train/tok_per_sec", "train/mfu", "train/grad_norm"),
        *("train/rewards/chosen", "train/rewards/rejected", "train/rewards/margins", "train/logps/chosen"),
        *("total_training_time", "total_training_flops"),
    }
    assert f"preferences from {pairs}" in end.stdout and "held out for validation: 1% of it" in end.stdout
    assert "val/rewards/accuracies 100.0%" in end.stdout


def test_the_result_loads_by_transformers_and_prefers_what_was_chosen(finished, student):
    output_dir, _ = finished
    assert gap(output_dir) > gap(student) + 1
    assert image.imread(output_dir / "loss.png").ndim == 3 and (output_dir / "modeling_nanochat.py").exists()


def gap(directory: Path) -> float:
    """How much likelier a right sum is than a wrong one, as a difference of log-probabilities."""
    tokenizer, model = AutoTokenizer.from_pretrained(directory), AutoModelForCausalLM.from_pretrained(directory)
    asked = [user("What is 3 plus 4?")]
    start = len(tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False))
    sums = []
    for answer in ("7.", "Perhaps 8."):
        ids = tokenizer.apply_chat_template([*asked, assistant(answer)], return_dict=False, return_tensors="pt")
        logps = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])
        sums.append(logps[start - 1 :].sum().item())
    return sums[0] - sums[1]


def test_the_optimizer_is_muon_at_its_share_of_pretrainings_learning_rates(finished):
    state = torch.load(finished[0] / "checkpoints" / "checkpoint-15" / "optimizer.pt", weights_only=True)
    first, *others = state["param_groups"]
    assert (first["kind"], first["initial_lr"]) == ("muon", pytest.approx(0.2 * 0.02))
    assert {group["kind"] for group in others} == {"adamw"}


def test_killed_and_stopped_and_run_again_it_equals_the_undisturbed_run(dpo, finished, tmp_path):
    argv = flags(dpo | {"output_dir": tmp_path})
    attempt = Running(argv, script="dpo")
    attempt.wait_until(lambda: len(records_with("train/loss", tmp_path)) >= 7)
    assert attempt.kill() == [-signal.SIGKILL]
    attempt = Running(argv, script="dpo")
    attempt.wait_until(lambda: len(records_with("train/loss", tmp_path)) >= 8)
    attempt.signal(signal.SIGTERM)
    (end,) = attempt.wait()
    assert end.code == 0, end.stderr
    assert "is saved, the same command resumes from it" in end.stdout and not (tmp_path / "config.json").exists()

    assert run(argv).code == 0
    assert_same_run(tmp_path, finished[0])
    end = run(argv)
    assert end.code == 0 and "is finished already" in end.stdout


@pytest.mark.slow
def test_two_processes_make_the_steps_of_one_with_twice_the_batch(dpo, finished, tmp_path):
    end = run(flags(dpo | {"per_device_train_batch_size": 8, "output_dir": tmp_path}), 2)
    assert end.code == 0, end.stderr
    assert "Warning" not in end.stderr and end.stdout.count("finished:") == 1
    mine, theirs = (records_with("train/loss", path) for path in (tmp_path, finished[0]))
    assert len(mine) == len(theirs) == 15
    for step in (0, 1):
        for key in ("train/loss", "train/grad_norm", "train/rewards/margins"):
            assert mine[step][key] == pytest.approx(theirs[step][key], rel=2e-2, abs=1e-5), (step, key)


def test_adapters_are_merged_and_their_reference_is_the_model_without_them(dpo, student, tmp_path):
    end = run(flags(dpo | {"use_peft": "true", "init_lr_frac": 2, "output_dir": tmp_path}))
    assert end.code == 0 and "Warning" not in end.stderr, end.stderr
    trained = records_with("train/loss", tmp_path)
    assert trained[0]["train/loss"] == pytest.approx(0.693, abs=1e-3)
    assert trained[-1]["train/loss"] < 0.6 and trained[-1]["train/rewards/accuracies"] > 0.9
    before, after = (load_file(path / "model.safetensors") for path in (student, tmp_path))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert before.keys() == after.keys() and changed == {name for name in before if ".layers." in name}
    assert not list(tmp_path.glob("**/ref")), "no second copy of the adapters is kept"
    assert gap(tmp_path) > gap(student) + 1


def test_a_stage_is_found_beside_the_output_and_grpo_goes_on_from_it(dpo, guesser, guessed, finished, tmp_path):
    (tmp_path / "dpo").symlink_to(finished[0])
    grpo = {"source": "dpo", "problems": guessed, "max_completion_length": 4, "pass_every": -1, "max_steps": 1}
    end = processes.run(flags(grpo | {"bf16": "false", "output_dir": tmp_path / "grpo"}), script="grpo")
    assert end.code == 0, end.stderr
    assert f"model {tmp_path / 'dpo'}" in end.stdout


@pytest.mark.slow
@pytest.mark.parametrize("loss", [["ipo"], ["sigmoid", "sft"], ["apo_zero"]])
def test_other_losses_of_trls_and_sums_of_them_learn_it_too(dpo, student, tmp_path, loss):
    words = [*flags(dpo | {"output_dir": tmp_path}), "--loss_type", *loss]
    end = run(words)
    assert end.code == 0, end.stderr
    assert gap(tmp_path) > gap(student) + 0.5


def test_a_run_whose_weights_are_not_finite_ends_and_is_not_called_finished(dpo, tmp_path):
    more = {"output_dir": tmp_path, "optimizer": "exploding", "save_steps": 2}
    end = run(flags(dpo | more), before=register_optimizers)
    assert end.code == 2 and "finished" not in end.stdout, end.stderr
    *_, line = end.stderr.splitlines()
    good = tmp_path / "checkpoints" / "checkpoint-4"
    assert line.startswith("dpo: the weights are not finite, or too large to compute with, after step 5; ")
    assert f"the last good checkpoint is {good}. " in line


# Bad input


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"source": "./nowhere"}, "model ./nowhere: no such directory"),
        ({"source": "sft"}, "sft: no such directory"),
        ({"preferences": "nonsense"}, "the Hub is switched off by HF_HUB_OFFLINE, and nonsense is not a file here"),
        ({"preferences": "./nowhere.jsonl"}, "nowhere.jsonl"),
        ({"learning_rate": 1e-4}, "learning_rate has no effect here: use --init_lr_frac"),
        ({"beta": 0}, "beta must be above 0 and at most 1,000, not 0"),
        ({"loss_type": "orpo"}, "loss_type must be one of sigmoid, sft, "),
        ({"loss_type": "exo_pair"}, "TRL refuses these flags: Label smoothing must be greater than 0.0"),
        ({"max_length": 200}, "max_length 200 is beyond the model's context of 96 tokens"),
        ({"max_length": 4}, "none of the 237 preferences fits into 4 tokens"),
        ({"optimizer": "sgd"}, "unknown optimizer 'sgd'"),
        ({"conversations": "primer"}, "did you mean preferences?"),
    ],
)
def test_what_cannot_be_is_one_clear_line(dpo, tmp_path, wrong, expected):
    end = run(flags(dpo | wrong | {"output_dir": tmp_path / "dpo"}))
    assert end.code == 2, end.stderr or end.stdout
    (line,) = end.stderr.splitlines()
    assert line.startswith("dpo: ") and expected in line


def test_rows_that_teach_nothing_and_rows_that_do_not_fit_are_left_out_and_counted(dpo, pairs, tmp_path):
    lines = pairs.read_text().splitlines()
    same = {"prompt": [user("Hi.")], "chosen": [assistant("Hi.")], "rejected": [assistant("Hi.")]}
    empty = {"prompt": [user("Hi.")], "chosen": [assistant(" ")], "rejected": [assistant("Hi.")]}
    long = {"prompt": [user("word " * 99)], "chosen": [assistant("Yes.")], "rejected": [assistant("No.")]}
    path = tmp_path / "mixed.jsonl"
    path.write_text("\n".join([*lines[:40], *map(json.dumps, (same, empty, long, long)), *lines[40:80]]))
    end = run(flags(dpo | {"preferences": path, "output_dir": tmp_path / "dpo", "max_steps": 1}))
    assert end.code == 0, end.stderr
    left_out, dropped = end.stderr.splitlines()
    assert f"{path}: left out 2 of 84 preferences: in 1 chosen and rejected are the same" in left_out
    assert f"(the first: {path}, line 41), in 1 an answer is empty (the first: {path}, line 42)" in left_out
    assert f"dropped 2 of 81 preferences that do not fit into 96 tokens (one of them: {path}, line 4" in dropped


def test_a_damaged_row_costs_nothing_and_the_same_command_goes_on_when_it_is_repaired(dpo, pairs, tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(pairs.read_text() + '{"chosen": [], "rejected": []}\n')
    argv = flags(dpo | {"preferences": path, "output_dir": tmp_path / "dpo", "max_steps": 1})
    end = run(argv)
    assert end.code == 2
    assert end.stderr.strip().endswith(
        f"{path}, line 241: chosen: a conversation is a list of messages, and this is an empty list."
    )
    path.write_text(pairs.read_text())
    assert run(argv).code == 0


def test_calls_of_tools_are_part_of_an_answer(dpo, tmp_path):
    calls = [*calculator_call("", "3+4", "7"), assistant("7.")]
    rows = [
        {"prompt": [user(f"What is 3 plus 4, {n}?")], "chosen": calls, "rejected": [assistant("8.")]}
        for n in range(40)
    ]
    path = tmp_path / "calls.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    end = run(flags(dpo | {"preferences": path, "output_dir": tmp_path / "dpo", "num_train_epochs": 3}))
    assert end.code == 0, end.stderr
    assert records_with("train/loss", tmp_path / "dpo")[-1]["train/rewards/accuracies"] == 1
