"""Compare causal LMs on a text: `python -m evals.bits_per_byte --model A --model B --dataset my_texts/`.

Every model reads the same documents through its own tokenizer: loss and perplexity, which are a token's, do not
compare, and bits a byte do. `accelerate launch -m evals.bits_per_byte ...` divides the windows among several
processes; the figures stay the same.
"""

import json
import math
import sys
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

from recipes.data.splits import DOCUMENT_SEPARATORS
from recipes.utils.arguments import REQUIRED, Arguments, flag, read_command_line
from recipes.utils.errors import InputError, exit_on_input_error, in_one_line

WINDOWS = ("sliding", "rows")
SPLITS = ("validation", "train", "all")
LONGEST_DEFAULT = 2048  # tokens of a window


@dataclass
class BitsPerByteArguments(Arguments):
    """Flags of `python -m evals.bits_per_byte`."""

    model: list[str] = flag(REQUIRED, "directory or Hub id of a causal LM; once for each model", path=True)
    dataset: str = flag(REQUIRED, "text: a file, a directory, a glob, a dataset on the Hub, or primer", path=True)
    text_column: str = flag("text", "column of the dataset that holds the text")
    document_separator: str = flag(
        "auto",
        "where documents of a .txt file end; auto: at blank lines that are not too close",
        choices=DOCUMENT_SEPARATORS,
    )
    skip_damaged: bool = flag(False, "skip damaged files and rows, with a warning")
    split: str = flag(
        "validation",
        "part of the dataset, split as in training; all: both, for a text that nobody was trained on",
        choices=SPLITS,
    )
    max_bytes: int = flag(1_000_000, "bytes of text, from its beginning", least=1)
    window: str = flag(
        "sliding",
        "sliding: every token has at least max_seq_len - stride tokens before it; rows: disjoint, as in training",
        choices=WINDOWS,
    )
    max_seq_len: int | None = flag(
        None, f"tokens of a window (default: the shortest context of the models, at most {LONGEST_DEFAULT:,})", least=1
    )
    stride: int | None = flag(None, "tokens from one sliding window to the next (default: half a window)", least=1)
    batch_tokens: int | None = flag(None, "tokens that go through a model at once (default: by device)", least=1)
    output: str | None = flag(None, "JSON file of the results (default: none)", path=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window == "rows" and self.stride is not None:
            raise InputError("stride is for --window sliding: rows do not overlap.")


if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("evals.bits_per_byte", BitsPerByteArguments)

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from evals.bits_per_byte.comparison import ModelFigures, difference
from evals.bits_per_byte.texts import START, Texts, read_texts, tokenize
from evals.bits_per_byte.windows import nats_of_tokens
from evals.out_of_memory import halve_batch_on_oom
from recipes.data.corpora import open_corpus
from recipes.inference.models import check_distinct, check_output, load_model
from recipes.utils import atomic
from recipes.utils.causality import check_causal
from recipes.utils.loading import check_decoder, load_config
from recipes.utils.model_facts import configured_context
from recipes.utils.plain_text import plain_text
from recipes.utils.processes import join_processes
from recipes.utils.provenance import command_line

BATCH_TOKENS = {"cpu": 2048, "cuda": 16_384}  # a token's logits take 4 bytes for each entry of the vocabulary
MOST_QUOTED = 40  # characters of a line that a tokenizer changes


def evaluate(args: BitsPerByteArguments) -> list[str]:
    """Measure each model, print the table, and write the results. Returns the models that failed."""
    check_distinct(args.model)
    output = None if args.output is None else check_output(args.output)
    contexts = {model: read_context(model) for model in args.model}
    length, stride = choose_windows(args, contexts)
    corpus = open_corpus(args.dataset, args.text_column, args.skip_damaged, args.document_separator)
    parts = {"train": corpus.train, "validation": corpus.validation, "all": chain(corpus.train, corpus.validation)}
    texts = read_texts(parts[args.split], args.dataset, args.max_bytes)
    state = join_processes()
    state.print("\n".join(describe(args, texts, length, stride)), flush=True)
    figures: list[ModelFigures] = []
    failed: dict[str, str] = {}
    for model in args.model:
        try:
            figures.append(measure(model, texts, length, stride, args.batch_tokens, state))
        except Exception as error:  # on every process: what is known of the others is not lost
            failed[model] = in_one_line(error, 300)
            state.print(plain_text(f"{model} failed: {failed[model]}"), flush=True)
        if output is not None and state.is_main_process:
            write_results(output, args, texts, length, stride, rank(figures), failed)
    if figures:
        state.print(plain_text("\n".join(table(rank(figures), texts))))
    if output is not None:
        state.print(f"written to {output}")
    if failed and figures:
        state.print(f"not measured, for the reasons above: {', '.join(failed)}", flush=True)
    state.wait_for_everyone()  # the launcher stops the others once one has ended badly
    state.destroy_process_group()
    if not figures:
        raise InputError("no model could be measured, for the reasons above.")
    return list(failed)


def read_context(model: str) -> int | None:
    """The context of a model in tokens; None without a limit. Raises `InputError` if it cannot be a causal LM."""
    config = load_config(model)
    check_decoder(config, model)
    return configured_context(config)


def choose_windows(args: BitsPerByteArguments, contexts: dict[str, int | None]) -> tuple[int, int]:
    """Tokens of a window, and from one window to the next: the same for all models."""
    limits = {model: context for model, context in contexts.items() if context is not None}
    shortest = min(limits, key=limits.__getitem__, default=None)
    length = args.max_seq_len or min(limits.get(shortest, LONGEST_DEFAULT), LONGEST_DEFAULT)
    if shortest is not None and length > limits[shortest]:
        raise InputError(
            f"max_seq_len {length:,} is beyond the context of {shortest}, {limits[shortest]:,} tokens: leave it out "
            "for the shortest context of the models, or leave that model out."
        )
    stride = length if args.window == "rows" else args.stride or max(1, length // 2)
    if stride > length:
        raise InputError(f"stride {stride:,} would skip tokens: give at most the {length:,} of a window.")
    return length, stride


def measure(
    model: str, texts: Texts, length: int, stride: int, batch_tokens: int | None, state: PartialState
) -> ModelFigures:
    """One model's figures, the same on every process. If a process fails, every process raises."""
    nats, failure = None, None
    try:
        lm, tokenizer = load_model(model, state.device)
        check_causal(lm, model)
        tokens = tokenize(texts, tokenizer)
        if tokens.num_tokens == 0:
            raise InputError("its tokenizer makes no token of this text.")
        nats = halve_batch_on_oom(
            lambda most: nats_of_tokens(
                lm, tokens.ids, length, stride, most, state.process_index, state.num_processes
            ),
            batch_tokens or BATCH_TOKENS.get(state.device.type, 4096),
        )
    except Exception as error:
        failure = error
    gathered = gather_object([(nats, failure and in_one_line(failure, 300))])  # the other processes wait here
    if failure is not None:
        raise failure
    if elsewhere := next((reason for _, reason in gathered if reason), None):
        raise RuntimeError(f"on another process: {elsewhere}")
    nats = torch.stack([each for each, _ in gathered]).sum(dim=0)  # (N,): each token is one process's
    of_text = tokens.passages != START
    if wrong := int((~nats[of_text].isfinite()).sum()):
        raise InputError(
            f"its loss is not a number on {wrong:,} of {tokens.num_tokens:,} tokens: are there NaNs in its weights?"
        )
    return ModelFigures(
        model=model,
        nats=np.bincount(tokens.passages[of_text], weights=nats[of_text], minlength=len(texts.passages)),
        num_bytes=texts.passage_bytes,
        num_tokens=tokens.num_tokens,
        reproduced_bytes=tokens.reproduced_bytes,
        changed=tokens.changed,
        start_token=tokenizer.convert_ids_to_tokens(int(tokens.ids[0])),
        context=configured_context(lm.config),
    )


def rank(figures: list[ModelFigures]) -> list[ModelFigures]:
    """The best first."""
    return sorted(figures, key=lambda each: each.bits_per_byte)


# What is printed


def describe(args: BitsPerByteArguments, texts: Texts, length: int, stride: int) -> list[str]:
    """What the models are measured on, and how."""
    count = len(texts.documents)
    windows = f"rows of {length:,} tokens"
    if args.window == "sliding":
        windows = f"windows of {length:,} tokens, every {stride:,} tokens"
    return [
        f"text      {args.dataset}, {args.split}: {count:,} document{'s' if count > 1 else ''}, "
        f"{texts.num_bytes:,} bytes",
        f"windows   {windows}",
    ]


def table(figures: list[ModelFigures], texts: Texts) -> list[str]:
    """A line for each model, and what to know about it."""
    width = max(len("model"), *(len(each.model) for each in figures))
    head = (
        f"{'bits/byte':>10}{'more than best':>20}{'nats/token':>12}{'perplexity':>12}{'bytes/token':>13}{'tokens':>12}"
    )
    lines = [f"{'model':<{width}}{head}"]
    for each in figures:
        more, error = difference(each, figures[0])
        beside = "" if each is figures[0] else f"{more:.4f}" + (f" ± {error:.4f}" if error is not None else "")
        lines.append(
            f"{each.model:<{width}}{each.bits_per_byte:>10.4f}{beside:>20}{each.loss:>12.4f}{in_column(each.perplexity):>12}"
            f"{each.bytes_per_token:>13.2f}{each.num_tokens:>12,}"
        )
    if len(figures) > 1 and len(texts.passages) > 1:
        lines.append(f"± is the standard error of the difference, over {len(texts.passages):,} {texts.unit}.")
    return lines + [warning(each) for each in figures if each.changed is not None]


def in_column(perplexity: float) -> str:
    """Without digits that fit into no column: a model that has learnt nothing may have millions."""
    return f"{perplexity:.2f}" if perplexity < 1e6 else f"{perplexity:.2e}"


def warning(figures: ModelFigures) -> str:
    """What a tokenizer does not reproduce, and what that does to the figure."""
    share = 1 - figures.reproduced_bytes / figures.num_bytes.sum()
    before, after = (repr(text[:MOST_QUOTED]) for text in figures.changed)
    return (
        f"{figures.model}: its tokenizer changes lines with {share:.1%} of the bytes, such as {before} to {after}. "
        "What it drops costs it nothing, so its bits per byte are too few there."
    )


# The file


def write_results(
    path: Path,
    args: BitsPerByteArguments,
    texts: Texts,
    length: int,
    stride: int,
    figures: list[ModelFigures],
    failed: dict[str, str],
) -> None:
    """Write the JSON file; it is never seen half-written."""
    content = {
        "command": command_line(),
        "arguments": asdict(args),
        "documents": len(texts.documents),
        "bytes": texts.num_bytes,
        "sha256": sha256("\0".join(texts.documents).encode("utf-8")).hexdigest(),  # of the text, to compare two files
        "passages": len(texts.passages),
        "max_seq_len": length,
        "stride": stride,
        "models": [as_json(each, figures[0]) for each in figures],
        "failed": failed,
    }
    atomic.write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def as_json(figures: ModelFigures, best: ModelFigures) -> dict[str, Any]:
    more, error = difference(figures, best)
    return {
        "model": figures.model,
        "bits_per_byte": figures.bits_per_byte,
        "more_than_best": more,
        "standard_error": error if figures is not best else None,
        "loss": figures.loss,
        "perplexity": figures.perplexity if math.isfinite(figures.perplexity) else None,  # JSON has no infinity
        "bytes_per_token": figures.bytes_per_token,
        "tokens": figures.num_tokens,
        "bytes": int(figures.num_bytes.sum()),
        "reproduced_bytes": figures.reproduced_bytes,
        "start_token": figures.start_token,
        "context": figures.context,
    }


def main(args: BitsPerByteArguments) -> None:
    if evaluate(args):
        sys.exit(1)


if __name__ == "__main__":
    exit_on_input_error("evals.bits_per_byte", lambda: main(ARGS))
