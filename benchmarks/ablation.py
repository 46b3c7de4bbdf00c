"""What each feature of generation 2026 is worth in a short run: `python -m benchmarks.ablation --dataset DIR`.

The setting is that of benchmarks.quality: depth 4, rows of 512 tokens, 819,200 tokens. One feature is off, or on, at a
time, with several seeds; the figure is bits per byte of the whole validation split, end to end. Each run is
recipes/pretrain.py in its own process, with the model's configuration from a file and, where a step of Muon is off, an
optimizer of this module. Every variant has the learning rates and the schedule of its generation. Finished runs are
skipped when the command is repeated.
"""

import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recipes.utils.arguments import REQUIRED, Arguments, flag, read_command_line
from recipes.utils.errors import InputError, exit_on_input_error, suggest
from tokenizer.special_tokens import SMALLEST_VOCABULARY


@dataclass
class BenchmarkArguments(Arguments):
    """Flags of `python -m benchmarks.ablation`."""

    output_dir: str = flag(REQUIRED, "directory of the runs, the table (ablation.json) and its picture", path=True)
    dataset: str = flag("primer", "as of recipes/pretrain.py", path=True)
    vocab_size: int = flag(8192, "of the tokenizer trained for it", least=SMALLEST_VOCABULARY, most=2**24)
    depth: int = flag(4, "blocks of the model", least=1, most=1000)
    max_seq_len: int = flag(512, "tokens a row", least=1, most=2**24)
    num_tokens: int = flag(819_200, "that each model is trained on", least=1)
    total_batch_size: int = flag(8192, "tokens an optimizer step", least=1)
    seeds: str = flag("0,1,2", "of the initial weights, comma-separated")
    only: str | None = flag(None, "the variants to run, comma-separated (default: all)")

    def __post_init__(self) -> None:
        super().__post_init__()
        seeds = [seed.strip() for seed in self.seeds.split(",")]
        for seed in seeds:
            if not seed.isdecimal():
                raise InputError(f"seeds: {seed!r} is not a number; give some like 0,1,2.")
        if len({int(seed) for seed in seeds}) < len(seeds):
            raise InputError(f"seeds {self.seeds}: one of them is given twice, and would count twice.")
        for name in self.variants():
            if name not in VARIANTS:
                raise InputError(f"only: unknown variant {name!r}; {suggest(name, VARIANTS)}")
        if self.total_batch_size < self.max_seq_len:
            raise InputError(
                f"total_batch_size {self.total_batch_size} is less than a row of {self.max_seq_len} tokens: lower "
                "max_seq_len, or take a larger batch."
            )
        if self.num_tokens < self.total_batch_size:
            raise InputError(f"num_tokens {self.num_tokens} is less than one step of {self.total_batch_size}.")

    def variants(self) -> list[str]:
        """Names of the variants to run."""
        return [name.strip() for name in self.only.split(",")] if self.only else list(VARIANTS)


@dataclass(frozen=True)
class Variant:
    """A model and its optimizer: what differs from the generation's own.

    Attributes:
        changes: fields of the configuration; "window_pattern" stands for those of the windows.
        muon: name of the optimizer in this module, where it is not the generation's.
    """

    generation: int = 2026
    changes: dict[str, Any] = field(default_factory=dict)
    muon: str | None = None


# Each feature: what turns it off in a model of 2026, and on in one of 2025.
FEATURES = {
    "windows": ({"window_pattern": "L"}, {"window_pattern": "SSSL"}),
    "value embeddings": ({"value_embeddings": False}, {"value_embeddings": True}),
    "residual scalars": ({"residual_scalars": False}, {"residual_scalars": True}),
    "smear": ({"smear": False}, {"smear": True}),
    "backout": ({"backout": False}, {"backout": True}),
    "query-key scale": ({"query_key_scale": 1.0}, {"query_key_scale": 1.2}),
    "rotary base": ({"rope_theta": 10_000.0}, {"rope_theta": 100_000.0}),
    "initialization": (
        {"initial_embedding_std": 1.0, "initial_head_std": 0.0, "initial_fc1_scale": 1.0},
        {"initial_embedding_std": 0.8, "initial_head_std": 0.001, "initial_fc1_scale": 0.4},
    ),
}
STEPS = {  # of the Muon of 2026, each with the optimizer below that lacks it
    "Polar Express": "without_polar_express",
    "MuonEq": "without_muon_eq",
    "Muon+": "without_muon_plus",
    "NorMuon": "without_normuon",
}
VARIANTS = {
    "2025": Variant(2025),
    "2026": Variant(),
    **{f"2026 without {name}": Variant(changes=off) for name, (off, _) in FEATURES.items()},
    **{f"2026 without {name}": Variant(muon=muon) for name, muon in STEPS.items()},
    "2026 with the Muon of 2025": Variant(muon="muon_of_2025"),
    **{f"2025 with {name}": Variant(2025, on, "muon_of_2025") for name, (_, on) in FEATURES.items()},
    "2025 with the Muon of 2026": Variant(2025, muon="muon_of_2026"),
}

