import gzip
import json

import datasets
import pytest

from recipes.data import coverage
from recipes.data.corpora import Corpus, open_corpus
from recipes.data.coverage import Coverage, measure_coverage, text_bytes
from recipes.data.packing import build_rows_loader
from tokenizer.bpe import train_tokenizer

ROW = 33
TEXTS = [f"Text {i}. " + "The sky is blue and the sea is deep. " * (1 + i % 7) for i in range(3000)]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 300)


def write(path, texts, extra=""):
    rows = [{"id": i, "other": extra, "text": text} for i, text in enumerate(texts)]
    if path.suffix == ".parquet":
        datasets.Dataset.from_list(rows).to_parquet(path)
    elif path.suffix == ".txt":
        path.write_text("\n\n".join(texts))
    else:
        with (gzip.open if path.suffix == ".gz" else open)(path, "wt") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return str(path)


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.jsonl.gz", "a.txt", "A.PARQUET", "a.json"])
@pytest.mark.parametrize("extra", ["", "not text " * 20])
def test_the_text_of_a_file_is_estimated_within_a_tenth(tmp_path, name, extra):
    path = tmp_path / name.lower()
    write(path, TEXTS, extra)
    if name != path.name:
        path = path.rename(tmp_path / name)
    expected = sum(len(text.encode()) for text in TEXTS)
    assert text_bytes(str(path), "text") == pytest.approx(expected, rel=0.1)


@pytest.mark.slow
def test_a_small_corpus_is_counted_and_a_large_one_estimated(tmp_path, tokenizer, monkeypatch):
    for number in range(4):
        write(tmp_path / f"part{number}.jsonl", TEXTS)
    corpus = open_corpus(str(tmp_path))
    counted = measure_coverage(corpus, tokenizer, ROW)
    monkeypatch.setattr(coverage, "SAMPLE_BYTES", 100_000)
    estimated = measure_coverage(corpus, tokenizer, ROW)
    assert (counted.exact, estimated.exact) == (True, False)
    assert counted.tokens == sum(len(tokenizer(text)["input_ids"]) for text in TEXTS) * 3
    assert estimated.tokens == pytest.approx(counted.tokens, rel=0.05)
    assert estimated.kept == pytest.approx(counted.kept, rel=0.05)


def test_best_fit_keeps_the_share_that_the_rows_of_one_pass_hold(tmp_path, tokenizer):
    write(tmp_path / "a.jsonl", TEXTS)
    write(tmp_path / "b.jsonl", TEXTS[:50])
    corpus = open_corpus(str(tmp_path))
    rows = sum(len(batch["tokens"]) for batch in build_rows_loader(corpus.train, tokenizer, ROW, 8, epochs=1))
    measured = measure_coverage(corpus, tokenizer, ROW)
    assert measured.kept * measured.tokens == rows * ROW
    assert measured.kept < 0.9


def test_a_dataset_of_unknown_size_is_not_read(tokenizer):
    def fail():
        raise AssertionError("read")
        yield

    stream = datasets.IterableDataset.from_generator(fail)
    assert measure_coverage(Corpus("user/hub", stream, stream), tokenizer, ROW) is None


def test_documents_are_split_where_a_run_would_see_their_beginnings_again():
    seen = Coverage(tokens=1000, exact=False, kept=0.5)
    assert seen.choose_packing(500) == "best_fit"
    assert seen.choose_packing(501) == "best_fit_split"
    assert seen.line(250, "best_fit") == (
        "about 1,000 tokens, of which best fit keeps 50%; this run sees 25.0%, nothing twice"
    )
    assert seen.line(4000, "best_fit_split") == "about 1,000 tokens; this run sees 100% of them 4.0 times"
    assert seen.line(4000, "best_fit").endswith("this run sees 50% of them 8.0 times")


def test_a_corpus_that_would_lose_most_to_cropping_says_how_to_keep_all():
    books = Coverage(tokens=100_000, exact=True, kept=0.02)
    assert "best fit keeps 2% (documents are longer than a row; --packing concatenated keeps all)" in books.line(
        500, "best_fit"
    )
    assert "concatenated" not in books.line(500, "concatenated")
    assert "concatenated" not in Coverage(tokens=100_000, exact=True, kept=0.6).line(500, "best_fit")


def test_a_corpus_that_does_not_fill_a_row_says_so():
    tiny = Coverage(tokens=17, exact=True, kept=0.0)
    assert "17 tokens" in tiny.line(500, "best_fit") and "do not fill one row" in tiny.line(500, "best_fit")


def test_books_are_read_in_random_order_where_a_run_would_see_their_beginnings_again():
    books = Coverage(tokens=100_000, exact=True, kept=0.02)
    assert books.choose_packing(2_000) == "best_fit"
    assert books.choose_packing(2_001) == "concatenated"


def test_a_single_long_text_is_counted_not_estimated(tmp_path, tokenizer, monkeypatch):
    (tmp_path / "a.txt").write_text("\n\n".join(TEXTS))
    monkeypatch.setattr(coverage, "SAMPLE_BYTES", 1000)
    corpus = open_corpus(str(tmp_path / "a.txt"), document_separator="whole")
    (text,) = [row["text"] for row in corpus.train]
    measured = measure_coverage(corpus, tokenizer, ROW)
    assert (measured.tokens, measured.exact) == (len(tokenizer(text)["input_ids"]), True)
    assert measured.kept < 0.01
