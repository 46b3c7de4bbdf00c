"""Training from a prepared corpus: who reads which documents, exact resuming, and every kind of damage."""

import json
import pickle
from collections import Counter

import pytest
import torch

from recipes.data import packing as module
from recipes.data import pools
from recipes.data.corpora import open_corpus
from recipes.data.coverage import measure_coverage
from recipes.data.held_out import read_validation_rows
from recipes.data.packing import build_rows_loader
from recipes.data.pools import POOLS
from recipes.data.prepared import MANIFEST, find_prepared
from recipes.data.tokenized import open_shard
from recipes.training.fingerprint import differences, fingerprint_corpus
from recipes.utils.errors import InputError
from tests.recipes.data.prepared_corpora import documents_of, prepare, write_texts
from tokenizer.bpe import train_tokenizer
from tokenizer.encode import encoding_fingerprint

TEXTS = [f"Text {number}. " + "The sky is blue and the sea is deep. " * (number % 5) for number in range(400)]
ROW = 33


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 300)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_texts(tmp_path_factory.mktemp("source") / "texts.jsonl", TEXTS)


@pytest.fixture
def corpus(source, tokenizer, tmp_path):
    return prepare(source, tokenizer, tmp_path / "prepared", shard_tokens=3000)


@pytest.mark.parametrize("first", [0, 7, 390])
@pytest.mark.parametrize("readers", [1, 3])
def test_document_i_goes_to_reader_i_mod_n(corpus, first, readers):
    documents = documents_of(corpus.train)
    shares = [corpus.train.begin_at(first).share(reader, readers) for reader in range(readers)]
    read = [[tuple(map(int, ids)) for ids in share] for share in shares]
    assert read == [documents[first + reader :: readers] for reader in range(readers)]
    assert max(share.read_to for share in shares) == len(documents)


def test_tokens_and_documents_are_counted_from_either_end(corpus):
    ends = [0]
    for document in documents_of(corpus.train):
        ends.append(ends[-1] + len(document))
    assert [corpus.train.tokens_before(number) for number in range(len(ends))] == ends
    for tokens in range(0, ends[-1], 17):
        assert corpus.train.document_after(tokens) == next(n for n, end in enumerate(ends) if end >= tokens)
    assert corpus.train.document_after(ends[-1] + 1) == len(corpus.train) == len(ends) - 1
    assert corpus.train.document_after(ends[-1]) == len(corpus.train)


def rows_of(loader, most=None):
    found = []
    for batch in loader:
        found.append(batch)
        if len(found) == most:
            break
    return found


@pytest.mark.parametrize("packing", POOLS)
def test_rows_of_the_same_documents_in_the_same_order_are_those_of_text(tokenizer, corpus, packing, tmp_path):
    inverse = [tokenizer.decode(ids[1:]) for ids in documents_of(corpus.train)]
    write_texts(tmp_path / "a.jsonl", inverse)
    write_texts(tmp_path / "b.jsonl", TEXTS[:2])
    text = build_rows_loader(
        open_corpus(str(tmp_path / "[ab].jsonl")).train, tokenizer, ROW, 2, packing=packing, epochs=2
    )
    prepared = build_rows_loader(corpus.train, tokenizer, ROW, 2, packing=packing, epochs=2)
    for one, other in zip(text, prepared, strict=True):
        assert torch.equal(one["tokens"], other["tokens"]) and one["epoch"] == other["epoch"]


@pytest.mark.parametrize("packing", POOLS)
@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_rows_equal_uninterrupted_rows(tokenizer, corpus, packing, workers):
    def build(rank):
        documents = corpus.train.begin_at(5)
        options = {"rank": rank, "world_size": 2, "num_workers": workers, "packing": packing}
        return build_rows_loader(documents, tokenizer, ROW, 2, **options)

    for rank in (0, 1):
        whole = rows_of(build(rank), 240)  # more than one epoch
        for stop in (1, 100, 200):
            head = build(rank)
            rows_of(head, stop)
            tail = build(rank)
            tail.load_state_dict(head.state_dict())
            again = rows_of(tail, 240 - stop)
            assert all(torch.equal(a["tokens"], b["tokens"]) for a, b in zip(whole[stop:], again, strict=True))
            assert [a["read_to"] for a in whole[stop:]] == [b["read_to"] for b in again]
            assert tail.read_to == len(corpus.train)
    assert whole[-1]["epoch"] > 0


