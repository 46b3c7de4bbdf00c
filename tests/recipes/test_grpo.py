"""GRPO as its users meet it: a model that guesses how to calculate learns from its rewards alone to be right."""

import json
import re
import signal
from functools import partial
from pathlib import Path
from statistics import mean

import pytest
import torch
from matplotlib import image
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from evals.chat.before_after import read_problems
from recipes.data.messages import user
from recipes.inference.generate import Sampling, generate_replies
from recipes.utils.run_directory import BEFORE_AFTER, read_metrics
from tests.recipes import processes
from tests.recipes.conftest import GUESSED
from tests.recipes.processes import Running, flags
from tests.recipes.test_exactness import assert_same_run
from tests.recipes.test_pretrain import register_optimizers

pytestmark = pytest.mark.launch

run = partial(processes.run, script="grpo")


@pytest.fixture(scope="module")
def grpo(guesser, guessed) -> dict:
    """Arguments of a run of seconds: everything but the output directory."""
    return {
        "source": guesser,
        "problems": guessed,
        "per_device_train_batch_size": 16,
        "num_generations": 16,
        "max_completion_length": 24,
        "init_lr_frac": 1,
        "matrix_lr": 0.01,
        "embedding_lr": 0.005,
        "pass_every": 5,
        "pass_samples": 16,
        "save_steps": 4,
        "bf16": "false",
    }


@pytest.fixture(scope="module")
def finished(grpo, tmp_path_factory) -> tuple[Path, processes.Finished]:
    """A run that nobody disturbed, and what it printed."""
    output_dir = tmp_path_factory.mktemp("finished")
    end = run(flags(grpo | {"output_dir": output_dir}))
    assert end.code == 0, end.stderr
    return output_dir, end


def records_with(key: str, output_dir: Path) -> list[dict]:
    return [record for record in read_metrics(output_dir / "metrics.jsonl") if key in record]


# A run


def test_rewards_for_right_answers_make_answers_right(finished):
    output_dir, _ = finished
    rewards = [record["train/reward"] for record in records_with("train/loss", output_dir)]
    assert len(rewards) == 10, "one pass over ten problems"
    assert mean(rewards[:2]) < 0.85 < mean(rewards[-4:]), rewards


def test_the_result_calls_the_calculator_and_stops_where_a_call_ends(finished):
    output_dir, _ = finished
    model, tokenizer = AutoModelForCausalLM.from_pretrained(output_dir), AutoTokenizer.from_pretrained(output_dir)
    (reply,) = generate_replies(model, tokenizer, [[user(GUESSED)]], Sampling(max_new_tokens=32))
    assert [message["content"] for message in reply] == ["", "48", "It is 48."]
    stops = tokenizer.convert_tokens_to_ids(["<|assistant_end|>", "<|python_end|>"])
    assert GenerationConfig.from_pretrained(output_dir).eos_token_id == stops


def test_the_calculator_is_really_called_in_training(finished):
    for record in records_with("train/loss", finished[0]):
        assert record["train/tools/call_frequency"] > 0.8
        assert record["train/tools/failure_frequency"] == 0


def test_pass_at_k_is_measured_before_during_and_after_printed_and_drawn(finished):
    output_dir, end = finished
    measured = records_with("val/pass@1", output_dir)
    assert [record["step"] for record in measured] == [0, 5, 10]
    before, after = measured[0], measured[-1]
    assert before["val/pass@1"] < 0.75 < after["val/pass@1"]
    assert before["val/pass@16"] == after["val/pass@16"] == after["val/greedy"] == 1
    table = end.stdout[end.stdout.index("1 held-out problems, 16 sampled replies each") :].splitlines()
    assert table[1].split() == ["step", "greedy", "pass@1", "pass@16"]
    assert [line.split()[0] for line in table[2:5]] == ["0", "5", "10"]
    assert table[4].split()[2] == f"{after['val/pass@1']:.1%}"
    height, width, _ = image.imread(output_dir / "pass_at_k.png").shape
    assert width == 1200 and height > 1200, "a panel each for what is solved, the reward, the length, and the calls"


