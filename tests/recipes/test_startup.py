"""A wrong flag is told before anything heavy is imported, and a script imports only what its stage needs."""

import os
import subprocess
import sys

import pytest

from recipes.utils.provenance import ROOT
from tests.recipes.programs import PROGRAMS

HEAVY = ("torch", "transformers.modeling_utils", "trl", "datasets", "matplotlib", "gradio")

# Becomes the program named first in sys.argv; at its end, says which of the modules named in HEAVY it has imported.
RUN = """
import atexit, os, runpy, sys
heavy = os.environ["HEAVY"].split(",")
atexit.register(lambda: print("imported:", *(name for name in heavy if name in sys.modules)))
program = sys.argv.pop(1)
run = runpy.run_path if program.endswith(".py") else runpy.run_module
run(program, run_name="__main__")
"""


def python(code: str, *argv: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HEAVY": ",".join(HEAVY)}
    return subprocess.run(
        [sys.executable, "-c", code, *argv], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_wrong_flag_is_told_before_anything_heavy_is_imported(program):
    end = python(RUN, program, "--no_such_flag", "1")
    assert end.returncode == 2, end.stderr
    (line,) = end.stderr.splitlines()
    assert ": unknown argument no_such_flag: " in line
    assert end.stdout.split() == ["imported:"]


def test_pretraining_imports_neither_the_report_nor_the_upload():
    end = python("import sys, recipes.pretrain; print(*sys.modules)")
    assert end.returncode == 0, end.stderr
    assert "recipes.pretrain" in end.stdout.split()
    unwanted = ("evals.report", "recipes.publish.upload")
    assert [name for name in end.stdout.split() if name.startswith(unwanted)] == []