if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("benchmarks.ablation", BenchmarkArguments)

from dataclasses import replace

from benchmarks.pretraining_runs import WHOLE_SPLIT, Run, is_done, num_processes, provide_tokenizer, train
from modeling_nanochat import NanochatGPTConfig
from recipes.plots.figures import as_png, draw_bars
from recipes.plots.palette import HELD_OUT
from recipes.training.arguments import PretrainArguments
from recipes.training.muon import MUON_2025, MUON_2026, MuonSteps
from recipes.training.optimizers import OptimizerBuilder, build_muon
from recipes.training.plan import Plan, plan_training
from recipes.training.rules import RULES, THREE_RATES
from recipes.utils import atomic
from recipes.utils.arguments import parse_arguments
from recipes.utils.model_facts import describe_config
from recipes.utils.outputs import hold
from recipes.utils.run_directory import METRICS, read_metrics


def _muon(steps: MuonSteps) -> OptimizerBuilder:
    return lambda model, settings: build_muon(model, replace(settings, muon=steps))


# For `--optimizer benchmarks.ablation:NAME`.
muon_of_2025, muon_of_2026 = _muon(MUON_2025), _muon(MUON_2026)
without_polar_express = _muon(replace(MUON_2026, orthogonalization="newton_schulz"))
without_muon_eq = _muon(replace(MUON_2026, equilibrate_rows=False))
without_muon_plus = _muon(replace(MUON_2026, renormalize=False))
without_normuon = _muon(replace(MUON_2026, second_moment=None))


@dataclass(frozen=True)
class Result:
    """Bits per byte and tokens/s of a variant, by seed."""

    name: str
    bits: list[float]
    speeds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.bits)


def main(args: BenchmarkArguments) -> None:
    output_dir = Path(args.output_dir)
    with hold(output_dir):
        tokenizer = provide_tokenizer(
            PretrainArguments(dataset=args.dataset), args.vocab_size, output_dir / "tokenizer"
        )
        seeds = [int(seed) for seed in args.seeds.split(",")]
        runs = {name: [plan_run(args, name, seed, tokenizer) for seed in seeds] for name in args.variants()}
        finished = {run.directory for each in runs.values() for run in each if is_done(run)}
        results = []
        for name, of_variant in runs.items():
            for run in of_variant:
                if run.directory not in finished:
                    train(run)
            results.append(read_result(name, of_variant))
            print(line(results[-1], results[0]), flush=True)
        report(args, results, output_dir)


