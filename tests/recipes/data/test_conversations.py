import gzip
import json
import logging
from collections import Counter

import datasets
import pytest

from evals.tokenizer.samples import DOMAINS
from recipes.data import sources
from recipes.data.conversations import files_lines, fit_conversations, open_conversations
from recipes.data.messages import CONVERSATIONS, assistant, calculator_call, user
from recipes.data.mixtures import MIXTURES, read_mixture
from recipes.utils.errors import InputError
from tokenizer.bpe import train_tokenizer

ADDED = [user("2 + 2?"), *calculator_call("It is ", "2+2", "4"), assistant("4.")]
TALKS = [[user(f"Question {number}?"), assistant(f"Answer {number}.")] for number in range(400)]


def write(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def talks_of(spec, **options):
    return [row["messages"] for row in open_conversations(str(spec), **options)]


def first_words(spec, **options):
    """How often each conversation's first message is there."""
    return Counter(messages[0]["content"] for messages in talks_of(spec, **options))


@pytest.fixture
def talks(tmp_path):
    return write(tmp_path / "talks.jsonl", [{"messages": talk} for talk in TALKS])


@pytest.fixture
def mixture(tmp_path, monkeypatch):
    """Writes a mixture of two sources of 40 and 10 conversations, `many` and `few`, and opens it."""
    for name, count in (("many", 40), ("few", 10)):
        rows = [{"messages": [user(f"{name} {number}"), assistant("Yes.")]} for number in range(count)]
        dataset = datasets.Dataset.from_list(rows, features=CONVERSATIONS)
        monkeypatch.setitem(sources.SOURCES, name, lambda path, split, dataset=dataset: dataset)

    def counts(text, **options):
        (tmp_path / "mix.yaml").write_text(text)
        return first_words(tmp_path / "mix.yaml", **options)

    return counts


# Files of the user's


@pytest.mark.parametrize("kind", ["objects", "lists", "compressed"])
def test_a_file_of_conversations_is_split_into_two_disjoint_parts(tmp_path, kind):
    rows = TALKS if kind == "lists" else [{"messages": talk, "more": 1} for talk in TALKS]
    path = tmp_path / "talks.jsonl"
    write(path, rows)
    if kind == "compressed":
        path = tmp_path / "talks.jsonl.gz"
        path.write_bytes(gzip.compress((tmp_path / "talks.jsonl").read_bytes()))
    train, held_out = talks_of(path), talks_of(path, split="validation")
    assert sorted(train + held_out, key=str) == sorted(TALKS, key=str)
    assert 1 <= len(held_out) <= 20
    assert talks_of(path, split="test") == held_out


def test_a_dataset_has_the_one_column_messages(talks):
    assert open_conversations(talks).features == CONVERSATIONS


def test_the_order_depends_on_the_seed_alone(talks):
    assert talks_of(talks, seed=1) == talks_of(talks, seed=1) != talks_of(talks, seed=2)


def test_what_is_held_out_depends_on_neither_order_nor_repetition(talks, tmp_path):
    again = write(tmp_path / "again.jsonl", [*TALKS[::-1], *TALKS])
    assert set(first_words(again, split="validation")) == set(first_words(talks, split="validation"))
    assert not first_words(again).keys() & first_words(again, split="validation").keys()


def test_of_two_conversations_one_is_held_out(tmp_path):
    path = write(tmp_path / "two.jsonl", TALKS[:2])
    assert len(talks_of(path)) == len(talks_of(path, split="validation")) == 1


@pytest.mark.parametrize(
    ("names", "held_out"),
    [(["train.jsonl", "test.jsonl"], "test.jsonl"), (["part2.jsonl", "part10.jsonl", "part1.jsonl"], "part10.jsonl")],
)
def test_of_several_files_names_or_the_last_number_decide_what_is_held_out(tmp_path, names, held_out):
    for name in names:
        write(tmp_path / name, [[user(name), assistant("Yes.")]])
    train = [row["messages"][0]["content"] for row in open_conversations(str(tmp_path))]
    validation = [row["messages"][0]["content"] for row in open_conversations(f"{tmp_path}/*.jsonl", "validation")]
    assert sorted(train) == sorted(set(names) - {held_out})
    assert validation == [held_out]
    (line,) = files_lines(str(tmp_path))
    assert line.endswith(f"; held out for validation: {held_out}")


def test_a_directory_of_other_files_is_told(tmp_path):
    (tmp_path / "book.txt").write_text("Once upon a time.")
    with pytest.raises(InputError, match=r"book.txt does not hold conversations"):
        open_conversations(str(tmp_path))


def test_tool_calls_come_through_a_file_whole(tmp_path):
    path = write(tmp_path / "calls.jsonl", [ADDED, *TALKS])
    assert ADDED in talks_of(path) + talks_of(path, split="validation")


GOOD = json.dumps(TALKS[0])


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([GOOD, "", json.dumps([*TALKS[1], *TALKS[1][1:]])], "line 3: message 3 has role 'assistant' where 'user' is"),
        ([GOOD, '{"messages": '], "line 2: not valid JSON (Expecting value at column"),
        ([GOOD, '{"prompt": 1, "answer": 2}'], "line 2: no key 'messages'; the keys there are prompt, answer"),
        ([GOOD, "{}"], "line 2: no key 'messages'; the keys there are none"),
        (['{"messages": null}'], "line 1: a conversation is a list of messages, and this is null"),
        (["5"], "line 1: a conversation is a list of messages, and this is a number"),
        ([], " is empty"),
        (["", " "], " is empty"),
        ([GOOD], " holds a single conversation"),
        ([GOOD, GOOD], " holds a single conversation"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_by_its_line(tmp_path, lines, complaint):
    (tmp_path / "data.jsonl").write_text("".join(line + "\n" for line in lines))
    with pytest.raises(InputError) as error:
        open_conversations(str(tmp_path / "data.jsonl"))
    assert f"data.jsonl, {complaint}" in str(error.value) or f"data.jsonl{complaint}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"\xff\xfe[]\n", "line 1: not valid UTF-8"),
        (GOOD.encode("utf-16"), "line 1: not valid UTF-8"),
    ],
)
def test_a_file_that_is_not_utf8_is_told(tmp_path, content, complaint):
    (tmp_path / "data.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=complaint):
        open_conversations(str(tmp_path / "data.jsonl"))


def test_a_byte_order_mark_is_no_content(tmp_path):
    (tmp_path / "data.jsonl").write_bytes(b"\xef\xbb\xbf" + "\n".join(map(json.dumps, TALKS[:2])).encode())
    assert len(talks_of(tmp_path / "data.jsonl")) == 1


def test_a_compressed_file_that_is_cut_off_is_told(tmp_path):
    whole = gzip.compress("".join(json.dumps(talk) + "\n" for talk in TALKS).encode())
    (tmp_path / "data.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"data.jsonl.gz, after line \d+: cannot be read"):
        open_conversations(str(tmp_path / "data.jsonl.gz"))


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("gsmk", "no conversations called 'gsmk': did you mean gsm8k?"),
        ("data.csv", "no conversations called 'data.csv': known are primer, smoltalk, "),
        ("missing.jsonl", "no such file or directory: missing.jsonl"),
        (".jsonl/", "no conversations called '.jsonl/'"),
        ("missing.yaml", "missing.yaml cannot be read: No such file or directory"),
        ("primer:base", "primer: no stage 'base'. Use 'mid' or 'sft'"),
    ],
)
def test_what_does_not_exist_is_told(spec, complaint):
    with pytest.raises(InputError) as error:
        open_conversations(spec)
    assert complaint in str(error.value)


