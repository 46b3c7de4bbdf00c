"""`--push_to_hub` of the recipes publishes the finished model, once, and never costs it."""

import os
import shlex
import shutil
import signal
import threading
from functools import partial
from pathlib import Path

import pytest

from recipes.publish.files import STAGE_OF
from tests.hub.client import use_hub
from tests.hub.server import serve
from tests.recipes.processes import Running, flags, run
from tests.recipes.publish.publishing import MODEL

pytestmark = pytest.mark.launch


@pytest.fixture
def hub():
    with serve() as server:
        yield server


@pytest.fixture
def pushing(hub, tmp_path):
    """Runs a recipe that publishes its model to ada/NAME, as Ada; returns what it left."""

    def train(script: str, output_dir: Path, arguments: dict, repo: str, token: str | None = "hf_adas_token"):
        more = {"output_dir": output_dir, "push_to_hub": "true", "hub_model_id": repo}
        as_ada = partial(use_hub, hub.url, token, tmp_path / "home")
        return run(flags(arguments | more), before=as_ada, script=script)

    return train


@pytest.mark.slow
def test_every_recipe_publishes_what_it_has_trained(
    hub, pushing, tiny, student, sums, pairs, guesser, guessed, tmp_path
):
    mid = {"source": tmp_path / "base", "conversations": sums, "num_iterations": 1, "total_batch_size": 128,
           "device_batch_size": 2, "max_seq_len": 32, "eval_every": -1, "sample_every": -1}  # fmt: skip
    stages = {
        "base": ("pretrain", tiny | {"num_iterations": 2}),
        "mid": ("midtrain", mid),
        "sft": ("sft", {"source": student, "conversations": sums, "max_steps": 2, "save_steps": 1, "eval_steps": 1}),
        "dpo": ("dpo", {"source": student, "preferences": pairs, "max_steps": 2, "save_steps": 1, "eval_steps": 1}),
        "grpo": ("grpo", {"source": guesser, "problems": guessed, "max_steps": 2, "save_steps": 1,
                          "max_completion_length": 24, "pass_every": -1, "bf16": "false"}),
    }  # fmt: skip
    for stage, (script, arguments) in stages.items():
        end = pushing(script, tmp_path / stage, arguments, f"ada/{stage}")
        assert end.code == 0, end.stderr
        assert f"published: {hub.url}/ada/{stage}" in end.stdout
        files = hub.files(f"ada/{stage}")
        assert MODEL - {"chat_template.jinja"} <= set(files) <= {*MODEL, ".gitattributes"}
        assert files["model.safetensors"] == (tmp_path / stage / "model.safetensors").read_bytes()
        assert len(hub.repository(f"ada/{stage}").commits) == 2, "the finished model alone, no checkpoints"
        assert f"# {tmp_path.name}-{stage}\n" in files["README.md"].decode().replace("\\", "")
    assert len(hub.store.repositories) == len(stages)


def test_a_push_that_fails_leaves_the_model_and_says_how_to_try_again(hub, pushing, tiny, tmp_path):
    hub.meddle = lambda method, path: 403 if "/commit/" in path else None
    end = pushing("pretrain", tmp_path / "x" / "my base", tiny | {"num_iterations": 1}, "ada/base")
    assert end.code == 0 and (tmp_path / "x" / "my base" / "model.safetensors").exists()
    (line,) = [line for line in end.stderr.splitlines() if "publish" in line]
    assert line.startswith("not published: you may not write to ada/base")
    words = line.partition("python -m recipes.publish ")[2]
    hub.meddle = lambda method, path: None
    again = shlex.split(words)
    as_ada = partial(use_hub, hub.url, "hf_adas_token", tmp_path / "home")
    end = run([*again, "--yes", "true"], before=as_ada, script="publish/__main__")
    assert end.code == 0, end.stderr
    assert "a base language model" in hub.files("ada/base")["README.md"].decode()


