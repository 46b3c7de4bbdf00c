"""Files of every kind that a corpus may be, and what comes of opening them."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recipes.data.corpora import open_corpus
from recipes.utils.errors import InputError

TEXTS = [f"Document number {number}." for number in range(400)]


def write_parquet(path, texts=TEXTS, column="text", **options):
    pq.write_table(pa.table({"number": list(range(len(texts))), column: texts}), path, **options)


def write_jsonl(path, texts=TEXTS):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def write_jsonl_gz(path, texts=TEXTS):
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in texts)


def write_json_list(path, texts=TEXTS):
    path.write_text(json.dumps([{"text": text} for text in texts], indent=1))


WRITERS = {
    "data.parquet": write_parquet,
    "data.jsonl": write_jsonl,
    "data.jsonl.gz": write_jsonl_gz,
    "data.json": write_json_list,
    "DATA.Parquet": write_parquet,
    "DATA.JSONL.GZ": write_jsonl_gz,
    "lines.json": write_jsonl,
}


PROSE = "\n\n".join(f"Paragraph {number}:\n" + "word " * 100 for number in range(20)).encode()

PLAY = "\n".join(f"ROMEO:\nI am line {number}.\n" for number in range(40))


def texts_of(stream):
    return [row["text"] for row in stream]


def train_texts(path, **options):
    return texts_of(open_corpus(str(path), **options).train)


def fails(dataset, **options):
    """The one line that opening `dataset` and reading it through ends with."""
    with pytest.raises(InputError) as error:
        corpus = open_corpus(str(dataset), **options)
        texts_of(corpus.train), texts_of(corpus.validation)
    assert "\n" not in str(error.value)
    return str(error.value)
