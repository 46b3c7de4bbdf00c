import os
import subprocess
import sys
from collections import Counter
from itertools import chain, islice, pairwise

import datasets
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from recipes.data import packing, pools
from recipes.data.packing import PackedRows, build_rows_loader, count_rows
from recipes.data.pools import POOLS, BestFitPool, BestFitSplitPool, ConcatenatingPool
from recipes.utils.errors import InputError

BOS = 0
ROW = 64
SENTENCES = ["The sky is blue.", "Water boils at 100 degrees.", "Ten is more than nine.", "A cat sat on a mat."]


def make_documents(lengths):
    """Documents of the given lengths; every token but the bos in front occurs only once among them all."""
    first = 1 + np.concatenate([[0], np.cumsum(lengths)])
    return [np.array([BOS, *range(start, start + n - 1)]) for start, n in zip(first, lengths, strict=False)]


def pack(pool, documents):
    """Rows of a pool that all documents are added to at once."""
    for document in documents:
        pool.add(document)
    return np.array(take_rows(pool)).reshape(-1, pool.row_length)


def take_rows(pool, most=None):
    rows = []
    while len(rows) != most and (row := pool.next_row()) is not None:
        rows.append(row)
    return rows


def pack_best_fit(documents, row_length):
    return pack(BestFitPool(row_length), documents)


def pack_concatenated(documents, row_length):
    return pack(ConcatenatingPool(row_length), documents)


def slow_best_fit(documents, row_length):
    """The rule word by word: scan all waiting documents for each place in each row."""
    waiting, rows, row = list(documents), [], []
    while waiting:
        room = row_length - len(row)
        fitting = [document for document in waiting if len(document) <= room]
        chosen = max(fitting, key=len) if fitting else min(waiting, key=len)
        waiting = [document for document in waiting if document is not chosen]
        row.extend(chosen[:room])
        if len(row) == row_length:
            rows.append(row)
            row = []
    return np.array(rows).reshape(-1, row_length)


lengths = st.lists(st.integers(1, 40), max_size=60)
row_lengths = st.integers(2, 25)  # a row predicts at least one token


@given(lengths, row_lengths)
def test_best_fit_equals_the_rule_followed_word_by_word(lengths, row_length):
    documents = make_documents(lengths)
    np.testing.assert_array_equal(pack_best_fit(documents, row_length), slow_best_fit(documents, row_length))


@given(lengths, row_lengths)
def test_best_fit_rows_are_full_and_hold_prefixes_of_documents(lengths, row_length):
    documents = make_documents(lengths)
    rows = pack_best_fit(documents, row_length)
    assert rows.shape[1] == row_length
    assert rows.size <= sum(lengths)
    assert (rows[:, 0] == BOS).all()
    waiting = [document.tolist() for document in documents]
    for row in rows:
        pieces = np.split(row, np.flatnonzero(row == BOS)[1:])
        for piece in map(np.ndarray.tolist, pieces):
            source = min((document for document in waiting if document[: len(piece)] == piece), key=len)
            waiting.remove(source)  # no document is used twice


@given(lengths, row_lengths)
def test_best_fit_crops_at_most_one_document_a_row(lengths, row_length):
    whole = {tuple(document) for document in make_documents(lengths)}
    for row in pack_best_fit(make_documents(lengths), row_length):
        pieces = np.split(row, np.flatnonzero(row == BOS)[1:])
        assert all(tuple(piece) in whole for piece in pieces[:-1])


@given(lengths, row_lengths)
def test_split_rows_hold_every_token_once_and_begin_each_piece_with_the_start_token(lengths, row_length):
    documents = make_documents(lengths)
    pool = BestFitSplitPool(row_length)
    for document in documents:
        pool.add(document)
    rows = np.array(take_rows(pool)).reshape(-1, row_length)
    assert (rows[:, 0] == BOS).all()
    left = [piece for pieces in pool.waiting.values() for piece in pieces]
    assert sum(map(len, left)) < row_length
    assert all(piece[0] == BOS for piece in left)
    seen = Counter(np.concatenate([rows.ravel(), *left]).tolist())
    del seen[BOS]
    assert seen == Counter(token for document in documents for token in document.tolist() if token != BOS)


