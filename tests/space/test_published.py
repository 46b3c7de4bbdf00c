"""A Space as it is published: nothing but its own files, a model of the Hub, and the Hub away when it starts."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import HfApi, RepoCard, constants
from playwright.sync_api import expect

from recipes.publish.space import space_files
from recipes.utils.provenance import ROOT
from tests.hub.client import hub_constants, hub_environment
from tests.hub.server import serve
from tests.recipes.processes import free_port
from tests.space.browser import Visitor

pytestmark = [pytest.mark.slow, pytest.mark.browser]
PATIENCE = 60  # seconds


@pytest.fixture
def hub(tmp_path, monkeypatch, talker):
    """A Hub that has the talker."""
    with serve() as server:
        for name, value in hub_constants(server.url, tmp_path / "here").items():
            monkeypatch.setattr(constants, name, value)
        api = HfApi(endpoint=server.url, token="hf_adas_token")
        api.create_repo("ada/talker")
        api.upload_folder(repo_id="ada/talker", folder_path=talker)
        yield server


@pytest.fixture
def start(hub, tmp_path):
    """Starts the Space, in a directory where there is nothing else of ours; kills it in the end."""
    for upload in space_files("ada/talker"):
        path = tmp_path / "app" / upload.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(upload.source if isinstance(upload.source, bytes) else upload.source.read_bytes())
    running: list[subprocess.Popen] = []

    def begin(port: int) -> subprocess.Popen:
        environment = hub_environment(hub.url, None, tmp_path / "there") | {"MODEL_ID": "ada/talker"}
        command = [sys.executable, "-c", ONLY_ITS_OWN, "app.py", "--port", str(port)]
        with open(tmp_path / "log", "a") as log:
            running.append(subprocess.Popen(command, cwd=tmp_path / "app", env=environment, stdout=log, stderr=log))
        wait_until(lambda: answers(port), lambda: (tmp_path / "log").read_text())
        return running[-1]

    yield begin
    for process in running:
        process.kill()
        process.wait()


# `python app.py` where no checkout can be imported, whatever is installed here.
ONLY_ITS_OWN = """
import os, runpy, sys
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "").lower()]
sys.argv, sys.path[0] = sys.argv[1:], os.getcwd()
for package in ("trl", "accelerate", "datasets", "evaluate"):
    sys.modules[package] = None
runpy.run_path("app.py", run_name="__main__")
"""


def answers(port: int) -> bool:
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).status == 200
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], log: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, log()
        time.sleep(0.1)


def test_the_space_runs_on_the_gradio_that_is_tested():
    card = RepoCard((ROOT / "space" / "README.md").read_text(encoding="utf-8")).data
    assert f"gradio=={card.sdk_version}\n" in (ROOT / "constraints.txt").read_text()
    assert len(card.short_description) <= 60  # the Hub refuses a longer one


def test_the_life_of_a_space(hub, start, browser, tmp_path: Path):
    port = free_port()
    hub.meddle = lambda method, path: 503
    space = start(port)
    visitor = Visitor(browser, f"http://127.0.0.1:{port}/")
    expect(visitor.page.locator("#head")).to_contain_text("ada/talker")
    expect(visitor.page.locator("#head")).to_contain_text("The Hub does not answer")
    expect(visitor.page.locator("#head")).to_contain_text("Trying again in")
    visitor.ask("I am Bo.")
    expect(visitor.page.locator(".toast-body")).to_contain_text("The model is not there yet")

    hub.meddle = lambda method, path: None
    expect(visitor.page.locator("#head")).to_contain_text("parameters", timeout=PATIENCE * 1000)
    assert not list((tmp_path / "there").rglob("modeling_nanochat.py")), "code of the model's repository was fetched"
    visitor.converse("I am Bo.")

    visitor.page.evaluate("window.beforehand = true")
    os.kill(space.pid, signal.SIGKILL)
    space.wait()
    visitor.ask("Who am I?")
    expect(visitor.page.locator(".toast-body").last).to_contain_text("Connection to the server was lost")
    start(port)
    visitor.page.wait_for_function("!window.beforehand", timeout=PATIENCE * 1000)  # gradio loads the page anew
    expect(visitor.answers).to_have_text(["Hello, Bo."])  # the tab has kept it
    expect(visitor.box).to_have_value("Who am I?")
    expect(visitor.page.locator("#head")).to_contain_text("parameters", timeout=PATIENCE * 1000)
    visitor.converse("Who am I?")
    expect(visitor.answers).to_have_text(["Hello, Bo.", "You are Bo."])
    visitor.leave()
