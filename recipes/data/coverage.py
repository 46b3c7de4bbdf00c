"""How large a corpus is, and hence which share of it a run sees, how often, and how it should be packed."""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from transformers import PreTrainedTokenizerFast

from recipes.data.corpora import Corpus
from recipes.data.packing import READ_DOCUMENTS, count_rows, token_ids

SAMPLE_BYTES = 8_000_000  # of text, tokenized to learn how long documents are: one second
HEAD_BYTES = 2**20  # of a file, to learn which share of it is text


@dataclass(frozen=True)
class Coverage:
    """Tokens of the training documents, one pass, and what is left of them when documents are cropped to fill rows."""

    tokens: float
    exact: bool
    kept: float  # share of the tokens that best fit keeps

    def choose_packing(self, num_tokens: int) -> str:
        """How to pack for a run of `num_tokens`.

        Best fit drops what it crops. That is best where there are always new documents to read. A run that would
        begin them anew before it has seen every token learns more from the rest of them first: measured in
        benchmarks/RESULTS.md, "Packing".
        """
        return "best_fit" if num_tokens <= self.kept * self.tokens else "best_fit_split"

    def line(self, num_tokens: int, packing: str) -> str:
        """Which share of the corpus a run of `num_tokens` sees, and how often."""
        size = f"{'' if self.exact else 'about '}{self.tokens:,.0f} tokens"
        usable = self.kept * self.tokens if packing == "best_fit" else self.tokens
        dropped = f", of which best fit keeps {self.kept:.0%}" if packing == "best_fit" else ""
        if num_tokens <= usable:
            return f"{size}{dropped}; this run sees {num_tokens / self.tokens:.1%}, nothing twice"
        return f"{size}{dropped}; this run sees {usable / self.tokens:.0%} of them {num_tokens / usable:.1f} times"


def measure_coverage(corpus: Corpus, tokenizer: PreTrainedTokenizerFast, row_length: int) -> Coverage | None:
    """Coverage of a corpus: exact where it is small, else estimated from its first documents and its files' sizes.

    None where nobody says how large it is, as of many datasets of the Hub.
    """
    if not corpus.files and corpus.num_bytes is None and corpus.name != "primer":
        return None
    lengths, sampled_bytes, everything = _read_sample(corpus, tokenizer)
    tokens = float(sum(lengths))
    kept = row_length * count_rows(lengths, row_length) / tokens if tokens else 0.0
    if not everything:
        num_bytes = corpus.num_bytes or sum(text_bytes(file, corpus.column) for file in corpus.files.train)
        tokens *= num_bytes / sampled_bytes
    return Coverage(tokens, everything, kept)


def _read_sample(corpus: Corpus, tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], int, bool]:
    """Lengths of the first documents in tokens, their bytes, and whether they are all there are."""
    lengths: list[int] = []
    num_bytes = 0
    for batch in corpus.train.iter(batch_size=READ_DOCUMENTS):
        lengths += map(len, token_ids(batch, tokenizer))
        num_bytes += sum(len(text.encode()) for text in batch["text"])
        if num_bytes > SAMPLE_BYTES:
            return lengths, num_bytes, False
    return lengths, num_bytes, True


def text_bytes(file: str, column: str) -> float:
    """About how many bytes of text a data file holds, without reading it through."""
    if file.lower().endswith(".parquet"):
        metadata = pq.read_metadata(file)
        groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
        chunks = [group.column(index) for group in groups for index in range(group.num_columns)]
        return sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema == column)
    with open(file, "rb") as packed:
        unpacked = gzip.GzipFile(fileobj=packed) if file.lower().endswith(".gz") else packed
        head = unpacked.read(HEAD_BYTES)
        size = Path(file).stat().st_size * len(head) / packed.tell()
    return size * _share_of_text(head, column)


def _share_of_text(head: bytes, column: str) -> float:
    """Share of the first lines of a file that is the text in `column`; all of it where they are not JSON lines."""
    lines = head.splitlines()
    lines = lines[:-1] or lines  # the last one may be cut
    try:
        texts = [str(json.loads(line)[column]) for line in lines]
    except (ValueError, TypeError, LookupError, RecursionError):
        return 1.0
    return sum(len(text.encode("utf-8", "replace")) for text in texts) / sum(map(len, lines))


def choose_packing(requested: str, coverage: Coverage | None, num_tokens: int) -> str:
    """`requested`, or for "auto" what suits a run of `num_tokens`; best fit where the corpus's size is not known."""
    if requested != "auto":
        return requested
    return coverage.choose_packing(num_tokens) if coverage else "best_fit"


def describe_coverage(coverage: Coverage | None, num_tokens: int, packing: str) -> str:
    """Which share of the corpus a run of `num_tokens` sees, and how often."""
    return coverage.line(num_tokens, packing) if coverage else "of unknown size"