def test_the_same_problem_is_shown_before_and_after_with_the_working(finished):
    output_dir, end = finished
    (problem,) = read_problems(output_dir / BEFORE_AFTER)
    assert (problem.question, problem.answer) == (GUESSED, "48")
    assert (problem.before.step, problem.after.step) == (0, 10)
    assert problem.after.right and problem.after.working == "[12*4 = 48] It is 48."
    shown = end.stdout[end.stdout.index("not chosen by result") :].splitlines()
    assert shown[1:4] == [
        f"1. {GUESSED} (48)",
        f"   before  {problem.before.text}",
        "   after   right: [12*4 = 48] It is 48.",
    ]


def test_groups_with_spread_and_calls_are_counted_and_told(finished):
    output_dir, end = finished
    for record in records_with("train/loss", output_dir):  # one group a step: it has spread unless all agree
        assert record["train/groups_with_spread"] == (0 < record["train/reward"] < 1)
    assert re.search(r"\| reward 0\.\d{3} \| 100% of groups with spread \| [\d.]+ completions/s ", end.stdout)
    for name in ("reward", "groups with spread", "tokens a reply", "calls a reply"):
        assert re.search(rf"^{name}: \S+ in the first tenth of the steps, \S+ in the last$", end.stdout, re.MULTILINE)


def test_records_have_the_keys_of_pretraining_and_the_learning_rate_falls_in_a_line(finished):
    trained = records_with("train/loss", finished[0])
    assert [record["train/lrm"] for record in trained] == pytest.approx([1 - step / 10 for step in range(10)])
    assert trained[0].keys() >= {
        *("step", "epoch", "train/dt", "train/tok_per_sec", "train/mfu", "train/grad_norm", "total_training_time"),
        *("train/reward_std", "train/completions/mean_length", "train/entropy", "train/completions_per_sec"),
    }
    assert "completions/s" in finished[1].stdout


def test_the_optimizer_is_muon_with_a_share_of_the_learning_rates(finished):
    state = torch.load(finished[0] / "checkpoints" / "checkpoint-10" / "optimizer.pt", weights_only=True)
    first, *others = state["param_groups"]
    assert (first["kind"], first["initial_lr"]) == ("muon", 0.01)
    assert {group["kind"] for group in others} == {"adamw"}


