"""Read numbers in text, to compare answers: in rewards, in exams, and in the metric `numeric_match`.

Ambiguous numbers are not read and match nothing: the answer 3/4 gets no credit for its 4.
"""

import re
from decimal import Decimal

# Normalizes other forms of the same character. Digits need none: Python reads the digits of every script.
SAME = str.maketrans(
    {
        **dict.fromkeys("\u2212\u2010\u2011\u2012\u2013\ufe63\uff0d", "-"),  # minus, hyphens, figure and en dash
        **dict.fromkeys("\u066c\uff0c", ","),
        **dict.fromkeys("\u066b\uff0e", "."),
        **dict.fromkeys("\u2044\u2215\uff0f", "/"),
        **{chr(0xFEE0 + ord(char)): char for char in "#$%"},  # full-width forms, as on East Asian keyboards
    }
)
SPACE_IN_NUMBER = re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))")  # no-break and thin spaces only
PART = r"[\d\u00bc-\u00be\u2150-\u215e]"  # a digit, or a fraction in one character
# A number with everything attached that may change its meaning: 1,234.5e6, but also 3/4, 10:30, 1.2.3, 2^8, 5², 1½.
TOKEN = rf"(?:(?<![\w.)\]])\.(?=\d))?{PART}(?:[.,/:^_'’](?={PART})|[eE][-+]?(?=\d)|{PART}|[²³¹⁰⁴-⁹])*"
# A minus is a sign unless it follows something to subtract from, or a word (then it is a hyphen).
SIGN = r"(?:(?<![^\W_])(?<![)\]}%-])(?P<minus>-)|\+)?"
CURRENCY = r"(?:\\?[A-Z]{0,3}[$€£¥₹]\s?(?P<minus_after>-)?)?"
NUMBER = re.compile(rf"{SIGN}{CURRENCY}(?P<token>{TOKEN})")
MARKED_NUMBER = re.compile(rf"####\s*{NUMBER.pattern}")
NUMBER_ALONE = re.compile(rf"\s*{NUMBER.pattern}\.?\s?%?\s*")
# Thousands may be separated, also in the Indian style (12,34,567); exponents have at most four digits.
VALUE = re.compile(r"(?:\d{1,3}(?:,\d{2,3})*,\d{3}|\d+)?(?:\.\d+)?(?:[eE][-+]?\d{1,4})?")


def final_number(text: str) -> Decimal | None:
    """The number after the last `####` that has one, or else the last number of the text; None if it is ambiguous."""
    text = _normal(text)
    found = [*MARKED_NUMBER.finditer(text)] or [*NUMBER.finditer(text)]
    return _value(found[-1]) if found else None


def marked_number(text: str) -> Decimal | None:
    """The number after the last `####` that has one, as in GSM8K's answers; None if there is none."""
    found = [*MARKED_NUMBER.finditer(_normal(text))]
    return _value(found[-1]) if found else None


def read_number(text: str) -> Decimal | None:
    """The whole text as a number, without currency and percent signs (1,400, $1400.00, 30%); None if it is not one."""
    found = NUMBER_ALONE.fullmatch(_normal(text))
    return _value(found) if found else None


def ends_in_number(answer: str, reply: str) -> bool:
    """Whether the reply's final number equals the number `answer`."""
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