@pytest.mark.parametrize("packing", POOLS)
def test_runs_that_follow_each_other_train_on_other_documents(tokenizer, corpus, packing, monkeypatch):
    """Three runs of two readers: the documents in their rows are of the range that was read, and no other's."""
    monkeypatch.setattr(module, "READ_DOCUMENTS", 8)
    monkeypatch.setattr(pools, "POOL_DOCUMENTS", 5)
    start, read = 0, []
    documents = documents_of(corpus.train)
    for _ in range(3):
        loaders = [
            build_rows_loader(
                corpus.train.begin_at(start), tokenizer, ROW, 1, rank=rank, world_size=2, packing="concatenated"
            )
            for rank in (0, 1)
        ]
        rows = [row for loader in loaders for row in rows_of(loader, 20)]
        end = max(loader.read_to for loader in loaders)
        assert start < end <= len(documents)
        numbers = numbers_in(rows, tokenizer)
        assert numbers <= numbers_of(documents[start:end], tokenizer)
        read.append(numbers)
        start = end
    assert not (read[0] & read[1] or read[1] & read[2] or read[0] & read[2])
    assert all(read)


def numbers_in(batches, tokenizer):
    """The numbers of the texts (`Text 12.`) that begin in rows and are not cut."""
    found = set()
    for batch in batches:
        for part in tokenizer.decode(batch["tokens"][0]).split("<|bos|>Text ")[1:]:
            if "." in part:
                found.add(part.split(".")[0])
    return found


def numbers_of(documents, tokenizer):
    return {tokenizer.decode(ids[1:]).removeprefix("Text ").split(".")[0] for ids in documents}


def test_a_later_epoch_reads_what_this_run_began_with(tokenizer, corpus):
    first = len(corpus.train) - 30
    loader = build_rows_loader(corpus.train.begin_at(first), tokenizer, ROW, 1, packing="concatenated", epochs=3)
    numbers = numbers_in(rows_of(loader), tokenizer)
    assert numbers <= numbers_of(documents_of(corpus.train)[first:], tokenizer)
    assert loader.read_to == len(corpus.train)


def test_a_position_of_text_and_one_of_a_prepared_corpus_do_not_mix(tokenizer, corpus, source):
    prepared = build_rows_loader(corpus.train, tokenizer, ROW, 1)
    text = build_rows_loader(open_corpus(str(source)).train, tokenizer, ROW, 1)
    rows_of(prepared, 1), rows_of(text, 1)
    with pytest.raises(InputError, match="saved with corpus prepared and does not fit corpus streamed"):
        build_rows_loader(open_corpus(str(source)).train, tokenizer, ROW, 1).load_state_dict(prepared.state_dict())
    old = text.state_dict()
    del old["corpus"]  # older checkpoints do not say
    loader = build_rows_loader(corpus.train, tokenizer, ROW, 1)
    loader.load_state_dict(old)
    with pytest.raises(InputError, match="by a run that read text"):
        rows_of(loader, 1)


def test_pickling_copies_no_tokens_and_restoring_opens_one_shard(tokenizer, corpus):
    assert len(corpus.train.shards) > 3
    documents_of(corpus.train)
    assert len(pickle.dumps(corpus.train)) < 5000
    open_shard.cache_clear()
    share = corpus.train.share(0, 1)
    share.load_state_dict({"position": len(corpus.train) - 2})
    assert len(list(share)) == 2
    assert open_shard.cache_info().misses == 1


def test_validation_rows_are_those_of_text(tokenizer, corpus, source):
    rows = read_validation_rows(corpus.validation, tokenizer, 32, 10_000)
    assert torch.equal(rows, read_validation_rows(open_corpus(str(source)).validation, tokenizer, 32, 10_000))


def test_coverage_is_exact(tokenizer, corpus):
    measured = measure_coverage(corpus, tokenizer, ROW)
    assert measured.exact and measured.tokens == sum(map(len, documents_of(corpus.train)))
    rows = sum(len(batch["tokens"]) for batch in build_rows_loader(corpus.train, tokenizer, ROW, 8, epochs=1))
    assert measured.kept * measured.tokens == pytest.approx(rows * ROW)


# Bad input


def fails(directory, tokenizer, **options):
    with pytest.raises(InputError) as error:
        fingerprint_corpus(open_corpus(str(directory), tokenizer=tokenizer, **options))
    assert "\n" not in str(error.value)
    return str(error.value)


