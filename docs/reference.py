"""Write docs/reference.md, the table of stages, flags and files, from the code: `python -m docs.reference`.

A program is a file that reads its command line first. It is run up to that call: nothing heavy is imported.
"""

import ast
import dataclasses
import re
import runpy
from contextlib import ExitStack, suppress
from pathlib import Path
from unittest.mock import patch

from recipes.launch import command_line
from recipes.utils import arguments
from recipes.utils import run_directory as run
from recipes.utils.flags import REQUIRED, TYPE_NAMES, Arguments, Flag, find_flags

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference.md"
COMMAND = "python -m docs.reference"
ROOMS = ("recipes", "tokenizer", "evals", "space")
READS_FLAGS = re.compile(r"^    ARGS.* = read_(command|launch)_line\(", re.MULTILINE)

READS = {  # what each stage learns from
    "base": "documents: `--dataset`; the tokenizer",
    "mid": "the base model: `--source`; conversations: `--conversations`",
    "sft": "`mid` or another model: `--source`; conversations: `--conversations`",
    "dpo": "`sft` or another model: `--source`; preferences: `--preferences`",
    "grpo": "`sft` or another model: `--source`; problems: `--problems`",
}
FILES = {  # of a run's directory, and what they hold
    f"tokenizer/{run.TOKENIZER}": "the tokenizer; beside it its settings and the chat template",
    "tokenizer/tokenizer_*.*": "its comparison with other tokenizers: `tokenizer.evaluate`",
    f"STAGE/{run.CONFIG}": "the architecture; written last: without it, the stage is not finished",
    "STAGE/*.safetensors": "the weights",
    "STAGE/generation_config.json": "how `generate` samples and where it stops",
    "STAGE/*.py": "the model's code, which travels with the checkpoint",
    "STAGE/tokenizer*.json": "the tokenizer, and its settings",
    "STAGE/chat_template.jinja": "how messages become tokens",
    f"STAGE/{run.METRICS}": "every logged number, one JSON object a log",
    f"STAGE/{run.LOSS_CHART}": "the curves of base, mid, SFT and DPO",
    "STAGE/pass_at_k.png": "the curves of GRPO",
    f"STAGE/{run.BEFORE_AFTER}": "the same problems before and after GRPO, with the model's working",
    f"STAGE/{run.ARGUMENTS}": "all arguments, which a rerun has to repeat",
    "STAGE/inputs.json": "fingerprints of data, tokenizer and source, likewise",
    "STAGE/documents_read.json": "the documents read of a prepared corpus, so that another run takes others",
    f"STAGE/{run.LAUNCHES}": "each launch: command, machine, versions",
    f"STAGE/{run.CHECKPOINTS}/*": "the state to resume from",
    f"STAGE/adapter/{run.ADAPTER}": "the adapters, if trained with LoRA",
    f"STAGE/{run.EVALS}/*.json": "results of `evals.samples`, `evals.chat`, `evals.core` and `evals.judge`",
    "STAGE/README.md": "the model card: `evals.report`, `recipes.publish`",
    "report.html": "the report, in one file: `evals.report`",
    "report.md": "the same as Markdown, with its charts in report/",
}
INTRODUCTION = f"""# Stages, files and flags

Generated from the code by `{COMMAND}`.

## Stages

Each writes its `--output_dir`, by custom `runs/NAME/STAGE`.
"""
PROGRAMS = """## Programs

`--help` of each prints the same. Each also takes `--config FILE.yaml`, whose values the command line overrides. A flag
without a default is off, or follows the rule that its meaning states.
"""


class Started(Exception):
    """A program has come to its command line."""


def find_programs() -> dict[str, Path]:
    """Every program for users, as `python -m` names it: the stages in the order of training, then the others."""
    paths = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    found = {name_of(path): path for path in paths if READS_FLAGS.search(path.read_text("utf-8"))}
    stages = [f"recipes.{script}" for script in run.SCRIPTS.values()]
    return {name: found[name] for name in [*stages, *(name for name in found if name not in stages)]}


def name_of(path: Path) -> str:
    """`a.b` for a/b.py and for a/b/__main__.py; space/ is not a package: its programs are started by path."""
    place = path.relative_to(ROOT)
    return str(place) if place.parts[0] == "space" else ".".join(place.with_suffix("").parts).removesuffix(".__main__")


def classes_of(path: Path) -> list[type]:
    """The classes that a program parses its command line into."""
    found: list[type] = []

    def stop(name: str, *classes: type) -> None:
        found.extend(classes)
        raise Started

    readers = (arguments, "read_command_line"), (command_line, "read_launch_line")
    with ExitStack() as stack, suppress(Started):
        for module, name in readers:
            stack.enter_context(patch.object(module, name, stop))
        runpy.run_path(str(path), run_name="__main__")
    return found


def describe_program(name: str, path: Path) -> list[str]:
    """The lines of one program: what it does, and its own flags; those of libraries are only mentioned."""
    classes = classes_of(path)
    about = ast.get_docstring(ast.parse(path.read_text("utf-8"))).split("\n\n")[0]
    parents = [parent for each in classes for parent in each.__mro__ if dataclasses.is_dataclass(parent)]
    foreign = [each.__name__ for each in parents if not issubclass(each, Arguments)]
    libraries = [f"`{name}`" for name in foreign if name[0] != "_"]
    ours = {field.name for each in classes for field in dataclasses.fields(each) if "limits" in field.metadata}
    flags = [flag for each in classes for flag in find_flags(each).values() if flag.name in ours]
    resumable = {flag.name for flag in flags if flag.limits.resumable}
    lines = [f"### {name}", "", about, ""]
    if libraries:
        lines += [f"The flags of {', '.join(libraries)} work as well: `--help` lists them.", ""]
    if resumable:
        lines += ["A flag marked ↻ may change when a run is resumed.", ""]
    rows = [
        [f"`--{flag.name}`{' ↻' if flag.name in resumable else ''}", default_of(flag), values_of(flag), flag.help]
        for flag in flags
    ]
    return lines + table(["flag", "default", "takes", "meaning"], rows)


def default_of(flag: Flag) -> str:
    if flag.default in (REQUIRED, None):
        return "must be given" if flag.default is REQUIRED else ""
    return f"`{str(flag.default).lower() if isinstance(flag.default, bool) else flag.default}`"


def values_of(flag: Flag) -> str:
    """A flag's choices, or its type and bounds."""
    if flag.choices is not None:
        return ", ".join(f"`{each}`" for each in flag.choices)
    kind = "a name or path" if flag.limits.path else TYPE_NAMES.get(flag.kind, "text")
    return f"{kind}, {flag.limits.range}" if flag.limits.range else kind


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    cells = [head, ["---"] * len(head), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return [*(f"| {' | '.join(row)} |" for row in cells), ""]


def render() -> str:
    """The whole page."""
    stages = [[f"`{stage}`", f"`recipes/{script}.py`", READS[stage]] for stage, script in run.SCRIPTS.items()]
    lines = [INTRODUCTION, *table(["stage", "program", "reads"], stages), "## Files of a run", ""]
    files = [[f"`runs/NAME/{name}`", what] for name, what in FILES.items()]
    lines += [*table(["file", "what it is"], files), PROGRAMS]
    for name, path in find_programs().items():
        lines += describe_program(name, path)
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
    print(f"{PAGE}: {len(find_programs())} programs")
