"""Flags of `python -m tokenizer.evaluate`, in a module that imports nothing heavy."""

from dataclasses import dataclass

from recipes.utils.arguments import REQUIRED, Arguments, flag


@dataclass
class EvaluateArguments(Arguments):
    tokenizer: str = flag(REQUIRED, "directory of the tokenizer", path=True)
    dataset: str | None = flag(None, "corpus whose validation split is one more domain", path=True)
    text_column: str = flag("text", "column of the dataset that holds the text")
    output_dir: str | None = flag(None, "directory of tokenizer_evaluation.json and tokenizer_report.html", path=True)
