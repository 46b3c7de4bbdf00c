"""The calculator that the model calls: arithmetic and 'text'.count('t'), with bounded time and memory.

Expressions are parsed by Python's `ast` and evaluated by walking the tree; nothing is run as code. Numbers are
decimals of 50 digits, so that 0.1 + 0.2 is 0.3, and the size of every result, and so its cost, is bounded.
"""

import ast
import re
from collections.abc import Callable
from decimal import Context, Decimal, DecimalException, DivisionByZero, InvalidOperation, Overflow, Underflow

MAX_CHARACTERS = 1000
MAX_DEPTH = 100
MAX_DIGITS = 50
MAX_EXPONENT = 100_000  # daily interest over a lifetime needs 30,000
SHOWN_DIGITS = 10

CONTEXT = Context(
    prec=MAX_DIGITS,
    Emax=MAX_DIGITS - 1,
    Emin=-MAX_DIGITS,
    traps=[DivisionByZero, InvalidOperation, Overflow, Underflow],
)

# The tokens of an expression. Text with anything else is rejected before parsing.
WORDS = re.compile(
    r"""(?P<text> '[^'\\\n]*' | "[^"\\\n]*" )
      | (?P<number> (?: [0-9]{1,3} (?:,[0-9]{3})+ (?![0-9]) | [0-9]+ ) (?: \.[0-9]* )? (?: [eE][+-]?[0-9]+ )?
                  | \.[0-9]+ (?: [eE][+-]?[0-9]+ )? )
      | \.count\b | [-+*/%()\s]""",
    re.VERBOSE,
)


class CalculatorError(ValueError):
    """Says in one short line what is wrong with an expression."""


def calculator(expression: str) -> str:
    """
    Computes arithmetic (+ - * / // % ** and brackets) and counts letters or words in a text by 'text'.count('t').

    Args:
        expression: The expression to compute, such as "12 * (3 + 4)" or "'strawberry'.count('r')".

    Returns:
        The result, or what is wrong with the expression after "error: ".
    """
    try:
        return format_number(evaluate(expression))
    except CalculatorError as error:
        return f"error: {error}"


def evaluate(expression: str) -> int | float:
    """Value of `expression`, an int if it is whole. Raises only `CalculatorError`."""
    try:
        value = _number(_parse(expression), MAX_DEPTH)
    except DivisionByZero:
        raise CalculatorError("division by zero") from None
    except Overflow:
        raise CalculatorError(f"a number has more than {MAX_DIGITS} digits") from None
    except Underflow:
        raise CalculatorError("a number is too close to zero") from None
    except DecimalException:  # (-1) ** 0.5, or a remainder of numbers too far apart
        raise CalculatorError("the result is not a number") from None
    return int(value) if value == value.to_integral_value() else float(value)


def format_number(value: int | float) -> str:
    """`value` as people write it: 4, 0.3, 3.333333333. Keeps at least two decimals (cents) of large numbers."""
    if isinstance(value, int):
        return str(value)
    exact = Decimal(repr(value))
    if abs(value) < 10.0**-SHOWN_DIGITS:
        return f"{value:.{SHOWN_DIGITS}g}"  # scientific notation for tiny numbers only
    places = max(2, SHOWN_DIGITS - 1 - exact.adjusted())
    text = f"{exact:.{places}f}"
    return text.rstrip("0").rstrip(".")


def _parse(expression: str) -> ast.expr:
    """Parse an expression, after checking that it is short and consists of numbers, texts and operators only."""
    if not isinstance(expression, str):
        raise CalculatorError("the expression must be a text")
    if len(expression) > MAX_CHARACTERS:
        raise CalculatorError(f"the expression is longer than {MAX_CHARACTERS} characters")
    if foreign := WORDS.sub("", expression):
        raise CalculatorError(f"{foreign[0]!a} does not belong into arithmetic or 'text'.count('t')")
    source = WORDS.sub(lambda word: word[0].replace(",", "") if word["number"] else word[0], expression)
    try:
        return ast.parse(source.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):  # also null bytes, lone surrogates, deep brackets
        raise CalculatorError("this is not a whole expression") from None


def _number(node: ast.expr, depth: int) -> Decimal:
    """Value of a node, which must be a number. At most `depth` levels are allowed below it."""
    if depth == 0:
        raise CalculatorError(f"the expression is more than {MAX_DEPTH} levels deep")
    match node:
        case ast.Constant(value=int() | float() as value):
            return CONTEXT.create_decimal(_within_range(value))
        case ast.UnaryOp(op=ast.UAdd() | ast.USub() as op, operand=operand):
            value = _number(operand, depth - 1)
            return CONTEXT.minus(value) if isinstance(op, ast.USub) else value
        case ast.BinOp(left=left, op=op, right=right):
            return OPERATORS[type(op)](_number(left, depth - 1), _number(right, depth - 1))
        case ast.Call(
            func=ast.Attribute(value=ast.Constant(value=str() as text), attr="count"),
            args=[ast.Constant(value=str() as part)],
            keywords=[],
        ):
            return Decimal(text.count(part))
    raise CalculatorError("only numbers, + - * / // % **, brackets and 'text'.count('t') are known")


def _within_range(value: int | float) -> str:
    """A literal in its shortest text form, so that 0.1 becomes exactly 0.1. Raises `Overflow` if it is too large."""
    if abs(value) >= 10**MAX_DIGITS:
        raise Overflow
    return repr(value)


def _divide(a: Decimal, b: Decimal) -> Decimal:
    return CONTEXT.divide(a, _divisor(b))


def _floor_divide(a: Decimal, b: Decimal) -> Decimal:
    """Round down, as Python does; decimals round towards zero."""
    towards_zero = CONTEXT.divide_int(a, _divisor(b))
    inexact = CONTEXT.remainder(a, b) != 0
    return CONTEXT.subtract(towards_zero, Decimal(1)) if inexact and (a < 0) != (b < 0) else towards_zero


def _modulo(a: Decimal, b: Decimal) -> Decimal:
    """The remainder with the sign of `b`, as in Python."""
    remainder = CONTEXT.remainder(a, _divisor(b))
    return CONTEXT.add(remainder, b) if remainder and (remainder < 0) != (b < 0) else remainder


def _divisor(b: Decimal) -> Decimal:
    """`b`, or `DivisionByZero`: decimals raise InvalidOperation for 0 / 0 and for a remainder by zero."""
    if b == 0:
        raise DivisionByZero
    return b


def _power(a: Decimal, b: Decimal) -> Decimal:
    if b.copy_abs() > MAX_EXPONENT:
        raise CalculatorError(f"an exponent is beyond {MAX_EXPONENT:,}")
    if b == 0:  # for decimals 0 ** 0 is undefined, and 0 ** -1 is infinite
        return Decimal(1)
    return CONTEXT.power(a if b > 0 else _divisor(a), b)


OPERATORS: dict[type[ast.operator], Callable[[Decimal, Decimal], Decimal]] = {
    ast.Add: CONTEXT.add,
    ast.Sub: CONTEXT.subtract,
    ast.Mult: CONTEXT.multiply,
    ast.Div: _divide,
    ast.FloorDiv: _floor_divide,
    ast.Mod: _modulo,
    ast.Pow: _power,
}
