"""The colours of pages (light and dark) and charts, each with one meaning."""

from recipes.utils.run_directory import STAGES

LIGHT = {
    "ink": "#1f2430",
    "muted": "#5f6775",
    "line": "#d8dce3",
    "page": "#f6f7f9",
    "card": "#ffffff",
    "soft": "#e3ecfb",  # the user's messages
    "accent": "#2f66c4",
    "button": "#2f66c4",
    "button-hover": "#285ab0",
    "trouble": "#b3541e",
}
DARK = {
    "ink": "#e4e7ec",
    "muted": "#9aa3b2",
    "line": "#353b46",
    "page": "#14171c",
    "card": "#1c2027",
    "soft": "#24334d",
    "accent": "#86b0f5",
    "button": "#2f66c4",
    "button-hover": "#285ab0",
    "trouble": "#f0a873",
}

# Colours of charts, legible on white, on the light page and on the dark one.
STAGE_COLORS = dict(  # training data
    zip(STAGES, ("#4a80d8", "#dd8435", "#38a37c", "#b38f1f", "#a96bd0"), strict=True)
)
HELD_OUT = ("#c8486b", "#e07b95", "#8d5a72")  # held-out data: loss, bits per byte, pass@k
SPREAD = "#7f8f2e"  # groups of replies that are not all worth the same
TOKENIZER = "#2f98a8"
REFERENCES = ("#868e9b", "#aab1bc", "#c8ccd4")  # others' models and tokenizers


def css_variables(colors: dict[str, str]) -> str:
    """`colors` as CSS custom properties."""
    return " ".join(f"--{name}: {color};" for name, color in colors.items())