@pytest.mark.parametrize("script", ["pretrain", "midtrain", "sft", "dpo", "grpo"])
def test_the_same_command_publishes_what_is_finished_but_did_not_get_there(
    hub, pushing, script, tiny, student, sums, pairs, guessed, tmp_path
):
    stage = tmp_path / "run" / STAGE_OF[script]
    shutil.copytree(student, stage)
    arguments = {
        "pretrain": tiny,
        "midtrain": {"source": student, "conversations": sums, "num_iterations": 1, "total_batch_size": 128,
                     "device_batch_size": 2, "max_seq_len": 32},
        "sft": {"source": student, "conversations": sums},
        "dpo": {"source": student, "preferences": pairs, "bf16": "false"},
        "grpo": {"source": student, "problems": guessed, "bf16": "false"},
    }[script]  # fmt: skip
    hub.meddle = lambda method, path: 507 if "/commit/" in path else None
    end = pushing(script, stage, arguments, "ada/model")
    assert end.code == 2
    assert end.stderr.splitlines()[-1].startswith(f"{script}: the Hub answered 507 for ada/model")
    hub.meddle = lambda method, path: None
    end = pushing(script, stage, arguments, "ada/model")
    assert end.code == 0, end.stderr
    assert "is finished already" in end.stdout and "published: " in end.stdout
    assert hub.files("ada/model")["model.safetensors"] == (stage / "model.safetensors").read_bytes()


def test_ctrl_c_during_the_push_says_how_to_go_on(hub, tiny, tmp_path):
    held, ended = threading.Event(), threading.Event()

    def hold(method: str, path: str) -> None:
        if method == "PUT":
            held.set()
            ended.wait(60)

    hub.meddle = hold
    arguments = tiny | {"num_iterations": 1, "output_dir": tmp_path / "base", "push_to_hub": "true"}
    as_ada = partial(use_hub, hub.url, "hf_adas_token", tmp_path / "home")
    training = Running(flags(arguments | {"hub_model_id": "ada/base"}), before=as_ada, script="pretrain")
    training.wait_until(held.is_set)
    training.signal(signal.SIGINT)
    (end,) = training.wait()
    ended.set()
    assert end.code == 130 and "Traceback" not in end.stderr
    assert end.stderr.splitlines()[-1].startswith("not published: interrupted. The model is safe in ")


@pytest.mark.parametrize("script", ["pretrain", "sft"])
def test_where_it_cannot_go_is_told_before_training(hub, pushing, script, tiny, student, sums, tmp_path):
    arguments = {"pretrain": tiny, "sft": {"source": student, "conversations": sums}}[script]
    end = pushing(script, tmp_path / script, arguments, "ada/model", token=None)
    assert end.code == 2 and end.stderr.startswith(f"{script}: publishing needs an access token")
    end = pushing(script, tmp_path / script, arguments, "model")
    assert end.code == 2 and "is not a repository id" in end.stderr
    end = pushing(script, tmp_path / script, arguments, "bob/model")
    assert end.code == 2 and end.stderr.startswith(f"{script}: you may not write to bob/model: ")
    assert not os.path.exists(tmp_path / script / "metrics.jsonl")


def test_private_is_private_or_told_before_training(hub, pushing, tiny, tmp_path):
    hub.store.create("ada", "model", "ada", "open", private=False, sdk=None)
    arguments = tiny | {"num_iterations": 1, "hub_private_repo": "true"}
    end = pushing("pretrain", tmp_path / "base", arguments, "ada/open")
    assert end.code == 2 and end.stderr.startswith("pretrain: ada/open exists and is public")
    assert not (tmp_path / "base" / "model.safetensors").exists()
    end = pushing("pretrain", tmp_path / "base", arguments, "ada/secret")
    assert end.code == 0 and hub.repository("ada/secret").private
    assert "model.safetensors" in hub.files("ada/secret")


def test_flags_of_trls_for_pushing_have_no_second_meaning(pushing, student, sums, tmp_path):
    end = pushing("sft", tmp_path / "sft", {"source": student, "conversations": sums, "hub_strategy": "end"}, "ada/x")
    assert end.code == 2 and end.stderr.startswith("sft: hub_strategy has no effect here: use ")
