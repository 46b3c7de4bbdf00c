"""HumanEval (arXiv 2107.03374): the model completes a function, which then has to pass the problem's tests."""

import ast
import re
import textwrap
from typing import Any

from evals.execution import run_python

COLUMNS = ("prompt", "canonical_solution", "test", "entry_point")
MAX_NEW_TOKENS = 512
FENCED = re.compile(  # closed by the same marks at the end of a line, even of one of code; the last may be cut off
    r"(?P<marks>```+|~~~+)[ \t]*(?:[\w{][^\n`]*)?\n(?P<code>.*?)(?:(?P=marks)[ \t]*$|\Z)", re.DOTALL | re.MULTILINE
)
BEGINNING = re.compile(r"^(?:(?:async )?def|import|from|class)\s|^@", re.MULTILINE)
FUTURE = re.compile(r"^from __future__ import (?:\([^)]*\)|.*)\n?", re.MULTILINE)


def run_reply(row: dict[str, Any], reply: str) -> str:
    """Whether the code in a reply passes the tests of `row`, a line of HumanEval: `right`, or how it ended instead."""
    status = run_python(build_program(row, extract_code(reply, row["entry_point"]))).status
    return "right" if status == "passed" else status


def extract_code(reply: str, entry_point: str) -> str:
    """The code in a reply, without an indent that all of its lines share.

    Of the fenced blocks it is the first that defines `entry_point`, or else the first that is Python, or else the
    first. Of a reply without a fence it is all, less the prose before the code.
    """
    reply = reply.replace("\r\n", "\n")
    blocks = [textwrap.dedent(block["code"]) for block in FENCED.finditer(reply)]
    if not blocks:
        return _without_prose(reply)
    defining = [block for block in blocks if _definition(entry_point).search(block)]
    return [*defining, *filter(_is_python, blocks), *blocks][0]


def build_program(row: dict[str, Any], code: str) -> str:
    """The code with all that it may lean on before it and the tests behind it.

    As a rule the code is the whole function. What the prompt has above that function is put before it: imports and, in
    a few problems, helpers that the tests need as well. Code without such a function is taken for its body.
    """
    definition = _definition(row["entry_point"])
    future, code = "".join(f"{each.strip()}\n" for each in FUTURE.findall(code)), FUTURE.sub("", code)
    if definition.search(code):
        above = definition.split(row["prompt"], maxsplit=1)[0]
        solution = f"{above}\n{code}"
    else:
        solution = row["prompt"] + "\n" + textwrap.indent(_body(code), "    ")
    return f"{future}{solution}\n\n{row['test']}\n\ncheck({row['entry_point']})\n"


def _definition(function: str) -> re.Pattern:
    return re.compile(rf"^(?:async )?def {re.escape(function)}\b", re.MULTILINE)


def _without_prose(text: str) -> str:
    """Python as it is; else from the first line on that may begin a module and makes Python of the rest."""
    whole = _body(text)
    if _is_python(whole):
        return whole
    rests = (text[line.start() :] for line in BEGINNING.finditer(text))
    return next(filter(_is_python, rests), whole)


def _body(code: str) -> str:
    """Lines without the indent that they share, even where the first has lost its own, as stripped text does."""
    dedented = textwrap.dedent(code)
    restored = textwrap.dedent("    " + code.lstrip())
    return restored if not _is_python(dedented) and _is_python(restored) else dedented


def _is_python(code: str) -> bool:
    try:
        ast.parse(code)
    except (SyntaxError, ValueError, MemoryError, RecursionError):  # the latter where it is nested too deeply
        return False
    return True
