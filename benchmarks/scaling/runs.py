"""The runs of a scaling law, planned, and what they gave."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.pretraining_runs import WHOLE_SPLIT, Run, log_of, num_processes, provide_tokenizer
from benchmarks.scaling.arguments import ScalingArguments, parse_budgets, parse_depths, parse_series
from evals.core.bundle import available, read_tasks
from recipes.training.arguments import PretrainArguments
from recipes.training.dry_run import facts_of
from recipes.training.plan import plan_training
from recipes.utils.arguments import parse_arguments
from recipes.utils.errors import InputError
from recipes.utils.run_directory import METRICS, read_metrics

SEQUENCE_LENGTH = 256  # of a grid without a recipe_config
PACKING = "best_fit_split"  # of a grid: no run drops anything of its documents


@dataclass(frozen=True)
class Result:
    """What a finished run gave.

    Attributes:
        bpb: bits per byte of the whole validation split.
        core: of the tasks in the bundle; `core_tasks` of them, or None where these are all of CORE.
        seconds: of training, evaluations not included.
    """

    run: str
    depth: int
    budget: float | None
    parameters: int
    matrices_and_head: int
    tokens: int
    flops: float
    bpb: float
    core: float | None
    core_tasks: int | None
    seconds: float

    @property
    def hours(self) -> float:
        return self.seconds / 3600


def plan_runs(args: ScalingArguments) -> list[Run]:
    """All runs, planned; the tokenizer is trained if there is none. Raises `InputError` for what cannot be run."""
    output_dir, common = Path(args.output_dir), common_words(args)
    if args.core_bundle is not None:  # now: the first run would be trained before it is opened
        available(read_tasks(Path(args.core_bundle)), Path(args.core_bundle))
    recipe = parse_arguments(PretrainArguments, argv=common)
    if recipe.model_config or recipe.model_name_or_path:
        raise InputError(f"{args.recipe_config} names a model, but here depths give the models: remove that line.")
    if recipe.tokenizer is None:
        common.append(f"--tokenizer={provide_tokenizer(recipe, args.vocab_size, output_dir / 'tokenizer')}")
    if args.miniseries is not None:
        return [plan_run(output_dir / f"d{d}", [*common, f"--depth={d}"]) for d in parse_series(args.miniseries)]
    common.append("--num_iterations=none")  # the budget decides, also where recipe_config says otherwise
    if recipe.packing == "auto":  # which would choose by the length of a run, and these are to be compared
        common.append(f"--packing={PACKING}")
    return plan_grid(args, common)


def common_words(args: ScalingArguments) -> list[str]:
    """The flags that all runs share, except for the tokenizer's."""
    length = args.max_seq_len or (None if args.recipe_config else SEQUENCE_LENGTH)
    flags = {
        "dataset": args.dataset,
        "tokenizer": args.tokenizer,
        "max_seq_len": length,
        "generation": args.generation,
        "core_bundle": args.core_bundle,
        "core_metric_every": None if args.core_bundle is None else 0,
        "eval_every": 0,
        "eval_tokens": WHOLE_SPLIT,
        "sample_every": -1,
        "keep_checkpoints": 1,
    }
    config = [] if args.recipe_config is None else ["--config", args.recipe_config]
    return [*config, *(f"--{name}={value}" for name, value in flags.items() if value is not None)]


def plan_grid(args: ScalingArguments, common: list[str]) -> list[Run]:
    """Every depth with every budget, the smallest budgets first."""
    depths, output_dir = parse_depths(args.depths), Path(args.output_dir)
    return [
        plan_run(
            output_dir / f"{budget:g}_d{depth}", [*common, f"--depth={depth}", f"--target_flops={budget!r}"], budget
        )
        for budget in parse_budgets(args.budgets)
        for depth in depths
    ]


def plan_run(directory: Path, words: list[str], budget: float | None = None) -> Run:
    """One run into `directory`. Raises `InputError` if its budget does not pay for one step."""
    words = [*words, f"--output_dir={directory}"]
    args = parse_arguments(PretrainArguments, argv=words)
    plan = plan_training(args, facts_of(args), num_processes())
    step = plan.total_batch_size * plan.facts.flops_per_token
    if budget is not None and budget < step:
        raise InputError(
            f"budgets: {budget:g} FLOPs are too few for depth {args.depth}, of which one step of "
            f"{plan.total_batch_size:,} tokens takes {step:.1e}: leave out that depth, or give larger budgets."
        )
    return Run(directory, tuple(words), args, plan, budget)


def read_result(run: Run) -> Result:
    """The figures of a finished run. Raises `InputError` if it was not evaluated."""
    records = read_metrics(run.directory / METRICS)
    last = {name: value for record in records for name, value in record.items()}
    if last.get("val/bpb") is None:
        raise InputError(
            f"{run.directory} has no bits per byte, since its evaluation failed (see {log_of(run)}): remove the "
            "directory to train it again."
        )
    facts, plan = run.plan.facts, run.plan
    return Result(
        run=run.directory.name,
        depth=run.args.depth,
        budget=run.budget,
        parameters=facts.num_parameters,
        matrices_and_head=facts.matrices_and_head,
        tokens=plan.num_tokens,
        flops=plan.num_flops,
        bpb=last["val/bpb"],
        core=last.get("core_metric", last.get("core_partial")),
        core_tasks=last.get("core_tasks"),
        seconds=last["total_training_time"],
    )
