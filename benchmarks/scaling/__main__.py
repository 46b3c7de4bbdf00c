"""Scaling laws: `python -m benchmarks.scaling --depths 1,2,3,4 --budgets 3e12,1e13,3e13`.

Trains every depth with every budget of FLOPs and finds the best size for each budget, with a power law through them:
how a larger budget is best divided between parameters and tokens. With `--miniseries d12..d26` it trains whole models
by the recipe's own rules instead: what each depth reaches, and what it costs.

Each run is recipes/pretrain.py in its own process; finished ones are skipped. What a run prints is in its .log.
"""

from benchmarks.scaling.arguments import ScalingArguments
from recipes.utils.arguments import read_command_line
from recipes.utils.errors import exit_on_input_error

if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("benchmarks.scaling", ScalingArguments)

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.pretraining_runs import Run, is_done, train
from benchmarks.scaling.fit import IsoFlop, ScalingLaw, compare_ratios, fit_scaling_law
from benchmarks.scaling.plot import plot_grid, plot_series
from benchmarks.scaling.runs import Result, plan_runs, read_result
from benchmarks.scaling.tables import (
    GRID_HEAD,
    SERIES_HEAD,
    describe_law,
    describe_ratios,
    grid_row,
    series_row,
)
from recipes.plots.figures import as_png
from recipes.utils import atomic
from recipes.utils.outputs import hold
from recipes.utils.provenance import command_line

# Ways to count the parameters of a model, and the figure of a result that holds the count.
CONVENTIONS = {"all parameters": "parameters", "matrices + head": "matrices_and_head"}
JSON_FILE, PICTURE = "scaling.json", "scaling.png"


def main(args: ScalingArguments) -> None:
    output_dir = Path(args.output_dir)
    with hold(output_dir):
        runs = plan_runs(args)
        flops = sum(run.plan.num_flops for run in runs)
        print(f"{len(runs)} runs, {flops:.2e} FLOPs in all, into {output_dir}\n", flush=True)
        results = train_all(runs, args)
        laws = {} if args.miniseries is not None else fit_laws(results)
        for name, law in laws.items():
            print("\n" + "\n".join(describe_law(name, law)))
        if ratios := compare_ratios(laws):
            print("\n" + "\n".join(describe_ratios(ratios)))
        atomic.write_text(output_dir / JSON_FILE, json.dumps(content(results, laws, args), indent=2) + "\n")
        (output_dir / PICTURE).write_bytes(as_png(picture(results, laws, args)))
        print(f"\nwritten to {output_dir / JSON_FILE} and {output_dir / PICTURE}")


def train_all(runs: list[Run], args: ScalingArguments) -> list[Result]:
    """Make the runs that are not finished, and print a row for each."""
    finished = [is_done(run) for run in runs]  # whatever does not belong here is found before anything is trained
    print(GRID_HEAD if args.miniseries is None else SERIES_HEAD, flush=True)
    results = []
    for run, done in zip(runs, finished, strict=True):
        if not done:
            train(run)
        result = read_result(run)
        print(grid_row(result) if args.miniseries is None else series_row(result, args.dollars_an_hour), flush=True)
        results.append(result)
    return results


def fit_laws(results: list[Result]) -> dict[str, ScalingLaw]:
    """The scaling law of a grid by each way to count parameters."""
    budgets = sorted({result.budget for result in results})
    laws = {}
    for name, field in CONVENTIONS.items():
        curves = []
        for budget in budgets:
            of_budget = sorted(
                (result for result in results if result.budget == budget), key=lambda result: getattr(result, field)
            )
            columns = ([getattr(result, each) for result in of_budget] for each in (field, "tokens", "bpb"))
            curves.append(IsoFlop(budget, *(np.array(column, dtype=float) for column in columns)))
        laws[name] = fit_scaling_law(curves)
    return laws


def content(results: list[Result], laws: dict[str, ScalingLaw], args: ScalingArguments) -> dict[str, Any]:
    """What scaling.json holds. Errors are standard errors of logarithms."""
    runs = [asdict(result) for result in results]
    if args.dollars_an_hour is not None:
        for row, result in zip(runs, results, strict=True):
            row["dollars"] = result.hours * args.dollars_an_hour
    ratios = compare_ratios(laws)
    fits = {
        name: {
            "minima": [asdict(each) | {"ratio": each.ratio} for each in law.minima],
            "left_out": [{"budget": budget, "reason": reason} for budget, reason in law.left_out.items()],
            "parameters": law.parameters and asdict(law.parameters),
            "tokens": law.tokens and asdict(law.tokens),
            "ratio": asdict(ratios[name]) if name in ratios else None,
        }
        for name, law in laws.items()
    }
    return {"command": command_line(), "runs": runs, **({"laws": fits} if fits else {})}


def picture(results: list[Result], laws: dict[str, ScalingLaw], args: ScalingArguments) -> Figure:
    """The figure in scaling.png: of a grid by the cleanest way to count parameters."""
    if not laws:
        return plot_series(results, args.dollars_an_hour)
    return plot_grid(laws, next(iter([*compare_ratios(laws), *laws])))


if __name__ == "__main__":
    exit_on_input_error("benchmarks.scaling", lambda: main(ARGS))
