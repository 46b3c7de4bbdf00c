"""What is submitted to Hugging Face Jobs, and what is refused before anything is."""

import subprocess

import pytest
from huggingface_hub import HfApi

from recipes.launch.checkout import https_url, pinned_source
from recipes.launch.hf_jobs import HfJobsArguments, gpus_of, submit
from recipes.utils.errors import InputError

FLAGS = ["--depth", "12"]


def git(directory, *words):
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    subprocess.run(["git", "-C", directory, *identity, *words], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path):
    """A checkout whose commit is on its remote."""
    git(tmp_path, "init", "-q", "--bare", "remote")
    git(tmp_path, "init", "-q", "checkout")
    directory = tmp_path / "checkout"
    (directory / "train.py").write_text("1\n")
    git(directory, "add", "-A")
    git(directory, "commit", "-qm", "first")
    git(directory, "remote", "add", "origin", str(tmp_path / "remote"))
    git(directory, "push", "-q", "origin", "HEAD:main")
    return directory


def arguments(**more) -> HfJobsArguments:
    return HfJobsArguments(**{"stage": "pretrain", "flavor": "h200x8", "hub_run_id": "ada/d12"} | more)


def complaint(checkout, flags=FLAGS, **more) -> str:
    with pytest.raises(InputError) as refusal:
        submit(arguments(**more), flags, checkout)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_a_job_is_a_pinned_commit_with_our_packages(hub, checkout, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_API_KEY", "wandb-secret")
    submit(arguments(secrets=["WANDB_API_KEY"], timeout="90m"), FLAGS, checkout)
    (job,) = hub.jobs
    (_, commit), refusal = pinned_source(checkout)
    assert refusal is None
    assert job["flavor"] == "h200x8" and job["timeoutSeconds"] == 5400
    assert job["secrets"] == {"HF_TOKEN": "hf_adas_token", "WANDB_API_KEY": "wandb-secret"}
    start, dash_c, script = job["command"]
    assert (start, dash_c) == ("bash", "-c")
    assert f"git fetch -q --depth 1 {checkout.parent / 'remote'} {commit} && git checkout -q FETCH_HEAD" in script
    assert "-c constraints.txt" in script and "secret" not in script
    run = "python -m recipes.launch.hub_run --stage pretrain --hub_run_id ada/d12 -- --depth 12"
    assert script.endswith(f"&& exec {run}")
    printed = capsys.readouterr().out
    assert f"submitted: {hub.url}/jobs/ada/{job['info']['id']}" in printed
    assert HfApi().inspect_job(job_id=job["info"]["id"]).status.stage == "SCHEDULING"
    assert not hub.store.repositories, "the job creates it"


def test_the_dry_run_submits_nothing_and_shows_what_would_be(hub, checkout, capsys):
    submit(arguments(dry_run=True, timeout="4h"), FLAGS, checkout)
    shown = capsys.readouterr().out
    assert not hub.jobs and not [path for method, path in hub.requests if method == "POST"]
    submit(arguments(timeout="4h"), FLAGS, checkout)
    (job,) = hub.jobs
    assert job["command"][-1] in shown.replace("'\"'\"'", "'") and job["dockerImage"] in shown
    assert "hf_adas_token" not in shown and "HF_TOKEN" in shown
    price = 0.6667 * 60  # what the Hub says
    assert "estimate: about 0.09 h on 8 x H200, at 40% of their peak\nestimate: about $3.5" in shown
    assert f"at ${price:,.2f} an hour" in shown
    assert f"at most: ${4 * price:,.2f}, when the time limit of 4 h ends it" in shown


def test_a_dry_run_needs_neither_a_token_nor_a_network(checkout, capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    submit(arguments(dry_run=True, price_per_hour=30.0), FLAGS, checkout)
    assert "at $30.00 an hour" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "flags", "said"),
    [
        ({"flavor": "h100x8"}, FLAGS, "unknown flavor 'h100x8': did you mean h200x8?"),
        ({"stage": "pretran"}, FLAGS, "unknown stage 'pretran': did you mean pretrain?"),
        ({}, ["--dept", "12"], "pretrain: unknown argument dept: did you mean depth?"),
        ({}, ["--output_dir", "x"], "leave --output_dir out: the launcher puts the stage into its run's directory."),
        ({"hub_run_id": "d12"}, FLAGS, "'d12' is not a repository id: give user/name."),
        ({"hub_run_id": "bob/d12"}, FLAGS, "you may not write to bob/d12"),
        ({"namespace": "bob"}, FLAGS, "you may not write to the job (You don't have the rights to run jobs there)"),
        ({"secrets": ["NOT_SET_HERE"]}, FLAGS, "the secret NOT_SET_HERE is not set here: set it, or leave it out"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_submitted(hub, checkout, more, flags, said):
    assert complaint(checkout, flags, **more).startswith(said)
    assert not hub.jobs and not hub.store.repositories


def test_without_a_token_or_credit_nothing_is_uploaded(hub, checkout, monkeypatch):
    hub.broke.add("ada")
    assert complaint(checkout) == (
        "your account cannot pay for the job (Pre-paid credit balance is insufficient): "
        f"add credit at {hub.url}/settings/billing."
    )
    monkeypatch.setenv("HF_TOKEN", "hf_adas_reading_token")
    assert complaint(checkout).startswith("your access token may only read")
    monkeypatch.delenv("HF_TOKEN")
    assert "needs an access token of the Hub" in complaint(checkout)
    assert not hub.store.repositories and not hub.uploads and not hub.jobs


def test_what_is_not_pushed_is_not_submitted(hub, checkout, capsys):
    (checkout / "train.py").write_text("2\n")
    said = "1 changed file(s), as train.py, would not be in the job: commit and push them."
    assert complaint(checkout) == said
    submit(arguments(dry_run=True), FLAGS, checkout)
    assert f"without --dry_run this would be refused: {said}" in capsys.readouterr().out
    git(checkout, "commit", "-qam", "second")
    assert complaint(checkout).endswith("is not on origin: git push.")
    git(checkout, "push", "-q", "origin", "HEAD:main")
    submit(arguments(), FLAGS, checkout)
    git(checkout, "remote", "remove", "origin")
    assert complaint(checkout).startswith("this checkout has no remote")
    assert len(hub.jobs) == 1


@pytest.mark.parametrize("timeout", ["8", "h", "0h", "-1h", "8 hours"])
def test_a_timeout_is_a_duration(timeout):
    with pytest.raises(InputError, match="is not a duration"):
        arguments(timeout=timeout)


def test_a_secret_itself_is_not_a_name():
    with pytest.raises(InputError, match="^secrets are given by the names") as error:
        arguments(secrets=["hf_abcdefghijkl"])
    assert "abcdef" not in str(error.value)


def test_the_gpus_of_a_flavor():
    known = {"h200x8": (8, "H200"), "a10g-largex4": (4, "A10G"), "t4-small": (1, "T4"), "l40sx1": (1, "L40S")}
    unknown = {"rtx-pro-6000x2": (2, None), "cpu-basic": (1, None)}
    assert {flavor: gpus_of(flavor) for flavor in known | unknown} == known | unknown


def test_addresses_need_no_key_and_hold_no_password():
    for url in ("git@github.com:ada/x.git", "ssh://git@github.com/ada/x.git", "https://ada:word@github.com/ada/x.git"):
        assert https_url(url) == "https://github.com/ada/x.git"
