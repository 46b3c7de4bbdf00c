"""What was measured: lines on the console, JSON, a table in Markdown, pictures, and the hours to GPT-2's CORE."""

import json
from pathlib import Path
from typing import Any

from benchmarks.gpu.arguments import GPUArguments
from modeling_nanochat import NanochatGPTConfig
from recipes.plots.figures import as_png, draw_bars
from recipes.plots.palette import STAGE_COLORS
from recipes.training.arguments import PretrainArguments
from recipes.training.dry_run import DEFAULT_VOCABULARY
from recipes.training.horizon import horizon_tokens
from recipes.utils import atomic
from recipes.utils.model_facts import describe_config

NANOCHAT_HOURS = 1.65  # of its speedrun, July 2026, on 8 x H100
GPUS = 8
CORE_DEPTH, CORE_RATIO = 24, 8  # the run that passes GPT-2: docs/gpt2.md and recipes/configs/pretrain/gpu.yaml


def line(name: str, outcome: Any) -> str:
    """One part, for the console."""
    return f"{name:<22}{describe(outcome)}"


def describe(outcome: Any) -> str:
    """Its figures, or why there are none."""
    if not isinstance(outcome, dict):
        return str(outcome)
    return ", ".join(f"{name} {number(name, value)}" for name, value in outcome.items())


def number(name: str, value: Any) -> str:
    """A figure as people read it."""
    if not isinstance(value, float):
        return "unknown" if value is None else str(value)
    if name in ("MFU", "evaluation share"):
        return f"{value:.1%}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def write(results: dict[str, Any], args: GPUArguments, directory: Path) -> None:
    """results.json and results.md, anew."""
    directory.mkdir(parents=True, exist_ok=True)
    atomic.write_text(directory / "results.json", json.dumps({"flags": vars(args), "results": results}, indent=1))
    rows = [f"| {name} | {describe(outcome)} |" for name, outcome in results.items()]
    atomic.write_text(directory / "results.md", "\n".join(["| part | measured |", "|---|---|", *rows, ""]))


def finish(results: dict[str, Any], args: GPUArguments, directory: Path) -> None:
    """Add the projection, draw, and say where everything is."""
    results["to GPT-2's CORE"] = project(results, args)
    print(line("to GPT-2's CORE", results["to GPT-2's CORE"]))
    write(results, args, directory)
    trained = {name: each for name, each in results.items() if isinstance(each, dict) and each.get("MFU")}
    if trained:
        for key, file, title in (
            ("MFU", "mfu.png", "Share of the peak (MFU)"),
            ("tokens/s", "speed.png", "Tokens a second, all processes"),
            ("peak GB", "memory.png", "Peak memory of a process, GB"),
        ):
            values = [each[key] for each in trained.values()]
            figure = draw_bars(
                list(trained),
                {key: values},
                title,
                [STAGE_COLORS["base"]],
                write=lambda value, key=key: number(key, value),
            )
            (directory / file).write_bytes(as_png(figure))
    print(f"results      {directory / 'results.json'}, results.md{', pictures' if trained else ''}")


def project(results: dict[str, Any], args: GPUArguments) -> dict[str, Any] | str:
    """An estimate of the hours and dollars until GPT-2's CORE on eight such devices.

    By the speed at depth 24 where it was measured, else by the MFU of the deepest model of 2026, in FLOPs a token. It
    leaves out start-up, evaluation, and whatever eight devices lose against as many as were measured.
    """
    prefix, suffix = "training d", " 2026"
    measured = {
        int(name.removeprefix(prefix).removesuffix(suffix)): each
        for name, each in results.items()
        if name.startswith(prefix) and name.endswith(suffix) and isinstance(each, dict)
    }
    if not measured:
        return "left out: no model of 2026 was trained"
    depth = CORE_DEPTH if CORE_DEPTH in measured else max(measured)
    config, of_measured = (
        NanochatGPTConfig.from_depth(each, vocabulary, generation=2026, max_position_embeddings=length)
        for each, vocabulary, length in (
            (CORE_DEPTH, DEFAULT_VOCABULARY[2026], 2048),
            (depth, args.vocab_size or DEFAULT_VOCABULARY[2026], args.max_seq_len),
        )
    )
    facts = describe_config(config, 2048)
    flags = PretrainArguments(depth=CORE_DEPTH, generation=2026, target_param_data_ratio=CORE_RATIO)
    tokens, _ = horizon_tokens(flags, facts)
    devices = int(results["machine"]["devices"].split()[0])
    flops = measured[depth]["tokens/s"] * describe_config(of_measured, args.max_seq_len).flops_per_token / devices
    hours = tokens * facts.flops_per_token / (flops * GPUS) / 3600
    return {
        "estimated hours": hours,
        "on": f"{GPUS} devices",
        "by": f"d{depth}",
        "estimated dollars": hours * GPUS * args.price_per_gpu_hour,
        "nanochat's hours": f"{NANOCHAT_HOURS} (published, 8 x H100)",
    }
