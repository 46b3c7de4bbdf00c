"""A finished run goes to a Hub and comes back to people who have nothing of ours; nothing else goes with it."""

import io
import json
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, ModelCard
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from evals.report.__main__ import ReportArguments, report
from modeling_nanochat import NanochatGPTConfig, NanochatGPTForCausalLM
from tests.evals.run_files import LAUNCH, lines, task, training, write
from tests.hub.client import hub_environment
from tests.hub.server import DROP
from tests.recipes.processes import Running, flags, run
from tests.recipes.publish.publishing import MODEL, SCRIPT, TOKEN, complaint, publish, reshard

PROMPT = "The capital of France is"


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
    assert got["pipeline"] == PROMPT + tokenizer.decode(written, skip_special_tokens=True)
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


def test_the_card_of_a_model_of_2026_names_its_features(hub, run_dir):
    config = AutoConfig.from_pretrained(run_dir / "mid")
    changes = {"value_embeddings": True, "residual_scalars": True, "smear": True, "backout": True}
    model = NanochatGPTForCausalLM(NanochatGPTConfig(**config.to_dict() | changes))
    model.save_pretrained(run_dir / "mid")
    publish(run_dir)
    text = hub.files("ada/model")["README.md"].decode()
    assert "NanochatGPTForCausalLM, 1 layers, 64 wide, context 96, vocabulary" in text
    assert (
        "; generation 2026: value embeddings, residual scalars, smear, backout.\n" in text
        and "per_layer_inputs" in text
    )


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


@pytest.mark.parametrize(
    "name", ["README.md", "modeling_nanochat.py", "generation_config.json", "special_tokens_map.json", "metrics.jsonl"]
)
@pytest.mark.parametrize("secret", [TOKEN, "sesame-of-this-machine"])
def test_a_text_with_a_secret_stops_it(hub, run_dir, name, secret, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "sesame-of-this-machine")
    path = run_dir / "mid" / name
    path.write_text((path.read_text() if path.exists() else "# Mine\n") + f"\n# {secret}\n")
    assert complaint(run_dir) == f"{name} seems to hold an access token: take it out before it is published."
    assert not hub.store.repositories


def test_it_shows_what_it_would_do_and_asks(hub, run_dir, monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for answer in ("n\n", "\n", "", "yes\n"):
        assert not hub.store.repositories
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        publish(run_dir, yes=False, private=True)
    shown = capsys.readouterr().out
    assert f"{run_dir / 'mid'}, as ada," in shown and f"{hub.url}/ada/model (private model, new)" in shown
    weights = (run_dir / "mid" / "model.safetensors").stat().st_size
    assert f"{weights / 1000:.1f} kB  model.safetensors\n" in shown and f"in {len(MODEL)} files" in shown
    assert shown.count("nothing was uploaded\n") == 3 and hub.repository("ada/model").private


@pytest.mark.launch
def test_without_a_terminal_somebody_has_to_say_yes(hub, as_ada, run_dir):
    end = run(flags({"run": run_dir, "repo": "ada/model"}), before=as_ada, script=SCRIPT)
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
    assert line.startswith("the connection for ada/model broke off (") and "the same again completes it" in line
    assert set(hub.files("ada/model")) == {".gitattributes"}, "not half a model"
    hub.meddle = lambda method, path: None
    publish(run_dir)
    assert set(hub.files("ada/model")) == {*MODEL, ".gitattributes"} and len(hub.uploads) == 1


@pytest.mark.launch
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
    upload = Running(argv, before=as_ada, script=SCRIPT)
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
