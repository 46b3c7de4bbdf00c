"""docs/reference.md says what the code says."""

import os
import subprocess
import sys

import pytest

from docs.reference import COMMAND, FILES, PAGE, READS, ROOT, describe_program, find_programs, render
from recipes.training.documents_read import DOCUMENTS_READ
from recipes.training.output_dir import INPUTS_FILE
from recipes.utils.run_directory import STAGES
from tests.recipes.programs import PROGRAMS, flags_of

FOR_USERS = [name for name in PROGRAMS if not name.startswith("benchmarks.")]


def test_the_page_is_what_the_code_says():
    assert PAGE.read_text(encoding="utf-8") == render(), f"docs/reference.md is stale: renew it by `{COMMAND}`"


def test_the_page_has_every_program_and_every_stage():
    assert set(find_programs()) == set(FOR_USERS)
    assert set(READS) == set(STAGES)


@pytest.mark.parametrize("name", [DOCUMENTS_READ, INPUTS_FILE])
def test_a_file_of_a_stage_is_listed(name):
    assert f"STAGE/{name}" in FILES


@pytest.mark.parametrize("program", FOR_USERS)
def test_a_program_is_listed_with_the_flags_that_it_takes(program):
    rows = [line.split(" | ") for line in describe_program(program, find_programs()[program]) if line[:5] == "| `--"]
    listed = {row[0].split("`")[1].removeprefix("--"): row[-1].removesuffix(" |") for row in rows}
    taken = flags_of(program)
    assert {name: taken[name].help.replace("|", r"\|") for name in listed} == listed
    with_flags_of_trl = ("recipes.sft", "recipes.dpo", "recipes.grpo")  # which are only mentioned
    assert set(listed) == set(taken) or program in with_flags_of_trl


@pytest.mark.launch
def test_the_page_is_made_without_importing_torch():
    code = "import sys, docs.reference; docs.reference.render(); print('torch' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    end = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert end.stdout == "False\n", end.stderr