@pytest.mark.slow
def test_killed_and_stopped_and_run_again_it_equals_the_undisturbed_run(grpo, finished, tmp_path):
    argv = flags(grpo | {"output_dir": tmp_path})
    attempt = Running(argv, script="grpo")
    attempt.wait_until(lambda: len(records_with("train/loss", tmp_path)) >= 5)
    assert attempt.kill() == [-signal.SIGKILL]
    attempt = Running(argv, script="grpo")
    attempt.wait_until(lambda: len(records_with("train/loss", tmp_path)) >= 6)
    attempt.signal(signal.SIGTERM)
    (end,) = attempt.wait()
    assert end.code == 0, end.stderr
    assert "is saved, the same command resumes from it" in end.stdout and "held-out problems" not in end.stdout
    assert not (tmp_path / "config.json").exists()

    assert run(argv).code == 0
    assert_same_run(tmp_path, finished[0])
    assert (tmp_path / BEFORE_AFTER).read_text() == (finished[0] / BEFORE_AFTER).read_text(), (
        "three processes wrote it"
    )
    end = run(argv)
    assert end.code == 0 and "is finished already" in end.stdout


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_what_is_tried_next_survives_a_stop(grpo, tmp_path, processes):
    """By counts of many kinds, and with problems that are tried and left out, on one process and on two."""
    varied = {"problems": "primer", "max_problems": 60, "sampling_rounds": 3, "num_generations": 4, "max_steps": 4}
    varied |= {"per_device_train_batch_size": 16 // processes, "save_steps": 1, "pass_every": -1}
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert run(flags(grpo | varied | {"output_dir": whole}), processes).code == 0
    argv = flags(grpo | varied | {"output_dir": stopped})
    attempt = Running(argv, processes, script="grpo")
    attempt.wait_until(lambda: len(records_with("train/loss", stopped)) >= 2)
    attempt.kill()
    end = run(argv, processes)
    assert end.code == 0, end.stderr
    assert_same_run(stopped, whole)
    kept = [(path / "checkpoints" / "checkpoint-4" / "curriculum.json").read_text() for path in (stopped, whole)]
    assert kept[0] == kept[1] and len(json.loads(kept[0])["tried"]) > 10


@pytest.mark.slow
def test_two_processes_share_the_replies_and_adapters_are_merged(grpo, tmp_path):
    shared = {"per_device_train_batch_size": 8, "max_steps": 2, "use_peft": "true", "pass_every": 0}
    end = run(flags(grpo | shared | {"output_dir": tmp_path}), 2)
    assert end.code == 0, end.stderr
    assert [record["step"] for record in records_with("train/reward", tmp_path)] == [1, 2]
    assert "Warning" not in end.stderr
    assert [record["step"] for record in records_with("val/pass@16", tmp_path)] == [0, 2]
    assert AutoModelForCausalLM.from_pretrained(tmp_path) and (tmp_path / "adapter").is_dir()
    (problem,) = read_problems(tmp_path / BEFORE_AFTER)
    assert (problem.before.step, problem.after.step) == (0, 2) and end.stdout.count("not chosen by result") == 1


def test_a_run_whose_weights_are_not_finite_ends_and_is_not_called_finished(grpo, tmp_path):
    more = {"output_dir": tmp_path, "optimizer": "exploding", "save_steps": 2}
    end = run(flags(grpo | more), before=register_optimizers)
    assert end.code == 2 and "finished" not in end.stdout, end.stderr
    *_, line = end.stderr.splitlines()
    good = tmp_path / "checkpoints" / "checkpoint-4"
    assert line.startswith("grpo: the weights are not finite, or too large to compute with, after step 5; ")
    assert f"the last good checkpoint is {good}. " in line
    assert all(weight.isfinite().all() for weight in load_file(good / "model.safetensors").values())
    assert not (tmp_path / "config.json").exists()


# Bad input


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"source": "./nowhere"}, "model ./nowhere: no such directory"),
        ({"source": "sft"}, "no such directory"),
        ({"problems": "gsm8"}, "no problems called 'gsm8': choose primer, gsm8k, or gsm8k:PATH for local files"),
        ({"problems": "gsm8k:./nowhere"}, "no such directory: nowhere"),
        ({"num_generations": 12}, "num_generations"),
        ({"max_completion_length": 112}, "leaves no room for a question in the model's context of 112 tokens"),
        ({"max_completion_length": 110}, "more than the model's context of 112: lower max_completion_length to"),
        ({"pass_samples": 0}, "pass_samples must be at least 1 and at most 10,000, not 0"),
        ({"max_problems": 0}, "max_problems must be at least 1, not 0"),
        ({"reward_weights": 1}, "reward_weights has no effect here: use --format_reward"),
        ({"per_device_train_batch_size": 192}, "10 problems are too few for one step of 12: take a smaller batch"),
        ({"top_k": -1}, "top_k must be at least 0, not -1"),
        ({"use_vllm": "true"}, "use_vllm: vLLM runs no model code that comes with a checkpoint"),
    ],
)
def test_what_cannot_be_is_one_clear_line(grpo, tmp_path, wrong, expected):
    end = run(flags(grpo | wrong | {"output_dir": tmp_path / "grpo"}))
    assert end.code == 2, end.stderr or end.stdout
    (line,) = end.stderr.splitlines()
    assert line.startswith("grpo: ") and expected in line


def test_a_model_that_calls_tools_in_another_format_is_refused(grpo, guesser, tmp_path):
    tokenizer, model = AutoTokenizer.from_pretrained(guesser), AutoModelForCausalLM.from_pretrained(guesser)
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    for part in (tokenizer, model):
        part.save_pretrained(tmp_path / "other")
    end = run(flags(grpo | {"source": tmp_path / "other", "output_dir": tmp_path / "grpo"}))
    assert end.code == 2
    assert "calls tools in a format of its own: take a model with our chat template" in end.stderr