# Empty answers


EMPTY = [[user("?"), assistant(blank)] for blank in ("", " \n", "\u3000")]
EMPTY += [[*TALKS[0], user("And?"), assistant("")], [*ADDED[:-1], assistant("")]]
CALL_ALONE = [user("2 + 2?"), *calculator_call("", "2+2", "4"), assistant("4.")]


def write_smoltalk(directory, talks):
    for split in ("train", "test"):
        write(directory / f"{split}.jsonl", [{"messages": talk} for talk in talks])
    return f"smoltalk:{directory}"


def write_file(directory, talks):
    return write(directory / "some.jsonl", talks)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.parametrize("write_talks", [write_file, write_smoltalk])
def test_conversations_with_an_empty_answer_are_left_out_and_counted(write_talks, tmp_path, caplog, own_cache):
    spec = write_talks(tmp_path, [*TALKS, *EMPTY, CALL_ALONE])
    talks = talks_of(spec) + (talks_of(spec, split="validation") if write_talks is write_file else [])
    assert sorted(talks, key=str) == sorted([*TALKS, CALL_ALONE], key=str)
    counts = "left out 5 of 406 conversations, in which an answer is empty"
    assert sum(counts in message for message in caplog.messages) == 1


@pytest.mark.parametrize("write_talks", [write_file, write_smoltalk])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_nothing_but_empty_answers_is_nothing_to_learn_from(write_talks, split, tmp_path, own_cache, talks):
    spec = write_talks(tmp_path, EMPTY * 10)
    (tmp_path / "mix.yaml").write_text(f"[{{source: '{talks}'}}, {{source: '{spec}'}}]")
    for each in (spec, tmp_path / "mix.yaml"):
        with pytest.raises(InputError) as error:
            open_conversations(str(each), split)
        assert str(error.value).startswith(spec.removeprefix("smoltalk:"))
        assert "there is nothing to learn from: in each of 50 conversations an answer is empty" in str(error.value)


