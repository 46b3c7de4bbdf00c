"""What runs where on Modal, and the command line of `modal run recipes/launch/modal_app.py::NAME`.

Apart from the app, so that it can be read without Modal.
"""

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from recipes.launch.stages import STAGES, check_flags, estimate_lines, find_stage, place_flags, run_directory
from recipes.utils.arguments import Arguments, flag, parse_arguments
from recipes.utils.errors import InputError, exit_on_input_error, suggest
from recipes.utils.hardware import gpu_figures

GPUS = ("T4", "L4", "A10", "L40S", "A100", "A100-40GB", "A100-80GB", "H100", "H200", "B200")  # of Modal's list
MOST_GPUS = 8
# GPUs and hours at most of each function. What ends by its limit goes on when the same command is given again.
MACHINES = {
    "download": None, "tokenizer": None, "pretrain": "H100:8", "midtrain": "H100:8", "sft": "H100:8",
    "dpo": "H100:8", "grpo": "H100:8", "report": "H100:1", "page": "L4:1",
}  # fmt: skip
HOURS = {
    "download": 4, "tokenizer": 4, "pretrain": 24, "midtrain": 8, "sft": 4, "dpo": 4, "grpo": 12, "report": 4,
    "page": 24,
}  # fmt: skip
ON_MODAL = tuple(name for name in STAGES if name in MACHINES)
PIPELINE = tuple(name for name in ON_MODAL if name != "dpo")  # the stages of recipes.speedrun
# Conversations and questions; documents for pretraining are streamed, for nobody reads all of them.
DOWNLOADS = (
    "HuggingFaceTB/smol-smoltalk", "cais/mmlu", "openai/gsm8k", "allenai/ai2_arc", "openai/openai_humaneval",
)  # fmt: skip


@dataclass(frozen=True)
class Preset:
    """A whole pipeline: its GPUs, the flags of each stage, and what is asked at the end."""

    gpu: str
    tasks: str
    flags: dict[str, list[str]]
    downloads: tuple[str, ...] = ()


def of_depth(depth: int) -> dict[str, list[str]]:
    """Flags of each stage for a model of this depth by the GPU presets."""
    return {name: ["--depth", str(depth)] if name == "pretrain" else [] for name in PIPELINE}


QUICK = {  # the presets of a CPU, whose corpus is in the project
    name: ["--config", f"recipes/configs/{'mid' if name == 'midtrain' else name}/cpu.yaml"] for name in PIPELINE
}
BENCHMARKS = "arc_easy,arc_challenge,mmlu,gsm8k,humaneval"
PRESETS = {
    "quick": Preset("L4:1", "facts,choice,one_step,multi_step", QUICK),
    "speedrun": Preset("H100:8", BENCHMARKS, of_depth(20), DOWNLOADS),
    "gpt2": Preset("H100:8", BENCHMARKS, of_depth(26), DOWNLOADS),
}


@dataclass(kw_only=True)
class ModalArguments(Arguments):
    """Flags of a stage on Modal; those of the stage itself follow after `--`."""

    run: str = flag("modal", "name of the run: its directory in the volume nanochat-runs")
    gpu: str | None = flag(None, "GPUs of the training stages, as H100:8 (default: the stage's own)")
    price_per_hour: float | None = flag(None, "dollars an hour of that machine, for the estimate", least=0)
    dry_run: bool = flag(False, "show what would be started, and what it is estimated to cost")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch(r"[\w-][\w.-]*", self.run):
            raise InputError(f"run {self.run!r} is not a name: give letters, digits, '-' and '_'.")
        if self.gpu is not None:
            self.gpu = check_gpu(self.gpu)

    def gpu_of(self, name: str) -> str | None:
        """GPUs of a function; one is enough for the report."""
        if MACHINES[name] is None or name == "page":
            return MACHINES[name]
        gpu = self.gpu or self.usual_gpu or MACHINES[name]
        return gpu.partition(":")[0] + ":1" if name == "report" else gpu

    @property
    def usual_gpu(self) -> str | None:
        return None


@dataclass(kw_only=True)
class PipelineArguments(ModalArguments):
    """Flags of `::main`."""

    preset: str = flag("speedrun", "quick, speedrun (depth 20) or gpt2 (depth 26)", choices=tuple(PRESETS))

    @property
    def usual_gpu(self) -> str:
        return PRESETS[self.preset].gpu