def plan_run(args: BenchmarkArguments, name: str, seed: int, tokenizer: Path) -> Run:
    """A variant with a seed; the model's configuration is written into a file."""
    variant, output_dir = VARIANTS[name], Path(args.output_dir)
    config = model_config(args, variant)
    config_file = output_dir / f"{name.replace(' ', '_')}.json"
    atomic.write_text(config_file, json.dumps(config.to_dict()))
    directory = output_dir / name.replace(" ", "_") / f"seed_{seed}"
    flags = {
        "dataset": args.dataset,
        "tokenizer": tokenizer,
        "output_dir": directory,
        "model_config": config_file,
        "depth": args.depth,  # in the file already, but so it is in the run's record
        "max_seq_len": args.max_seq_len,
        "device_batch_size": min(8, args.total_batch_size // args.max_seq_len),
        "total_batch_size": args.total_batch_size,
        "num_iterations": args.num_tokens // args.total_batch_size,
        "eval_every": 0,
        "eval_tokens": WHOLE_SPLIT,
        "sample_every": -1,
        "save_every": 0,
        "seed": seed,
        "optimizer": f"benchmarks.ablation:{variant.muon}" if variant.muon else "muon",
    }
    own = plan(args, flags | {"optimizer": "muon"}, model_config(args, Variant(variant.generation))).plan
    flags |= flags_of_rules(own, plan(args, flags, config).plan)
    return plan(args, flags, config)


def plan(args: BenchmarkArguments, flags: dict[str, Any], config: NanochatGPTConfig) -> Run:
    """The run that follows from flags of recipes/pretrain.py."""
    words = tuple(f"--{name}={value}" for name, value in flags.items())
    recipe = parse_arguments(PretrainArguments, argv=list(words))
    planned = plan_training(recipe, describe_config(config, args.max_seq_len), num_processes())
    return Run(Path(flags["output_dir"]), words, recipe, planned)


def flags_of_rules(own: Plan, found: Plan) -> dict[str, float]:
    """Flags by which a variant is trained as its generation's own model is, `own`, where the recipe finds other rules.

    The recipe goes by the model, and one of 2025 with a feature of 2026 gets the rules of 2026, which would change
    more than the feature; of them stays what the feature itself needs, its learning rates. Nor does the recipe know
    which weight decay suits an optimizer that is not its own.
    """
    flags = {"weight_decay": own.optimizer.weight_decay}
    if own.facts.generation != found.facts.generation:
        rules, schedule = RULES[found.facts.generation], own.schedule
        for name in THREE_RATES:  # a flag stands for a long run's, of which the recipe takes a multiple
            flags[name] = getattr(rules, name)[1] * getattr(own.optimizer, name) / getattr(found.optimizer, name)
        flags |= {"final_lr_frac": schedule.final_fraction, "warmdown_ratio": schedule.warmdown_ratio}
        flags["grad_clip"] = RULES[own.facts.generation].grad_clip
    return flags


def model_config(args: BenchmarkArguments, variant: Variant) -> NanochatGPTConfig:
    """The configuration of a variant's model."""
    return NanochatGPTConfig.from_depth(
        args.depth,
        vocab_size=args.vocab_size,
        generation=variant.generation,
        max_position_embeddings=args.max_seq_len,
        **variant.changes,
    )


def read_result(name: str, runs: list[Run]) -> Result:
    """The figures of a variant's finished runs."""
    records = [read_metrics(run.directory / METRICS) for run in runs]
    bits = [each[-1]["val/bpb"] for each in records]
    speeds = [statistics.median(r["train/tok_per_sec"] for r in each if "train/dt" in r) for each in records]
    return Result(name, bits, speeds)


def line(result: Result, first: Result) -> str:
    """A row of the table: median, its distance from the first variant's, lowest and highest, tokens/s."""
    return (
        f"{result.name:<32}{result.median:8.4f}{result.median - first.median:+9.4f}"
        f"   {min(result.bits):.4f} to {max(result.bits):.4f}{statistics.median(result.speeds):10,.0f} tokens/s"
    )


def report(args: BenchmarkArguments, results: list[Result], output_dir: Path) -> None:
    """Write the figures as JSON and as a picture of what each feature is worth."""
    rows = [{"variant": r.name, "val/bpb": r.bits, "median": r.median, "tokens/s": r.speeds} for r in results]
    setting = {
        name: getattr(args, name) for name in ("depth", "max_seq_len", "num_tokens", "total_batch_size", "seeds")
    }
    atomic.write_text(output_dir / "ablation.json", json.dumps({**setting, "results": rows}, indent=1) + "\n")
    by_name = {result.name: result.median for result in results}
    pairs = [(name, VARIANTS[name].generation) for name in by_name if name not in ("2025", "2026")]
    worth = [(name, by_name[name] - by_name[str(year)]) for name, year in pairs if str(year) in by_name]
    if worth:
        names, values = zip(*worth, strict=True)
        title = "Bits per byte against its generation"
        figure = draw_bars(names, {"difference": values}, title, [HELD_OUT[0]], write="{:+.3f}".format)
        (output_dir / "ablation.png").write_bytes(as_png(figure))


if __name__ == "__main__":
    exit_on_input_error("benchmarks.ablation", lambda: main(ARGS))
