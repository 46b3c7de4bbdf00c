"""Read YAML files. Every mistake in a file raises an `InputError` of one line that names the file and the place."""

from pathlib import Path
from typing import Any

import yaml

from recipes.utils.errors import InputError

MOST_VALUES = 100_000  # in one file, with aliases expanded: a few lines of aliases can expand to billions of values


def read_yaml(path: str | Path) -> Any:
    """Read the content of a file. Raises `InputError` if it cannot be read, is not YAML, or repeats a key."""
    return construct(read_nodes(path), path)


def read_nodes(path: str | Path) -> yaml.Node:
    """Read a file as YAML nodes, which have the line and the spelling of each value."""
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}: not UTF-8 text: save the file as UTF-8.") from None
    except (OSError, ValueError) as error:  # a null byte in the path is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read: {reason}.") from None
    try:
        node = yaml.compose(text, yaml.SafeLoader)
        if node is None:
            raise InputError(f"{path} is empty.")
        _check(node, path)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}, line {mark.line + 1}" if mark else path
        raise InputError(f"{where}: not valid YAML ({error.problem or error.context}).") from None
    except (yaml.YAMLError, RecursionError) as error:  # a character that YAML does not allow; nesting without end
        reason = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise InputError(f"{path}: not valid YAML ({reason}).") from None
    return node


def place(path: str | Path, node: yaml.Node) -> str:
    """File and line of a value, for messages."""
    return f"{path}, line {node.start_mark.line + 1}"


def construct(node: yaml.Node, path: str | Path) -> Any:
    """The Python value of a node: str, number, bool, date, None, list or dict."""
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(node)
    except Exception as error:  # values that do not match their tag raise anything: `!!bool maybe` raises KeyError
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else path
        reason = getattr(error, "problem", None) or " ".join(str(error).split())
        raise InputError(f"{where}: not a value of YAML ({reason:.200}).") from None
    finally:
        loader.dispose()


def _check(root: yaml.Node, path: str | Path) -> None:
    """Raise `InputError` for a key that is given twice, and for aliases that expand to too many values."""
    waiting, count = [root], 0
    while waiting:
        node = waiting.pop()
        count += 1
        if count > MOST_VALUES:
            raise InputError(f"{path} stands for more than {MOST_VALUES:,} values: write out its aliases (*name).")
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            seen = set()
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise InputError(f"{place(path, key)}: a key must be a name.")
                if key.value in seen:
                    raise InputError(f"{place(path, key)}: {key.value} is given twice: remove one of the two.")
                seen.add(key.value)
                waiting.append(value)
