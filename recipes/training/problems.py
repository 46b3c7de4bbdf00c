"""The problems that GRPO trains on: the primer's or GSM8K's, each with an answer that can be checked."""

from itertools import accumulate, pairwise

import datasets
from transformers import PreTrainedTokenizerFast

from recipes.data.messages import user
from recipes.data.primer.problems import problems as primer_problems
from recipes.data.sources.gsm8k import gsm8k_problems
from recipes.utils.errors import InputError

PRIMER_PROBLEMS = {1: 0.2, 2: 0.4, 3: 0.4}  # share of each number of steps; few easy ones, so as not to forget them


def open_problems(spec: str, split: str, count: int, seed: int = 0) -> datasets.Dataset:
    """Columns `prompt` (messages) and `answer` (a number) of the primer's problems or GSM8K's; at most `count` rows.

    Raises `InputError` for an unknown name, missing files and an unreachable Hub.
    """
    name, _, path = spec.partition(":")
    if name == "primer" and not path:
        ends = [round(share * count) for share in accumulate(PRIMER_PROBLEMS.values(), initial=0.0)]
        drawn = [
            problem
            for steps, (start, end) in zip(PRIMER_PROBLEMS, pairwise(ends), strict=True)
            for problem in primer_problems(split, steps, end - start, seed)
        ]
        rows = {"question": [problem.question for problem in drawn], "answer": [problem.answer for problem in drawn]}
        problems = datasets.Dataset.from_dict(rows)
    elif name == "gsm8k":
        problems = gsm8k_problems(path or None, split)
    else:
        raise InputError(f"no problems called {spec!r}: choose primer, gsm8k, or gsm8k:PATH for local files.")
    problems = problems.shuffle(seed=seed).select(range(min(count, len(problems))))
    return problems.map(lambda row: {"prompt": [user(row["question"])]}, remove_columns="question")


def check_room(problems: datasets.Dataset, tokenizer: PreTrainedTokenizerFast, context: int, reply: int) -> None:
    """Raise `InputError` if a question and a `reply` are more tokens than the model's `context`."""
    prompts = tokenizer.apply_chat_template(problems["prompt"][:], add_generation_prompt=True, return_dict=False)
    longest = max(map(len, prompts))
    if longest + reply > context:
        raise InputError(
            f"the longest question has {longest:,} tokens, which with max_completion_length {reply:,} are more than "
            f"the model's context of {context:,}: lower max_completion_length to {max(1, context - longest):,}."
        )
