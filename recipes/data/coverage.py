"""Coverage of a corpus: its size in tokens, which share of it a run sees, how often, and how to pack it."""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from transformers import PreTrainedTokenizerFast

from recipes.data.corpora import Corpus
from recipes.data.packing import READ_DOCUMENTS, count_rows, token_ids
from recipes.data.tokenized import TokenizedDocuments

SAMPLE_BYTES = 8_000_000  # of text that is tokenized to estimate document lengths; takes about one second
SAMPLE_DOCUMENTS = 20_000  # of a prepared corpus, whose order is random
HEAD_BYTES = 2**20  # of a file that are read to estimate which share of it is text
MOST_IS_LOST = 0.5  # where best fit keeps a smaller share, the run says how to keep all
BOOKS = 0.1  # where best fit keeps a smaller share, documents are ten rows long or more


@dataclass(frozen=True)
class Coverage:
    """Tokens of one pass over the training documents, and the share that is left after cropping to fill rows."""

    tokens: float
    exact: bool
    kept: float  # share of the tokens that best fit keeps

    def choose_packing(self, num_tokens: int) -> str:
        """Packing for a run of `num_tokens`: best_fit, or what drops nothing if documents would be repeated.

        Best fit drops what it crops, which is best while there are new documents to read. A run that would repeat
        documents learns more from the dropped tokens first: with best_fit_split, or, as that reads one book from
        beginning to end before the next, concatenated where documents are books.
        """
        if num_tokens <= self.kept * self.tokens:
            return "best_fit"
        return "concatenated" if self.kept < BOOKS else "best_fit_split"

    def line(self, num_tokens: int, packing: str) -> str:
        """One line for people: which share of the corpus a run of `num_tokens` sees, and how often."""
        size = f"{'' if self.exact else 'about '}{self.tokens:,.0f} tokens"
        usable = self.kept * self.tokens if packing == "best_fit" else self.tokens
        dropped = f", of which best fit keeps {self.kept:.0%}" if packing == "best_fit" else ""
        if dropped and self.kept < MOST_IS_LOST:
            dropped += " (documents are longer than a row; --packing concatenated keeps all)"
        if not usable:  # the loader will say so more fully, where it looks for the first row
            return f"{size}, which do not fill one row"
        if num_tokens <= usable:
            return f"{size}{dropped}; this run sees {num_tokens / self.tokens:.1%}, nothing twice"
        return f"{size}{dropped}; this run sees {usable / self.tokens:.0%} of them {num_tokens / usable:.1f} times"


def measure_coverage(corpus: Corpus, tokenizer: PreTrainedTokenizerFast, row_length: int) -> Coverage | None:
    """Coverage of a corpus: exact if it is small or prepared, else estimated from its first documents and its size.

    None if the size is unknown, as for many datasets of the Hub.
    """
    if corpus.prepared:
        return _measure_prepared(corpus.train, row_length)
    if not corpus.files and corpus.num_bytes is None and corpus.name != "primer":
        return None
    lengths, sampled_bytes, everything = _read_sample(corpus, tokenizer)
    tokens = float(sum(lengths))
    kept = row_length * count_rows(lengths, row_length) / tokens if tokens else 0.0
    if not everything:
        num_bytes = corpus.num_bytes or sum(text_bytes(file, corpus.column) for file in corpus.files.train)
        tokens *= num_bytes / sampled_bytes
    return Coverage(tokens, everything, kept)


def _measure_prepared(documents: TokenizedDocuments, row_length: int) -> Coverage:
    """Of the documents from the first one on; which share best fit keeps is that of a sample of them."""
    tokens = documents.tokens - documents.tokens_before(documents.first)
    lengths = documents.lengths(SAMPLE_DOCUMENTS)
    return Coverage(tokens, True, row_length * count_rows(lengths, row_length) / sum(lengths))


def _read_sample(corpus: Corpus, tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], int, bool]:
    """Lengths in tokens of the first documents, their size in bytes, and whether they are the whole corpus."""
    lengths: list[int] = []
    num_bytes = 0
    batches = corpus.train.iter(batch_size=READ_DOCUMENTS)
    for batch in batches:
        lengths += map(len, token_ids(batch, tokenizer))
        num_bytes += sum(len(text.encode()) for text in batch["text"])
        if num_bytes > SAMPLE_BYTES:
            return lengths, num_bytes, next(batches, None) is None
    return lengths, num_bytes, True


def text_bytes(file: str, column: str) -> float:
    """Estimated bytes of text in a data file, without reading all of it."""
    if file.lower().endswith(".parquet"):
        metadata = pq.read_metadata(file)
        groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
        chunks = [group.column(index) for group in groups for index in range(group.num_columns)]
        return sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema == column)
    with open(file, "rb") as stored:
        unpacked = gzip.GzipFile(fileobj=stored) if file.lower().endswith(".gz") else stored
        head = unpacked.read(HEAD_BYTES)
        size = Path(file).stat().st_size * len(head) / stored.tell()  # unpacked, at the compression ratio of the head
    return size * _share_of_text(head, column)


def _share_of_text(head: bytes, column: str) -> float:
    """Share of a file's first lines that is text in `column`; 1.0 if they are not JSON lines."""
    lines = head.splitlines()
    lines = lines[:-1] or lines  # the last line may be incomplete
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
