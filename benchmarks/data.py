"""Speed of tokenizing, packing, prepared corpora (one process) and making the primer: `python -m benchmarks.data`."""

import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from recipes.utils.arguments import Arguments, flag, read_command_line
from recipes.utils.errors import exit_on_input_error
from tokenizer.special_tokens import SMALLEST_VOCABULARY


@dataclass
class BenchmarkArguments(Arguments):
    """Flags of `python -m benchmarks.data`."""

    dataset: str = flag("primer", "as of recipes/pretrain.py", path=True)
    vocab_size: int = flag(4096, "of the tokenizer trained for the benchmark", least=SMALLEST_VOCABULARY, most=2**24)
    max_seq_len: int = flag(512, "tokens a row", least=1, most=2**24)
    documents: int = flag(4096, "documents to tokenize and pack", least=1)
    rounds: int = flag(5, "repetitions; the median counts", least=1)


if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("benchmarks.data", BenchmarkArguments)

import numpy as np

from recipes.data.corpora import open_corpus
from recipes.data.packing import build_rows_loader
from recipes.data.pools import BestFitPool
from recipes.data.shards import describe_request, write_corpus
from tokenizer.bpe import train_tokenizer
from tokenizer.encode import encode_documents


def main(args: BenchmarkArguments) -> None:
    print(f"primer        {median_seconds(make_primer, 3):.1f} s to generate, in a new process, imports included")
    corpus = open_corpus(args.dataset)
    texts = [row["text"] for row in islice(corpus.train, args.documents)]
    tokenizer = train_tokenizer((row["text"] for row in corpus.train), args.vocab_size, max_chars=50_000_000)
    documents = [np.array(ids) for ids in encode_documents(tokenizer, texts)]
    tokens = sum(map(len, documents))
    rows = pack(documents, args.max_seq_len + 1)
    kept = len(rows) * (args.max_seq_len + 1) / tokens
    print(f"{len(texts):,} documents, {tokens:,} tokens, of which best fit keeps {kept:.0%}")

    seconds = median_seconds(lambda: encode_documents(tokenizer, texts), args.rounds)
    print(f"tokenizing    {tokens / seconds:>12,.0f} tokens/s")
    seconds = median_seconds(lambda: pack(documents, args.max_seq_len + 1), args.rounds)
    print(f"packing       {tokens / seconds:>12,.0f} tokens/s")

    batches = max(1, len(rows) // 8 - 1)

    def load(documents) -> None:
        loader = build_rows_loader(documents, tokenizer, args.max_seq_len + 1, 8)
        for _ in islice(loader, batches):
            pass

    seconds = median_seconds(lambda: load(corpus.train), args.rounds)
    print(f"whole loader  {batches * 8 * args.max_seq_len / seconds:>12,.0f} tokens/s delivered, one process")
    with tempfile.TemporaryDirectory() as directory:
        prepared = Path(directory, "prepared")
        request = describe_request(corpus, tokenizer, args.dataset, 100_000_000, 2 * tokens, seed=0)
        write_corpus(corpus, tokenizer, request, prepared)
        prepared_documents = open_corpus(str(prepared), tokenizer=tokenizer).train
        of_prepared = median_seconds(lambda: load(prepared_documents), args.rounds)
    speed = batches * 8 * args.max_seq_len / of_prepared
    print(f"prepared      {speed:>12,.0f} tokens/s delivered from a prepared corpus: {seconds / of_prepared:.1f} x")


def pack(documents: list[np.ndarray], row_length: int) -> list[np.ndarray]:
    """Pack rows as the loader does: a row whenever enough documents are waiting, and the remaining rows at the end."""
    pool, rows = BestFitPool(row_length), []
    for document in documents:
        pool.add(document)
        if not pool.needs_documents:
            rows.append(pool.next_row())
    while (row := pool.next_row()) is not None:
        rows.append(row)
    return rows


def make_primer() -> None:
    code = "from recipes.data.primer import primer_documents; primer_documents()"
    subprocess.run([sys.executable, "-c", code], check=True)


def median_seconds(function, rounds: int) -> float:
    """Median wall-clock seconds of a call."""
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


if __name__ == "__main__":
    exit_on_input_error("benchmarks.data", lambda: main(ARGS))
