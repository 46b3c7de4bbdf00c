"""HumanEval (arXiv 2107.03374): the model completes a function, which then has to pass the problem's tests."""

import re
import textwrap
from typing import Any

from evals.execution import run_python

COLUMNS = ("prompt", "canonical_solution", "test", "entry_point")
MAX_NEW_TOKENS = 512
FENCED = re.compile(r"```[^\n`]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)  # the last may be cut off


def run_reply(row: dict[str, Any], reply: str) -> str:
    """Whether the code in a reply passes the tests of `row`, a line of HumanEval: `right`, or how it ended instead."""
    status = run_python(build_program(row, extract_code(reply))).status
    return "right" if status == "passed" else status


def extract_code(reply: str) -> str:
    """The first fenced block of a reply, or else all of it."""
    block = FENCED.search(reply)
    return block[1] if block else reply


def build_program(row: dict[str, Any], code: str) -> str:
    """The code with all that it may lean on before it and the tests behind it.

    As a rule the code is the whole function. What the prompt has above that function is put before it: imports and, in
    a few problems, helpers that the tests need as well. Code without such a function is taken for its body.
    """
    head = rf"^(?:async )?def {re.escape(row['entry_point'])}\b"
    if re.search(head, code, re.MULTILINE):
        above = re.split(head, row["prompt"], maxsplit=1, flags=re.MULTILINE)[0]
        solution = f"{above}\n{code}"
    else:
        solution = row["prompt"] + "\n" + textwrap.indent(textwrap.dedent(code), "    ")
    return f"{solution}\n\n{row['test']}\n\ncheck({row['entry_point']})\n"
