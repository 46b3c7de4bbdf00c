"""What the guides say: commands that parse, files that are there, pictures that load fast."""

import re
import shlex
from pathlib import Path

import pytest

from recipes.utils.arguments import parse_arguments
from tests.recipes.programs import PROGRAMS, classes_of

ROOT = Path(__file__).parents[1]
# Their commands and files exist.
GUIDES = ("README.md", "CONTRIBUTING.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")))
DOCUMENTS = (*GUIDES, "benchmarks/RESULTS.md", "space/README.md")
MOST_PICTURE_BYTES = 300_000
# Not in the repository: what a run writes, and nanochat's own files.
ELSEWHERE = (
    "openai-community/",
    "checkpoints/",
    "adapter/",
    "runs/",
    "data/",
    "path/",
    "user/",
    "nanochat/",
    "scripts/",
    "tasks/",
    "rustbpe/",
    "dev/",
    "report/",
    "val/",
    "train/",
    "eval/",
    "chatcore/",
    "recipes/STAGE",
)


def commands(document: str) -> list[tuple[str, list[str]]]:
    """Each of our programs that a shell block of a document runs, with its flags."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    found = []
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        for place, word in enumerate(words):
            module = word.removesuffix(".py").replace("/", ".") if word.startswith("recipes/") else word
            if module in PROGRAMS:
                end = words.index("--", place) if "--" in words[place:] else len(words)  # a stage's flags follow
                found.append((module, words[place + 1 : end]))
                break
    return found


COMMANDS = [command for document in GUIDES for command in commands(document)]


@pytest.mark.parametrize(("program", "argv"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_a_command_of_the_documents_has_flags_that_exist(program, argv, monkeypatch):
    monkeypatch.chdir(ROOT)  # presets are named from there
    on_cpu = ["--use_cpu", "true"] if program in ("recipes.sft", "recipes.dpo", "recipes.grpo") else []
    parse_arguments(*classes_of(program), argv=[*argv, *on_cpu])


def test_the_readme_runs_every_program_for_users():
    for_users = {name for name in PROGRAMS if not name.startswith("benchmarks.")}
    assert for_users - {name for name, _ in COMMANDS} == {"recipes.speedrun", "recipes.launch.slurm"}, (
        "which make and slurm.sh start"
    )


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    text = (ROOT / document).read_text()
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    headings = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    for target in re.findall(r"\]\(([^)]+)\)|src=\"([^\"]+)\"", text):
        path, _, heading = max(target).partition("#")
        if not path.startswith("http"):
            assert ((ROOT / document).parent / path).exists(), path
            assert path or heading in headings, heading


@pytest.mark.parametrize("document", GUIDES)
def test_files_named_in_a_document_are_there(document):
    for name in re.findall(r"`([\w./-]+/[\w./-]*)`", (ROOT / document).read_text()):
        if not name.startswith(ELSEWHERE):
            assert (ROOT / name).exists(), name


def test_pictures_load_fast():
    assert 0 < sum(path.stat().st_size for path in (ROOT / "docs").glob("*.png")) < MOST_PICTURE_BYTES
