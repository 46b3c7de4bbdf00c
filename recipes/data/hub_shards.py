"""How many shards of a dataset on the Hub a run needs: an estimate, from what is known of a few datasets."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Shards:
    """The shards of a dataset that are trained on; one more is held out."""

    count: int
    characters: float  # of one


KNOWN = {  # as nanochat's speedruns of 2025 and 2026 say
    "karpathy/climbmix-400b-shuffle": Shards(6_542, 250e6),
    "karpathy/fineweb-edu-100b-shuffle": Shards(1_822, 250e6),
}
CHARACTERS_PER_TOKEN = 4.8  # of English web pages, with a vocabulary of 32,768
KEPT_BY_BEST_FIT = 0.65  # of their tokens, in rows of 2,048: nanochat counts 35% that are cropped


def shards_line(dataset: str, num_tokens: int, packing: str) -> str | None:
    """One line for people: the shards that a run of `num_tokens` reads, and how to get them. None if unknown."""
    if (shards := KNOWN.get(dataset)) is None:
        return None
    tokens, kept = shards.characters / CHARACTERS_PER_TOKEN, ""
    if packing in ("auto", "best_fit"):
        kept = f", of which best fit keeps {KEPT_BY_BEST_FIT:.0%}"
    needed = math.ceil(num_tokens / (tokens * (KEPT_BY_BEST_FIT if kept else 1)))
    count = min(needed, shards.count)
    size = f"about {count:,} shards" if needed <= shards.count else f"all {count:,} shards, more than once,"
    command = f"python -m recipes.data.fetch --dataset {dataset} --shards {count}"
    return f"{size} of {dataset} (estimated {tokens / 1e6:.0f}M tokens each{kept}): {command}"
