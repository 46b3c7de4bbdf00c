"""ChatCORE during SFT: measured when due, and never the end of a training."""

import json
import os
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch

from evals.chat.tasks import CHAT_CORE
from recipes.training.posttraining_arguments import SFTArguments
from recipes.utils.run_directory import read_metrics
from tests.evals.chat_files import chat_tasks, write_chat_files
from tests.recipes import processes
from tests.recipes.processes import flags

pytestmark = pytest.mark.launch

run = partial(processes.run, script="sft")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory) -> dict[str, str]:
    """The five tasks, in local files."""
    return chat_tasks(write_chat_files(tmp_path_factory.mktemp("exams")))


@pytest.fixture(scope="module")
def sft(student, sums, tasks) -> dict:
    """Arguments of a run of 6 steps that measures after 4 and at the end, and would save at the end only."""
    return {
        "source": student,
        "conversations": sums,
        "per_device_train_batch_size": 8,
        "max_steps": 6,
        "eval_strategy": "no",
        "save_steps": 50,
        "logging_steps": 1,
        "chatcore_every": 4,
        "chatcore_tasks": ",".join(tasks.values()),
        "chatcore_max_problems": 3,
    }


@pytest.fixture(scope="module")
def finished(sft, tmp_path_factory) -> tuple[Path, processes.Finished]:
    """A run of which nothing failed, and what it printed."""
    output_dir = tmp_path_factory.mktemp("finished")
    end = run(flags(sft | {"output_dir": output_dir}))
    assert end.code == 0 and not end.stderr, end.stderr
    return output_dir, end


def measured(output_dir: Path) -> dict[int, dict[str, float]]:
    """The figures of ChatCORE by step."""
    records = read_metrics(output_dir / "metrics.jsonl")
    found = [{key: value for key, value in each.items() if key.startswith("chatcore")} for each in records]
    return {record["step"]: each for record, each in zip(records, found, strict=True) if each}


def losses(output_dir: Path) -> list[float]:
    return [each["train/loss"] for each in read_metrics(output_dir / "metrics.jsonl") if "train/loss" in each]


def test_by_default_it_is_measured_on_its_five_tasks():
    assert SFTArguments.chatcore_tasks.split(",") == list(CHAT_CORE)
    assert SFTArguments.chatcore_every == -1


def test_it_is_logged_when_due_after_a_checkpoint_and_changes_no_weight(sft, finished, tmp_path):
    output_dir, end = finished
    found = measured(output_dir)
    assert list(found) == [4, 6]
    assert list(found[4]) == ["chatcore", *(f"chatcore/{name}" for name in CHAT_CORE)]
    letters = [(found[4][f"chatcore/{name}"] - 0.25) / 0.75 for name in CHAT_CORE[:3]]
    written = [found[4][f"chatcore/{name}"] for name in CHAT_CORE[3:]]
    assert found[4]["chatcore"] == pytest.approx(sum(letters + written) / 5)
    assert f"step 000004 | chatcore {found[4]['chatcore']:.4f} | chatcore/arc_easy " in end.stdout
    assert (output_dir / "checkpoints" / "checkpoint-4" / "model.safetensors").exists()
    without = {"chatcore_every": -1, "chatcore_tasks": "arc_easy"}
    assert run(flags(sft | without | {"output_dir": tmp_path})).code == 0
    assert losses(tmp_path) == losses(output_dir)
    assert not (tmp_path / "checkpoints" / "checkpoint-4").exists()


def test_trackers_get_it_beside_the_evaluation_loss(finished):
    """Trainer keeps all that it passes to trackers, where `eval_chatcore` becomes `eval/chatcore`."""
    output_dir, _ = finished
    state = json.loads((output_dir / "checkpoints" / "checkpoint-6" / "trainer_state.json").read_text())
    passed = {each["step"]: each["eval_chatcore"] for each in state["log_history"] if "eval_chatcore" in each}
    assert passed == {4: measured(output_dir)[4]["chatcore"]}, "that of step 6 comes after its checkpoint"


@pytest.mark.slow
def test_a_killed_run_measures_again_where_it_resumes(sft, finished, tmp_path):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).unlink()
    shutil.rmtree(tmp_path / "checkpoints" / "checkpoint-6")
    end = run(flags(sft | {"output_dir": tmp_path}))
    assert end.code == 0, end.stderr
    assert end.stdout.count("step 000004 | chatcore") == end.stdout.count("step 000006 | chatcore") == 1
    assert measured(tmp_path) == measured(finished[0]) and losses(tmp_path) == losses(finished[0])


def fail_from(call: int, task: str) -> None:
    """In the training process: the evaluation of one task finds no memory from its `call`-th time on."""
    from evals.chat import evaluate

    answer, calls = evaluate._answer, []

    def failing(model, tokenizer, asked, *rest):
        calls.append(asked.name)
        if asked.name == task and calls.count(task) >= call:
            model.train(False)  # as a failure in the midst of it may leave it
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate more.")
        return answer(model, tokenizer, asked, *rest)

    evaluate._answer = failing


