"""Whatever a YAML file holds, it is read as it stands or refused in one line that names the file and the place."""

import pytest

from evals.core.bundle import read_definitions
from recipes.data.mixtures import read_mixture
from recipes.training.arguments import PretrainArguments
from recipes.utils.arguments import parse_arguments
from recipes.utils.errors import InputError
from recipes.utils.yaml_files import read_yaml

BILLIONS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
WRONG = {
    "empty": ("", " is empty."),
    "a comment": ("# nothing\n", " is empty."),
    "not UTF-8": (b"a: 1\nb: \xff\n", ", line 2: not UTF-8 text: save the file as UTF-8."),
    "UTF-16": ("a: 1".encode("utf-16"), ", line 1: not UTF-8 text: save the file as UTF-8."),
    "a key twice": ("a: 1\nb: 2\na: 3\n", ", line 3: a is given twice: remove one of the two."),
    "a key twice inside": ("a:\n  - b: 1\n    b: 2\n", ", line 3: b is given twice: remove one of the two."),
    "a tab": ("a:\n\t- b\n", ", line 2: not valid YAML (found character '\\t' that cannot start any token)."),
    "open": ("a: [1,\n", ", line 2: not valid YAML (expected the node content, but found '<stream end>')."),
    "two documents": ("a: 1\n---\nb: 2\n", ", line 2: not valid YAML (but found another document)."),
    "an unknown alias": ("a: 1\nb: *c\n", ", line 2: not valid YAML (found undefined alias 'c')."),
    "aliases that explode": (BILLIONS, " stands for more than 100,000 values: write out its aliases (*name)."),
    "an alias within itself": ("a: &a [*a]\n", " stands for more than 100,000 values: write out its aliases (*name)."),
    "deep": ("[" * 5000, ": not valid YAML (nested too deeply)."),
    "a key that is a list": ("? [a]\n: b\n", ", line 1: a key must be a name."),
    "a null byte": ("a: \0\n", ": not valid YAML (unacceptable character #x0000: special characters are not allowed"),
}


@pytest.mark.parametrize(
    "read",
    [
        read_yaml,
        read_mixture,
        read_definitions,
        lambda path: parse_arguments(PretrainArguments, argv=["--config", str(path)]),
    ],
    ids=["yaml", "mixture", "core.yaml", "flags"],
)
@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_said_with_its_place(read, kind, tmp_path):
    content, message = WRONG[kind]
    path = tmp_path / "file.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as error:
        read(path)
    assert str(error.value).startswith(f"{path}{message}") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "value", ["!!python/object:os.system ls", "!new thing", "2026-02-30", "!!bool maybe", "!!binary x=y", "1" * 5000]
)
def test_a_value_that_is_none_is_refused_and_nothing_is_run(tmp_path, value):
    (tmp_path / "file.yaml").write_text(f"a: {value}\n")
    with pytest.raises(InputError, match=rf"^{tmp_path / 'file.yaml'}.*: not a value of YAML \("):
        read_yaml(tmp_path / "file.yaml")


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InputError, match=rf"^{tmp_path} cannot be read: Is a directory\.$"):
        read_yaml(tmp_path)
    with pytest.raises(InputError, match=r"none\.yaml cannot be read: No such file or directory\.$"):
        read_yaml(tmp_path / "none.yaml")


def test_a_few_aliases_and_merged_mappings_are_fine(tmp_path):
    (tmp_path / "file.yaml").write_text("\ufeffa: &a {x: 1}\nb: {<<: *a, y: [*a, *a]}\n", encoding="utf-8")
    assert read_yaml(tmp_path / "file.yaml") == {"a": {"x": 1}, "b": {"x": 1, "y": [{"x": 1}, {"x": 1}]}}
