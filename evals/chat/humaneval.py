"""HumanEval (arXiv 2107.03374): the model completes a function, which must pass the problem's tests."""

import ast
import re
import textwrap
from typing import Any

from evals.execution import run_python

COLUMNS = ("prompt", "canonical_solution", "test", "entry_point")
MAX_NEW_TOKENS = 512
FENCED = re.compile(  # closed by the same marks at the end of any line, also after code; the last may be unclosed
    r"(?P<marks>```+|~~~+)[ \t]*(?:[\w{][^\n`]*)?\n(?P<code>.*?)(?:(?P=marks)[ \t]*$|\Z)", re.DOTALL | re.MULTILINE
)
BEGINNING = re.compile(r"^(?:(?:async )?def|import|from|class)\s|^@", re.MULTILINE)
FUTURE = re.compile(r"^from __future__ import (?:\([^)]*\)|.*)\n?", re.MULTILINE)


def run_reply(row: dict[str, Any], reply: str) -> str:
    """Run the code in a reply with the tests of `row`, a row of HumanEval. Returns `right`, or how it failed."""
    status = run_python(build_program(row, extract_code(reply, row["entry_point"]))).status
    return "right" if status == "passed" else status


def extract_code(reply: str, entry_point: str) -> str:
    """The code in a reply, without the indent that all of its lines share.

    With fenced blocks: the first one that defines `entry_point`, or else the first that is valid Python, or else the
    first. Without a fence: the whole reply without the prose before the code.
    """
    reply = reply.replace("\r\n", "\n")
    blocks = [textwrap.dedent(block["code"]) for block in FENCED.finditer(reply)]
    if not blocks:
        return _without_prose(reply)
    defining = [block for block in blocks if _definition(entry_point).search(block)]
    return [*defining, *filter(_is_python, blocks), *blocks][0]


def build_program(row: dict[str, Any], code: str) -> str:
    """A program of the code, what it may need before it, and the tests after it.

    Usually the code is the whole function. Then the part of the prompt above the function comes first: imports and, in
    a few problems, helpers that the tests need too. Code that does not define the function is taken as its body.
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
    """The text if it is valid Python; else the part from the first def, import, class or @ line that is."""
    whole = _body(text)
    if _is_python(whole):
        return whole
    rests = (text[line.start() :] for line in BEGINNING.finditer(text))
    return next(filter(_is_python, rests), whole)


def _body(code: str) -> str:
    """Remove the common indent, also if the first line has lost its indent because the text was stripped."""
    dedented = textwrap.dedent(code)
    restored = textwrap.dedent("    " + code.lstrip())
    return restored if not _is_python(dedented) and _is_python(restored) else dedented


def _is_python(code: str) -> bool:
    try:
        ast.parse(code)
    except (SyntaxError, ValueError, MemoryError, RecursionError):  # the last two if it is nested too deeply
        return False
    return True
