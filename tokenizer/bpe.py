"""Train and save a byte-level BPE tokenizer with the special tokens of the chat format."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from recipes.utils.atomic import new_directory
from recipes.utils.errors import InputError
from recipes.utils.run_directory import LAUNCHES, TOKENIZER_EVALUATION
from tokenizer.chat import add_chat_template
from tokenizer.encode import check_utf8
from tokenizer.special_tokens import ASSISTANT_END, BOS, SMALLEST_VOCABULARY, SPECIAL_TOKENS

# GPT-4's pattern, but numbers are split after 2 digits instead of 3: a small vocabulary has no room for 1000 numbers.
SPLIT_PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)"
    r"|[^\r\n\p{L}\p{N}]?+\p{L}+"
    r"|\p{N}{1,2}"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*"
    r"|\s*[\r\n]"
    r"|\s+(?!\S)"
    r"|\s+"
)
DOC_CAP = 10_000  # characters of one document to train on, so that long ones do not decide the vocabulary
BYTE_ALPHABET = pre_tokenizers.ByteLevel.alphabet()
TOKENIZER_FILES = {
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "response_template.json",
    # Other files that we write there: how it was trained, and its evaluation, which a new tokenizer invalidates.
    LAUNCHES,
    TOKENIZER_EVALUATION,
    "tokenizer_report",
    "tokenizer_report.html",
    "tokenizer_report.md",
}


class CappedDocuments:
    """Yields the first `doc_cap` characters of each document, `max_chars` in all; counts them and keeps a sample."""

    SAMPLE_DOCUMENTS = 100

    def __init__(self, documents: Iterable[str], max_chars: int, doc_cap: int):
        self.documents, self.max_chars, self.doc_cap = documents, max_chars, doc_cap
        self.chars = 0
        self.sample: list[str] = []  # the first documents, on which bytes per token are reported

    def __iter__(self) -> Iterator[str]:
        for number, document in enumerate(self.documents):
            text = document[: min(self.doc_cap, self.max_chars - self.chars)]
            check_utf8([text], first=number)
            self.chars += len(text)
            if number < self.SAMPLE_DOCUMENTS:
                self.sample.append(text)
            yield text
            if self.chars >= self.max_chars:
                return


def train_tokenizer(
    documents: Iterable[str],
    vocab_size: int,
    max_chars: int = 2_000_000_000,
    doc_cap: int = DOC_CAP,
    model_max_length: int = 2048,
) -> PreTrainedTokenizerFast:
    """Train a tokenizer of exactly `vocab_size` tokens, of which the last nine are special. Deterministic.

    Trains on the first `doc_cap` characters of each document, `max_chars` in all.
    Raises `InputError` if there is too little text for `vocab_size` tokens.
    """
    backend = train_bpe(CappedDocuments(documents, max_chars, doc_cap), vocab_size)
    return as_pretrained(backend, model_max_length)


def train_bpe(documents: CappedDocuments, vocab_size: int) -> Tokenizer:
    """Train byte-level BPE on all 256 bytes, and add the special tokens. Lossless: no unknown token, no normalizer."""
    if vocab_size < SMALLEST_VOCABULARY:
        raise InputError(
            f"vocab_size {vocab_size} is below {SMALLEST_VOCABULARY}: 256 bytes and {len(SPECIAL_TOKENS)} specials."
        )
    if documents.max_chars < 1 or documents.doc_cap < 1:
        raise InputError(
            f"max_chars ({documents.max_chars}) and doc_cap ({documents.doc_cap}) must be at least 1 character."
        )

    tokenizer = byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL_TOKENS),
        initial_alphabet=BYTE_ALPHABET,
        show_progress=sys.stderr.isatty(),
    )
    tokenizer.train_from_iterator(documents, trainer)
    add_special_tokens(tokenizer)  # after training, so that text in the corpus is never taken for one of them
    reached = tokenizer.get_vocab_size()
    if reached < vocab_size:
        raise InputError(
            f"the corpus gives only {reached:,} tokens of vocab_size {vocab_size:,} ({documents.chars:,} characters "
            f"read): train on more text or set --vocab_size {reached} or less."
        )
    return tokenizer


def byte_level(model: models.BPE) -> Tokenizer:
    """A tokenizer that splits text by `SPLIT_PATTERN` and passes the bytes of each piece to `model`."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def add_special_tokens(tokenizer: Tokenizer) -> None:
    """Add the nine special tokens at the end of the vocabulary, and make every text begin with `<|bos|>`."""
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A",
        pair=f"{BOS} $A {BOS} $B",
        special_tokens=[(BOS, tokenizer.token_to_id(BOS))],
    )


def as_pretrained(backend: Tokenizer, model_max_length: int) -> PreTrainedTokenizerFast:
    """Wrap the tokenizer for transformers, with the chat template."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=BOS,
        eos_token=ASSISTANT_END,
        pad_token=ASSISTANT_END,
        extra_special_tokens=[token for token in SPECIAL_TOKENS if token not in (BOS, ASSISTANT_END)],
        padding_side="left",  # so that the prompts of a batch end at the same position, where generation starts
        clean_up_tokenization_spaces=False,
        model_max_length=model_max_length,
    )
    add_chat_template(tokenizer)
    return tokenizer


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, output_dir: str | Path) -> None:
    """Save atomically: write beside `output_dir`, sync, and rename.

    Replaces a tokenizer that is there; raises `InputError` if `output_dir` holds anything else.
    """
    check_replaceable(output_dir)
    with new_directory(output_dir) as directory:
        tokenizer.save_pretrained(directory)


def check_replaceable(output_dir: str | Path) -> None:
    """Raise `InputError` unless `output_dir` is missing or holds only a tokenizer."""
    path = Path(output_dir)
    if path.exists() and not path.is_dir():
        raise InputError(f"output_dir {path} is a file: choose another directory.")
    foreign = (
        sorted(entry.name for entry in path.iterdir() if entry.name not in TOKENIZER_FILES) if path.exists() else []
    )
    if foreign:
        raise InputError(f"output_dir {path} holds more than a tokenizer ({foreign[0]}): choose another directory.")
