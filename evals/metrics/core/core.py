"""CORE's aggregation as a module of `evaluate`: `evaluate.load("evals/metrics/core")`, no network needed."""

import difflib
import math

import datasets
import evaluate

from .formula import BASELINES, center

_DESCRIPTION = """\
DCLM's CORE: the mean over 22 tasks of the accuracy above guessing, on a scale from 0, as good as guessing, to 1. With
fewer tasks the mean of those is reported as partial, since it compares only with means over the same tasks.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: accuracy on each task, 0 to 1.
    references: label of each task, as in the keys of `BASELINES` (formula.py); any order, none twice.
Returns:
    core: mean centered accuracy of all 22 tasks; None where one is missing.
    core_partial: mean centered accuracy of the tasks given, where not all are; else None.
    centered: (accuracy - baseline) / (1 - baseline) of each task given; below 0 is worse than guessing.
    missing: labels of the tasks not given.
Examples:
    >>> core = evaluate.load("evals/metrics/core")
    >>> results = core.compute(predictions=[0.5, 0.6], references=["arc_easy", "copa"])
    >>> results["core"], round(results["core_partial"], 4), len(results["missing"])
    (None, 0.2667, 20)
"""

_CITATION = """\
@article{li2024datacomplm,
  title={DataComp-LM: In search of the next generation of training sets for language models},
  author={Li, Jeffrey and Fang, Alex and Smyrnis, Georgios and others},
  journal={arXiv preprint arXiv:2406.11794},
  year={2024}
}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class Core(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("string")}
            ),
        )

    def _compute(
        self, predictions: list[float], references: list[str]
    ) -> dict[str, float | dict[str, float] | list[str] | None]:
        _check(predictions, references)
        centered = {
            label: center(accuracy, BASELINES[label] / 100)
            for accuracy, label in zip(predictions, references, strict=True)
        }
        missing = [label for label in BASELINES if label not in centered]
        mean = math.fsum(centered.values()) / len(centered)
        return {
            "core": None if missing else mean,
            "core_partial": mean if missing else None,
            "centered": centered,
            "missing": missing,
        }


def _check(accuracies: list[float], labels: list[str]) -> None:
    """Raise ValueError unless these are accuracies of different tasks of CORE."""
    if not labels:
        raise ValueError("core: no accuracies were given.")
    for accuracy, label in zip(accuracies, labels, strict=True):
        if label not in BASELINES:
            closest = difflib.get_close_matches(str(label), BASELINES, n=1)
            remedy = f"did you mean {closest[0]!r}?" if closest else f"known are {', '.join(BASELINES)}."
            raise ValueError(f"core: no task of CORE is called {label!r}: {remedy}")
        if accuracy is None or not 0 <= accuracy <= 1:
            raise ValueError(f"core: {accuracy} for {label} is not an accuracy from 0 to 1. Divide percent by 100.")
        if labels.count(label) > 1:
            raise ValueError(f"core: {label} is given more than once. Give one accuracy for each task.")
