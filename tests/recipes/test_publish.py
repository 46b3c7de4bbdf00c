"""A finished run goes to a Hub and comes back to people who have nothing of ours; nothing else goes with it."""

import io
import json
import shutil
import subprocess
import sys
import sysconfig
import threading
from functools import partial
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, ModelCard, constants, metadata_load
from transformers import AutoModelForCausalLM, AutoTokenizer

from evals.report.__main__ import ReportArguments, report
from recipes.errors import InputError
from recipes.launches import ROOT
from recipes.publish.__main__ import PublishArguments, publish_run
from recipes.publish.space import files_of, imports, space_files
from tests.evals.run_files import LAUNCH, lines, task, training, write
from tests.hub.client import hub_constants, hub_environment, use_hub
from tests.hub.server import DROP, serve
from tests.recipes.processes import Running, flags, free_port, run

MODEL = {
    "README.md", "chat_template.jinja", "config.json", "configuration_nanochat.py", "generation_config.json",
    "generation_nanochat.py", "launches.json", "metrics.jsonl", "model.safetensors", "modeling_nanochat.py",
    "tokenizer.json", "tokenizer_config.json",
}  # fmt: skip
TOKEN = "hf_" + "abcdefghijklmnopqrstuvwxyz01234567"  # of the shape of a real one
PROMPT = "The capital of France is"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub on this machine, where this process is Ada."""
    with serve() as server:
        for name, value in hub_constants(server.url, tmp_path / "home").items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("HF_TOKEN", "hf_adas_token")
        yield server


@pytest.fixture
def as_ada(hub, tmp_path):
    """Makes another process Ada as well."""
    return partial(use_hub, hub.url, "hf_adas_token", tmp_path / "home")


@pytest.fixture
def run_dir(student, tmp_path):
    """A run whose last finished stage is mid, and whose SFT has just begun."""
    directory = tmp_path / "small"
    shutil.copytree(student, directory / "mid")
    write(directory / "mid" / "metrics.jsonl", lines([*training(4), {"step": 4, "val/bpb": 0.75}]))
    command = f"python recipes/midtrain.py --source runs/small/base --hub_token *** --output_dir {directory.name}/mid"
    write(directory / "mid" / "launches.json", [LAUNCH | {"command": command, "data": "primer:mid"}])
    write(directory / "sft" / "metrics.jsonl", lines(training(1)))
    return directory


def publish(run_dir, repo="ada/model", **more):
    publish_run(PublishArguments(**{"run": str(run_dir), "repo": repo, "yes": True} | more))


def complaint(run_dir, repo="ada/model", **more) -> str:
    """The one line that publishing ends with."""
    with pytest.raises(InputError) as refusal:
        publish(run_dir, repo, **more)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def reshard(stage: Path) -> int:
    """Write the weights in small files; how many these are."""
    model = AutoModelForCausalLM.from_pretrained(stage)
    (stage / "model.safetensors").unlink()
    model.save_pretrained(stage, max_shard_size="150KB")
    return len(list(stage.glob("model-*.safetensors")))


# What comes back

STRANGER = """
import json, sys
sys.path.append(sys.argv[1])  # the package index's, without the links that make a checkout importable
for package in ("trl", "accelerate", "datasets", "evaluate", "peft"):
    sys.modules[package] = None
from importlib.util import find_spec
assert not any(find_spec(name) for name in ("modeling_nanochat", "recipes", "tokenizer", "evals"))
import torch
from huggingface_hub import snapshot_download
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline
first, prompt, results = sys.argv[2:]
name, trust = "ada/model", {"trust_remote_code": True}
tokenizer = AutoTokenizer.from_pretrained(name)
model = AutoModelForCausalLM.from_pretrained(name, **trust)
inputs = tokenizer(prompt, return_tensors="pt")
pinned = AutoModelForCausalLM.from_pretrained(name, revision=first, code_revision=first, **trust)
generate = pipeline("text-generation", model=name, **trust)
refusals = []
for load in (AutoModelForCausalLM.from_pretrained, AutoTokenizer.from_pretrained, snapshot_download):
    try:
        load("ada/secret")
    except Exception as error:
        refusals.append(str(error))
