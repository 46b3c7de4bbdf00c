"""Imports run one way between the rooms of the house, and nothing imports a script."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = (  # each may import those of the lines above it, and itself
    ("modeling_nanochat",),
    ("recipes.utils",),
    ("tokenizer", "recipes.plots"),
    ("recipes.data", "recipes.inference"),
    ("evals",),
    ("recipes.training",),
    ("recipes.publish", "recipes.convert"),
    ("recipes.launch",),
)
FLOORS = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}
PACKAGES = ("modeling_nanochat", "tokenizer", "recipes", "evals", "space", "benchmarks")
FILES = {  # by module name
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
}


def is_script(module: str) -> bool:
    """Whether a module is started by users: those of recipes/, every __main__, and others that say so."""
    package, _, name = module.rpartition(".")
    if package in ("recipes", "tokenizer", "space", "benchmarks"):
        return 'if __name__ == "__main__":' in FILES[module].read_text()
    return name == "__main__"


SCRIPTS = {module for module in FILES if is_script(module)}


def room_of(module: str) -> str | None:
    """The room that a module belongs to; None for a script or a script's helper, which may import any room."""
    inside = (room for room in FLOORS if module == room or module.startswith(f"{room}."))
    return None if module in SCRIPTS else next(inside, None)


def imports(module: str) -> Iterator[str]:
    """Our modules that a module imports anywhere: inside functions and for type checkers as well."""
    path = FILES[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{start}.{each.name}" for each in node.names]
        for name in names:  # `from a.b import c`: c is a module, or something in one
            while name and name not in FILES:
                name = name.rpartition(".")[0]
            if name:
                yield name


@pytest.mark.parametrize("room", FLOORS)
def test_a_room_imports_only_those_before_it(room):
    wrong = {
        f"{module} imports {imported}"
        for module in FILES
        if room_of(module) == room
        for imported in imports(module)
        if (other := room_of(imported)) != room and FLOORS.get(other, len(ROOMS)) >= FLOORS[room]
    }
    assert not wrong, "\n".join(sorted(wrong))


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_imports_a_script(package):
    wrong = {
        f"{module} imports {imported}"
        for module in FILES
        if module.split(".")[0] == package
        for imported in imports(module)
        if imported in SCRIPTS
    }
    assert not wrong, "\n".join(sorted(wrong))


def test_every_module_is_a_script_or_has_a_room():
    assert {"recipes.pretrain", "recipes.chat", "evals.report.__main__", "tokenizer.train", "space.app"} <= SCRIPTS
    homeless = [module for module in FILES if module not in SCRIPTS and room_of(module) is None]
    assert {module.split(".")[0] for module in homeless if module != "recipes"} <= {"space", "benchmarks"}
