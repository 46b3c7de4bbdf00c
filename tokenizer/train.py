"""Train a byte-level BPE tokenizer: `python -m tokenizer.train --dataset primer --output_dir runs/NAME/tokenizer`."""

import time
from dataclasses import dataclass

from recipes.data.splits import DOCUMENT_SEPARATORS
from recipes.utils.arguments import REQUIRED, Arguments, flag, read_command_line
from recipes.utils.errors import exit_on_input_error, writing
from tokenizer.special_tokens import SMALLEST_VOCABULARY, SPECIAL_TOKENS


@dataclass
class TokenizerArguments(Arguments):
    """Flags of `python -m tokenizer.train`; `--config file.yaml` sets any of them."""

    dataset: str = flag(REQUIRED, "primer, a local file, directory or glob, or a Hub id", path=True)
    output_dir: str = flag(REQUIRED, "directory of the finished tokenizer", path=True)
    vocab_size: int = flag(
        65536, "number of tokens, the nine special ones included", least=SMALLEST_VOCABULARY, most=2**24
    )
    max_chars: int = flag(2_000_000_000, "characters to train on at most", least=1)
    doc_cap: int | None = flag(
        None, "characters of one document to train on at most (default: 10,000; of a whole text, all)", least=1
    )
    text_column: str = flag("text", "column that holds the text")
    document_separator: str = flag(
        "auto", "where documents of .txt files end: as in pretraining", choices=DOCUMENT_SEPARATORS
    )
    skip_damaged: bool = flag(False, "skip damaged files and rows, with a warning")
    model_max_length: int = flag(2048, "context length of the model it is meant for", least=1)


if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("tokenizer.train", TokenizerArguments)

from recipes.data.corpora import open_corpus
from recipes.utils.outputs import hold
from recipes.utils.provenance import record_launch
from tokenizer.bpe import DOC_CAP, CappedDocuments, as_pretrained, check_replaceable, save_tokenizer, train_bpe
from tokenizer.encode import encode_documents


def train(args: TokenizerArguments) -> None:
    """Train and save a tokenizer, and print a summary."""
    corpus = open_corpus(args.dataset, args.text_column, args.skip_damaged, args.document_separator)
    doc_cap = args.doc_cap or (args.max_chars if args.document_separator == "whole" else DOC_CAP)
    documents = CappedDocuments((row["text"] for row in corpus.train), args.max_chars, doc_cap)

    started = time.perf_counter()
    tokenizer = as_pretrained(train_bpe(documents, args.vocab_size), args.model_max_length)
    seconds = time.perf_counter() - started
    with writing(f"the tokenizer to {args.output_dir}"):
        save_tokenizer(tokenizer, args.output_dir)
    record_launch(
        args.output_dir,
        data=args.dataset,
        files=corpus.files and corpus.files.names(),
        seconds=round(seconds, 1),
        characters=documents.chars,
    )

    num_bytes = sum(len(text.encode("utf-8")) for text in documents.sample)
    num_tokens = sum(len(ids) - 1 for ids in encode_documents(tokenizer, documents.sample))  # without <|bos|>
    print(f"vocabulary       {len(tokenizer):,} tokens, the last {len(SPECIAL_TOKENS)} special")
    if corpus.files:
        print(f"data             {corpus.files.line()}")
    print(f"trained on       {documents.chars:,} characters in {seconds:.1f} s")
    print(f"bytes per token  {num_bytes / num_tokens:.2f} on the first {len(documents.sample)} documents")
    print(f"saved to         {args.output_dir}: AutoTokenizer.from_pretrained({args.output_dir!r})")


def main(args: TokenizerArguments) -> None:
    with hold(args.output_dir, replaced=True):
        check_replaceable(args.output_dir)
        train(args)


if __name__ == "__main__":
    exit_on_input_error("tokenizer.train", lambda: main(ARGS))