def edit(directory, **changes):
    manifest = json.loads((directory / MANIFEST).read_text())
    (directory / MANIFEST).write_text(json.dumps(manifest | changes))


def test_the_fingerprint_is_of_the_shards_and_not_of_their_place(corpus, tokenizer, tmp_path, source):
    before = fingerprint_corpus(corpus)
    (tmp_path / "prepared").rename(tmp_path / "moved")
    assert fingerprint_corpus(open_corpus(str(tmp_path / "moved"), tokenizer=tokenizer)) == before
    other = prepare(source, tokenizer, tmp_path / "other", shard_tokens=3000, seed=1)
    assert differences(before, fingerprint_corpus(other))[0] == "train-00000.arrow: other content"


def test_another_tokenizer_is_refused_naming_both(corpus, tmp_path):
    other = train_tokenizer(TEXTS, 290)
    other.name_or_path = "the_other"
    message = fails(tmp_path / "prepared", other)
    assert "of 300 tokens. the_other of 290 is another" in message


def test_a_tokenizer_is_known_by_what_it_encodes(tokenizer, tmp_path):
    tokenizer.model_max_length = 17
    tokenizer.save_pretrained(tmp_path / "a")
    (tmp_path / "a" / "chat_template.jinja").write_text("another")
    again = type(tokenizer).from_pretrained(tmp_path / "a")
    assert encoding_fingerprint(again) == encoding_fingerprint(tokenizer)
    content = json.loads((tmp_path / "a" / "tokenizer.json").read_text())
    merges = content["model"]["merges"]
    merges[0], merges[-1] = merges[-1], merges[0]
    (tmp_path / "a" / "tokenizer.json").write_text(json.dumps(content))
    assert encoding_fingerprint(type(tokenizer).from_pretrained(tmp_path / "a")) != encoding_fingerprint(tokenizer)


@pytest.mark.parametrize("name", ["train-00001.arrow", "validation-00000.arrow"])
def test_a_missing_short_or_changed_shard_is_named(corpus, tokenizer, tmp_path, name):
    directory, path = tmp_path / "prepared", tmp_path / "prepared" / name
    content = path.read_bytes()
    for place in (200, len(content) // 2, -1):
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(changed)
        assert f"{path} is damaged (it has other bytes than were written)" in fails(directory, tokenizer)
    path.write_bytes(content[:-8])
    assert f"{path} is damaged (it has {len(content) - 8:,} of {len(content):,} bytes)" in fails(directory, tokenizer)
    path.unlink()
    assert f"{path}, which the manifest names, is missing" in fails(directory, tokenizer)


def test_a_manifest_that_is_missing_broken_or_of_another_version_is_told(corpus, tokenizer, tmp_path):
    directory = tmp_path / "prepared"
    path = directory / MANIFEST
    whole = path.read_text()
    for broken in (
        "",
        "{",
        "[]",
        "null",
        '{"format": "tokenized documents"}',
        whole[:-50],
        whole.replace('"tokens": ', '"tokens": 1'),
    ):
        path.write_text(broken)
        assert fails(directory, tokenizer).startswith(f"{path} is damaged (")
    path.write_text(whole)
    edit(directory, version=2)
    assert f"{path} is of version 2, and this program reads version 1" in fails(directory, tokenizer)
    path.write_text(whole.replace("train-00000.arrow", "../../train-00000.arrow"))
    assert "a shard called" in fails(directory, tokenizer)
    path.unlink()
    assert "holds shards of a prepared corpus, and no manifest.json" in fails(directory, tokenizer)


def test_other_directories_with_a_manifest_are_data_as_before(tmp_path, tokenizer):
    for name in ("a", "b"):
        write_texts(tmp_path / f"{name}.jsonl", TEXTS[:5])
    (tmp_path / MANIFEST).write_text('{"text": "a file of the user"}')
    assert find_prepared(str(tmp_path)) is None
    assert Counter(row["text"] for row in open_corpus(str(tmp_path), tokenizer=tokenizer).train)


def test_what_needs_text_or_chooses_its_documents_says_so(corpus, tokenizer, tmp_path, source):
    message = fails(tmp_path / "prepared", None)
    assert (
        f"holds token ids and no text: give what it was made from ({source.name}" in message or str(source) in message
    )
    assert "leave out --text_column" in fails(tmp_path / "prepared", tokenizer, text_column="text")
    assert "leave out --document_separator" in fails(tmp_path / "prepared", tokenizer, document_separator="lines")