def test_the_rest_of_a_document_waits_as_a_piece_of_its_own():
    long, short = make_documents([25, 7])
    pool = BestFitSplitPool(10)
    before = long.copy()
    for document in (long, short):
        pool.add(document)
    rows = [row.tolist() for row in take_rows(pool)]
    assert rows == [[*short, *long[:3]], [BOS, *long[3:12]], [BOS, *long[12:21]]]
    assert (long == before).all()


@given(lengths, row_lengths)
def test_concatenated_rows_are_the_documents_end_to_end(lengths, row_length):
    documents = make_documents(lengths)
    rows = pack_concatenated(documents, row_length)
    stream = list(chain.from_iterable(documents))
    size = len(stream) // row_length * row_length
    in_order = np.array(stream[:size]).reshape(-1, row_length).tolist()
    assert Counter(map(tuple, rows.tolist())) == Counter(map(tuple, in_order))
    assert len(stream) - rows.size < row_length


def test_the_rows_of_a_book_come_in_random_order_and_the_next_begins_where_it_ends():
    pool = ConcatenatingPool(10)
    pool.add(np.arange(1004))
    first = [row.tolist() for row in take_rows(pool)]
    starts = [row[0] for row in first]
    assert sorted(starts) == list(range(0, 1000, 10)) and starts != sorted(starts)
    assert all(row == list(range(row[0], row[0] + 10)) for row in first)
    neighbours = sum(abs(one - other) == 10 for one, other in pairwise(starts))
    assert neighbours < 10
    pool.add(np.arange(2000, 2006))
    assert [row.tolist() for row in take_rows(pool)] == [[*range(1000, 1004), *range(2000, 2006)]]


@pytest.mark.parametrize("taken", [0, 1, 7, 20])
def test_a_pool_of_rows_in_random_order_is_restored_from_its_state(taken):
    pool, restored = ConcatenatingPool(10), ConcatenatingPool(10)
    pool.add(np.arange(204))
    take_rows(pool, taken)
    restored.load_state_dict(pool.state_dict())
    assert [row.tolist() for row in take_rows(restored)] == [row.tolist() for row in take_rows(pool)]


# Streams of rows


@pytest.fixture(scope="module")
def bpe():
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|bos|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(SENTENCES, trainer)
    return backend


@pytest.fixture(scope="module")
def tokenizer(bpe):
    ours = Tokenizer.from_str(bpe.to_str())
    ours.post_processor = processors.TemplateProcessing(single="<|bos|> $A", special_tokens=[("<|bos|>", BOS)])
    return PreTrainedTokenizerFast(tokenizer_object=ours, bos_token="<|bos|>")


@pytest.fixture(scope="module")
def foreign_tokenizer(bpe):
    """Like GPT-2's: nothing put in front of a text, no bos, only a token that ends it."""
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(bpe.to_str()), eos_token="<|bos|>")


def generate(files):
    for file in files:
        for number in range(30):
            yield {"text": f"Document {file}-{number}. " + SENTENCES[number % 4] * (number % 3 + 1)}


def make_stream(files=4):
    return datasets.IterableDataset.from_generator(generate, gen_kwargs={"files": list(range(files))})


@pytest.fixture(autouse=True)
def small_pool(monkeypatch):
    """So that the streams here are longer than what waits in the pool."""
    monkeypatch.setattr(pools, "POOL_DOCUMENTS", 16)
    monkeypatch.setattr(packing, "READ_DOCUMENTS", 8)


def make_rows(documents, tokenizer, **options):
    return PackedRows(documents, tokenizer, ROW, **options)


def make_loader(tokenizer, workers, state=None, files=4, **options):
    options = {"rank": 0, "world_size": 1, **options}
    loader = build_rows_loader(make_stream(files), tokenizer, ROW, 3, num_workers=workers, **options)
    if state is not None:
        loader.load_state_dict(state)
    return loader


def take(loader, batches=None):
    return [(batch["tokens"].tolist(), batch["epoch"]) for batch in islice(loader, batches)]