def check_gpu(text: str) -> str:
    """A GPU string of Modal's as NAME:COUNT. Raises `InputError`, naming the closest, if it is none."""
    name, _, count = text.partition(":")
    if name.upper() not in GPUS:
        raise InputError(f"unknown GPU {name!r}: {suggest(name.upper(), GPUS)}")
    if not re.fullmatch(r"\d*", count) or not 1 <= int(count or 1) <= MOST_GPUS:
        raise InputError(f"gpu {text!r}: give 1 to {MOST_GPUS} of them, as {name.upper()}:8.")
    return f"{name.upper()}:{int(count or 1)}"


def read_modal_line(argv: Sequence[str]) -> tuple[ModalArguments, list[str]] | None:
    """Flags of the launcher and of the stage on `modal run FILE::NAME ...`; None for any other command of Modal's.

    A mistake ends the process with one line and exit code 2, `--dry_run` after its lines.
    """
    place = next((at for at, word in enumerate(argv) if "modal_app" in word and "::" in word), None)
    if place is None or "run" not in argv[:place]:
        return None
    name, words = argv[place].partition("::")[2], list(argv[place + 1 :])
    end = words.index("--") if "--" in words else len(words)

    def read() -> tuple[ModalArguments, list[str]]:
        args = parse_arguments(PipelineArguments if name == "main" else ModalArguments, argv=words[:end])
        check(name, args, words[end + 1 :])
        if args.dry_run:
            print("\n".join(describe(name, args, words[end + 1 :])))
            sys.exit()
        return args, words[end + 1 :]

    return exit_on_input_error("modal", read)


def check(name: str, args: ModalArguments, flags: list[str]) -> None:
    """Raise `InputError` for what would fail on a machine that is paid for."""
    if name in ("main", "download"):
        if flags:
            raise InputError(f"{name} takes no flags of stages: give them to one, as ::pretrain or ::sft.")
    else:
        find_stage(name, (*ON_MODAL, "main", "download"))
        check_flags(name, place_flags(name, flags, run_directory(args.run)))


@dataclass(frozen=True)
class Step:
    """A function that is called."""

    name: str
    gpu: str | None
    flags: list[str] = field(default_factory=list)


def steps_of(name: str, args: ModalArguments, flags: list[str]) -> list[Step]:
    """What `::name` calls, one after the other."""
    if isinstance(args, PipelineArguments):
        preset = PRESETS[args.preset]
        stages = [Step(each, args.gpu_of(each), words) for each, words in preset.flags.items()]
        first = [Step("download", None)] if preset.downloads else []
        return [*first, *stages, Step("report", args.gpu_of("report"))]
    return [Step(name, args.gpu_of(name), flags)]


def describe(name: str, args: ModalArguments, flags: list[str]) -> list[str]:
    """The lines of a dry run."""
    run_dir, limit = run_directory(args.run), 0
    lines = [
        "dry run: nothing is started",
        "image     python 3.12, packages of pyproject.toml by constraints.txt, the code of this directory as it is",
        f"volumes   nanochat-data (downloads), nanochat-runs (this run in {args.run}/), committed at each checkpoint",
    ]
    for step in steps_of(name, args, flags):
        lines.append(f"{step.name:<10}on {describe_machine(step.gpu)}, at most {HOURS[step.name]} h")
        if step.name not in STAGES:
            continue
        placed = place_flags(step.name, step.flags, run_dir)
        lines.append(f"{'':<10}{shlex.join([*STAGES[step.name].program, *placed])}")
        if step.gpu is not None:
            kind, _, count = step.gpu.partition(":")
            known = kind if gpu_figures(kind) else None
            shown = estimate_lines(step.name, placed, int(count), known, args.price_per_hour, 1, HOURS[step.name])
            lines += [f"{'':<10}{line}" for line in shown]
            limit += HOURS[step.name]
    if name == "main" and args.price_per_hour is not None:
        lines.append(f"these stages cost at most ${limit * args.price_per_hour:,.2f}, if each is ended by its limit")
    return lines


def describe_machine(gpu: str | None) -> str:
    """GPUs for people."""
    return "a machine without GPUs" if gpu is None else "{1} x {0}".format(*gpu.split(":"))
