"""The Space of a model: the files of space/, the model's name in its card, and our code that they import.

The code is uploaded too, so that a Space needs nothing that is not on the package index.
"""

from modulefinder import ModuleFinder
from pathlib import Path

from huggingface_hub import RepoCard

from recipes.publish.files import Upload, check_secrets
from recipes.utils.errors import InputError
from recipes.utils.provenance import ROOT

SUFFIXES = {".py", ".md", ".txt", ".css", ".js", ".html", ".svg", ".png"}


def space_files(repo: str, directory: Path = ROOT / "space") -> list[Upload]:
    """The files of the Space of the model `repo`. Raises `InputError` if `directory` does not hold a Space."""
    if not all((directory / name).exists() for name in ("app.py", "requirements.txt", "README.md")):
        raise InputError(f"no Space in {directory}: --space works in a checkout of the project.")
    paths = [path.relative_to(directory) for path in sorted(directory.rglob("*")) if path.is_file()]
    paths = [path for path in paths if path.suffix in SUFFIXES and not any(map(is_hidden, path.parts))]
    uploads = [Upload(path.as_posix(), directory / path) for path in paths if path != Path("README.md")]
    card = RepoCard((directory / "README.md").read_text(encoding="utf-8"))
    card.data.models = [repo]
    uploads.append(Upload("README.md", str(card).encode()))
    code = imported_files([directory / path for path in paths if path.suffix == ".py"], directory)
    uploads += [Upload(path.relative_to(ROOT).as_posix(), path) for path in code]
    check_secrets(uploads)
    return uploads


def is_hidden(name: str) -> bool:
    """Whether a name is that of caches, settings or secrets."""
    return name.startswith((".", "__pycache__"))


def imported_files(files: list[Path], directory: Path) -> list[Path]:
    """Our modules outside `directory` that its `files` import, directly or not, with the templates beside them.

    None of them is run.
    """
    finder = ModuleFinder(path=[str(directory), str(ROOT)])
    for file in files:
        finder.run_script(str(file))  # which only reads it
    found = {Path(module.__file__) for module in finder.modules.values() if module.__file__}
    code = {path for path in found if not path.is_relative_to(directory)}
    templates = {template for path in code if path.parent != ROOT for template in path.parent.glob("*.jinja")}
    return sorted(code | templates)