@pytest.mark.parametrize("packing", POOLS)
def test_rows_are_int64_of_the_asked_length(tokenizer, packing):
    for row in make_rows(make_stream(), tokenizer, packing=packing, epochs=1):
        assert row["tokens"].dtype == torch.int64
        assert row["tokens"].shape == (ROW,)
        assert row["epoch"] == 0


@pytest.mark.parametrize("name", ["tokenizer", "foreign_tokenizer"])
def test_every_document_starts_with_exactly_one_start_token(request, name):
    tokenizer = request.getfixturevalue(name)
    rows = list(make_rows(make_stream(), tokenizer, epochs=1, packing="concatenated"))
    tokens = {tuple(row["tokens"].tolist()) for row in rows}
    ids = [tokenizer(row["text"], add_special_tokens=False)["input_ids"] for row in make_stream()]
    expected = list(chain.from_iterable([BOS, *document] for document in ids))
    full = len(expected) // ROW
    assert tokens == {tuple(expected[i * ROW : (i + 1) * ROW]) for i in range(full)}
    assert len(rows) == full


@pytest.mark.parametrize("packing", POOLS)
def test_documents_tokenized_before_make_the_same_rows(tokenizer, packing):
    ids = [[BOS, *tokenizer(row["text"], add_special_tokens=False)["input_ids"]] for row in make_stream()]
    tokenized = datasets.Dataset.from_dict({"input_ids": ids}).to_iterable_dataset()
    before, after = (
        [row["tokens"].tolist() for row in make_rows(stream, tokenizer, packing=packing, epochs=2)]
        for stream in (tokenized, make_stream())
    )
    assert before == after


@pytest.mark.slow
@given(st.lists(st.integers(1, 90), min_size=1, max_size=400), st.integers(2, 60))
@pytest.mark.parametrize("packing", POOLS)
def test_rows_are_counted_without_their_tokens(packing, lengths, row_length):
    documents = datasets.Dataset.from_dict({"input_ids": [[BOS] * length for length in lengths]})
    if sum(lengths) < row_length:
        assert count_rows(lengths, row_length, packing) == 0
        return
    rows = PackedRows(documents.to_iterable_dataset(), None, row_length, packing=packing, epochs=1)
    assert count_rows(lengths, row_length, packing) == sum(1 for _ in rows)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kill_at", [0, 1, 7, 31])
def test_resumed_batches_equal_uninterrupted_batches(tokenizer, tmp_path, workers, kill_at):
    whole = take(make_loader(tokenizer, workers), 40)
    assert whole[-1][1] >= 1, "the test is to reach beyond the first epoch"
    first = make_loader(tokenizer, workers)
    head = take(first, kill_at)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert head + take(make_loader(tokenizer, workers, state), 40 - kill_at) == whole


@pytest.mark.slow
@pytest.mark.parametrize("packing", POOLS)
@pytest.mark.parametrize(
    "files", [1, 2, 4]
)  # 30, 60 and 120 documents: the last is a multiple of those read at a time
def test_rows_resume_at_every_position_of_several_epochs(tokenizer, files, packing):
    def fresh():
        return iter(make_rows(make_stream(files), tokenizer, epochs=3, packing=packing))

    running, whole, states = fresh(), [], []
    states.append(running.state_dict())
    for row in running:
        whole.append((row["tokens"].tolist(), row["epoch"]))
        states.append(running.state_dict())
    assert {epoch for _, epoch in whole} == {0, 1, 2}
    for position, state in enumerate(states):
        resumed = fresh()
        resumed.load_state_dict(state)
        assert [(row["tokens"].tolist(), row["epoch"]) for row in resumed] == whole[position:]