def test_a_task_that_runs_out_of_memory_is_named_and_training_goes_on_and_is_saved(sft, finished, tmp_path):
    end = run(flags(sft | {"output_dir": tmp_path, "chatcore_every": 2}), before=partial(fail_from, 2, "gsm8k"))
    assert end.code == 0, end.stderr
    found = measured(tmp_path)
    assert list(found) == [2, 4, 6] and "chatcore" in found[2]
    for step in (4, 6):
        line = f"step 00000{step} | ChatCORE without gsm8k:"
        (said,) = [each for each in end.stdout.splitlines() if each.startswith(line)]
        assert said.endswith(", training continues: CUDA out of memory. Tried to allocate more.")
        assert "chatcore_partial" in found[step] and "chatcore" not in found[step]
        assert found[step]["chatcore/mmlu"] == measured(finished[0])[step]["chatcore/mmlu"]
    assert losses(tmp_path) == losses(finished[0])
    assert (tmp_path / "model.safetensors").exists()


def test_without_a_network_what_is_local_is_measured_and_the_rest_is_named(sft, tasks, tmp_path):
    some = {"chatcore_tasks": f"{tasks['mmlu']},gsm8k", "chatcore_every": 0, "output_dir": tmp_path}
    end = run(flags(sft | some))
    assert end.code == 0, end.stderr
    tried = [line for line in end.stdout.splitlines() if "gsm8k" in line]
    assert tried[0].startswith("ChatCORE will try gsm8k again, which cannot be opened: ")
    assert tried[1].startswith("step 000006 | ChatCORE without gsm8k, training continues: ") and len(tried) == 2
    assert list(measured(tmp_path)[6]) == ["chatcore_partial", "chatcore/mmlu"]

    end = run(flags(sft | {"chatcore_tasks": "arc_easy,humaneval", "output_dir": tmp_path / "none"}))
    assert end.code == 0 and not measured(tmp_path / "none")
    assert (tmp_path / "none" / "model.safetensors").exists() and losses(tmp_path / "none") == losses(tmp_path)


def test_exams_of_the_primer_are_measured_without_any_data(sft, tmp_path):
    some = {"chatcore_tasks": "facts,choice", "chatcore_every": 0, "output_dir": tmp_path}
    end = run(flags(sft | some))
    assert end.code == 0, end.stderr
    assert list(measured(tmp_path)[6]) == ["chatcore/facts", "chatcore/choice"], "no ChatCORE, which they are not of"


def hide_from_rank(rank: int, task: str) -> None:
    """In the training processes: one of them cannot open a task."""
    from recipes.training import chat_core

    open_task = chat_core.open_task

    def opening(spec, *rest):
        if os.environ.get("RANK") == str(rank) and spec.startswith(task):
            raise OSError("no such mount")
        return open_task(spec, *rest)

    chat_core.open_task = opening


@pytest.mark.slow
def test_two_processes_measure_what_one_does_and_agree_on_what_failed(sft, finished, tasks, tmp_path):
    half = sft | {"per_device_train_batch_size": 4}
    end = run(flags(half | {"output_dir": tmp_path / "two"}), 2)
    assert end.code == 0, end.stderr
    assert list(measured(tmp_path / "two")) == [4, 6]
    assert measured(tmp_path / "two")[4].keys() == measured(finished[0])[4].keys()
    assert losses(tmp_path / "two") == pytest.approx(losses(finished[0]), rel=2e-2)

    end = run(flags(half | {"output_dir": tmp_path / "hidden"}), 2, before=partial(hide_from_rank, 1, "mmlu"))
    assert end.code == 2 and "sft: chatcore_tasks: no such mount" in end.stderr, "before the first step"
    hub = {"chatcore_tasks": f"mmlu,{tasks['gsm8k']}", "output_dir": tmp_path / "hub"}
    end = run(flags(half | hub), 2, before=partial(hide_from_rank, 1, "mmlu"))
    assert end.code == 0, end.stderr
    assert list(measured(tmp_path / "hub")[6]) == ["chatcore_partial", "chatcore/gsm8k"]


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"chatcore_tasks": "arc_esay"}, "unknown task 'arc_esay': did you mean arc_easy?"),
        ({"chatcore_tasks": "mmlu,gsm8k,mmlu"}, "task mmlu stands twice in mmlu,gsm8k,mmlu"),
        ({"chatcore_tasks": "facts:here"}, "facts is generated, not read from a file: leave out the path"),
        ({"chatcore_tasks": "gsm8k:nowhere"}, "chatcore_tasks: gsm8k: no such directory: nowhere."),
        ({"chatcore_every": -2}, "chatcore_every must be at least -1"),
        ({"chatcore_max_problems": 0}, "chatcore_max_problems must be at least 1"),
    ],
)
def test_a_mistake_is_told_in_one_line_before_the_first_step(sft, tmp_path, wrong, expected):
    end = run(flags(sft | wrong | {"output_dir": tmp_path}))
    assert end.code == 2 and "step 000001" not in end.stdout
    (line,) = end.stderr.splitlines()
    assert line.startswith("sft: ") and expected in line, line


def test_a_damaged_file_of_a_task_is_named(sft, tmp_path):
    (tmp_path / "test.jsonl").write_text(json.dumps({"question": "?", "answer": "no number"}) + "\n")
    end = run(flags(sft | {"chatcore_tasks": f"gsm8k:{tmp_path}", "output_dir": tmp_path / "run"}))
    assert end.code == 2 and "test row 0: the answer does not end with #### and a number" in end.stderr
