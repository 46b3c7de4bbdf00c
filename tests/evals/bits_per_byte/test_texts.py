"""Every byte of a text counts once, whatever tokenizer cuts it, and what a tokenizer changes is noticed."""

import numpy as np
import pytest
from tokenizers import normalizers

from evals.bits_per_byte.texts import PASSAGE_CHARACTERS, START, Texts, read_texts, tokenize
from recipes.utils.errors import InputError
from tests.evals.bits_per_byte.foreign import TEXTS, TOKENIZERS, gpt2_tokenizer, word_tokenizer
from tests.recipes.inference.talker import SCRIPTS

SPELLED = "It ends with <|endoftext|>, </s> and <|bos|>.\n\n  Two spaces, a tab\tand a line end\r\n"
DOCUMENTS = [*TEXTS, SCRIPTS, SPELLED, " leading space", "x"]


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request):
    return TOKENIZERS[request.param]()


def rows(*texts):
    return [{"text": text} for text in texts]


@pytest.mark.parametrize("documents", [DOCUMENTS, DOCUMENTS * 5, ["".join(TEXTS) * 3]], ids=["few", "many", "one"])
def test_every_byte_counts_once_for_every_tokenizer(tokenizer, documents):
    texts = Texts(documents)
    tokens = tokenize(texts, tokenizer)
    assert texts.num_bytes == texts.passage_bytes.sum() == sum(len(text.encode()) for text in documents)
    assert tokens.reproduced_bytes == texts.num_bytes and tokens.changed is None
    starts = tokens.passages == START
    assert starts.sum() == len(documents) and tokens.num_tokens == len(tokens.ids) - len(documents)
    assert set(tokens.ids[starts].tolist()) == {tokens.ids[0].item()}
    special = set(tokenizer.all_special_ids)
    assert not special & set(tokens.ids[~starts].tolist()), "those spelled out in a text are characters"


def test_a_token_belongs_to_the_passage_that_it_begins_in(tokenizer):
    """Passages of Texts that are one document's, against the tokens of each passage alone."""
    document = "".join(f"{number}: {text}\n" for number, text in enumerate(TEXTS * 2))
    texts = Texts([document])
    assert len(texts.passages) == -(-len(document) // PASSAGE_CHARACTERS) > 3
    tokens = tokenize(texts, tokenizer)
    own = tokens.passages[tokens.passages != START].numpy()
    assert (np.diff(own) >= 0).all() and set(own) == set(range(len(texts.passages)))
    counts = np.bincount(own)
    alone = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for _, text in texts.passages]
    allowed = 3 if tokenizer.is_fast else 60  # a slow tokenizer does not say where a token begins
    assert np.abs(counts - alone).max() <= allowed


def test_of_many_documents_each_is_a_passage():
    texts = Texts(["a" * 5000] * 40)
    assert len(texts.passages) == 40 and texts.unit == "documents"
    assert Texts(["a" * 5000] * 4).unit == "passages of 1,000 characters"


def test_a_tokenizer_that_normalizes_is_noticed_by_its_lines():
    text = "A plain line.\nA decomposed e\u0301 here.\nAnother plain line.\n"
    tokens = tokenize(Texts([text]), gpt2_tokenizer(normalizer=normalizers.NFC()))
    assert tokens.reproduced_bytes == len("A plain line.\nAnother plain line.\n")
    assert tokens.changed == ("A decomposed e\u0301 here.\n", "A decomposed é here.\n")


def test_a_tokenizer_that_drops_line_ends_and_unknown_words_reproduces_nothing():
    text = "The First line.\nA zyxwvut second."
    tokens = tokenize(Texts([text]), word_tokenizer())
    assert tokens.reproduced_bytes == 0 and tokens.changed[0] == "The First line.\n"


def test_a_tokenizer_without_a_token_that_starts_a_document_is_told():
    tokenizer = gpt2_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(InputError, match="has neither a bos_token nor an eos_token"):
        tokenize(Texts(["text"]), tokenizer)


def test_the_text_ends_at_the_bytes_asked_for_within_no_character():
    assert read_texts(rows("abc", "def", "ghi"), "it", 5).documents == ["abc", "de"]
    assert read_texts(rows("abc", "def"), "it", 3).documents == ["abc"]
    assert read_texts(rows("aéü"), "it", 4).documents == ["aé"]
    assert read_texts(rows("abc", "", "def"), "it", 100).documents == ["abc", "def"]


@pytest.mark.parametrize(
    ("documents", "told"),
    [
        ([], "it holds no text to measure in its first 9 bytes."),
        (rows(""), "it holds no text"),
        ([{"input_ids": [1, 2]}], "it holds tokens, not text, .*: give the text that it was prepared from."),
        (rows("a", "\ud800"), "text 1 holds a lone surrogate"),
    ],
)
def test_what_is_no_text_is_told_in_one_line(documents, told):
    with pytest.raises(InputError, match=f"^{told}"):
        read_texts(documents, "it", 9)
