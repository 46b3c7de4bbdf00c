"""Models ranked by the scores of their answers to the same instructions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from textwrap import shorten

from evals.judge.instructions import Row
from evals.uncertainty import standard_error


@dataclass(frozen=True)
class Ranked:
    """A model's mean score, 0 to 100, and its standard error; None for a single answer."""

    model: str
    mean_score: float
    standard_error: float | None
    empty: int  # answers, which count as 0


@dataclass(frozen=True)
class Pair:
    """Two models on the same instructions: the mean difference of their scores, and who was better how often."""

    better: str
    worse: str
    difference: float
    standard_error: float | None  # paired: an instruction that is hard for both adds no error
    wins: float  # share of instructions
    ties: float


def judged_places(tables: Mapping[str, Sequence[Row]]) -> list[int]:
    """Places of the instructions on which every model has a score."""
    return [place for place, rows in enumerate(zip(*tables.values(), strict=True)) if all(_has_score(r) for r in rows)]


def rank_models(tables: Mapping[str, Sequence[Row]]) -> list[Ranked]:
    """The best first; none if nothing is judged."""
    places = judged_places(tables)
    if not places:
        return []
    ranked = []
    for model, rows in tables.items():
        scores = [rows[place].score for place in places]
        ranked.append(Ranked(model, fmean(scores), standard_error(scores), sum(not rows[p].answer for p in places)))
    return sorted(ranked, key=lambda each: -each.mean_score)


def pair_models(tables: Mapping[str, Sequence[Row]]) -> list[Pair]:
    """Every two models, in the order of the ranking."""
    places, pairs = judged_places(tables), []
    for better, worse in combinations([each.model for each in rank_models(tables)], 2):
        differences = [tables[better][place].score - tables[worse][place].score for place in places]
        wins, ties = fmean(each > 0 for each in differences), fmean(each == 0 for each in differences)
        pairs.append(Pair(better, worse, fmean(differences), standard_error(differences), wins, ties))
    return pairs


def ranking_lines(tables: Mapping[str, Sequence[Row]]) -> list[str]:
    """The ranking, every two models, and the instruction on which answers differ most."""
    ranked, places = rank_models(tables), judged_places(tables)
    if not ranked:
        return ["no answers were scored"]
    width = max(len("model"), *(len(each.model) for each in ranked))
    lines = [f"{'model':<{width}}{'mean score':>20}   of 100, over {len(places):,} instructions"]
    for each in ranked:
        empty = f"   {each.empty:,} empty answers count as 0" if each.empty else ""
        lines.append(f"{each.model:<{width}}{_with_error(each.mean_score, each.standard_error):>20}{empty}")
    for pair in pair_models(tables):
        losses = 1 - pair.wins - pair.ties
        lines.append(
            f"{pair.better} - {pair.worse}: {_with_error(pair.difference, pair.standard_error)}; "
            f"better {pair.wins:.0%}, equal {pair.ties:.0%}, worse {losses:.0%}"
        )
    lines.append("± is the standard error.")
    widest = max(places, key=lambda place: _spread([rows[place].score for rows in tables.values()]))
    first = next(iter(tables.values()))[widest]
    lines += ["", "where they differ most:"]
    lines += [f"  {'asked':<10} {_short(f'{first.instruction} {first.input}')}"]
    lines += [f"  {'reference':<10} {_short(first.reference)}"]
    for each in ranked:
        row = tables[each.model][widest]
        lines += [f"  {each.model}: {row.score:g}", f"    answer   {_short(row.answer)}"]
        lines += [f"    reason   {_short(row.reason)}"]
    return lines


def _has_score(row: Row) -> bool:
    return row.score is not None


def _spread(scores: Sequence[float]) -> float:
    return max(scores) - min(scores)


def _with_error(value: float, error: float | None) -> str:
    return f"{value:.1f}" if error is None else f"{value:.1f} ± {error:.1f}"


def _short(text: str | None) -> str:
    return shorten(text or "", 300, placeholder=" ...")
