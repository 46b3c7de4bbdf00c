"""Documents to ids and ids to bytes, for our tokenizer and a GPT-2-like one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from recipes.utils.errors import InputError
from tokenizer.encode import CHARACTER_OF_BYTE, document_start_id, encode_documents, token_byte_lengths, token_bytes
from tokenizer.special_tokens import SPECIAL_TOKENS

# What could go wrong: special tokens whole and in pieces, joined emoji, combining marks, control characters.
PIECES = [
    *SPECIAL_TOKENS,
    "<|endoftext|>",
    "<|",
    "|>",
    "bos",
    "\r\n",
    "\u00a0",
    "👩‍👩‍👧‍👦",
    "🇫🇷",
    "e\u0301",
    "ﷺ",
    "\x00",
    "\ufeff",
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=20), max_size=8).map("".join)

KINDS = pytest.mark.parametrize("kind", ["tokenizer", "gpt2_like"])


def test_the_alphabet_is_gpt2s():
    """transformers does not document it. Printable Latin-1 is itself, the other 68 bytes are U+0100 onward."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    expected = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    assert expected == CHARACTER_OF_BYTE
    assert set(CHARACTER_OF_BYTE.values()) == set(pre_tokenizers.ByteLevel.alphabet())


@KINDS
@settings(max_examples=150, deadline=None)
@given(text=TEXTS)
def test_any_text_comes_back_exactly(request, kind, text):
    tokenizer = request.getfixturevalue(kind)
    start, *ids = encode_documents(tokenizer, [text])[0]
    assert start == tokenizer.bos_token_id
    assert tokenizer.decode(ids) == text
    assert token_bytes(tokenizer, ids) == text.encode("utf-8")


@KINDS
@settings(max_examples=100, deadline=None)
@given(text=TEXTS)
def test_no_text_produces_a_special_token(request, kind, text):
    tokenizer = request.getfixturevalue(kind)
    ids = encode_documents(tokenizer, [text])[0]
    assert not set(ids[1:]) & set(tokenizer.all_special_ids)


@KINDS
@settings(max_examples=100, deadline=None)
@given(text=TEXTS, data=st.data())
def test_cut_tokens_keep_their_bytes_and_decode_to_replacement_characters(request, kind, text, data):
    tokenizer = request.getfixturevalue(kind)
    ids = encode_documents(tokenizer, [text])[0][1:]
    cut = data.draw(st.integers(0, len(ids)))
    head, tail = token_bytes(tokenizer, ids[:cut]), token_bytes(tokenizer, ids[cut:])
    assert head + tail == text.encode("utf-8")
    assert tokenizer.decode(ids[:cut]) == head.decode("utf-8", "replace")
    assert tokenizer.decode(ids[cut:]) == tail.decode("utf-8", "replace")


def test_every_single_byte_is_a_token(tokenizer):
    lengths = token_byte_lengths(tokenizer)
    single = {token_bytes(tokenizer, [id]) for id in range(len(tokenizer)) if lengths[id] == 1}
    assert single == {bytes([byte]) for byte in range(256)}


@KINDS
@settings(max_examples=50, deadline=None)
@given(text=TEXTS)
def test_byte_lengths_add_up_to_the_text(request, kind, text):
    tokenizer = request.getfixturevalue(kind)
    ids = encode_documents(tokenizer, [text])[0]
    assert token_byte_lengths(tokenizer)[ids].sum() == len(text.encode("utf-8"))


@KINDS
def test_special_tokens_have_no_bytes(request, kind):
    tokenizer = request.getfixturevalue(kind)
    lengths = token_byte_lengths(tokenizer)
    assert lengths.shape == (len(tokenizer),)
    assert (lengths == 0).nonzero().flatten().tolist() == sorted(tokenizer.all_special_ids)
    assert token_bytes(tokenizer, tokenizer.all_special_ids) == b""


def test_added_words_count_their_own_text(gpt2_like):
    extended = PreTrainedTokenizerFast(tokenizer_object=gpt2_like.backend_tokenizer, bos_token="<|endoftext|>")
    extended.add_tokens(["naïve"])
    id = extended.convert_tokens_to_ids("naïve")
    assert token_bytes(extended, [id]) == "naïve".encode()
    assert token_byte_lengths(extended)[id] == 6


@pytest.mark.parametrize("texts", [[], [""], ["", "a", ""]])
def test_documents_may_be_empty(tokenizer, texts):
    encoded = encode_documents(tokenizer, texts)
    assert [ids[0] for ids in encoded] == [tokenizer.bos_token_id] * len(texts)
    assert [len(ids) for ids in encoded] == [1 + len(text) for text in texts]


def test_earlier_calls_of_the_tokenizer_do_not_change_documents_and_the_other_way_round(tokenizer):
    text = "<|user_start|>" + "word " * 50
    expected = encode_documents(tokenizer, [text, "a"])
    truncated = tokenizer([text, "a"], truncation=True, max_length=8, padding=True)["input_ids"]
    assert encode_documents(tokenizer, [text, "a"]) == expected
    backend = tokenizer.backend_tokenizer
    assert [encoding.ids for encoding in backend.encode_batch([text, "a"])] == truncated


def test_eos_starts_documents_where_there_is_no_bos(gpt2_like):
    without_bos = PreTrainedTokenizerFast(tokenizer_object=gpt2_like.backend_tokenizer, eos_token="<|endoftext|>")
    assert encode_documents(without_bos, ["a"])[0][0] == without_bos.eos_token_id


def test_a_tokenizer_without_any_start_token_is_refused(gpt2_like):
    bare = PreTrainedTokenizerFast(tokenizer_object=gpt2_like.backend_tokenizer)
    with pytest.raises(InputError, match="neither a bos_token nor an eos_token"):
        document_start_id(bare)


def test_a_lone_surrogate_is_named(tokenizer):
    with pytest.raises(InputError, match=r"text 1 holds a lone surrogate U\+D83D at character 2"):
        encode_documents(tokenizer, ["fine 😀", "ab\ud83d"])


def test_a_tokenizer_that_is_not_byte_level_is_refused(gpt2_like):
    words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"日本": 0}, unk_token="日本")))
    with pytest.raises(InputError, match="not of a byte-level BPE"):
        token_byte_lengths(words)
