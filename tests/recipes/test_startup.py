"""A wrong flag is told before anything heavy is imported, and a script imports only what its stage needs."""

import json
import os
import subprocess
import sys

import pytest

from recipes.utils.provenance import ROOT
from tests.recipes.programs import PROGRAMS

pytestmark = pytest.mark.launch

HEAVY = ["torch", "transformers.modeling_utils", "trl.trainer.base_config", "datasets", "matplotlib", "gradio"]

# Runs every program with a wrong flag, each in a process forked from one that has the parser loaded. Prints the exit
# code, the complaint, and the heavy modules that were imported by then.
RUN = """
import contextlib, io, json, os, runpy, sys
import recipes.utils.arguments
heavy, *programs = sys.argv[1:]
for program in programs:
    if os.fork() == 0:
        sys.argv = [program, "--no_such_flag", "1"]
        run = runpy.run_path if program.endswith(".py") else runpy.run_module
        complaint = io.StringIO()
        try:
            with contextlib.redirect_stderr(complaint):
                run(program, run_name="__main__")
        except BaseException as error:
            code = getattr(error, "code", repr(error))
            imported = [name for name in json.loads(heavy) if name in sys.modules]
            print(json.dumps([program, code, complaint.getvalue(), imported]), flush=True)
        os._exit(0)
    os.wait()
"""


def python(code: str, *argv: str) -> list[str]:
    """Lines that a new interpreter prints."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *argv]
    end = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert end.returncode == 0, end.stderr
    return end.stdout.splitlines()


@pytest.fixture(scope="module")
def ends() -> dict[str, list]:
    """How each program ends: exit code, complaint, heavy modules."""
    return {program: end for program, *end in map(json.loads, python(RUN, json.dumps(HEAVY), *PROGRAMS))}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_wrong_flag_is_told_before_anything_heavy_is_imported(ends, program):
    code, complaint, imported = ends[program]
    assert code == 2 and ": unknown argument no_such_flag: " in complaint and complaint.count("\n") == 1
    assert imported == []


def test_pretraining_imports_neither_the_report_nor_the_upload():
    imported = python("import sys, recipes.pretrain; print(*sys.modules, sep='\\n')")
    assert "recipes.pretrain" in imported
    assert [name for name in imported if name.startswith(("evals.report", "recipes.publish.upload"))] == []
