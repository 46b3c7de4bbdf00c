"""Every program of ours and the classes of its flags."""

import sys
from importlib import import_module

from recipes.utils.arguments import REQUIRED, Flag, Limits, find_flags
from recipes.utils.provenance import ROOT

POSTTRAINING = "recipes.training.posttraining_arguments"
PROGRAMS = {
    "recipes.pretrain": ("recipes.training.arguments.PretrainArguments",),
    "recipes.midtrain": ("recipes.training.arguments.MidtrainArguments",),
    "recipes.sft": (f"{POSTTRAINING}.SFTArguments", f"{POSTTRAINING}.ModelArguments"),
    "recipes.dpo": (f"{POSTTRAINING}.DPOArguments", f"{POSTTRAINING}.ModelArguments"),
    "recipes.grpo": (f"{POSTTRAINING}.GRPOArguments", f"{POSTTRAINING}.ModelArguments"),
    "recipes.speedrun": ("recipes.speedrun.SpeedrunArguments",),
    "recipes.data.fetch": ("recipes.data.fetch.FetchArguments",),
    "recipes.data.prepare": ("recipes.data.prepare.PrepareArguments",),
    "recipes.chat": ("recipes.chat.ChatArguments",),
    "recipes.serve": ("recipes.serve.ServeArguments",),
    "recipes.publish": ("recipes.publish.__main__.PublishArguments",),
    "recipes.launch.hf_jobs": ("recipes.launch.hf_jobs.HfJobsArguments",),
    "recipes.launch.hub_run": ("recipes.launch.hub_run.HubRunArguments",),
    "recipes.launch.slurm": ("recipes.launch.slurm.SlurmArguments",),
    "recipes.convert": ("recipes.convert.__main__.ConvertArguments",),
    "tokenizer.train": ("tokenizer.train.TokenizerArguments",),
    "tokenizer.evaluate": ("evals.tokenizer.arguments.EvaluateArguments",),
    "evals.bits_per_byte": ("evals.bits_per_byte.__main__.BitsPerByteArguments",),
    "evals.core": ("evals.core.__main__.CoreArguments",),
    "evals.core.fetch": ("evals.core.fetch.FetchArguments",),
    "evals.chat": ("evals.chat.__main__.ChatEvalArguments",),
    "evals.judge": ("evals.judge.__main__.JudgeArguments",),
    "evals.report": ("evals.report.__main__.ReportArguments",),
    "evals.samples": ("evals.samples.SamplesArguments",),
    "space/app.py": ("space.app.AppArguments",),
    **{
        f"benchmarks.{name}": (f"benchmarks.{name}.BenchmarkArguments",)
        for name in (
            "ablation", "batch_size", "core", "data", "formats", "generate", "graphs", "memory", "packing", "pretrain",
            "quality", "reinforcement", "rollouts", "space", "stages",
        )
    },
    "benchmarks.gpu": ("benchmarks.gpu.arguments.GPUArguments",),
    "benchmarks.scaling": ("benchmarks.scaling.arguments.ScalingArguments",),
}  # fmt: skip


def classes_of(program: str) -> tuple[type, ...]:
    """The classes that a program parses its command line into."""
    if str(ROOT / "space") not in sys.path:
        sys.path.append(str(ROOT / "space"))  # as for a script there
    return tuple(
        getattr(import_module(path.rpartition(".")[0]), path.rpartition(".")[2]) for path in PROGRAMS[program]
    )


def flags_of(program: str) -> dict[str, Flag]:
    """Its flags."""
    inherited: dict[str, Limits] = {}
    for each in classes_of(program):
        inherited |= getattr(each, "INHERITED", {})
    return {name: each for one in classes_of(program) for name, each in find_flags(one, inherited).items()}


def needed(program: str) -> list[str]:
    """What it has to be given, as a command line."""
    missing = [each for each in flags_of(program).values() if each.default is REQUIRED]
    words = {each.name: each.limits.choices[0] if each.limits.choices else "x" for each in missing}
    words |= {each.name: "1" for each in missing if each.kind is int}
    return [f"--{name}={word}" for name, word in words.items()]
