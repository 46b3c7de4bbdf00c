"""The calculator agrees with exact arithmetic, and nothing that it is given breaks or delays it."""

import re
import warnings
from decimal import Decimal
from fractions import Fraction
from operator import add, floordiv, mod, mul, sub, truediv

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.utils import get_json_schema

from recipes.utils.calculator import MAX_CHARACTERS, CalculatorError, calculator, evaluate

LONGEST_ANSWER = 120  # characters

DECIMALS = st.builds(lambda n, places: f"{Decimal(n).scaleb(-places):f}", st.integers(0, 9999), st.integers(0, 4))
REFERENCE = {"+": add, "-": sub, "*": mul, "/": truediv, "//": floordiv, "%": mod}


@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        ("12*4", "48"),
        ("12 * (3 + 4)", "84"),
        ("8/2", "4"),
        ("10/4", "2.5"),
        ("1/3", "0.3333333333"),
        ("1/3*3", "1"),
        ("0.1+0.2", "0.3"),
        ("1 % 0.1", "0"),
        ("2.675*100", "267.5"),
        ("100-99.99", "0.01"),
        ("-7//2", "-4"),
        ("-7%3", "2"),
        ("7%-3", "-2"),
        ("2**100", str(2**100)),
        ("-2**2", "-4"),
        ("2**-1", "0.5"),
        ("2**0.5", "1.414213562"),
        ("8**(1/3)", "2"),
        ("0**0", "1"),
        ("--+3", "3"),
        ("0*-1", "0"),
        ("1,234,567*2", "2469134"),
        ("1,234.5+.5", "1235"),
        ("1234567890.55+0", "1234567890.55"),
        ("1/10**5", "0.00001"),
        ("1e3+1", "1001"),
        ("5.", "5"),
        (" 3 +\t4 ", "7"),
        ("'strawberry'.count('r')", "3"),
        ('"it\'s".count("\'")', "1"),
        ("'a,b,1,234'.count(',')", "3"),
        ("'aaaa'.count('aa') * 10", "20"),
        ("'нет'.count('е')", "1"),
    ],
)
def test_results_are_written_as_people_write_them(expression, answer):
    assert calculator(expression) == answer


@pytest.mark.parametrize(
    "expression",
    [
        "9**9**9",
        "9**99999",
        "10**50",
        "10**49*10",
        "-10**49*10",
        "0.5**100000",
        "1e999",
        "9" * 1_000_000,
        "9" * MAX_CHARACTERS,
        "(" * 90_000,
        "(" * 400 + "1" + ")" * 400,
        "-" * 900 + "1",
        "1+" * 400 + "1",
        "1**" * 300 + "1",
        "[" * 900,
        "1/0",
        "1//0",
        "1%0",
        "0**-1",
        "(-1)**0.5",
        "nan",
        "inf",
        "1j",
        "True",
        "None",
        "...",
        "x",
        "x.y",
        "(1).real",
        "__import__('os').system('true')",
        "print(1)",
        "'a'.upper()",
        "'a'.count",
        "'a'.count()",
        "'a'.count('a', 0)",
        "'a'.count(1)",
        "'a'.count('a').count('a')",
        "'a'.count(x='a')",
        "'a'.count(*'a')",
        "'a'*10**9",
        "'a'+'b'",
        "'a'",
        "b'a'.count(b'a')",
        "f'{9**9**9}'.count('1')",
        "'\\N{BULLET}'.count('a')",
        "'" + "a" * 1_000_000 + "'.count('a')",
        "1<2",
        "1 if 2 else 3",
        "1 and 2",
        "lambda: 1",
        "(x := 1)",
        "[1, 2]",
        "(1, 2)",
        "1,2",
        "1,2345",
        "1_000",
        "0x10",
        "1; 2",
        "1 # 2",
        "1 2",
        "1.2.3",
        "1 +",
        "~1",
        "1 ^ 2",
        "1 @ 2",
        "",
        "  ",
        "\x00",
        "1\x00",
        "'\x00'.count('a')",
        "'\ud800'.count('a')",
        "\ud800",
        "１+1",
        None,
        12,
    ],
    ids=lambda expression: ascii(expression)[:30],
)
def test_bombs_and_nonsense_are_one_short_error(expression):
    answer = calculator(expression)
    assert answer.startswith("error: ")
    assert len(answer) <= LONGEST_ANSWER and answer.isprintable()
    with pytest.raises(CalculatorError):
        evaluate(expression)


