"""The runs of a scaling law: each is recipes/pretrain.py in a process of its own. Finished ones are not run again."""

import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.scaling.arguments import ScalingArguments, parse_budgets, parse_depths, parse_series
from recipes.data.corpora import open_corpus
from recipes.training.arguments import PretrainArguments
from recipes.training.dry_run import facts_of
from recipes.training.output_dir import read_arguments
from recipes.training.plan import Plan, plan_training
from recipes.training.rules import RULES, with_rules
from recipes.utils import loading
from recipes.utils.arguments import parse_arguments, resumable_flags
from recipes.utils.child_process import launcher, wait_for
from recipes.utils.errors import InputError
from recipes.utils.provenance import ROOT
from recipes.utils.run_directory import METRICS, TOKENIZER, is_finished, read_metrics
from tokenizer.bpe import save_tokenizer, train_tokenizer

SEQUENCE_LENGTH = 256  # of a grid without a recipe_config
TOKENIZER_CHARS = 50_000_000  # that the tokenizer is trained on at most
PACKING = "best_fit_split"  # of a grid: no run drops anything of its documents
WHOLE_SPLIT = 2**40  # tokens: more than any validation split has


@dataclass(frozen=True)
class Run:
    """A run of recipes/pretrain.py that is to be made, or has been."""

    directory: Path
    words: tuple[str, ...]  # its command line
    args: PretrainArguments
    plan: Plan
    budget: float | None  # FLOPs; None in a miniseries


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


def provide_tokenizer(recipe: PretrainArguments, vocab_size: int, directory: Path) -> Path:
    """The tokenizer in `directory`, which is trained on the dataset unless it is there already."""
    if not (directory / TOKENIZER).is_file():
        corpus = open_corpus(recipe.dataset, recipe.text_column, recipe.skip_damaged, recipe.document_separator)
        documents = (row["text"] for row in corpus.train)
        save_tokenizer(train_tokenizer(documents, vocab_size, TOKENIZER_CHARS), directory)
    elif (found := len(loading.load_tokenizer(str(directory)))) != vocab_size:
        raise InputError(
            f"vocab_size {vocab_size:,}: {directory} has {found:,} tokens already; choose another output_dir, or "
            f"--vocab_size {found}."
        )
    return directory


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


def is_done(run: Run) -> bool:
    """Whether a run is finished. Raises `InputError` if the finished one was another."""
    if not is_finished(run.directory):
        return False
    theirs, planned = read_arguments(run.directory), run.plan
    given = with_rules(run.args, RULES[planned.facts.generation])  # as recipes/pretrain.py records them
    mine = asdict(given) | {"total_batch_size": planned.total_batch_size, "num_iterations": planned.num_steps}
    names = theirs.keys() & mine.keys() - resumable_flags(PretrainArguments)
    changed = [
        f"{name} {theirs[name]!r} there, {mine[name]!r} now" for name in sorted(names) if theirs[name] != mine[name]
    ]
    if changed:
        raise InputError(f"{run.directory} is another run ({'; '.join(changed)}): choose another output_dir.")
    return True


def train(run: Run) -> None:
    """Make a run, or go on with it. Ends the program if it is stopped by a signal, with a checkpoint."""
    log = log_of(run)
    with log.open("a") as output:
        command = [*launcher(num_processes()), str(ROOT / "recipes" / "pretrain.py"), *run.words]
        code = wait_for(subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT))
    if code != 0:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it said nothing"]
        raise InputError(f"{run.directory} failed, see {log}: {lines[-1]}")
    if not is_finished(run.directory):
        print("stopped; run the same command again to continue", flush=True)
        sys.exit(0)


def log_of(run: Run) -> Path:
    """What a run prints: to follow it as it goes, `tail -f`."""
    return run.directory.with_name(f"{run.directory.name}.log")


def num_processes() -> int:
    """One for each GPU of this machine; one on a CPU."""
    return max(1, torch.cuda.device_count())


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
