"""Prepared corpora to test with, and the documents in them."""

import json
from collections import Counter
from pathlib import Path

from recipes.data.corpora import Corpus, open_corpus
from recipes.data.packing import token_ids
from recipes.data.shards import describe_request, write_corpus


def write_texts(path, texts):
    """A file of JSON lines."""
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def prepare(source, tokenizer, output_dir, shard_tokens=1000, max_tokens=None, seed=0, **options):
    """Prepare the corpus `source` and open what came of it."""
    corpus = source if isinstance(source, Corpus) else open_corpus(str(source), **options)
    request = describe_request(corpus, tokenizer, str(source), shard_tokens, max_tokens, seed)
    write_corpus(corpus, tokenizer, request, Path(output_dir), say=lambda line: None)
    return open_corpus(str(output_dir), tokenizer=tokenizer)


def documents_of(stream, tokenizer=None):
    """Every document of a stream as a tuple of token ids, in order."""
    return [tuple(map(int, ids)) for batch in stream.iter(batch_size=64) for ids in token_ids(batch, tokenizer)]


def counted(stream, tokenizer=None):
    return Counter(documents_of(stream, tokenizer))
