"""Plain text as a corpus: where its documents end, what is held out, and what is damaged."""

import gzip

import pytest

from recipes.data.corpora import open_corpus
from recipes.data.readers import read_documents
from tests.recipes.data.corpus_files import (
    PLAY,
    PROSE,
    TEXTS,
    fails,
    texts_of,
    train_texts,
    write_jsonl,
    write_jsonl_gz,
)


def test_text_files_become_documents_of_whole_paragraphs(tmp_path):
    paragraphs = [f"Paragraph {number}:\n" + "word " * 100 for number in range(20)]
    (tmp_path / "a.txt").write_text("\n\n".join(paragraphs))
    (tmp_path / "b.txt").write_text("The end.")
    documents = train_texts(tmp_path)
    assert "\n\n".join(documents) == "\n\n".join(paragraphs)
    assert all(len(text) >= 2_000 for text in documents[:-1])
    assert all(text.startswith("Paragraph") for text in documents)


def test_text_without_blank_lines_is_cut_at_line_ends(tmp_path):
    lines = [f"Line {number} " + "word " * 50 for number in range(400)]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    (tmp_path / "b.txt").write_text("The end.")
    documents = train_texts(tmp_path)
    assert len(documents) > 3
    assert "\n".join(documents) == "\n".join(lines)


def separated(path, separator, read="train"):
    return texts_of(getattr(open_corpus(str(path), document_separator=separator), read))


@pytest.mark.parametrize(
    ("separator", "documents"),
    [
        ("whole", ["\n a\r\nb\n\n\n c \n\n"]),  # not a character is changed
        ("lines", [" a", "b", " c "]),
        ("blank_lines", [" a\r\nb", " c "]),
        ("auto", [" a\r\nb\n\n\n c "]),
    ],
)
def test_a_text_file_is_cut_into_documents_as_asked_for(tmp_path, separator, documents):
    (tmp_path / "a.txt").write_bytes(b"\n a\r\nb\n\n\n c \n\n")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"The end."))
    assert separated(tmp_path, separator) == documents
    assert separated(tmp_path, separator, "validation") == ["The end."]


def test_the_last_tenth_of_a_whole_text_is_held_out(tmp_path):
    path = tmp_path / "play.txt"
    path.write_text(PLAY)
    corpus = open_corpus(str(path), document_separator="whole")
    (train,), (validation,) = texts_of(corpus.train), texts_of(corpus.validation)
    assert train + validation == PLAY
    assert len(train) == int(0.9 * len(PLAY))
    assert corpus.files.line() == "trained on play.txt; held out for validation: the last 10% of it"
    assert corpus.files.names() == {"train": ["play.txt"], "validation": ["play.txt"]}
    stream, again = (open_corpus(str(path), document_separator="whole").train for _ in range(2))
    assert texts_of(stream) == texts_of(again) == [train]


def test_a_text_by_lines_is_held_out_by_hash_as_rows_are(tmp_path):
    lines = [f"Line {number}" for number in range(400)]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    corpus = open_corpus(str(tmp_path / "a.txt"), document_separator="lines")
    assert corpus.files.line() == "trained on a.txt; held out for validation: 1% of it"
    assert sorted(texts_of(corpus.train) + texts_of(corpus.validation)) == sorted(lines)


@pytest.mark.parametrize(("text", "said"), [("a", "too short"), ("word word\n\n", "too short"), (" \n", "no text in")])
def test_a_text_with_nothing_to_hold_out_is_named(tmp_path, text, said):
    path = tmp_path / "short.txt"
    path.write_text(text)
    message = fails(path, document_separator="whole")
    assert said in message and str(path) in message


def test_a_damaged_line_of_a_whole_text_is_named_or_left_out(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\ntw\xff\nthree three three\n")
    assert fails(path, document_separator="whole").startswith(f"{path}, line 2: not valid UTF-8")
    corpus = open_corpus(str(path), skip_damaged=True, document_separator="whole")
    assert "".join(texts_of(corpus.train) + texts_of(corpus.validation)) == "one\nthree three three\n"


def test_rows_of_other_files_stay_documents(tmp_path):
    write_jsonl(tmp_path / "a.jsonl")
    for separator in ("whole", "lines", "blank_lines"):
        corpus = open_corpus(str(tmp_path / "a.jsonl"), document_separator=separator)
        assert corpus.document_separator == "auto"
        assert texts_of(corpus.train) == separated(tmp_path / "a.jsonl", "auto")


def test_a_damaged_line_of_text_is_named(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("Erste Zeile\nZweite Zeile mit Umläuten\n".encode("latin-1"))
    assert fails(path).startswith(f"{path}, line 2: not valid UTF-8")


def test_compressed_text_is_read_as_text_is(tmp_path):
    (tmp_path / "a.txt").write_bytes(PROSE)
    (tmp_path / "B.TXT.GZ").write_bytes(gzip.compress(PROSE))
    one, two = (list(read_documents([str(tmp_path / name)], "text", False)) for name in ("a.txt", "B.TXT.GZ"))
    assert one == two and len(one) > 3
    (tmp_path / "B.TXT.GZ").write_bytes(gzip.compress(PROSE)[:-20])
    assert fails(tmp_path / "B.TXT.GZ").startswith(f"{tmp_path / 'B.TXT.GZ'}, after line ")


def test_a_cut_off_gzip_file_is_named_and_skipping_keeps_what_came_before(tmp_path, caplog):
    path = tmp_path / "a.jsonl.gz"
    write_jsonl_gz(path)
    path.write_bytes(path.read_bytes()[:-200])
    write_jsonl(tmp_path / "b.jsonl")
    message = fails(tmp_path)
    assert message.startswith(f"{path}, after line ")
    kept = train_texts(tmp_path, skip_damaged=True)
    assert kept == TEXTS[: len(kept)]
    assert len(kept) > 50
    assert "skipped 1 damaged" in caplog.text
