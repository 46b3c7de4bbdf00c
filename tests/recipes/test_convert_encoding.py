"""A pickled tokenizer is read and not run, whatever it holds."""

import pickle
from pathlib import Path

import pytest

from recipes.convert.encoding import load_encoding
from recipes.utils.errors import InputError
from tests.recipes.originals import encoding_of

BYTES = {bytes([byte]): byte for byte in range(256)}
EXECUTED = []


def strike() -> None:
    EXECUTED.append("run")


class Malicious:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return strike, ()


class Innocent:
    """Runs none, and is no part of a tokenizer."""


def refused(path: Path, content: bytes, match: str) -> None:
    path.write_bytes(content)
    with pytest.raises(InputError, match=match) as caught:
        load_encoding(path, 64)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 450


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "tokenizer.pkl"


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Malicious()),
        pickle.dumps({"mergeable_ranks": Malicious()}),
        pickle.dumps(Malicious(), protocol=0),
        b"cos\nsystem\n(S'true'\ntR.",
        pickle.dumps(Innocent()),
        b"\x80\x04\x8c\x0dtiktoken.core\x94\x8c\x17Encoding.__subclasses__\x93.",
    ],
    ids=["alone", "within", "in text", "by hand", "another class", "below the class"],
)
def test_a_pickle_that_wants_more_is_refused_and_nothing_run(path, content):
    pickle.loads(pickle.dumps(Malicious()))
    assert EXECUTED.pop() == "run"  # it is malicious
    refused(path, content, r"is not a tokenizer of nanochat's: it asks for .* Nothing of it was run\.$")
    assert EXECUTED == []


# A memo as long as a number in it says; and a key that is a tuple of ten tuples of ten tuples of ...
SPACE_BOMB = b"\x80\x04)r\xff\xff\xff\x7f."
TIME_BOMB = b"\x80\x04}(" + 10 * b")" + b"t" + 30 * (b"q\x000(" + 10 * b"h\x00" + b"t") + b")s."


@pytest.mark.parametrize(
    ("content", "name"), [(SPACE_BOMB, "LONG_BINPUT"), (TIME_BOMB, "TUPLE")], ids=["space", "time"]
)
def test_a_bomb_does_not_go_off(path, content, name):
    refused(path, content, f"it asks for pickle's {name}, which no tokenizer needs")


@pytest.mark.parametrize("protocol", range(4, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("tokens", [256, 300, 70_000])
def test_what_pickle_writes_of_an_encoding_is_read(path, protocol, tokens):
    longer = (bytes([first, second]) + end for end in (b"", b"!") for first in range(256) for second in range(256))
    ranks = {**BYTES, **{token: 256 + index for index, token in zip(range(tokens - 256), longer, strict=False)}}
    path.write_bytes(pickle.dumps(encoding_of(ranks), protocol))
    assert len(load_encoding(path, 64)) == tokens + 9


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ({"mergeable_ranks": BYTES}, "it holds no tokens"),
        ("gpt2", r"it holds no tokens\."),
        (encoding_of(BYTES, pat_str=r"\w+"), "splits text by another pattern"),
        (encoding_of(BYTES, special_tokens={"<|endoftext|>": 256}), "other special tokens"),
        (encoding_of({token: rank + 5 for token, rank in BYTES.items()}), "is damaged: its ranks"),
        (encoding_of({**BYTES, b"ab": 300}), "is damaged: its ranks"),
        (encoding_of({token: rank for token, rank in BYTES.items() if rank < 255}), "is damaged: its ranks"),
    ],
    ids=["plain values", "a name", "pattern", "special tokens", "shifted", "a gap", "a byte less"],
)
def test_another_tokenizer_is_refused(path, content, match):
    refused(path, pickle.dumps(content), match)


@pytest.mark.parametrize("size", [0, 1, 100, -1])
def test_half_a_tokenizer_is_refused(path, size):
    refused(path, pickle.dumps(encoding_of(BYTES))[:size], "is not a tokenizer of nanochat's: ")


def test_what_follows_the_tokenizer_is_not_looked_at(path):
    path.write_bytes(pickle.dumps(encoding_of(BYTES)) + pickle.dumps(Malicious()))
    assert len(load_encoding(path, 64)) == 265
    assert EXECUTED == []
