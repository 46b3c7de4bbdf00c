"""A Space is published with its model: its files, the code of ours that they import, and the model's name."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, metadata_load

from recipes.publish.space import space_files
from recipes.utils.errors import InputError
from recipes.utils.provenance import ROOT
from tests.evals.run_files import write
from tests.recipes.publish.publishing import TOKEN, publish


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
    assert code.isdisjoint({"recipes/sft.py", "recipes/training/loop.py"})
    assert all((ROOT / path).is_file() for path in code)
    for path in code:
        assert path.endswith(".jinja") or set(own_files_imported(ROOT / path)) <= code, path


def own_files_imported(file: Path) -> Iterator[str]:
    """The files of this project that importing `file` runs; `from a import b` may mean a module a.b."""
    package = file.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(file.read_bytes())):
        names = [each.name for each in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        for name in names:
            above = package[: len(package) - node.level + 1] if getattr(node, "level", 0) else ()
            module = (getattr(node, "module", None) or "").split(".")
            steps = [step for step in (*above, *module, *name.split(".")) if step]
            for depth in range(1, len(steps) + 1):
                place = Path(*steps[:depth])
                candidates = (place.with_suffix(".py"), place / "__init__.py")
                yield from (path.as_posix() for path in candidates if (ROOT / path).is_file())


def test_a_space_with_a_secret_is_not_published(space):
    (space / "page" / "settings.py").write_text(f"token = '{TOKEN}'\n")
    with pytest.raises(InputError, match="page/settings.py seems to hold an access token"):
        space_files("ada/model", space)


def metadata_load_of(readme: bytes) -> dict:
    return ModelCard(readme.decode(), ignore_metadata_errors=True).data.to_dict()


@pytest.mark.slow
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
    capsys.readouterr()
    publish(run_dir, "ada/open", space="ada/open-chat")
    assert "HF_TOKEN" not in capsys.readouterr().out, "anybody may read that model"