@pytest.mark.parametrize("world_size", [1, 2])  # 2: split by document, another class of stream
def test_a_resumed_run_saves_what_an_uninterrupted_one_would(tokenizer, world_size):
    def fresh():
        return iter(make_rows(make_stream(1), tokenizer, world_size=world_size))

    def state_of(rows):
        return {name: value for name, value in rows.state_dict().items() if name != "pool"}

    running, states = fresh(), []
    for _ in islice(running, 40):
        states.append((state_of(running), running.state_dict()))
    for position in range(0, 39, 3):
        resumed = fresh()
        resumed.load_state_dict(states[position][1])
        assert state_of(resumed) == states[position][0]
        assert [state_of(resumed) for _ in islice(resumed, 39 - position)] == [s for s, _ in states[position + 1 :]]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_resumed_after_the_last_batch_has_no_more(tokenizer, workers):
    whole = take(make_loader(tokenizer, workers, epochs=1))
    first = make_loader(tokenizer, workers, epochs=1)
    assert take(first, len(whole)) == whole
    assert take(make_loader(tokenizer, workers, first.state_dict(), epochs=1)) == []


@pytest.mark.parametrize("batch_size", [1, 4, 5])
def test_one_pass_keeps_its_last_partial_batch(tokenizer, batch_size):
    rows = len(list(iter(make_loader(tokenizer, 0, epochs=1).dataset)))
    batches = take(build_rows_loader(make_stream(), tokenizer, ROW, batch_size, epochs=1))
    assert rows % 4 != 0
    assert sum(len(tokens) for tokens, _ in batches) == rows


def test_a_long_document_waits_until_nothing_shorter_fits():
    long, short, shorter = make_documents([25, 7, 3])
    rows = pack_best_fit([long, short, shorter], 10)
    assert rows.tolist() == [[*short, *shorter], [*long[:10]]]


@pytest.mark.parametrize("files", [1, 4])  # split by document, and by file
def test_ranks_read_disjoint_documents_and_together_all(tokenizer, files):
    def tokens_of(rank, world_size):  # rows of one token: none is cropped or dropped
        rows = PackedRows(
            make_stream(files), tokenizer, 1, rank=rank, world_size=world_size, packing="concatenated", epochs=1
        )
        return Counter(int(row["tokens"]) for row in rows)

    halves = [tokens_of(rank, 2) for rank in (0, 1)]
    assert halves[0] + halves[1] == tokens_of(0, 1)
    assert halves[0][BOS] == halves[1][BOS] == 15 * files


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("files", [1, 3])  # fewer than the readers, and not a divisor of them
def test_fewer_files_than_readers_are_split_by_document(tokenizer, files, workers):
    def tokens_of(world_size, num_workers):  # rows of one token: none is cropped or dropped
        options = {"world_size": world_size, "num_workers": num_workers, "packing": "concatenated", "epochs": 1}
        loaders = [
            build_rows_loader(make_stream(files), tokenizer, 1, 64, rank=rank, **options) for rank in range(world_size)
        ]
        return [Counter(int(token) for batch in loader for token in batch["tokens"]) for loader in loaders]

    shares = tokens_of(4, workers)
    assert sum(shares, Counter()) == tokens_of(1, 0)[0]
    assert all(abs(share[BOS] - 30 * files / 4) <= workers for share in shares)


def test_interleaved_ranks_in_one_process_do_not_disturb_each_other(tokenizer):
    stream = make_stream(1)
    pair = [make_rows(stream, tokenizer, rank=rank, world_size=2, epochs=1) for rank in (0, 1)]
    interleaved = [(a["tokens"].tolist(), b["tokens"].tolist()) for a, b in zip(*pair, strict=False)]
    alone = [[row["tokens"].tolist() for row in rows] for rows in pair]
    assert interleaved == list(zip(*alone, strict=False))


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("read_characters", [1, 10**6])
def test_split_rows_show_every_token_of_an_epoch_before_the_next_one_begins(
    tokenizer, monkeypatch, world_size, read_characters
):
    monkeypatch.setattr(packing, "READ_CHARACTERS", read_characters)
    options = {"packing": "best_fit_split", "rank": world_size - 1, "world_size": world_size}
    rows = list(make_rows(make_stream(world_size), tokenizer, epochs=3, **options))
    counts = [Counter() for _ in range(3)]
    for row in rows:
        counts[row["epoch"]].update(token for token in row["tokens"].tolist() if token != BOS)
    totals = [sum(count.values()) for count in counts]
    assert max(totals) - min(totals) < 2 * ROW
    for seen in counts[1:]:  # but for what a last row that was not full left to the next epoch
        assert sum((seen - counts[0]).values()) + sum((counts[0] - seen).values()) < 2 * ROW


