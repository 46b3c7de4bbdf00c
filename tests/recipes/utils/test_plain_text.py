"""Nothing that a terminal obeys is left of a text, and nothing else is taken from it."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from recipes.utils.plain_text import plain_text, share

TURNS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}  # change the direction of what follows


def is_obeyed(character: str) -> bool:
    if character in "\n\t":
        return False
    return unicodedata.category(character) in ("Cc", "Cs") or unicodedata.bidirectional(character) in TURNS


@given(st.text(st.characters(exclude_categories=[])))
def test_only_what_would_be_obeyed_is_taken_away(text):
    assert plain_text(text) == "".join(character for character in text if not is_obeyed(character))


def test_every_such_character_is_known():
    every = "".join(map(chr, range(0x110000)))
    assert not any(map(is_obeyed, plain_text(every)))
    assert len(plain_text(every)) == sum(not is_obeyed(character) for character in every)


def test_a_share_has_its_error_beside_it_where_that_is_known():
    assert (share(0.395), share(0.395, 0.0204), share(1.0, 0.0)) == ("39.5%", "39.5 ± 2.0%", "100.0 ± 0.0%")