open(results, "w").write(json.dumps({
    "module": type(model).__module__,
    "logits": model(**inputs).logits[0, -1].tolist(),
    "pinned": pinned(**inputs).logits[0, -1].tolist(),
    "pipeline": generate(prompt, max_new_tokens=5, do_sample=False)[0]["generated_text"],
    "snapshot": snapshot_download(name),
    "refusals": refusals,
}))
"""


@pytest.mark.slow
def test_who_has_only_torch_and_transformers_gets_the_same_model(hub, run_dir, tmp_path):
    stage = run_dir / "mid"
    publish(run_dir)
    first = hub.repository("ada/model").branches["main"]
    before = AutoModelForCausalLM.from_pretrained(stage)
    after = AutoModelForCausalLM.from_pretrained(stage)
    torch.nn.init.normal_(after.lm_head.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    after.save_pretrained(stage)
    publish(run_dir)
    publish(run_dir, "ada/secret", private=True)

    script, results, site = tmp_path / "stranger.py", tmp_path / "results", sysconfig.get_paths()["purelib"]
    script.write_text(STRANGER)
    command = [sys.executable, "-I", "-S", script, site, first, PROMPT, results]
    environment = hub_environment(hub.url, None, tmp_path / "stranger")
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    got = json.loads(results.read_text())

    assert got["module"].startswith("transformers_modules.")
    tokenizer = AutoTokenizer.from_pretrained(stage)
    inputs = tokenizer(PROMPT, return_tensors="pt")
    for model, logits in ((after, "logits"), (before, "pinned")):
        torch.testing.assert_close(torch.tensor(got[logits]), model(**inputs).logits[0, -1].detach())
    assert not torch.allclose(torch.tensor(got["logits"]), torch.tensor(got["pinned"]), atol=1e-3)
    written = after.generate(**inputs, max_new_tokens=5, do_sample=False)[0, inputs["input_ids"].size(1) :]
    assert got["pipeline"] == PROMPT + tokenizer.decode(written)  # special tokens and all
    assert {path.name for path in Path(got["snapshot"]).iterdir()} == {*MODEL, ".gitattributes"}
    assert len(got["refusals"]) == 3 and all("ada/secret" in line for line in got["refusals"])
    assert hub.repository("ada/secret").private


# What goes there


def test_nothing_goes_but_what_a_user_needs(hub, run_dir):
    stage = run_dir / "mid"
    junk = [
        "checkpoints/step_000004/optimizer.bin", "checkpoints/step_000004/model.safetensors", "optimizer.bin", ".env",
        "training_args.bin", "train.parquet", "conversations.jsonl", "train.log", "arguments.json", "my_keys.py",
        "adapter/adapter_model.safetensors", "evals/chat.json.partial", "model.safetensors.bak", "pytorch_model.bin",
    ]  # fmt: skip
    for name in junk:
        write(stage / name, "{}")
    publish(run_dir)
    files = hub.files("ada/model")
    assert set(files) == {*MODEL, ".gitattributes"}
    for name in MODEL - {"README.md"}:
        assert files[name] == (stage / name).read_bytes()
    assert [commit.title for commit in hub.repository("ada/model").commits] == [
        "initial commit",
        "Upload mid of small",
    ]


def test_the_card_has_the_newest_figures_and_its_own_name(hub, run_dir, tmp_path):
    write(run_dir / "mid" / "evals" / "chat.json", {"model": "x", "tasks": {"facts": task(0.5)}})
    report(ReportArguments(run=str(run_dir)))
    write(run_dir / "mid" / "evals" / "chat.json", {"model": "x", "tasks": {"facts": task(0.625)}})
    publish(run_dir)
    text = hub.files("ada/model")["README.md"].decode()
    card = ModelCard(text)
    assert 0.625 in {result.metric_value for result in card.data.eval_results}
    assert card.data.license == "apache-2.0" and 'name = "ada/model"\n' in text


def test_a_card_written_by_hand_goes_as_it_is(hub, run_dir):
    write(run_dir / "mid" / "README.md", "---\nlicense: mit\n---\n# Mine\n")
    publish(run_dir)
    assert hub.files("ada/model")["README.md"] == b"---\nlicense: mit\n---\n# Mine\n"


@pytest.mark.parametrize(
    "launch",
    [{"command": "python recipes/midtrain.py --hub_token sesame"}, {"command": "x", "data": f"https://{TOKEN}@host"}],
)
def test_a_launch_with_a_secret_is_told_to_nobody(hub, run_dir, launch):
    write(run_dir / "mid" / "launches.json", [LAUNCH | launch])
    publish(run_dir)
    files = hub.files("ada/model")
    assert "launches.json" not in files
    assert not any(b"sesame" in content or TOKEN.encode() in content for content in files.values())


@pytest.mark.parametrize("name", ["README.md", "modeling_nanochat.py", "generation_config.json"])
def test_a_text_with_a_token_stops_it(hub, run_dir, name):
    path = run_dir / "mid" / name
    path.write_text((path.read_text() if path.exists() else "# Mine\n") + f"\n# {TOKEN}\n")
    assert complaint(run_dir) == f"{name} seems to hold an access token: take it out before it is published."
    assert not hub.store.repositories


def test_it_shows_what_it_would_do_and_asks(hub, run_dir, monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for answer in ("n\n", "", "yes\n"):
        assert not hub.store.repositories
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        publish(run_dir, yes=False, private=True)
    shown = capsys.readouterr().out
    assert f"{run_dir / 'mid'}, as ada," in shown and f"{hub.url}/ada/model (private model, new)" in shown
    weights = (run_dir / "mid" / "model.safetensors").stat().st_size
    assert f"{weights / 1000:.1f} kB  model.safetensors\n" in shown and f"in {len(MODEL)} files" in shown
    assert shown.count("nothing was uploaded\n") == 2 and hub.repository("ada/model").private


def test_without_a_terminal_somebody_has_to_say_yes(hub, as_ada, run_dir):
    end = run(flags({"run": run_dir, "repo": "ada/model"}), before=as_ada, script="publish/__main__")
    assert (end.code, end.stderr.count("\n")) == (2, 1)
    assert end.stderr.startswith("publish: nobody to ask") and "model.safetensors" in end.stdout
    assert not hub.store.repositories


# Again


def test_published_again_nothing_is_sent_but_what_is_new(hub, run_dir, capsys):
    publish(run_dir)
    publish(run_dir)
    assert "is up to date" in capsys.readouterr().out
    (run_dir / "mid" / "metrics.jsonl").write_text(lines(training(5)))
    publish(run_dir)
    assert len(hub.uploads) == 1 and len(hub.repository("ada/model").commits) == 3


def test_a_connection_that_breaks_at_the_commit_costs_no_second_upload(hub, run_dir):
    hub.meddle = lambda method, path: DROP if "/commit/" in path else None
    line = complaint(run_dir)
    assert line.startswith("the upload to ada/model broke off (") and "the same again completes it" in line
    assert set(hub.files("ada/model")) == {".gitattributes"}, "not half a model"
    hub.meddle = lambda method, path: None
    publish(run_dir)
    assert set(hub.files("ada/model")) == {*MODEL, ".gitattributes"} and len(hub.uploads) == 1


def test_killed_halfway_it_goes_on_where_it_was(hub, as_ada, run_dir):
    shards = reshard(run_dir / "mid")
    assert shards > 1
    held, ended = threading.Event(), threading.Event()

    def hold_the_second(method: str, path: str) -> str | None:
        if method == "PUT" and not hub.store.content(path.rpartition("/")[2]).exists():
            with hub.store.lock:
                puts = len({path for method, path in hub.requests if method == "PUT"})
            if puts > 1:
                held.set()
                ended.wait(60)
                return DROP
        return None

    hub.meddle = hold_the_second
    argv = flags({"run": run_dir, "repo": "ada/model", "yes": "true"})
    upload = Running(argv, before=as_ada, script="publish/__main__")
    upload.wait_until(lambda: held.is_set() and hub.uploads)
    assert upload.kill() == [-9]
    ended.set()
    done = list(hub.uploads)
    assert 0 < len(done) < shards and set(hub.files("ada/model")) == {".gitattributes"}
    hub.meddle = lambda method, path: None
    publish(run_dir)
    assert len(hub.uploads) == len(set(hub.uploads)) == shards and hub.uploads[: len(done)] == done
    assert len([name for name in hub.files("ada/model") if name.startswith("model-")]) == shards


def test_weights_of_another_shape_do_not_stay_beside_the_new_ones(hub, run_dir, capsys):
    publish(run_dir)
    HfApi(token="hf_adas_token").upload_file(path_or_fileobj=b"mine", path_in_repo="notes.txt", repo_id="ada/model")
    reshard(run_dir / "mid")
    publish(run_dir)
    files = hub.files("ada/model")
    assert "model.safetensors" not in files and "model.safetensors.index.json" in files
    assert files["notes.txt"] == b"mine"
    assert "   delete  model.safetensors\n" in capsys.readouterr().out


# What cannot be


def test_what_is_not_finished_or_not_whole_is_refused(hub, run_dir, tmp_path):
    assert complaint(run_dir, stage="sft") == f"{run_dir / 'sft'} holds no finished model; finished are mid."
    assert complaint(run_dir, stage="none") == f"{run_dir / 'none'} holds no finished model."
    assert "no such directory" in complaint(tmp_path / "none")
    shards = sorted((run_dir / "mid").glob("model-*")) if reshard(run_dir / "mid") else []
    shards[0].unlink()
    assert complaint(run_dir).endswith(f"lacks {shards[0].name}: there is no whole model to publish.")
    assert not hub.requests


@pytest.mark.parametrize("repo", ["model", "ada/", "ada/model/x", "ada/my model", "ada/m--m", "https://hub/ada/m"])
def test_a_name_that_is_none_is_refused(hub, run_dir, repo):
    assert complaint(run_dir, repo).startswith(f"{repo!r} is no repository on the Hub: ")
    assert not hub.requests


def test_without_a_token_it_says_how_to_log_in(hub, run_dir, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    assert "log in by hf auth login, or set HF_TOKEN" in complaint(run_dir)
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    assert complaint(run_dir).startswith("the Hub does not accept your access token")


def test_what_is_somebody_elses_stays_theirs(hub, run_dir):
    assert complaint(run_dir, "bob/model").startswith("you may not write to bob/model (")
    HfApi(token="hf_bobs_token").create_repo("bob/model")
    assert complaint(run_dir, "bob/model").startswith("you may not write to bob/model (")
    assert set(hub.files("bob/model")) == {".gitattributes"}


def test_private_is_never_taken_for_granted(hub, run_dir):
    HfApi(token="hf_adas_token").create_repo("ada/model")
    assert complaint(run_dir, private=True).startswith("ada/model exists and is public: ")
    assert set(hub.files("ada/model")) == {".gitattributes"}


def test_no_hub_is_one_line(run_dir, hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free_port()}")
    assert "cannot be reached" in complaint(run_dir)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in complaint(run_dir)


def test_a_hub_in_trouble_is_one_line(hub, run_dir):
    hub.meddle = lambda method, path: 507 if "/commit/" in path else None
    assert complaint(run_dir).startswith("the Hub answered 507 for ada/model (out of order)")


# The Space


@pytest.fixture
def space(tmp_path):
    """A small Space in a directory of its own."""
    directory = tmp_path / "space"
    write(directory / "app.py", "from page import answer\nfrom recipes.inference.generate import stream_reply\n")
    write(directory / "page" / "__init__.py", "")
    write(directory / "requirements.txt", "torch\n")
    write(directory / "README.md", "---\ntitle: Chat\nsdk: gradio\napp_file: app.py\n---\n# Chat\n")
    for name in (".env", "page/__pycache__/a.py", "chat.log", ".cache/a.py", "dump.jsonl"):
        write(directory / name, "secret")
    return directory


def test_a_space_has_the_models_name_and_the_code_it_imports(space):
    files = {upload.path: upload.source for upload in space_files("ada/model", space)}
    own = {"app.py", "page/__init__.py", "requirements.txt", "README.md"}
    assert own <= set(files) and not any("secret" in str(source) for source in files.values())
    assert metadata_load_of(files["README.md"]) == {
        "title": "Chat", "sdk": "gradio", "app_file": "app.py", "models": ["ada/model"],
    }  # fmt: skip
    code = set(files) - own
    assert {"recipes/inference/generate.py", "recipes/__init__.py", "tokenizer/chat_template.jinja"} <= code
    assert code.isdisjoint({"recipes/sft.py", "recipes/training/setup.py"})
    for path in code:
        wanted = (
            {file for module in imports(ROOT / path) for file in files_of(module)} if path[-3:] == ".py" else set()
        )
        assert {file.relative_to(ROOT).as_posix() for file in wanted} <= code


def metadata_load_of(readme: bytes) -> dict:
    return ModelCard(readme.decode(), ignore_metadata_errors=True).data.to_dict()


@pytest.mark.skipif(not (ROOT / "space" / "README.md").exists(), reason="no space/ here")
def test_our_space_is_published_with_its_model(hub, run_dir, tmp_path, capsys):
    publish(run_dir, space="ada/chat", private=True)
    space = hub.repository("ada/chat", "space")
    assert (space.sdk, space.private, space.variables) == ("gradio", True, {"MODEL_ID": "ada/model"})
    files = hub.files("ada/chat", "space")
    assert {"app.py", "requirements.txt", "README.md"} <= set(files)
    (tmp_path / "README.md").write_bytes(files["README.md"])
    assert metadata_load(tmp_path / "README.md")["models"] == ["ada/model"]
    assert "give the Space a secret HF_TOKEN" in capsys.readouterr().out
    publish(run_dir, space="ada/chat")
    assert len(space.commits) == 2