def test_later_epochs_show_the_same_documents_in_other_rows(tokenizer):
    rows = list(make_rows(make_stream(), tokenizer, epochs=2))
    first, second = ({tuple(row["tokens"].tolist()) for row in rows if row["epoch"] == epoch} for epoch in (0, 1))
    assert len(first & second) < len(first) / 2


@given(lengths, row_lengths, st.integers(0, 20))
@pytest.mark.parametrize("pool_class", POOLS.values())
def test_a_restored_pool_goes_on_with_the_same_rows(pool_class, lengths, row_length, position):
    whole = pack(pool_class(row_length), make_documents(lengths))
    first, second = pool_class(row_length), pool_class(row_length)
    for document in make_documents(lengths):
        first.add(document)
    head = take_rows(first, most=position)
    second.load_state_dict(first.state_dict())
    np.testing.assert_array_equal(np.array(head + take_rows(second)).reshape(-1, row_length), whole)


def test_resuming_with_another_number_of_workers_or_processes_names_both(tokenizer):
    loader = make_loader(tokenizer, 0)
    take(loader, 2)
    with pytest.raises(InputError, match=r"num_workers 0 .*num_workers 2"):
        make_loader(tokenizer, 2, loader.state_dict())
    with pytest.raises(InputError, match=r"world_size 1 .*world_size 4"):
        make_loader(tokenizer, 0, loader.state_dict(), world_size=4)


def test_more_readers_than_documents_is_an_input_error(tokenizer):
    with pytest.raises(InputError, match="fewer documents than the 100"):
        next(iter(make_rows(make_stream(1), tokenizer, rank=99, world_size=100)))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_dataset_without_one_full_row_is_one_clear_line(tokenizer, workers):
    loader = build_rows_loader(make_stream(1), tokenizer, 100_000, 1, num_workers=workers)
    with pytest.raises(InputError) as error:
        next(iter(loader))
    assert str(error.value).startswith("dataset too small: ")
    assert "\n" not in str(error.value)


def test_unknown_packing_names_those_there_are(tokenizer):
    with pytest.raises(InputError, match="choose one of best_fit, best_fit_split, concatenated"):
        make_rows(make_stream(), tokenizer, packing="worst_fit")


def test_streamed_parquet_resumes_exactly_too(tokenizer, tmp_path, monkeypatch):
    """The streams of the Hub keep their state in other classes of `datasets` than our own readers do."""
    monkeypatch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False)  # no network in tests
    table = datasets.Dataset.from_list(list(generate(range(3))))
    table.to_parquet(tmp_path / "data.parquet", batch_size=20)
    path = str(tmp_path / "data.parquet")

    def fresh():
        stream = datasets.load_dataset("parquet", data_files=path, split="train", streaming=True)
        return iter(make_rows(stream.filter(str.strip, input_columns="text"), tokenizer, rank=1, world_size=2))

    whole = [row["tokens"].tolist() for row in islice(fresh(), 60)]
    for position in (1, 17, 45):
        first = fresh()
        head = [row["tokens"].tolist() for row in islice(first, position)]
        resumed = fresh()
        resumed.load_state_dict(first.state_dict())
        assert head + [row["tokens"].tolist() for row in islice(resumed, 60 - position)] == whole


FORK_SCRIPT = """
import sys
from tests.recipes.data.test_packing import *
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
tokenizer([row["text"] for row in make_stream()])  # starts the threads of `tokenizers`
print(len(take(make_loader(tokenizer, 2), 4)))
"""


@pytest.mark.launch
def test_workers_started_after_tokenizing_neither_hang_nor_warn(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    environment = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
    done = subprocess.run(
        [sys.executable, "-c", FORK_SCRIPT, tmp_path], capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.stdout.strip() == "4", done.stderr
    assert "TOKENIZERS_PARALLELISM" not in done.stderr
