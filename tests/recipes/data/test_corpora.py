import logging
import random
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recipes.data.corpora import open_corpus
from recipes.data.primer import primer_documents
from recipes.data.readers import check_file, read_documents
from recipes.data.splits import document_hash
from recipes.utils.errors import InputError
from tests.recipes.data.corpus_files import (
    TEXTS,
    WRITERS,
    fails,
    texts_of,
    train_texts,
    write_json_list,
    write_jsonl,
    write_jsonl_gz,
    write_parquet,
)

# What can be opened


@pytest.mark.parametrize("name", WRITERS)
def test_a_single_file_of_every_kind_is_split_into_two_disjoint_parts(tmp_path, name):
    WRITERS[name](tmp_path / name)
    corpus = open_corpus(str(tmp_path / name))
    train, validation = texts_of(corpus.train), texts_of(corpus.validation)
    assert corpus.train.column_names == corpus.validation.column_names == ["text"]
    assert sorted(train + validation) == sorted(TEXTS)
    assert 1 <= len(validation) <= 20
    assert train == [text for text in TEXTS if text in set(train)], "order is kept"


def test_the_hash_split_depends_on_neither_process_nor_order_nor_kind_of_file(tmp_path):
    write_jsonl(tmp_path / "one.jsonl")
    write_parquet(tmp_path / "two.parquet", TEXTS[::-1])
    one, two = (texts_of(open_corpus(str(tmp_path / name)).validation) for name in ("one.jsonl", "two.parquet"))
    assert one == two[::-1]
    assert document_hash("a text") == 6008937231813765456


@pytest.mark.parametrize("count", [2, 3, 10])
def test_a_few_documents_still_give_validation_a_document(tmp_path, count):
    write_jsonl(tmp_path / "data.jsonl", TEXTS[:count])
    corpus = open_corpus(str(tmp_path / "data.jsonl"))
    assert len(texts_of(corpus.validation)) == 1
    assert len(texts_of(corpus.train)) == count - 1


def test_the_last_of_several_files_is_validation_at_any_depth(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / ".cache").mkdir()
    write_jsonl(tmp_path / "a.jsonl", ["one"])
    write_parquet(tmp_path / "b" / "x.parquet", ["two"])
    write_jsonl_gz(tmp_path / "b" / "y.jsonl.gz", ["three"])
    write_jsonl(tmp_path / ".cache" / "z.jsonl", ["hidden"])
    corpus = open_corpus(str(tmp_path))
    assert texts_of(corpus.train) == ["one", "two"]
    assert texts_of(corpus.validation) == ["three"]
    assert corpus.train.num_shards == 2


def test_another_text_column_can_be_chosen(tmp_path):
    write_parquet(tmp_path / "a.parquet", ["one"], column="content")
    write_parquet(tmp_path / "b.parquet", ["two"], column="content")
    corpus = open_corpus(str(tmp_path), text_column="content")
    assert (texts_of(corpus.train), texts_of(corpus.validation)) == (["one"], ["two"])


def test_null_and_empty_texts_are_left_out_in_silence(tmp_path, caplog):
    write_parquet(tmp_path / "a.parquet", ["one", None, "", " \n", "two"])
    write_jsonl(tmp_path / "b.jsonl", [None, "three"])
    corpus = open_corpus(str(tmp_path))
    assert texts_of(corpus.train) == ["one", "two"]
    assert texts_of(corpus.validation) == ["three"]
    assert not caplog.records


def test_a_stream_resumes_in_the_middle_of_a_file(tmp_path):
    for name in ("a.parquet", "b.parquet", "c.parquet"):
        write_parquet(tmp_path / name, [f"{name} {text}" for text in TEXTS], row_group_size=50)
    whole = train_texts(tmp_path)
    stream = open_corpus(str(tmp_path)).train
    head = [row["text"] for row in islice(stream, 510)]
    resumed = open_corpus(str(tmp_path)).train
    resumed.load_state_dict(stream.state_dict())
    assert head + texts_of(resumed) == whole


@pytest.mark.slow
def test_the_primer_needs_no_files():
    corpus = open_corpus("primer")
    assert texts_of(corpus.train) == primer_documents("train")
    assert texts_of(corpus.validation) == primer_documents("validation")


# What cannot