# Mixtures


def test_by_default_each_source_is_seen_once(mixture):
    counts = mixture("[{source: many}, {source: few}]")
    assert len(counts) == 50 and set(counts.values()) == {1}


def test_epochs_may_be_fractional(mixture):
    counts = mixture("[{source: many, epochs: 0.5}, {source: few, epochs: 2.3}]")
    assert sum(name.startswith("many") for name in counts.elements()) == 20
    few = Counter({name: count for name, count in counts.items() if name.startswith("few")})
    assert len(few) == 10 and sorted(few.values()) == [2] * 7 + [3] * 3, "none is seen more often than once more"


def test_weights_are_shares_and_the_mixture_is_as_large_as_no_repetition_allows(mixture):
    counts = mixture("[{source: many, weight: 3}, {source: few, weight: 1}]")
    assert set(counts.values()) == {1}
    assert Counter(name.split()[0] for name in counts) == {"many": 30, "few": 10}


def test_rows_caps_a_source_before_its_epochs(mixture):
    counts = mixture("[{source: many, rows: 5, epochs: 2}, {source: few, rows: 100}]")
    assert Counter(name.split()[0] for name in counts) == {"many": 5, "few": 10}
    assert {counts[name] for name in counts if name.startswith("many")} == {2}


def test_held_out_conversations_are_never_repeated(mixture):
    counts = mixture("[{source: many, epochs: 0.5}, {source: few, epochs: 3}]", split="validation")
    assert Counter(name.split()[0] for name in counts) == {"many": 20, "few": 10}
    assert set(counts.values()) == {1}


def test_a_mixture_is_shuffled_across_its_sources_by_the_seed(tmp_path, talks):
    (tmp_path / "mix.yaml").write_text(f"[{{source: {talks}}}, {{source: identity}}]")
    one, again, other = (talks_of(tmp_path / "mix.yaml", seed=seed) for seed in (1, 1, 2))
    assert one == again != other
    assert sorted(one, key=str) == sorted(other, key=str)
    asked = [talk[0]["content"].startswith("Question") for talk in one]
    assert 50 < sum(asked[:150]) < 130, "both sources from the start on"


