"""Other readers go on with an epoch: whatever their number, every document is read once, and none is lost."""

from collections import Counter
from itertools import islice
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.data import packing, pools
from recipes.data.packing import build_rows_loader
from recipes.data.shards import _write_shard
from recipes.data.shares import describe_sharing
from recipes.data.tokenized import Shard, TokenizedDocuments
from recipes.data.tokens import TokenShares, rows_of_one_pass

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


# Processes without workers: of several readers in one process each is one.
stages = st.lists(st.tuples(st.integers(1, 8), st.just(0), st.integers(1, 15)), min_size=2, max_size=4)


def begin(documents, processes, workers, kind, states=None):
    """The loaders of all processes, which go on from the `states` of others."""
    options = {"world_size": processes, "num_workers": workers, "packing": kind, "epochs": EPOCHS}
    loaders = [build_rows_loader(documents, None, ROW, 2, rank=rank, **options) for rank in range(processes)]
    for loader in loaders if states else []:
        loader.take_over(states)
    return loaders


def rows_of(loader, batches=None):
    return [row for batch in islice(loader, batches) for row in batch["tokens"].tolist()]


def assert_read_once_an_epoch(documents, corpus, stages, kind):
    """Train in stages of (processes, workers, batches before the kill), the last one to the end; look at all rows."""
    states, rows = None, []
    for stage, (processes, workers, batches) in enumerate(stages, 1):
        loaders = begin(documents, processes, workers, kind, states)
        for loader in loaders:
            rows += rows_of(loader, batches if stage < len(stages) else None)
        states = [loader.state_dict() for loader in loaders]
    seen = Counter(token for row in rows for token in row if token != BOS)
    lengths = {number + 1: length - 1 for file in corpus for number, length in file}
    assert seen.keys() <= lengths.keys()
    missing = {token: EPOCHS * length - seen[token] for token, length in lengths.items()}
    assert min(missing.values()) >= 0, "a document was trained twice in an epoch"
    if kind != "best_fit":  # which drops what it crops
        readers = processes * max(1, workers)
        assert sum(missing.values()) < readers * ROW, "more is lost than the last row of each reader that is not full"


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
@settings(max_examples=12)
def test_whoever_goes_on_reads_every_document_once_an_epoch(source, directory, corpus, stages, kind):
    assert_read_once_an_epoch(source(corpus, directory), corpus, stages, kind)


FILES = [[(20 * file + number, 2 + (file + number) % 8) for number in range(20)] for file in range(5)]


def test_readers_that_are_epochs_apart_are_taken_over_twice():
    lengths = [2, 2, 2, 6, 2, 9, 2, 6, 9]
    files = [list(enumerate(lengths))]
    assert_read_once_an_epoch(by_file(files, None), files, [(5, 0, 3), (1, 0, 1), (1, 0, None)], "concatenated")


@pytest.mark.parametrize("source", SOURCES)
def test_loader_workers_are_readers_too(source, directory):
    stages = [(1, 2, 9), (2, 0, 7), (2, 2, 3), (1, 0, None)]
    assert_read_once_an_epoch(source(FILES, directory), FILES, stages, "concatenated")


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("processes", [1, 3])
def test_what_was_taken_over_is_resumed_bit_for_bit(source, directory, processes):
    """At any place: in the epoch that was shared out anew, and after it."""
    documents = source(FILES, directory)
    earlier = begin(documents, 2, 0, "best_fit_split")
    for loader in earlier:
        rows_of(loader, 12)
    states = [loader.state_dict() for loader in earlier]
    for rank, loader in enumerate(begin(documents, processes, 0, "best_fit_split", states)):
        whole = rows_of(loader)
        for stop in (0, 3, 40):
            head = begin(documents, processes, 0, "best_fit_split", states)[rank]
            first = rows_of(head, stop)
            tail = begin(documents, processes, 0, "best_fit_split")[rank]
            tail.load_state_dict(head.state_dict())
            assert first + rows_of(tail) == whole


def test_what_is_tokenized_is_shared_out_evenly(directory):
    documents = prepared([[(number, 5) for number in range(220)]], directory)
    states = None
    for processes in (2, 3, 2, 1, 3):
        loaders = begin(documents, processes, 0, "concatenated", states)
        for loader in loaders:
            rows_of(loader, 3)
        states = [loader.state_dict() for loader in loaders]
    rows = [len(rows_of(loader)) for loader in loaders]
    assert max(rows) - min(rows) <= 0.05 * max(rows)


def test_a_prepared_corpus_is_known_to_be_read_as_far_as_the_foremost_reader_was(directory):
    documents = prepared([[(number, 5) for number in range(100)]], directory)
    earlier = begin(documents, 2, 0, "concatenated")
    rows_of(earlier[0], 10), rows_of(earlier[1], 2)
    (loader,) = begin(documents, 1, 0, "concatenated", [each.state_dict() for each in earlier])
    assert loader.read_to == earlier[0].read_to > earlier[1].read_to


@pytest.mark.parametrize(("before", "after"), [(2, 3), (3, 8), (4, 3)])
def test_one_pass_on_other_readers_trains_no_document_twice(before, after, monkeypatch):
    """As midtraining: all readers make equally many rows, and most of a small corpus waits to be packed."""
    monkeypatch.setattr(pools, "POOL_DOCUMENTS", 1000)
    rng, row = np.random.default_rng(0), 65
    lengths = np.minimum(64, (rng.pareto(1.5, 3000) * 8 + 4).astype(int))
    ids = [[number + 1] * length for number, length in enumerate(lengths)]
    tokens = datasets.Dataset.from_dict({"input_ids": ids, "length": lengths.tolist()})
    options = {"packing": "best_fit", "epochs": 1, "endless": True}
    half = rows_of_one_pass(tokens, row, "best_fit", before) * before // 48 * 24
    read: Counter[int] = Counter()

    def train(readers: int, states: list | None = None) -> list:
        loaders = [
            build_rows_loader(TokenShares(tokens), None, row, 1, rank=rank, world_size=readers, **options)
            for rank in range(readers)
        ]
        for loader in loaders:
            if states:
                loader.take_over(states)
            for batch in islice(loader, half // readers):
                read.update(set(batch["tokens"][0].tolist()))
        return [loader.state_dict() for loader in loaders]

    train(after, train(before))
    assert max(read.values()) == 1
    assert len(read) > 0.6 * len(ids)


def test_fewer_files_than_readers_are_said_and_enough_are_not():
    documents = datasets.Dataset.from_dict({"text": list("abcdefgh")})
    two, eight = (documents.to_iterable_dataset(num_shards=count) for count in (2, 8))
    assert describe_sharing(two, 8).startswith("; 2 files for 8 readers (processes x workers): each reads everything")
    assert describe_sharing(eight, 8) == describe_sharing(two, 1) == ""
