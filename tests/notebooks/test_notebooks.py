"""The notebooks: clean in the repository, and run whole, as a reader would, from a directory of their own."""

import json
import os
import re
import tomllib
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from docs.reference import FILES
from recipes.data.corpora import open_corpus
from recipes.utils.provenance import ROOT
from recipes.utils.run_directory import STAGES
from tests.hub.client import hub_environment
from tests.hub.server import serve

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
CLEAN = {  # metadata of no particular machine
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
PATIENCE = 1800  # seconds a cell: a limit for what hangs, on a busy machine


def sources(path: Path, kind: str) -> list[str]:
    return [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == kind]


every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


# In the repository


@every_notebook
def test_nothing_of_a_run_is_kept_in_a_notebook(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    nbformat.validate(notebook)
    assert notebook["metadata"] == CLEAN, "remove what your editor added"
    for cell in notebook["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None, "clear all outputs"
        assert cell["metadata"] == {}, "remove what your editor added"


@every_notebook
def test_a_notebook_opens_in_colab_from_the_address_of_the_project(path):
    place = REPOSITORY.removeprefix("https://github.com/")
    badge = f"(https://colab.research.google.com/github/{place}/blob/main/notebooks/{path.name})"
    assert badge in sources(path, "markdown")[0]
    setup = sources(path, "code")[0]
    assert f"git clone -q --depth 1 {REPOSITORY}\n" in setup and f"%cd {REPOSITORY.rpartition('/')[2]}\n" in setup


def test_all_notebooks_are_set_up_in_the_same_way():
    assert len(NOTEBOOKS) == 4
    (setup,) = {sources(path, "code")[0] for path in NOTEBOOKS}
    assert "system_raise_on_error =" not in setup, "without effect in Colab, whose IPython is 7.34"


@every_notebook
def test_links_of_a_notebook_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)]+)\)", "\n".join(sources(path, "markdown"))):
        assert target.startswith("http") or (path.parent / target).exists(), target


# Run


def checkout(directory: Path) -> Path:
    """A checkout in which nothing was ever run: links to the code, and a notebooks/ whose `..` it is."""
    for entry in ROOT.iterdir():
        if entry.name not in ("notebooks", "runs", "data") and not entry.name.startswith("."):
            (directory / entry.name).symlink_to(entry)
    (directory / "notebooks").mkdir()
    return directory


def execute(
    name: str, directory: Path, environment: Mapping[str, str] = os.environ, edits: Mapping[str, str] | None = None
) -> str:
    """Run a notebook from `directory`, and return all that it printed. Raises where a cell or a command fails.

    `edits`: what a reader would change, and into what.
    """
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4)
    for old, new in (edits or {}).items():
        (cell,) = (cell for cell in notebook.cells if old in cell.source)
        cell.source = cell.source.replace(old, new)
    environment = {**environment, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    where = {"metadata": {"path": str(directory)}}
    client = NotebookClient(notebook, timeout=PATIENCE, kernel_name="python3", resources=where)
    client.execute(env=environment)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == sum("plot_loss(" in cell.source for cell in notebook.cells)
    return "".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs)


def unlisted(run: Path) -> set[str]:
    """Files of a run that docs/reference.md does not name."""
    found = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    listed = [name.replace("STAGE", stage) for name in FILES for stage in STAGES] + ["tokenizer/*"]
    return {name for name in found if not any(fnmatch(name, pattern) for pattern in listed)}


@pytest.mark.slow
@pytest.mark.launch
def test_a_command_that_fails_stops_the_notebook(tmp_path):
    failing = {"!python -m tokenizer.train": "!python -m tokenizer.train --no_such_flag 1"}
    with pytest.raises(CellExecutionError, match="returned non-zero exit status 2"):
        execute("quickstart", checkout(tmp_path), edits=failing)


@pytest.mark.slow
@pytest.mark.launch
def test_the_quickstart_ends_in_a_chat(tmp_path):
    printed = execute("quickstart", checkout(tmp_path))
    assert "model [calculator] " in printed and "Hello!" in printed
    assert not unlisted(tmp_path / "runs" / "quickstart")


@pytest.mark.slow
@pytest.mark.launch
def test_the_character_model_learns_a_text_that_is_there_already(tmp_path):
    text = tmp_path / "data" / "shakespeare" / "input.txt"
    text.parent.mkdir(parents=True)
    documents = open_corpus("primer").train.take(4000)
    text.write_text("\n\n".join(row["text"] for row in documents)[:1_115_394])
    printed = execute("shakespeare", checkout(tmp_path) / "notebooks")
    loss = float(re.search(r"([\d.]+) nats a character", printed)[1])
    assert loss < 2, "where the frequencies of its characters alone give about 3"
    assert "ROMEO:" in printed and "To be, or " in printed


@pytest.mark.slow
@pytest.mark.launch
def test_your_own_data_are_learnt_and_a_wrong_row_is_named(tmp_path):
    printed = execute("your_own_data", checkout(tmp_path))
    assert "under the blue pot" in printed
    assert "wrong.jsonl, line 1" in printed
    assert not unlisted(tmp_path / "runs" / "mine")


@pytest.mark.slow
@pytest.mark.launch
def test_a_model_is_loaded_converted_and_published(tmp_path):
    with serve() as hub:
        environment = hub_environment(hub.url, "hf_adas_token", tmp_path / "home")
        edits = {'REPOSITORY = ""': 'REPOSITORY = "ada/small"'}
        printed = execute("load_and_publish", checkout(tmp_path) / "notebooks", environment, edits)
        assert {"model.safetensors", "config.json", "README.md"} <= set(hub.files("ada/small"))
    assert "NanoChatForCausalLM: logits differ by " in printed
    assert "model.safetensors" in execute("load_and_publish", tmp_path), "run again, by a reader who is not logged in"