@pytest.mark.parametrize("name", [*WRITERS, "data.txt"])
def test_an_empty_file_is_named(tmp_path, name):
    (tmp_path / name).touch()
    assert fails(tmp_path / name).startswith(f"{tmp_path / name}: the file is empty")


def test_files_without_any_text_are_named(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", ["", None])
    assert f"no text in {tmp_path / 'a.jsonl'}" in fails(tmp_path / "a.jsonl")
    write_jsonl(tmp_path / "b.jsonl")
    assert f"no text in {tmp_path / 'a.jsonl'}" in fails(tmp_path)


def test_a_single_document_cannot_be_split(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", ["alone"])
    assert "single document" in (told := fails(tmp_path / "a.jsonl")) and "whole" not in told
    (tmp_path / "a.txt").write_text("one text")
    assert fails(tmp_path / "a.txt").endswith("or --document_separator whole to hold out its last tenth.")


@pytest.mark.parametrize("name", WRITERS)
def test_a_missing_column_lists_those_there_before_any_reading(tmp_path, name):
    WRITERS[name](tmp_path / ("0" + name))
    WRITERS[name](tmp_path / name)
    with pytest.raises(InputError, match=r"no column 'content'; the columns there are .*text"):
        open_corpus(str(tmp_path), text_column="content")


def test_a_parquet_column_that_is_not_text_is_told_before_any_reading(tmp_path):
    write_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="column 'number' holds int64"):
        open_corpus(str(tmp_path), text_column="number")


DAMAGED_LINES = [
    (b'{"text": "half', "not valid JSON"),
    (b'{"text": 5}', "int where text is expected"),
    (b'{"other": "x", "more": 1}', "no column 'text'; the columns there are other, more"),
    (b"[1, 2]", "list where an object"),
]


@pytest.mark.parametrize(("line", "reason"), DAMAGED_LINES)
def test_a_damaged_json_line_is_named_by_file_and_line(tmp_path, line, reason):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "one"}\n\n' + line + b'\n{"text": "two"}\n')
    message = fails(path)
    assert message.startswith(f"{path}, line 3: ")
    assert reason in message


def test_skip_damaged_leaves_out_the_damaged_lines_and_warns_once_with_their_number(tmp_path, caplog):
    lines = [b'{"text": "one"}', *(line for line, _ in DAMAGED_LINES), b'{"text": "two"}']
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    write_jsonl(tmp_path / "b.jsonl")
    corpus = open_corpus(str(tmp_path), skip_damaged=True)
    with caplog.at_level(logging.WARNING):
        assert texts_of(corpus.train) == texts_of(corpus.train) == ["one", "two"]
    (record,) = caplog.records
    assert record.message.startswith(f"{tmp_path / 'a.jsonl'}: skipped 4 damaged, the first at line 2: not valid JSON")


def test_a_damaged_json_list_is_named_by_line(tmp_path):
    write_json_list(tmp_path / "a.json")
    path = tmp_path / "b.json"
    path.write_text('[{"text": "one"},\n {"text": "two"}\n {"text": "three"}]')
    assert fails(path).startswith(f"{path}, line 3: not valid JSON")
    path.write_text('[{"text": "one"}, {"text": 2}]')
    assert fails(path).startswith(f"{path}, row 1: int where text")


def damage_row_group(path, group):
    chunk = pq.ParquetFile(path).metadata.row_group(group).column(1)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(content)


def test_a_damaged_row_group_is_named_and_skipping_keeps_the_others(tmp_path, caplog):
    path = tmp_path / "a.parquet"
    write_parquet(path, row_group_size=100)
    damage_row_group(path, 2)
    write_parquet(tmp_path / "b.parquet")
    assert fails(tmp_path).startswith(f"{path}, row group 2 (rows 200 to 299): unreadable")
    assert train_texts(tmp_path, skip_damaged=True) == TEXTS[:200] + TEXTS[300:]
    assert "skipped 1 damaged, the first at row group 2" in caplog.text


def test_a_parquet_file_without_its_footer_is_known_at_opening(tmp_path, caplog):
    for name in ("a.parquet", "b.parquet", "c.parquet"):
        write_parquet(tmp_path / name, [name])
    path = tmp_path / "b.parquet"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(InputError, match=rf"^{path}: not a readable parquet file"):
        open_corpus(str(tmp_path))
    corpus = open_corpus(str(tmp_path), skip_damaged=True)
    assert (texts_of(corpus.train), texts_of(corpus.validation)) == (["a.parquet"], ["c.parquet"])
    assert f"{path}: skipped the whole file" in caplog.text


