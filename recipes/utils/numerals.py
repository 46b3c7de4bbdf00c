"""Numbers in texts, as answers are compared by them: in rewards, in exams, and by the metric `numeric_match`.

What may be read in two ways is read in none, and matches nothing: an answer of 3/4 is not praised for its 4.
"""

import re
from decimal import Decimal

# One character for all that stand for it elsewhere. Digits need none: Python reads those of every script.
SAME = str.maketrans(
    {
        **dict.fromkeys("\u2212\u2010\u2011\u2012\u2013\ufe63\uff0d", "-"),  # minus, hyphens, dashes as long as one
        **dict.fromkeys("\u066c\uff0c", ","),
        **dict.fromkeys("\u066b\uff0e", "."),
        **dict.fromkeys("\u2044\u2215\uff0f", "/"),
        **{chr(0xFEE0 + ord(char)): char for char in "#$%"},  # of full width, as East Asian keyboards have them
    }
)
SPACE_IN_NUMBER = re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))")  # unbroken and thin ones only
PART = r"[\d\u00bc-\u00be\u2150-\u215e]"  # of a number: a digit, or a fraction in one character
# With all that is glued to it, and may make something else of it: 1,234.5e6, but also 3/4, 10:30, 1.2.3, 2^8, 5², 1½.
TOKEN = rf"(?:(?<![\w.)\]])\.(?=\d))?{PART}(?:[.,/:^_'’](?={PART})|[eE][-+]?(?=\d)|{PART}|[²³¹⁰⁴-⁹])*"
# A minus is a sign unless something to subtract from stands before it, or a word that it is a hyphen of.
SIGN = r"(?:(?<![^\W_])(?<![)\]}%-])(?P<minus>-)|\+)?"
CURRENCY = r"(?:\\?[A-Z]{0,3}[$€£¥₹]\s?(?P<minus_after>-)?)?"
NUMBER = re.compile(rf"{SIGN}{CURRENCY}(?P<token>{TOKEN})")
MARKED_NUMBER = re.compile(rf"####\s*{NUMBER.pattern}")
NUMBER_ALONE = re.compile(rf"\s*{NUMBER.pattern}\.?\s?%?\s*")
# Thousands may be separated, as India does it too (12,34,567); an exponent of more digits is no answer to anything.
VALUE = re.compile(r"(?:\d{1,3}(?:,\d{2,3})*,\d{3}|\d+)?(?:\.\d+)?(?:[eE][-+]?\d{1,4})?")


def final_number(text: str) -> Decimal | None:
    """The number after the last `####` that has one, or else the last of the text; None if it cannot be read."""
    text = _normal(text)
    found = [*MARKED_NUMBER.finditer(text)] or [*NUMBER.finditer(text)]
    return _value(found[-1]) if found else None


def marked_number(text: str) -> Decimal | None:
    """The number after the last `####` that has one, as GSM8K's worked answers end; None if there is none."""
    found = [*MARKED_NUMBER.finditer(_normal(text))]
    return _value(found[-1]) if found else None


def read_number(text: str) -> Decimal | None:
    """The number that the whole text is: 1,400 or $1400.00 or 30%, whose signs do not count; None if it is none."""
    found = NUMBER_ALONE.fullmatch(_normal(text))
    return _value(found) if found else None


def ends_in_number(answer: str, reply: str) -> bool:
    """Whether the reply's final number is the one that `answer` is."""
    number = read_number(answer)
    return number is not None and final_number(reply) == number


def _normal(text: str) -> str:
    return SPACE_IN_NUMBER.sub(",", text.translate(SAME))


def _value(number: re.Match) -> Decimal | None:
    token = number["token"]
    if not VALUE.fullmatch(token):
        return None
    value = Decimal(token.replace(",", ""))
    return value.copy_negate() if number["minus"] or number["minus_after"] else value  # `-value` would be rounded
