"""Whether generated texts end in the right number, as a module of `evaluate`; no network needed.

`evaluate.load("evals/metrics/numeric_match")`

Numbers are read by recipes.utils.numerals, as rewards and exams read them: this project has to be importable.
"""

from decimal import Decimal

import datasets
import evaluate

from recipes.utils.numerals import final_number, marked_number, read_number

_DESCRIPTION = """\
Share of generated texts whose final number is the right one, as GSM8K and other word problems are graded: the number
after the last `####`, or without one the last number of the text, compared as a number.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: generated texts.
    references: the right answers: numbers such as 1,400 or $12.50 or 30%; or answers as in GSM8K, worked out, which
        end with #### and the number.
Returns:
    accuracy: share of texts that end in the right number.
    matches: for each text, whether it does.
Examples:
    >>> numeric_match = evaluate.load("evals/metrics/numeric_match")
    >>> numeric_match.compute(predictions=["6 * 7 = 42.0.", "#### $1,400", "none"], references=["42", "1400", "3"])
    {'accuracy': 0.6666666666666666, 'matches': [True, True, False]}
"""

_CITATION = """\
@article{cobbe2021gsm8k,
  title={Training Verifiers to Solve Math Word Problems},
  author={Cobbe, Karl and Kosaraju, Vineet and Bavarian, Mohammad and others},
  journal={arXiv preprint arXiv:2110.14168},
  year={2021}
}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class NumericMatch(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float | list[bool]]:
        if not references:
            raise ValueError("numeric_match: no texts were given.")
        for name, texts in (("prediction", predictions), ("reference", references)):
            if None in texts:
                raise ValueError(f"numeric_match: {name} {texts.index(None)} is None, not text.")
        answers = [_read_reference(text, number) for number, text in enumerate(references)]
        matches = [final_number(text) == answer for text, answer in zip(predictions, answers, strict=True)]
        return {"accuracy": sum(matches) / len(matches), "matches": matches}


def _read_reference(text: str, index: int) -> Decimal:
    """The number of a right answer. Raises ValueError for anything else, which no text could match."""
    number = marked_number(text) if "####" in text else read_number(text)
    if number is None:
        raise ValueError(
            f"numeric_match: reference {index} is {text!r:.60}, which is not a number. Give one, or an answer that "
            "ends with #### and a number."
        )
    return number
