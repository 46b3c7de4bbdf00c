"""The Space of a model: the files of space/, with the model's name in them and the code of ours that they import.

That code goes along, so that a Space needs nothing that is not on the package index.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import RepoCard

from recipes.publish.files import Upload, check_secrets
from recipes.utils.errors import InputError
from recipes.utils.provenance import ROOT

PACKAGES = ("modeling_nanochat", "tokenizer", "recipes", "evals")  # ours
SUFFIXES = {".py", ".md", ".txt", ".css", ".js", ".html", ".svg", ".png"}


def space_files(repo: str, directory: Path = ROOT / "space") -> list[Upload]:
    """What the Space of the model `repo` consists of. Raises `InputError` where there is no space/ to take it from."""
    if not all((directory / name).exists() for name in ("app.py", "requirements.txt", "README.md")):
        raise InputError(f"no Space in {directory}: --space works in a checkout of the project.")
    paths = [path.relative_to(directory) for path in sorted(directory.rglob("*")) if path.is_file()]
    paths = [path for path in paths if path.suffix in SUFFIXES and not any(map(is_hidden, path.parts))]
    uploads = [Upload(path.as_posix(), directory / path) for path in paths if path != Path("README.md")]
    card = RepoCard((directory / "README.md").read_text(encoding="utf-8"))
    card.data.models = [repo]
    uploads.append(Upload("README.md", str(card).encode()))
    code = imported_files([directory / path for path in paths if path.suffix == ".py"])
    uploads += [Upload(path.relative_to(ROOT).as_posix(), path) for path in code]
    check_secrets(uploads)
    return uploads


def is_hidden(name: str) -> bool:
    """Whether a file or directory is a tool's: caches, settings, secrets."""
    return name.startswith((".", "__pycache__"))


def imported_files(files: list[Path]) -> list[Path]:
    """Our modules that `files` import, and what these do, with the templates that lie beside them."""
    found: set[Path] = set()
    waiting = list(files)
    while waiting:
        for module in imports(waiting.pop()):
            new = set(files_of(module)) - found
            waiting += [path for path in new if path.suffix == ".py"]
            found |= new
    return sorted(found)


def imports(file: Path) -> Iterator[str]:
    """Dotted names that a file imports; `from a import b` may mean a module a.b."""
    package = file.relative_to(ROOT).parent.parts if file.is_relative_to(ROOT) else ()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            start = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{start}.{each.name}" for each in node.names)


def files_of(module: str) -> Iterator[Path]:
    """The files that importing `module` runs, its packages' included; none if it is not ours."""
    names = module.split(".")
    if names[0] in PACKAGES:
        for depth in range(1, len(names) + 1):
            place = ROOT.joinpath(*names[:depth])
            candidates = [place.with_suffix(".py"), place / "__init__.py", *place.glob("*.jinja")]
            yield from (path for path in candidates if path.is_file())