@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_damaged_in_a_parquet_file_can_be_skipped(tmp_path, seed):
    path, rng = tmp_path / "a.parquet", random.Random(seed)
    write_parquet(path, row_group_size=100)
    content = bytearray(path.read_bytes())
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    for _ in range(rng.randint(1, 8)):
        content[rng.randrange(footer if seed % 2 else 0, len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    try:
        if check_file(str(path), "text") is None:
            list(read_documents([str(path)], "text", skip_damaged=True))
    except InputError as error:
        assert "no column 'text'" in str(error)


@pytest.mark.parametrize(
    "kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_text_may_be_of_any_of_arrows_kinds(tmp_path, kind):
    pq.write_table(pa.table({"text": pa.array(TEXTS).cast(kind)}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": pa.nulls(5)}), tmp_path / "b.parquet")
    assert list(read_documents([f"{tmp_path}/a.parquet", f"{tmp_path}/b.parquet"], "text", False)) == TEXTS
    assert check_file(f"{tmp_path}/b.parquet", "text") is None


@pytest.mark.parametrize("texts", [[b"bytes"], [{"text": "nested"}], [["list"]], [5]], ids=str)
def test_a_column_of_another_kind_is_told_before_any_reading(tmp_path, texts):
    write_parquet(tmp_path / "a.parquet", texts)
    assert "column 'text' holds" in fails(tmp_path / "a.parquet")


def test_nothing_left_after_skipping_is_an_error(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    (tmp_path / "b.parquet").write_bytes(b"nor this")
    assert "none of the 2 data files can be read" in fails(tmp_path, skip_damaged=True)


# Real data


TEXTBOOKS = Path(__file__).parents[4] / "shared" / "data" / "textbooks"


@pytest.mark.skipif(not TEXTBOOKS.exists(), reason="the textbooks are not on this machine")
def test_real_shards_open_with_the_last_one_held_out():
    corpus = open_corpus(str(TEXTBOOKS))
    assert corpus.train.num_shards == len(list(TEXTBOOKS.glob("*.parquet"))) - 1
    assert len(texts_of(corpus.validation)) > 100


def test_the_layout_of_the_hub_decides_what_is_held_out(tmp_path):
    """As a download leaves it: test is not trained on, and neither is it the last file that is held out."""
    parts = {"train-00000-of-00002": TEXTS[:100], "train-00001-of-00002": TEXTS[100:200], "test-00000": TEXTS[200:300]}
    (tmp_path / "data").mkdir()
    for name, texts in parts.items():
        write_parquet(tmp_path / "data" / f"{name}.parquet", texts)
    write_parquet(tmp_path / "data" / "notes.parquet", TEXTS[300:])
    corpus = open_corpus(str(tmp_path))
    assert texts_of(corpus.train) == TEXTS[:200]
    assert texts_of(corpus.validation) == TEXTS[200:300]
    assert corpus.files.line() == (
        "trained on train-00000-of-00002.parquet, train-00001-of-00002.parquet; held out for validation: "
        "test-00000.parquet; left out, by name: notes.parquet"
    )
    assert corpus.files.names()["validation"] == ["test-00000.parquet"]


def test_the_last_of_many_shards_is_the_one_with_the_highest_number(tmp_path):
    for number in range(12):
        write_jsonl(tmp_path / f"shard_{number}.jsonl", TEXTS[number * 10 : number * 10 + 10])
    corpus = open_corpus(str(tmp_path))
    assert texts_of(corpus.train) == TEXTS[:110]
    assert texts_of(corpus.validation) == TEXTS[110:120]
    assert corpus.files.line() == (
        "trained on shard_0.jsonl ... shard_10.jsonl (11 files); held out for validation: shard_11.jsonl"
    )


def test_one_file_says_that_a_hundredth_of_it_is_held_out(tmp_path):
    write_jsonl(tmp_path / "mine.jsonl")
    line = open_corpus(str(tmp_path / "mine.jsonl")).files.line()
    assert line == "trained on mine.jsonl; held out for validation: 1% of it"
