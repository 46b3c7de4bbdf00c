"""Training: an exact vocabulary, special tokens last, the same file every time, whole directories only."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from recipes.utils.errors import InputError
from tokenizer.bpe import CappedDocuments, save_tokenizer, train_tokenizer
from tokenizer.special_tokens import SMALLEST_VOCABULARY, SPECIAL_TOKENS

ROOT = Path(__file__).parents[2]


def run_module(module: str, *flags: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", module, *map(str, flags)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture
def corpus(tmp_path, documents) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text(
        "".join(json.dumps({"text": f"{number}. {text}"}) + "\n" for number, text in enumerate(documents * 20))
    )
    return path


def test_special_tokens_come_last_in_their_order(tokenizer):
    assert len(tokenizer) == 600
    assert tokenizer.convert_ids_to_tokens(list(range(591, 600))) == list(SPECIAL_TOKENS)
    assert set(tokenizer.all_special_tokens) == set(SPECIAL_TOKENS)


def test_plain_tokenization_puts_bos_in_front_once(tokenizer):
    ids = tokenizer("Hello")["input_ids"]
    assert ids.count(tokenizer.bos_token_id) == 1 and ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids) == "<|bos|>Hello"
    assert tokenizer("Hello", add_special_tokens=False)["input_ids"] == ids[1:]


@settings(max_examples=50, deadline=None)
@given(text=st.text(alphabet="0123456789 a.-", max_size=40))
def test_no_token_holds_more_than_two_digits(tokenizer, text):
    tokens = tokenizer.tokenize(text)
    assert all(sum(character.isdigit() for character in token) <= 2 for token in tokens)


def test_loaded_equals_saved(tokenizer, documents, tmp_path):
    save_tokenizer(tokenizer, tmp_path / "runs" / "tokenizer")
    loaded = AutoTokenizer.from_pretrained(tmp_path / "runs" / "tokenizer")
    assert loaded(documents)["input_ids"] == tokenizer(documents)["input_ids"]
    assert loaded.get_vocab() == tokenizer.get_vocab()
    for name in ("bos_token", "eos_token", "pad_token", "unk_token", "padding_side", "model_max_length"):
        assert getattr(loaded, name) == getattr(tokenizer, name), name
    spaced = "no , clean up : ' s n't . "
    assert loaded.decode(loaded(spaced)["input_ids"], skip_special_tokens=True) == spaced


@pytest.mark.launch
def test_same_documents_give_the_same_file(documents, tmp_path):
    code = (
        "import sys, json; from tokenizer.bpe import train_tokenizer, save_tokenizer;"
        "save_tokenizer(train_tokenizer(json.load(sys.stdin), 600), sys.argv[1])"
    )
    for number in range(2):
        subprocess.run(
            [sys.executable, "-c", code, tmp_path / str(number)],
            cwd=ROOT,
            input=json.dumps(documents),
            text=True,
            check=True,
        )
    first, second = (tmp_path / str(number) / "tokenizer.json" for number in range(2))
    assert first.read_bytes() == second.read_bytes()


def test_special_tokens_written_in_the_corpus_are_learnt_as_text(documents):
    trained = train_tokenizer(["<|user_start|> <|user_start|>"] * 50 + documents, vocab_size=600)
    tokens = trained.tokenize("<|user_start|>", split_special_tokens=True)
    assert len(tokens) > 1 and not set(tokens) & set(SPECIAL_TOKENS)


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(st.text(max_size=30), max_size=10), max_chars=st.integers(1, 100), doc_cap=st.integers(1, 40))
def test_caps_bound_documents_and_total(texts, max_chars, doc_cap):
    capped = CappedDocuments(texts, max_chars, doc_cap)
    expected = "".join(text[:doc_cap] for text in texts)[:max_chars]
    assert "".join(capped) == expected
    assert capped.chars == len(expected)


def test_only_the_capped_part_is_trained_on(documents):
    short = [document[:50] for document in documents]
    assert train_tokenizer(documents, 400, doc_cap=50).get_vocab() == train_tokenizer(short, 400).get_vocab()


@pytest.mark.parametrize(
    ("texts", "settings", "named"),
    [
        (["one two three"], {"vocab_size": 1000}, r"gives only \d+ tokens of vocab_size 1,000 \(13 characters"),
        ([], {"vocab_size": 300}, r"gives only 265 tokens of vocab_size 300 \(0 characters"),
        (["abc"], {"vocab_size": 264}, "vocab_size 264 is below 265"),
        (["abc"], {"vocab_size": 300, "doc_cap": 0}, r"doc_cap \(0\) must be at least 1"),
        (["abc", "x\udc00"], {"vocab_size": 300}, r"text 1 holds a lone surrogate U\+DC00 at character 1"),
    ],
)
def test_mistakes_are_named(texts, settings, named):
    with pytest.raises(InputError, match=named):
        train_tokenizer(texts, **settings)


def test_a_saved_tokenizer_is_replaced_whole(tokenizer, documents, tmp_path):
    save_tokenizer(train_tokenizer(documents, 300), tmp_path / "tokenizer")
    save_tokenizer(tokenizer, tmp_path / "tokenizer")
    assert len(AutoTokenizer.from_pretrained(tmp_path / "tokenizer")) == 600
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer"]


def test_a_directory_of_something_else_is_left_alone(tokenizer, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"holds more than a tokenizer \(thesis.txt\)"):
        save_tokenizer(tokenizer, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_failed_save_leaves_the_previous_tokenizer(tokenizer, documents, tmp_path, monkeypatch):
    save_tokenizer(tokenizer, tmp_path / "tokenizer")
    before = (tmp_path / "tokenizer" / "tokenizer.json").read_bytes()

    def disk_full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match="No space left"):
        save_tokenizer(train_tokenizer(documents, 300), tmp_path / "tokenizer")
    assert (tmp_path / "tokenizer" / "tokenizer.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer"]


def test_without_merges_a_character_of_ascii_is_a_token():
    characters = train_tokenizer(["To be, or not to be: that is the question."], SMALLEST_VOCABULARY)
    ascii_text = "".join(map(chr, range(128))) + "  the 1234 isn't\n\n"
    assert len(characters) == 265
    assert len(characters(ascii_text, add_special_tokens=False)["input_ids"]) == len(ascii_text)
    assert len(characters("é", add_special_tokens=False)["input_ids"]) == 2  # its bytes


@pytest.mark.launch
def test_a_whole_text_is_trained_on_to_its_held_out_end(tmp_path):
    (tmp_path / "play.txt").write_text("To be, or not to be.\n" * 1000)
    where = ["--dataset", tmp_path / "play.txt", "--output_dir", tmp_path / "out", "--vocab_size", 265]
    done = run_module("tokenizer.train", *where, "--document_separator", "whole")
    assert done.returncode == 0, done.stderr
    assert "trained on       18,900 characters" in done.stdout
    assert "bytes per token  1.00" in done.stdout
    assert "held out for validation: the last 10% of it" in done.stdout


@pytest.mark.launch
def test_command_trains_from_yaml_and_flags(corpus, tmp_path):
    config = tmp_path / "tokenizer.yaml"
    config.write_text(f"dataset: {corpus}\nvocab_size: 999\nmax_chars: 50000\n")
    done = run_module("tokenizer.train", "--config", config, "--vocab_size", 500, "--output_dir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert len(AutoTokenizer.from_pretrained(tmp_path / "out")) == 500
    for printed in ("500 tokens", "50,000 characters", "bytes per token", str(tmp_path / "out")):
        assert printed in done.stdout


@pytest.mark.launch
@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--vocabsize", "500"], "unknown argument vocabsize: did you mean vocab_size?"),
        (["--vocab_size", "9999999"], "of vocab_size 9,999,999"),
        (["--text_column", "body"], "body"),
    ],
)
def test_command_ends_with_one_line_for_a_mistake(corpus, tmp_path, flags, named):
    done = run_module("tokenizer.train", "--dataset", corpus, "--output_dir", tmp_path / "out", *flags)
    assert done.returncode == 2
    assert named in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
