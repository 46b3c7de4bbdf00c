"""Numbers and names as people read them."""

from recipes.utils.plain_text import clock

TASK_NAMES = {
    "arc_easy": "ARC-Easy",
    "arc_challenge": "ARC-Challenge",
    "mmlu": "MMLU",
    "gsm8k": "GSM8K",
    "gsm8k_flexible": "GSM8K, flexible",
    "humaneval": "HumanEval",
    "facts": "facts",
    "choice": "multiple choice",
    "one_step": "one-step problems",
    "multi_step": "two and three steps",
    "new_kinds": "new kinds of problems",
    "honesty": "honesty",
    "problems1": "one-step problems",  # former names, in results of earlier evaluations
    "harder": "two and three steps",
}
# Reference points: GPT-2's 1.6B CORE by its own weights, and a d20 trained on 11.2B tokens of FineWeb-Edu, after SFT.
D20_CORE = 0.2087
D20_CHAT = {"arc_easy": 0.4571, "arc_challenge": 0.3430, "mmlu": 0.3396, "gsm8k": 0.0500, "humaneval": 0.0793}


def task_name(name: str) -> str:
    """A chat task's display name."""
    return TASK_NAMES.get(name, name)


def short(value: float) -> str:
    """Three significant digits and a letter: 561M, 11.2B, 1.88M; small numbers as they are."""
    if abs(value) < 9_999.5:
        return f"{value:,.0f}"
    size, letter = next(
        (each for each in ((1e12, "T"), (1e9, "B"), (1e6, "M")) if abs(value) >= 0.9995 * each[0]), (1e3, "k")
    )
    return f"{value / size:,.0f}{letter}" if abs(value / size) >= 999.5 else f"{value / size:.3g}{letter}"


def count(value: float | None) -> str:
    """A whole number with all its digits; empty if unknown."""
    return "" if value is None else f"{value:,.0f}"


def percent(value: float | None, digits: int = 1) -> str:
    """A share in percent; empty if unknown."""
    return "" if value is None else f"{100 * value:.{digits}f}%"


def flops(value: float | None) -> str:
    """Floating-point operations, as 4.1e19; empty if unknown."""
    if value is None:
        return ""
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def duration(seconds: float | None) -> str:
    """m:ss or h:mm:ss; empty if unknown."""
    return "" if seconds is None else clock(seconds)


def dollars(value: float | None) -> str:
    """A price; small ones with enough digits to say something. Empty if unknown."""
    if value is None:
        return ""
    return f"${value:,.2f}" if value >= 0.1 or value == 0 else f"${value:.2g}"


def listed(words: list[str]) -> str:
    """a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
