"""A pickled encoding is written only if tiktoken makes the same tokens of every text."""

import json
import pickle
import random

import pytest
from tokenizers import models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from evals.tokenizer.samples import DOMAINS
from recipes.convert.encoding import load_encoding
from recipes.convert.to_encoding import pickled_encoding
from recipes.data.corpora import open_corpus
from recipes.utils.errors import InputError
from tests.recipes.originals import encoding_of
from tokenizer.bpe import add_special_tokens, as_pretrained, byte_level, train_tokenizer
from tokenizer.encode import CHARACTER_OF_BYTE, encode_documents

BYTES = [bytes([byte]) for byte in range(256)]


def texts() -> list[str]:
    """The primer, other languages, code, all of Unicode, and pieces that meet in odd ways."""
    draw = random.Random(0)
    points = [point for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    unicode = ["".join(map(chr, draw.choices(points, k=400))) for _ in range(100)]
    odd = ["".join(draw.choices(" \t\n\r\u00a0\u3000'abSſİıstlvrd12٩½.-!<|>", k=300)) for _ in range(300)]
    runs = [draw.choice(" -=aA0\n") * draw.randrange(1, 80) for _ in range(300)]
    return [*DOMAINS.values(), *unicode, *odd, *runs, *(row["text"] for row in open_corpus("primer").train.take(300))]


def assert_same_tokens(tokenizer: PreTrainedTokenizerFast, content: bytes, documents: list[str]) -> None:
    encoding = pickle.loads(content)
    assert [ids[1:] for ids in encode_documents(tokenizer, documents)] == encoding.encode_ordinary_batch(documents)
    assert encoding.n_vocab == len(tokenizer)


def by_hand(tokens: list[str], merges: list[tuple[str, str]], whole: bool = False) -> PreTrainedTokenizerFast:
    """A tokenizer of the 256 bytes, these tokens and the special ones."""
    names = [CHARACTER_OF_BYTE[byte] for byte in range(256)] + tokens
    vocabulary = {name: index for index, name in enumerate(names)}
    tokenizer = byte_level(models.BPE(vocabulary, merges, ignore_merges=whole))
    add_special_tokens(tokenizer)
    return as_pretrained(tokenizer, 64)


@pytest.fixture(scope="module")
def trained() -> PreTrainedTokenizerFast:
    corpus = [row["text"] for row in open_corpus("primer").train.take(500)] + [text * 3 for text in DOMAINS.values()]
    return train_tokenizer(corpus, 1200)


def test_tiktoken_makes_the_tokens_of_a_tokenizer_trained_here(trained):
    assert_same_tokens(trained, pickled_encoding(trained), texts())


def test_our_own_reader_reads_it(trained, tmp_path):
    (tmp_path / "tokenizer.pkl").write_bytes(pickled_encoding(trained))
    back = load_encoding(tmp_path / "tokenizer.pkl", 64)
    assert back.get_vocab() == trained.get_vocab()
    documents = texts()
    assert encode_documents(back, documents) == encode_documents(trained, documents)


def test_a_tokenizer_that_was_saved_and_loaded_is_the_same(trained, tmp_path):
    trained.save_pretrained(tmp_path)
    assert pickled_encoding(AutoTokenizer.from_pretrained(tmp_path)) == pickled_encoding(trained)


def test_ranks_that_no_training_would_have_left_come_back(tmp_path):
    """Where a token can be made in several ways, or in none, out of others."""
    longer = [b"aba", b"ba", b"ab", b"bab", b"xyz", b"abab", b"aa"]
    encoding = encoding_of({token: rank for rank, token in enumerate([*BYTES, *longer])})
    (tmp_path / "tokenizer.pkl").write_bytes(pickle.dumps(encoding))
    tokenizer = load_encoding(tmp_path / "tokenizer.pkl", 64)
    draw = random.Random(0)
    documents = ["xyz", "wxyz", *("".join(draw.choices("ab", k=draw.randrange(1, 12))) for _ in range(500))]
    assert_same_tokens(tokenizer, pickled_encoding(tokenizer), documents)


def test_merges_that_never_apply_change_nothing():
    """ "a" and "ba" never meet: "ab" is joined before "ba" is."""
    tokenizer = by_hand(["ab", "ba", "aba"], [("a", "b"), ("b", "a"), ("a", "ba"), ("ab", "a")])
    draw = random.Random(0)
    documents = ["".join(draw.choices("ab", k=draw.randrange(1, 12))) for _ in range(500)]
    assert_same_tokens(tokenizer, pickled_encoding(tokenizer), documents)


@pytest.mark.parametrize(
    ("tokenizer", "match"),
    [
        (by_hand(["ab", "bc"], [("b", "c"), ("a", "b")]), "does not join tokens in the order of their ids"),
        (
            by_hand(["ab", "ba", "aba"], [("a", "b"), ("b", "a"), ("a", "ba")]),
            "does not join the token b'aba' as the ranks",
        ),
        (by_hand(["ab"], []), "does not join the token b'ab' as the ranks"),
        (by_hand(["ab", "xyz"], [("a", "b")]), "does not join the token b'xyz' as the ranks"),
        (by_hand(["ab"], [], whole=True), "does not join the token b'ab' as the ranks"),
        (
            by_hand(["aa", "ba", "baaa", "baa"], [("a", "a"), ("b", "a"), ("ba", "aa"), ("b", "aa")], whole=True),
            "does not join the token b'baaa' as the ranks",
        ),
        (by_hand(["ab", "é€"], [("a", "b")], whole=True), "has the token 'é€', which stands for no bytes"),
    ],
    ids=[
        "out of order",
        "of other parts",
        "unreachable",
        "of three",
        "reachable as a whole only",
        "parts that meet late",
        "no bytes",
    ],
)
def test_other_ways_to_join_are_refused(tokenizer, match):
    refused(tokenizer, match)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"normalizer": {"type": "NFC"}}, "normalizes texts first"),
        ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}},
         "splits texts in another way"),
        ({"added_tokens": []}, "has other special tokens than the nine"),
    ],
    ids=["normalizer", "pattern", "special tokens"],
)  # fmt: skip
def test_other_tokenizers_are_refused(trained, changes, match):
    parts = json.loads(trained.backend_tokenizer.to_str()) | changes
    backend = trained.backend_tokenizer.from_str(json.dumps(parts | {"post_processor": None}))
    refused(PreTrainedTokenizerFast(tokenizer_object=backend), match)


def refused(tokenizer: PreTrainedTokenizerFast, match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        pickled_encoding(tokenizer)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250
