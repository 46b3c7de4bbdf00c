"""A run's directory as a page: `python -m evals.report --run runs/NAME`.

Writes report.md with its pictures in report/, the self-contained report.html, and a model card (README.md) into every
finished stage. Only files are read, so it takes seconds; run it again whenever there is something new.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recipes.utils.arguments import REQUIRED, Arguments, flag, read_command_line
from recipes.utils.errors import InputError, exit_on_input_error

if TYPE_CHECKING:
    from evals.report.gather import Stage


@dataclass
class ReportArguments(Arguments):
    run: str = flag(
        REQUIRED, "directory of the run, which holds base/, mid/, sft/, dpo/, grpo/, tokenizer/", path=True
    )
    price_per_gpu_hour: float | None = flag(None, "dollars for an hour of one GPU (or one process)", least=0)
    price_per_hour: float | None = flag(None, "dollars for an hour of the whole machine", least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.price_per_gpu_hour is not None and self.price_per_hour is not None:
            raise InputError("price_per_gpu_hour and price_per_hour exclude each other: give one of them.")

    def price(self, stage: "Stage") -> float | None:
        """Dollars that a stage's training cost; None if its time or the price is not known."""
        if stage.seconds is None or self.priced_by is None:
            return None
        if self.price_per_hour is not None:
            return stage.seconds / 3600 * self.price_per_hour
        return stage.seconds / 3600 * (stage.processes or 1) * self.price_per_gpu_hour

    @property
    def priced_by(self) -> str | None:
        if self.price_per_hour is not None:
            return f"Cost at ${self.price_per_hour:g} an hour."
        if self.price_per_gpu_hour is not None:
            return f"Cost at ${self.price_per_gpu_hour:g} an hour a process (one, where no number was recorded)."
        return None


if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("evals.report", ReportArguments)

from transformers.utils.logging import set_verbosity_error

from evals.report import sections
from evals.report.card import write_model_card
from evals.report.gather import Run, gather
from evals.report.page import Page
from evals.report.reinforcement import reinforcement_section
from recipes.utils.outputs import ensure_writable


def build_page(run: Run, args: ReportArguments) -> Page:
    page = Page(f"The run {run.name}")
    page.add(
        *sections.headline(run, args.price),
        *sections.samples_section(run),
        *sections.chat_section(run),
        *sections.core_section(run),
        *sections.judge_section(run),
        *sections.training_section(run),
        *sections.preferences_section(run),
        *reinforcement_section(run),
        *sections.tokens_section(run),
        *sections.model_section(run),
        *sections.tokenizer_section(run),
        *sections.system_section(run, args.price, args.priced_by),
        *sections.commands_section(run),
        *sections.notes_section(run),
    )
    return page


def report(args: ReportArguments) -> None:
    """Write the report and the cards, and say where."""
    run = gather(Path(args.run))
    ensure_writable(args.run, f"--run {args.run}")
    written = build_page(run, args).write(Path(args.run), "report")
    for stage in run.stages:
        if stage.finished:
            try:
                card = write_model_card(stage, run)
            except OSError as error:
                print(f"{stage.directory / 'README.md'} cannot be written: {error.strerror}")
                continue
            if card is None:
                print(f"{stage.directory / 'README.md'} is not ours, or was edited: left as it is")
            else:
                written.append(card)
    for note in run.notes:
        print(note)
    print("\n".join(f"written: {path}" for path in written))


def main(args: ReportArguments) -> None:
    set_verbosity_error()  # our own note reports a damaged config
    report(args)


if __name__ == "__main__":
    exit_on_input_error("evals.report", lambda: main(ARGS))