def test_a_part_may_name_its_path_apart(tmp_path):
    (tmp_path / "mix.yaml").write_text("[{source: gsm8k, path: /nowhere}]")
    with pytest.raises(InputError, match="gsm8k: no such directory: /nowhere"):
        open_conversations(str(tmp_path / "mix.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "mix.yaml is empty"),
        ("source: gsm8k", "a mixture is a list of entries"),
        ("[{source: many", "line 1: not valid YAML"),
        ("[many]", "entry 1 names no source"),
        ("[{source: many}, {epochs: 2}]", "entry 2 names no source"),
        ("[{source: many, wieght: 2}]", "entry 1: unknown key wieght: did you mean weight?"),
        ("[{source: many, 1: 2}]", "entry 1: unknown key 1: known are source, path, epochs, weight, rows."),
        ("[{source: many, epochs: 0}]", "entry 1: epochs is 0 where a number above 0 is expected"),
        ("[{source: many, epochs: .inf}]", "entry 1: epochs is inf where a number above 0 is expected"),
        ("[{source: many, epochs: yes}]", "entry 1: epochs is True where a number above 0 is expected"),
        ("[{source: many, weight: '2'}]", "entry 1: weight is '2' where a number above 0 is expected"),
        ("[{source: many, rows: 1.5}]", "entry 1: rows is 1.5 where a whole number above 0 is expected"),
        ("[{source: many, path: 3}]", "entry 1: path is 3 where text is expected"),
        ("[{source: many, path: ' '}]", "entry 1: path is ' ' where text is expected"),
        ("[{source: ''}]", "entry 1: source is '' where text is expected"),
        ("[{source: many, epochs: 1, weight: 1}]", "entry 1 has both epochs and a weight"),
        ("[{source: many, weight: 1}, {source: few}]", "1 of 2 entries have a weight; give one to all"),
        ("[{source: many, rows: 2024-05-32}]", "not a value of YAML"),
        (f"[{{source: many, rows: {'1' * 5_000}}}]", "not a value of YAML"),
        ("[" * 10_000, "not valid YAML"),
        ("[{source: mny}]", "no conversations called 'mny': did you mean many?"),
        ("[{source: mix.yaml}]", "no conversations called 'mix.yaml'"),
    ],
)
def test_what_is_wrong_in_a_mixture_is_told_in_one_line(mixture, text, complaint):
    with pytest.raises(InputError) as error:
        mixture(text)
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", sorted(MIXTURES.glob("*.yaml")), ids=lambda path: path.stem)
def test_our_mixtures_name_only_sources_there_are(path):
    parts = read_mixture(str(path))
    assert all(part.source.partition(":")[0] in sources.SOURCES for part in parts)
    if path.stem.endswith("cpu"):
        assert all(part.source.startswith("primer:") for part in parts), "no network"


# Fitting to the context


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(DOMAINS.values(), vocab_size=300)


def test_fitting_a_dataset_warns_once_with_the_counts(tokenizer, caplog):
    short, long = [user("Hi"), assistant("Hello")], [user("a" * 200), assistant("b")]
    conversations = [short, [*short, *long], long, short, [*short, *short]]
    dataset = datasets.Dataset.from_list([{"messages": each} for each in conversations], features=CONVERSATIONS)
    with caplog.at_level(logging.WARNING):
        fitted = fit_conversations(dataset, tokenizer, 60)
    assert fitted[:]["messages"] == [short, short, short, [*short, *short]]
    assert fitted.features == CONVERSATIONS
    assert [record.message for record in caplog.records] == [
        "truncated 1 and dropped 1 of 5 conversations that do not fit into 60 tokens"
    ]


def test_nothing_is_said_where_all_fits(tokenizer, caplog):
    dataset = datasets.Dataset.from_list([{"messages": ADDED}], features=CONVERSATIONS)
    with caplog.at_level(logging.WARNING):
        assert fit_conversations(dataset, tokenizer, 100)[0]["messages"] == ADDED
    assert not caplog.records


def test_a_context_into_which_nothing_fits_is_an_error(tokenizer):
    dataset = datasets.Dataset.from_list([{"messages": ADDED}], features=CONVERSATIONS)
    with pytest.raises(InputError, match="none of the 1 conversations fits into 5 tokens"):
        fit_conversations(dataset, tokenizer, 5)
