"""The flags of TRL's configurations, without importing TRL's trainers.

Importing `trl.SFTConfig` takes 5 s of CPU: transformers' TrainingArguments bring torch, accelerate and peft along. So
that a wrong flag is reported at once, the fields of these dataclasses are read from the installed source instead.
"""

import ast
import builtins
import importlib.util
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

READ = {"transformers", "trl"}  # packages whose classes are read rather than imported
LIGHT = "transformers.utils"  # which argument parsing has loaded already
HOMES = {"TrainingArguments": "transformers.training_args"}  # of what the package `transformers` imports on demand


def config_fields(module: str, name: str) -> type:
    """A dataclass with the fields of the class `name` in `module` (types, defaults, help) and without its methods.

    The classes that it inherits from are treated alike.
    """
    return _source(module).resolve(name)


class _Source:
    """The source of a module, of which single definitions are executed."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.namespace: dict[str, Any] = {"__name__": module}  # what was executed so far
        self.definitions: dict[str, ast.stmt] = {}
        self.imports: dict[str, tuple[str, str]] = {}
        spec = importlib.util.find_spec(module)
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
        for node in ast.walk(tree):  # some imports depend on a condition
            if isinstance(node, ast.ImportFrom):
                origin = importlib.util.resolve_name("." * node.level + (node.module or ""), spec.parent)
                self.imports |= {each.asname or each.name: (origin, each.name) for each in node.names}
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                self.definitions[node.name] = node
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                self.definitions[node.targets[0].id] = node

    def resolve(self, name: str) -> Any:
        """What `name` stands for in this module."""
        if name not in self.namespace:
            if name in self.definitions:
                self._execute(self.definitions[name])
            else:
                self.namespace[name] = _imported(*self.imports[name])
        return self.namespace[name]

    def _execute(self, node: ast.stmt) -> None:
        """Execute one definition, after all that it names."""
        if isinstance(node, ast.ClassDef):
            node = _FieldsAlone().visit(node)
        own = {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
        for each in ast.walk(node):
            if isinstance(each, ast.Name) and each.id not in own and not hasattr(builtins, each.id):
                self.resolve(each.id)
        module = ast.fix_missing_locations(ast.Module([node], []))
        exec(compile(module, self.module, "exec"), self.namespace)


_source = cache(_Source)


class _FieldsAlone(ast.NodeTransformer):
    """Takes methods and imports out of a class; imported names are resolved as those of the module are."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        return None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        return None

    def visit_If(self, node: ast.If) -> ast.If | None:
        self.generic_visit(node)
        return node if node.body else None

    def visit_Assign(self, node: ast.Assign) -> ast.Assign | None:
        """Keep what is not a method by another name, as `__repr__ = __str__` is."""
        return None if isinstance(node.targets[0], ast.Name) and node.targets[0].id.startswith("__") else node


def _imported(module: str, name: str) -> Any:
    """`name` of another module: read from its source, too, where importing that would take long."""
    module, package = HOMES.get(name, module), module.partition(".")[0]
    if package in sys.stdlib_module_names or module.startswith(LIGHT):
        return getattr(import_module(module), name)
    # Of other packages there are only types whose values have no text, as accelerate's ParallelismConfig: no flags.
    return _source(module).resolve(name) if package in READ else type(name, (), {})
