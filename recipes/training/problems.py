"""The problems that GRPO trains on: the primer's or GSM8K's, each with an answer that can be checked."""

from collections.abc import Callable
from itertools import accumulate, pairwise
from random import Random

import datasets
from transformers import PreTrainedTokenizerFast

from recipes.data.messages import user
from recipes.data.primer.composed_stories import draw_composed
from recipes.data.primer.problems import Problem, draw_different
from recipes.data.primer.problems import problems as primer_problems
from recipes.data.primer.recombined_stories import draw_recombined
from recipes.data.primer.retold_stories import draw_retold
from recipes.data.primer.reworded_stories import draw_reworded
from recipes.data.sources.gsm8k import gsm8k_problems
from recipes.utils.errors import InputError

# Share of each number of steps. A reward teaches from problems that are solved sometimes. Stories put together anew in
# the words of conversations are such, and so they are most; those in other words, or told of other things, are mostly
# out of reach for a small model. Few are as conversations tell them, so as not to forget them, and those of one step
# keep the model from always taking another.
HELD_OUT = {1: 0.2, 2: 0.4, 3: 0.4}
STORIES = {1: 0.1, 2: 0.05, 3: 0.05}
REWORDED = {1: 0.1, 2: 0.1, 3: 0.1}
RECOMBINED = {2: 0.2, 3: 0.2}
RETOLD = {2: 0.05}
COMPOSED = {2: 0.05}


def open_problems(spec: str, split: str, count: int, seed: int = 0) -> datasets.Dataset:
    """Columns `prompt` (messages), `answer` (a number) and `kind`; at most `count` rows.

    Problems of one kind differ only in numbers and names (the primer's), or are one problem (GSM8K's).
    Raises `InputError` for an unknown name, missing files and an unreachable Hub.
    """
    name, _, path = spec.partition(":")
    if name == "primer" and not path:
        drawn = draw_primer_problems(split, count, seed)
        columns = {name: [getattr(problem, name) for problem in drawn] for name in ("question", "answer", "kind")}
        problems = datasets.Dataset.from_dict(columns)
    elif name == "gsm8k":
        problems = gsm8k_problems(path or None, split)
        problems = problems.add_column("kind", [str(row) for row in range(len(problems))])
    else:
        raise InputError(f"no problems called {spec!r}: choose primer, gsm8k, or gsm8k:PATH for local files.")
    problems = problems.shuffle(seed=seed).select(range(min(count, len(problems))))
    return problems.map(lambda row: {"prompt": [user(row["question"])]}, remove_columns="question")


def draw_primer_problems(split: str, count: int, seed: int) -> list[Problem]:
    """`count` different problems of a split of the primer, the shares of their kinds as above."""

    def stories(steps: int, number: int) -> list[Problem]:
        return primer_problems(split, steps, number, seed)

    def many(draw_one: Callable[[Random, int], Problem]) -> Callable[[int, int], list[Problem]]:
        def draw(steps: int, number: int) -> list[Problem]:
            rng = Random(f"{seed} {draw_one.__name__} {steps}")
            return draw_different(lambda: draw_one(rng, steps), number)

        return draw

    sources = {
        "train": (
            (stories, STORIES),
            (many(draw_reworded), REWORDED),
            (many(draw_recombined), RECOMBINED),
            (many(draw_retold), RETOLD),
            (many(draw_composed), COMPOSED),
        ),
        "validation": ((stories, HELD_OUT),),
    }
    parts = [(draw, steps, share) for draw, shares in sources[split] for steps, share in shares.items()]
    ends = [round(share * count) for share in accumulate((share for *_, share in parts), initial=0.0)]
    return [
        problem
        for (draw, steps, _), (start, end) in zip(parts, pairwise(ends), strict=True)
        for problem in draw(steps, end - start)
    ]


def check_room(problems: datasets.Dataset, tokenizer: PreTrainedTokenizerFast, context: int, reply: int) -> None:
    """Raise `InputError` if a question and a `reply` are more tokens than the model's `context`."""
    prompts = tokenizer.apply_chat_template(problems["prompt"][:], add_generation_prompt=True, return_dict=False)
    longest = max(map(len, prompts))
    if longest + reply > context:
        raise InputError(
            f"the longest question has {longest:,} tokens, which with max_completion_length {reply:,} are more than "
            f"the model's context of {context:,}: lower max_completion_length to {max(1, context - longest):,}."
        )
