"""Flags of `python -m benchmarks.scaling`."""

import math
import re
from dataclasses import dataclass

from recipes.utils.arguments import Arguments, flag
from recipes.utils.errors import InputError
from tokenizer.special_tokens import SMALLEST_VOCABULARY

DEPTHS, BUDGETS = "1,2,3,4", "3e12,1e13,3e13"
FEWEST_DEPTHS = 3  # that determine a parabola
LARGEST_DEPTH = 1000


@dataclass
class ScalingArguments(Arguments):
    """A grid of depths and budgets, or a miniseries."""

    depths: str = flag(DEPTHS, "models of the grid, comma-separated: three or more")
    budgets: str = flag(BUDGETS, "FLOPs of a run, comma-separated: each depth is trained with each")
    miniseries: str | None = flag(
        None, "in place of a grid, whole models: their depths as d12..d26 (every other one) or as 12,16,20"
    )
    recipe_config: str | None = flag(None, "flags of recipes/pretrain.py for every run, as a YAML file", path=True)
    dataset: str | None = flag(
        None, "as of recipes/pretrain.py (default: that of recipe_config, or primer)", path=True
    )
    tokenizer: str | None = flag(
        None, "directory or Hub id (default: of recipe_config, or one trained here)", path=True
    )
    vocab_size: int = flag(2048, "of the tokenizer that is trained here", least=SMALLEST_VOCABULARY, most=2**24)
    max_seq_len: int | None = flag(None, "tokens a row (default: that of recipe_config, or 256)", least=1, most=2**24)
    generation: str | None = flag(None, "of the models, as of recipes/pretrain.py, which has the default")
    core_bundle: str | None = flag(None, "measure CORE of every model on the tasks in this directory", path=True)
    dollars_an_hour: float | None = flag(None, "price of this machine, all GPUs together", least=0)
    output_dir: str = flag("runs/scaling", "the runs, scaling.json and scaling.png", path=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.miniseries is not None:
            parse_series(self.miniseries)
            if (self.depths, self.budgets) != (DEPTHS, BUDGETS):
                raise InputError("give miniseries, or depths and budgets of a grid, not both.")
        else:
            if len(parse_depths(self.depths)) < FEWEST_DEPTHS:
                raise InputError(f"depths {self.depths}: a parabola needs {FEWEST_DEPTHS} different depths or more.")
            parse_budgets(self.budgets)


def parse_depths(text: str, name: str = "depths") -> list[int]:
    """The depths in a list such as 1,2,4, sorted. Raises `InputError` for anything else."""
    return sorted({_depth(word, name) for word in text.split(",")})


def parse_budgets(text: str) -> list[float]:
    """The budgets in a list such as 1e13,3e13, sorted. Raises `InputError` for anything else."""
    budgets = set()
    for word in text.split(","):
        try:
            budget = float(word)
        except ValueError:
            budget = math.nan
        if not 0 < budget < math.inf:
            raise InputError(f"budgets: {word.strip()!r} is not a number of FLOPs; give some such as {BUDGETS}.")
        budgets.add(budget)
    return sorted(budgets)


def parse_series(text: str) -> list[int]:
    """The depths of a miniseries: d12..d26 is every other one from 12 to 26."""
    if match := re.fullmatch(r"d?(\d+)\.\.d?(\d+)", text.strip()):
        first, last = (_depth(word, "miniseries") for word in match.groups())
        if first > last:
            raise InputError(f"miniseries {text!r} has no depths: the first must not be beyond the last.")
        return list(range(first, last + 1, 2))
    if not re.fullmatch(r"\s*d?\d+\s*(,\s*d?\d+\s*)*", text):
        raise InputError(f"miniseries {text!r} names no depths; give d12..d26 (every other one) or 12,16,20.")
    return parse_depths(text.replace("d", ""), "miniseries")


def _depth(word: str, name: str) -> int:
    if not re.fullmatch(r"\s*[0-9]{1,9}\s*", word) or not 1 <= int(word) <= LARGEST_DEPTH:
        raise InputError(f"{name}: {word.strip()!r} is not a depth from 1 to {LARGEST_DEPTH:,}.")
    return int(word)
