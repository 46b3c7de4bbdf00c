"""A number is itself however it is written, and never another; what may be two numbers is none."""

from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from recipes.utils.numerals import ends_in_number, final_number, marked_number, read_number

# As a whole text


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5", "5"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("-$ 5", "-5"),
        ("\u22125", "-5"),  # the minus sign
        ("\u2212$1,000", "-1000"),
        ("\u2011€5", "-5"),
        (".5", "0.5"),
        ("-.5", "-0.5"),
        ("$.50", "0.5"),
        ("5.", "5"),
        ("+5", "5"),
        ("1,234.50", "1234.50"),
        ("12,34,567", "1234567"),
        ("1\u202f234\u202f567", "1234567"),
        ("1e3", "1000"),
        ("1.5E+3", "1500"),
        ("2e-2", "0.02"),
        ("30%", "30"),
        ("US$5", "5"),
        (r"\$18", "18"),
        ("\uff15\uff0e\uff15", "5.5"),  # of full width
        ("\uff0d\uff041\uff0c000", "-1000"),
        ("\u0661\u066c\u0665\u0660\u0660\u066b\u0665", "1500.5"),  # Arabic
        ("-0", "0"),
        ("007", "7"),
        ("-" + "1" * 5_000, "-" + "1" * 5_000),
    ],
)
def test_a_number_however_it_is_written(text, number):
    for found in (
        read_number(f" {text}\n"),
        final_number(f"So 7 of them make {text}."),
        marked_number(f"#### {text}"),
    ):
        assert found == Decimal(number)
    assert ends_in_number(number, f"7 is not it, **{text}** is.")


AMBIGUOUS = "3/4 20/4 ½ 1½ 3⁄4 10:30 16:9 1.2.3 2^8 5² 1,2,3 1,5 1400,000 1_000 1'000 12/25/2024 1e99999 1.2e3.4"


@pytest.mark.parametrize("text", AMBIGUOUS.split())
def test_what_may_be_read_in_two_ways_is_no_number(text):
    assert read_number(text) is final_number(f"It is 4: {text}.") is marked_number(f"#### {text}") is None


@pytest.mark.parametrize("text", ["", "five", "nan", "inf", "-", "$", "5 6", "5 apples", "#### 5", "5%%", "--5", "."])
def test_a_text_that_is_more_or_less_than_a_number_is_none(text):
    assert read_number(text) is None


# The last in a text


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12 and then 1,234.", "1234"),
        ("17-3 = 14", "14"),
        ("10-5", "5"),
        ("10 - 5", "5"),
        ("x-5", "5"),
        ("(3)-5", "5"),
        ("5%-3", "3"),
        ("pages 3\u20135", "5"),
        ("COVID-19", "19"),
        ("--5", "5"),
        ("wait\u20145", "5"),
        ("- $5", "5"),  # of a list
        ("= -5.", "-5"),
        ("=-5", "-5"),
        ("**-5**", "-5"),
        (r"\boxed{-5}", "-5"),
        ("(5)", "5"),
        ("5,", "5"),
        ("5kg", "5"),
        ("5 eggs", "5"),
        ("5eggs", "5"),
        ("$5/day", "5"),
        ("5 m²", "5"),
        ("...5", "5"),
        ("v.5", "5"),
        ("(.5)", "0.5"),
        ("10² = 100", "100"),
        ("1500/15 = 100", "100"),
        ("12\u00a0kg", "12"),
        ("#### 1\n#### $2 apples, 3", "2"),
        ("#### 5\n####", "5"),
        ("####5", "5"),
        ("#### none of 7", "7"),
        ("\uff03\uff03\uff03\uff03 5 of 7", "5"),
        ("#### 3/4 and 5", None),
        ("", None),
        ("none", None),
    ],
)
def test_the_final_number_of_a_text(text, number):
    assert final_number(text) == (None if number is None else Decimal(number))


# Whatever the number


NUMBERS = st.one_of(
    st.integers(-(10**9), 10**9).map(Decimal),
    st.decimals(-(10**6), 10**6, places=3),
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**60), max_value=10**60),
)
MINUSES = st.sampled_from("-\u2212\u2011\u2013\ufe63\uff0d")
SCRIPTS = st.sampled_from(["0123456789", "\uff10\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18\uff19", "٠١٢٣٤٥٦٧٨٩"])
PROSE = st.sampled_from(["{}", "So 6 * 7 is {}.", "**{}**", r"\boxed{{{}}}", "12 - 5 = {}, which", "#### {} of 3"])


@st.composite
def written(draw, number):
    """The number in one of the ways that are read."""
    digits = draw(st.sampled_from(["{:f}", "{:,f}", "{:e}", "{}"])).format(number.copy_abs())  # `abs` would round it
    if draw(st.booleans()) and digits.startswith("0."):
        digits = digits[1:]
    currency = draw(st.sampled_from(["", "$", "€", "£ ", r"\$"]))
    minus = draw(MINUSES) if number.is_signed() else ""
    text = minus + currency + digits if draw(st.booleans()) or not currency else currency + minus + digits
    return text.translate(str.maketrans("0123456789", draw(SCRIPTS)))


@given(st.data(), NUMBERS, PROSE)
def test_a_number_is_found_in_every_way_to_write_it(data, number, prose):
    text = data.draw(written(number))
    assert read_number(text) == number
    assert final_number(prose.format(text)) == number
    assert ends_in_number(text, prose.format(text))


@given(st.data(), NUMBERS, NUMBERS)
def test_no_number_is_ever_another(data, one, other):
    assume(one != other)
    assert not ends_in_number(data.draw(written(one)), data.draw(written(other)))


@given(st.text(alphabet="0123456789.,-−$€ eE/:^#½²(){}ab\n", max_size=30))
def test_whatever_is_read_is_a_number(text):
    for number in (read_number(text), final_number(text), marked_number(text)):
        assert number is None or number.is_finite()
    if (number := read_number(text)) is not None:
        assert final_number(text) == number
