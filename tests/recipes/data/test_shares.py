"""Other readers go on with an epoch: whatever their number, every document is read once, and none is lost."""

from collections import Counter
from itertools import islice
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.data import packing, pools
from recipes.data.packing import build_rows_loader
from recipes.data.shards import _write_shard
from recipes.data.tokenized import Shard, TokenizedDocuments
from recipes.data.tokens import TokenShares

BOS = 0
ROW = 2
EPOCHS = 2


def document(number: int, length: int) -> list[int]:
    """A document that is known by its tokens."""
    return [BOS] + [number + 1] * (length - 1)


def read_file(files: list[list[tuple[int, int]]]):
    for file in files:
        for number, length in file:
            yield {"input_ids": document(number, length)}


def by_file(files, directory):
    """A stream as of local files, or of the Hub: shared out by file where there are enough of them."""
    return datasets.IterableDataset.from_generator(read_file, gen_kwargs={"files": files})


def tokens_of(files) -> datasets.Dataset:
    ids = [row["input_ids"] for row in read_file(files)]
    features = datasets.Features({"input_ids": datasets.List(datasets.Value("int32"))})
    return datasets.Dataset.from_dict({"input_ids": ids}, features=features)


def conversations(files, directory):
    """As midtraining reads them."""
    return TokenShares(tokens_of(files))


def arrow_stream(files, directory):
    """Tables of `datasets`, filtered: other classes with other states than a generator's."""
    return tokens_of(files).to_iterable_dataset(num_shards=len(files)).filter(len, input_columns="input_ids")


def prepared(files, directory):
    """A prepared corpus, of one shard a file."""
    shards = []
    for name, file in enumerate(files):
        ids = [np.array(row["input_ids"], dtype=np.int32) for row in read_file([file])]
        written = _write_shard(directory / f"{name}.arrow", ids, np.dtype(np.int32))
        shards.append(Shard(directory / written.pop("name"), **written))
    return TokenizedDocuments(tuple(shards))


SOURCES = [by_file, arrow_stream, conversations, prepared]


@st.composite
def corpora(draw):
    """Files of (number, length) of documents: more documents than there are ever readers."""
    sizes = draw(st.lists(st.integers(9, 20), min_size=1, max_size=5))
    lengths = iter(draw(st.lists(st.integers(ROW, 9), min_size=sum(sizes), max_size=sum(sizes))))
    numbers = iter(range(sum(sizes)))
    return [[(next(numbers), next(lengths)) for _ in range(size)] for size in sizes]


stages = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 2), st.integers(1, 15)), min_size=2, max_size=4)


def train(documents, stages, kind, workers_run=False):
    """The tokens of all rows of stages of (processes, workers, batches before the kill); the last goes to the end.

    Workers are readers of their own: here, unless `workers_run`, each is a process without workers.
    """
    states, rows = None, []
    for stage, (processes, workers, batches) in enumerate(stages):
        world_size = processes if workers_run else processes * max(1, workers)
        loaders = [
            build_rows_loader(
                documents,
                None,
                ROW,
                2,
                rank=rank,
                world_size=world_size,
                num_workers=workers if workers_run else 0,
                packing=kind,
                epochs=EPOCHS,
            )
            for rank in range(world_size)
        ]
        for loader in loaders if states else []:
            loader.take_over(states)
        last = stage == len(stages) - 1
        for loader in loaders:
            rows += [row for batch in islice(loader, None if last else batches) for row in batch["tokens"].tolist()]
        states = [loader.state_dict() for loader in loaders]
    assert len({loader.read_to for loader in loaders}) == 1
    return Counter(token for row in rows for token in row if token != BOS), len(loaders)


@pytest.fixture(autouse=True)
def small_pool(monkeypatch):
    monkeypatch.setattr(pools, "POOL_DOCUMENTS", 3)
    monkeypatch.setattr(packing, "READ_DOCUMENTS", 2)


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("shards")


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
@given(corpora(), stages, st.sampled_from(sorted(pools.POOLS)))
@settings(max_examples=40, deadline=None)
def test_whoever_goes_on_reads_every_document_once_an_epoch(source, directory, corpus, stages, kind):
    seen, readers = train(source(corpus, directory), stages, kind)
    lengths = {number + 1: length - 1 for file in corpus for number, length in file}
    assert seen.keys() <= lengths.keys()
    missing = {token: EPOCHS * length - seen[token] for token, length in lengths.items()}
    assert min(missing.values()) >= 0, "a document was trained twice in an epoch"
    if kind != "best_fit":  # which drops what it crops
        assert sum(missing.values()) < readers * ROW, "more is lost than the last row of each reader that is not full"
