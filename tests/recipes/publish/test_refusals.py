"""What cannot be published is told in one line, before anything is uploaded where that can be known."""

import re
import signal
import threading

import pytest
from huggingface_hub import HfApi, constants

from tests.recipes.processes import Running, flags, free_port
from tests.recipes.publish.publishing import SCRIPT, complaint, publish, reshard


def test_what_is_not_finished_or_not_whole_is_refused(hub, run_dir, tmp_path):
    assert complaint(run_dir, stage="sft") == f"{run_dir / 'sft'} holds no finished model; finished are mid."
    assert complaint(run_dir, stage="none") == f"{run_dir / 'none'} holds no finished model."
    assert "no such directory" in complaint(tmp_path / "none")
    shards = sorted((run_dir / "mid").glob("model-*")) if reshard(run_dir / "mid") else []
    shards[0].unlink()
    assert complaint(run_dir).endswith(f"lacks {shards[0].name}: there is no whole model to publish.")
    assert not hub.requests


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("model.safetensors", b"", "model.safetensors is damaged ("),
        ("model.safetensors", None, "lacks model.safetensors"),
        ("tokenizer.json", None, "holds no complete tokenizer"),
        ("tokenizer_config.json", None, "holds no complete tokenizer"),
        ("generation_nanochat.py", None, "generation_nanochat.py is missing"),
        ("tokenizer_config.json", b"[]", "tokenizer_config.json is damaged: it holds no JSON object"),
        ("README.md", b"\xff\xfe", "README.md is not UTF-8 text"),
    ],
)
def test_what_nobody_could_load_is_refused(hub, run_dir, name, content, reason):
    path = run_dir / "mid" / name
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)
    assert reason in complaint(run_dir)
    assert not hub.requests


def test_weights_cut_short_are_refused(hub, run_dir):
    path = run_dir / "mid" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert f"{path} is damaged (" in complaint(run_dir)
    assert not hub.requests


@pytest.mark.parametrize("repo", ["model", "ada/", "ada/model/x", "ada/my model", "ada/m--m", "https://hub/ada/m"])
def test_a_name_that_is_none_is_refused(hub, run_dir, repo):
    assert complaint(run_dir, repo).startswith(f"{repo!r} is not a repository id: ")
    assert not hub.requests


def test_without_a_token_it_says_how_to_log_in(hub, run_dir, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    assert "log in by hf auth login, or set HF_TOKEN" in complaint(run_dir)
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    assert complaint(run_dir).startswith("the Hub does not accept your access token")
    monkeypatch.setenv("HF_TOKEN", "hf_\u00f1")
    assert "holds characters that no token has" in complaint(run_dir)
    monkeypatch.setenv("HF_TOKEN", "hf_adas_reading_token")
    assert complaint(run_dir).startswith("your access token may only read: ")


def test_what_is_somebody_elses_stays_theirs(hub, run_dir):
    HfApi(token="hf_bobs_token").create_repo("bob/model")
    assert complaint(run_dir, "bob/model").startswith("you may not write to bob/model: ")
    assert set(hub.files("bob/model")) == {".gitattributes"}
    publish(run_dir, "lab/model")  # an organization of Ada's
    assert "model.safetensors" in hub.files("lab/model")


def test_what_the_hub_refuses_only_in_the_end_is_told_then(hub, run_dir):
    hub.meddle = lambda method, path: 403 if path == "/api/repos/create" else None
    assert complaint(run_dir).startswith("you may not write to ada/model (out of order)")


def test_private_is_never_taken_for_granted(hub, run_dir):
    HfApi(token="hf_adas_token").create_repo("ada/model")
    assert complaint(run_dir, private=True).startswith("ada/model exists and is public: ")
    assert set(hub.files("ada/model")) == {".gitattributes"}


def test_no_hub_is_one_line(run_dir, hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free_port()}")
    assert "cannot be reached" in complaint(run_dir)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in complaint(run_dir)


@pytest.mark.parametrize(
    ("address", "about", "remedy"),
    [
        ("/whoami", "your account", "nothing was uploaded: try again later."),
        ("/api/models/ada/model", "ada/model", "nothing was uploaded: try again later."),
        ("^/lfs/", "ada/model", "what was uploaded is kept: the same again completes it."),
        ("/commit/", "ada/model", "what was uploaded is kept: the same again completes it."),
    ],
)
def test_a_hub_in_trouble_is_one_line(hub, run_dir, address, about, remedy):
    hub.meddle = lambda method, path: 507 if re.search(address, path) else None
    assert complaint(run_dir) == f"the Hub answered 507 for {about} (out of order); {remedy}"


@pytest.mark.launch
def test_ctrl_c_is_one_line_and_the_same_command_goes_on(hub, as_ada, run_dir):
    held, ended = threading.Event(), threading.Event()

    def hold(method: str, path: str) -> None:
        if method == "PUT":
            held.set()
            ended.wait(60)

    hub.meddle = hold
    upload = Running(flags({"run": run_dir, "repo": "ada/model", "yes": "true"}), before=as_ada, script=SCRIPT)
    upload.wait_until(held.is_set)
    upload.signal(signal.SIGINT)
    (end,) = upload.wait()
    ended.set()
    assert (end.code, end.stderr) == (130, "\ninterrupted; run the same command again to continue\n")
    hub.meddle = lambda method, path: None
    publish(run_dir)
    assert "model.safetensors" in hub.files("ada/model")