def test_no_warning_of_the_parser_reaches_the_terminal():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for expression in (r"'\d'.count('d')", "1is 1", "0in 1", "1 is 1", "1()", "'a'()", "1(2)"):
            assert calculator(expression).startswith("error: ")
    assert not caught


def test_whole_results_are_ints_and_others_floats():
    for expression, value in {"8/2": 4, "2.5*2": 5, "2**90": 2**90, "1/4": 0.25, "'aa'.count('a')": 2}.items():
        assert evaluate(expression) == value
        assert type(evaluate(expression)) is type(value)


Tree = tuple[str, Fraction | None]  # an expression and its value; None where something is divided by zero


def joined(left: Tree, operator: str, right: Tree) -> Tree:
    text = f"({left[0]} {operator} {right[0]})"
    try:
        return text, None if None in (left[1], right[1]) else REFERENCE[operator](left[1], right[1])
    except ZeroDivisionError:
        return text, None


def trees(numbers: st.SearchStrategy[str], operators: list[str]) -> st.SearchStrategy[Tree]:
    """Expressions of these operators. With "/", only by a literal: thirds are cut off after 50 digits."""
    leaves = numbers.map(lambda text: (text, Fraction(text)))
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(joined, inner, st.sampled_from([each for each in operators if each != "/"]), inner),
            st.builds(joined, inner, st.just("/"), leaves) if "/" in operators else st.nothing(),
            inner.map(lambda tree: (f"-{tree[0]}", None if tree[1] is None else -tree[1])),
        ),
        max_leaves=8,
    )


@given(trees(st.integers(0, 99_999).map(str), ["+", "-", "*", "//", "%"]))
def test_whole_numbers_agree_with_python(tree):
    text, value = tree
    assert calculator(text) == ("error: division by zero" if value is None else str(value))


@given(
    trees(
        st.builds(lambda n, places: str(Decimal(n).scaleb(-places)), st.integers(0, 9999), st.integers(0, 4)),
        ["+", "-", "*", "/"],
    )
)
def test_decimals_agree_with_fractions(tree):
    text, value = tree
    if value is None:
        assert calculator(text) == "error: division by zero"
    else:
        assert evaluate(text) == pytest.approx(float(value), rel=1e-12, abs=1e-12)


@given(trees(st.integers(0, 10**12).map(str), ["+", "-", "*"]))
def test_thousands_separators_change_nothing(tree):
    text, _ = tree
    separated = re.sub(r"\d+", lambda digits: f"{int(digits[0]):,}", text)
    assert calculator(separated) == calculator(text)


@given(st.integers(-200, 200), st.integers(0, 60))
def test_powers_agree_with_python_up_to_50_digits(base, exponent):
    exact = base**exponent
    expected = str(exact) if abs(exact) < 10**50 else "error: a number has more than 50 digits"
    assert calculator(f"({base})**{exponent}") == expected


@given(
    st.one_of(
        st.text(),
        st.text(alphabet="0123456789.,e+-*/%() '\"count\n\\", max_size=60),
        st.lists(st.sampled_from([*REFERENCE, "**", "9", "1e49", "0.1", "(", ")", "'a'", ".count(", "-", " "])).map(
            "".join
        ),
    )
)
def test_any_text_is_answered_shortly(expression):
    answer = calculator(expression)
    assert 0 < len(answer) <= LONGEST_ANSWER and answer.isprintable()


@given(st.text(alphabet="strawbey ", max_size=30), st.text(alphabet="strawbey ", min_size=1, max_size=2))
def test_counting_agrees_with_python(text, part):
    assert calculator(f"'{text}'.count('{part}')") == str(text.count(part))


def test_its_schema_is_what_chat_templates_are_given():
    function = get_json_schema(calculator)["function"]
    assert function["name"] == "calculator"
    assert function["parameters"]["required"] == ["expression"]
    assert function["parameters"]["properties"]["expression"]["type"] == "string"
    assert "12 * (3 + 4)" in function["parameters"]["properties"]["expression"]["description"]
