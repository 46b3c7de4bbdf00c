"""Bytes per token by domain, against GPT-2 and GPT-4-class tokenizers: `python -m tokenizer.evaluate --tokenizer DIR`.

More bytes per token means shorter sequences: more text in the same context, and less compute for the same text.
"""

import json
import os
import threading
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from huggingface_hub import constants
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from evals.report.page import Page
from evals.tokenizer.arguments import EvaluateArguments
from evals.tokenizer.report import OURS, tokenizer_blocks
from evals.tokenizer.samples import DOMAINS, OTHER_LANGUAGES
from recipes.utils import atomic
from recipes.utils.errors import InputError, writing
from recipes.utils.hub import check_hub_reachable
from recipes.utils.loading import load_tokenizer
from recipes.utils.outputs import ensure_writable
from recipes.utils.provenance import command_line
from recipes.utils.run_directory import TOKENIZER_EVALUATION
from tokenizer.encode import token_byte_lengths, token_bytes

CountTokens = Callable[[str], int]
LOADING_SECONDS = 10
DATASET_DOCUMENTS = 200
LONGEST_LISTED = 12


def bytes_per_token(count_tokens: CountTokens, domains: dict[str, str]) -> dict[str, float]:
    """UTF-8 bytes per token of each domain's text, special tokens not counted."""
    return {name: len(text.encode("utf-8")) / count_tokens(text) for name, text in domains.items()}


def from_transformers(name_or_path: str, local_files_only: bool = True) -> CountTokens:
    """A token counter for the tokenizer of a directory or a Hub id."""
    return counting(AutoTokenizer.from_pretrained(name_or_path, local_files_only=local_files_only))


def counting(tokenizer: PreTrainedTokenizerFast) -> CountTokens:
    """A token counter that adds no special tokens."""
    return lambda text: len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def from_hub(name: str) -> CountTokens:
    """A tokenizer of the Hub or its cache. Raises `OSError` at once if it is not cached and the Hub is unreachable."""
    try:
        return from_transformers(name)
    except OSError:
        if constants.HF_HUB_OFFLINE:
            raise OSError("not in the cache, and HF_HUB_OFFLINE is set") from None
    check_hub_reachable(f"{name} is not in the cache.")
    return from_transformers(name, local_files_only=False)


def from_tiktoken(name: str) -> CountTokens:
    """OpenAI's encoding `name`, downloaded by tiktoken or found in its TIKTOKEN_CACHE_DIR."""
    if constants.HF_HUB_OFFLINE and "TIKTOKEN_CACHE_DIR" not in os.environ:
        raise OSError("HF_HUB_OFFLINE is set and TIKTOKEN_CACHE_DIR is not")
    import tiktoken  # optional: without it only this comparison is skipped

    encoding = tiktoken.get_encoding(name)
    return lambda text: len(encoding.encode_ordinary(text))


REFERENCES: dict[str, Callable[[], CountTokens]] = {
    "GPT-2": lambda: from_hub("openai-community/gpt2"),
    "GPT-4": lambda: from_tiktoken("cl100k_base"),
    "GPT-4o": lambda: from_tiktoken("o200k_base"),
}


def load_all(
    references: dict[str, Callable[[], CountTokens]], seconds: float = LOADING_SECONDS
) -> tuple[dict[str, CountTokens], dict[str, str]]:
    """The references that loaded within `seconds`, and the reason for each that did not."""
    loaded, skipped = {}, {}

    def load(name: str) -> None:
        try:
            loaded[name] = references[name]()
        except Exception as error:  # libraries raise all kinds of errors without a network
            skipped[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"

    # Daemons, because a download without a timeout of its own can be left behind but not stopped.
    threads = {name: threading.Thread(target=load, args=(name,), daemon=True) for name in references}
    for thread in threads.values():
        thread.start()
    for name, thread in threads.items():
        thread.join(seconds)
        if thread.is_alive():
            skipped[name] = f"not loaded within {seconds:g} s"
    in_order = {name: skipped[name] for name in references if name in skipped}
    return {name: loaded[name] for name in references if name in loaded and name not in skipped}, in_order


def table(ours: dict[str, float], others: dict[str, dict[str, float]]) -> str:
    """One line per domain: our bytes per token, then each reference's with the ratio ours / theirs."""
    lines = ["bytes per token".ljust(22) + "ours".rjust(8) + "".join(name.rjust(18) for name in others)]
    for domain, value in ours.items():
        columns = (f"{other[domain]:.2f} ({value / other[domain]:.2f}x)".rjust(18) for other in others.values())
        lines.append(domain.ljust(22) + f"{value:.2f}".rjust(8) + "".join(columns))
    return "\n".join(lines)


def dataset_sample(dataset: str, text_column: str) -> str:
    """The first documents of a corpus's validation split."""
    from recipes.data.corpora import open_corpus

    texts = [row["text"] for row in islice(open_corpus(dataset, text_column).validation, DATASET_DOCUMENTS)]
    if not texts:
        raise InputError(f"dataset {dataset} has no validation documents: leave --dataset out or name a larger one.")
    return "\n".join(texts)


def describe_vocabulary(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Size, special tokens, how many tokens have how many bytes (special ones not counted), and the longest ones."""
    lengths = token_byte_lengths(tokenizer).tolist()
    longest = sorted((index for index in range(len(lengths)) if lengths[index]), key=lambda index: -lengths[index])
    return {
        "vocab_size": len(tokenizer),
        "special_tokens": [token.content for token in tokenizer.added_tokens_decoder.values() if token.special],
        "token_lengths": {str(size): count for size, count in sorted(Counter(lengths).items()) if size},
        "longest_tokens": [
            {"token": token_bytes(tokenizer, [index]).decode("utf-8", errors="replace"), "bytes": lengths[index]}
            for index in longest[:LONGEST_LISTED]
        ],
    }


def write_figures(output_dir: Path, evaluation: dict[str, Any]) -> None:
    """Write tokenizer_evaluation.json, and the report as tokenizer_report.md and .html."""
    path = output_dir / TOKENIZER_EVALUATION
    page = Page("Tokenizer", tokenizer_blocks(evaluation))
    with writing(path):
        atomic.write_text(path, json.dumps(evaluation, indent=2, ensure_ascii=False) + "\n")
    report, _ = page.write(output_dir, "tokenizer_report")
    print(f"written to {path} and {report} (.html)")


def main(args: EvaluateArguments) -> None:
    tokenizer = load_tokenizer(args.tokenizer)
    if args.output_dir is not None:
        ensure_writable(args.output_dir)
    domains = DOMAINS | {f"  {language}": text for language, text in OTHER_LANGUAGES.items()}
    if args.dataset is not None:
        domains[args.dataset] = dataset_sample(args.dataset, args.text_column)

    loaded, skipped = load_all(REFERENCES)
    ours = bytes_per_token(counting(tokenizer), domains)
    others = {name: bytes_per_token(count_tokens, domains) for name, count_tokens in loaded.items()}

    print(table(ours, others))
    if others:
        print("In brackets: ours / theirs; above 1 means that ours needs fewer tokens.")
    for name, reason in skipped.items():
        print(f"skipped {name}: {reason}")
    if args.output_dir is not None:
        figures = {
            name: {key.strip(): value for key, value in each.items()} for name, each in ({OURS: ours} | others).items()
        }
        vocabulary = describe_vocabulary(tokenizer)
        write_figures(
            Path(args.output_dir),
            {"command": command_line(), "bytes_per_token": figures, "skipped": skipped} | vocabulary,
        )
