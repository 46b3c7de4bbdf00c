"""A tokenizer's figures as blocks of a page, for its own report and for a run's."""

from itertools import cycle, islice
from typing import Any

from matplotlib.figure import Figure

from evals.report.page import Block, Details, Picture, Pictures, Table, Text
from evals.tokenizer.samples import OTHER_LANGUAGES
from recipes.plots.figures import draw_bars, is_number, new_figure, styled
from recipes.plots.palette import REFERENCES, TOKENIZER

OURS = "ours"
LONGEST_SHOWN = 24  # bytes, in the histogram; longer ones share the last bar
MAIN_DOMAINS = ("prose", "code", "maths", "other languages")


def tokenizer_blocks(evaluation: dict[str, Any]) -> list[Block]:
    """Pictures and table of a tokenizer_evaluation.json. Raises KeyError, TypeError or ValueError if it is damaged."""
    figures = {
        name: {domain: value for domain, value in domains.items() if is_number(value) and value > 0}
        for name, domains in evaluation["bytes_per_token"].items()
    }
    ours, others = figures[OURS], {name: each for name, each in figures.items() if name != OURS}
    blocks: list[Block] = []
    if "vocab_size" in evaluation:
        blocks.append(Text(describe(evaluation)))
    pictures = [Picture("tokenizer_domains", plot_domains(figures), describe_domains(ours, others))]
    lengths = {int(size): int(count) for size, count in evaluation.get("token_lengths", {}).items()}
    if lengths:
        mean = sum(size * count for size, count in lengths.items()) / sum(lengths.values())
        alt = f"Histogram of the lengths of the vocabulary's tokens, {mean:.1f} bytes in the mean."
        pictures.append(Picture("tokenizer_lengths", plot_lengths(lengths), alt))
    blocks.append(Pictures(pictures))
    main = [domain for domain in ours if domain not in OTHER_LANGUAGES]
    blocks.append(domains_table(main, ours, others))
    if others:
        blocks.append(Text("In brackets: ours / theirs; above 1 means that ours needs fewer tokens.", quiet=True))
    if skipped := evaluation.get("skipped"):
        blocks.append(Text(f"Not compared, because not at hand: {', '.join(skipped)}.", quiet=True))
    if longest := evaluation.get("longest_tokens"):
        blocks.append(Text(f"The longest tokens: {', '.join(repr(each['token']) for each in longest)}.", quiet=True))
    if len(main) < len(ours):
        rest = [domain for domain in ours if domain in OTHER_LANGUAGES]
        blocks.append(Details("each language", [domains_table(rest, ours, others)]))
    return blocks


def describe(evaluation: dict[str, Any]) -> str:
    """One sentence on the vocabulary."""
    special = len(evaluation.get("special_tokens", []))
    return (
        f"A byte-level BPE of {evaluation['vocab_size']:,} tokens, {special} of them special. More bytes a token mean "
        "shorter sequences: more text in the same context, and less compute for the same text."
    )


def describe_domains(ours: dict[str, float], others: dict[str, dict[str, float]]) -> str:
    """Alt text of the bar chart."""
    values = ", ".join(f"{name} {ours[name]:.2f}" for name in MAIN_DOMAINS if name in ours)
    against = f", against {', '.join(others)}" if others else ""
    return f"Bar chart of bytes per token by domain{against}. Ours: {values}."


def plot_domains(figures: dict[str, dict[str, float]]) -> Figure:
    """Bytes per token of the main domains (and of the corpus, if it was measured), ours and the references'."""
    domains = [name for name in figures[OURS] if name not in OTHER_LANGUAGES]
    series = {name: [values.get(domain) for domain in domains] for name, values in figures.items()}
    labels = [domain if len(domain) < 20 else f"…{domain[-18:]}" for domain in domains]
    return draw_bars(labels, series, "Bytes per token", [TOKENIZER, *islice(cycle(REFERENCES), len(series) - 1)])


@styled
def plot_lengths(lengths: dict[int, int]) -> Figure:
    """Histogram of token lengths in bytes."""
    figure, axes = new_figure()
    shown = {size: count for size, count in lengths.items() if 0 < size <= LONGEST_SHOWN}
    beyond = sum(count for size, count in lengths.items() if size > LONGEST_SHOWN)
    axes.bar(list(shown), list(shown.values()), 0.86, color=TOKENIZER)
    ticks = [size for size in (1, 4, 8, 12, 16, 20, 24) if size <= max(shown, default=1)]
    names = [str(size) for size in ticks]
    if beyond:
        axes.bar([LONGEST_SHOWN + 1.5], [beyond], 0.86, color=TOKENIZER, alpha=0.5)
        ticks, names = [*ticks[:-1], LONGEST_SHOWN + 1.5], [*names[:-1], f"> {LONGEST_SHOWN}"]
    axes.set_xticks(ticks, names)
    axes.set(title="Length of the vocabulary's tokens", xlabel="bytes", ylabel="tokens")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    return figure


def domains_table(domains: list[str], ours: dict[str, float], others: dict[str, dict[str, float]]) -> Table:
    """Bytes per token by domain: ours, then each reference's with the ratio ours / theirs."""
    rows = []
    for domain in domains:
        value = ours[domain]
        theirs = (other.get(domain) for other in others.values())
        rows.append(
            [domain, f"{value:.2f}", *(f"{each:.2f} ({value / each:.2f}x)" if each else "" for each in theirs)]
        )
    return Table(["bytes per token", OURS, *others], rows)
