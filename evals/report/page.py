"""A page for people: blocks one after another, written as Markdown with pictures and as one HTML file.

The HTML is page.html.jinja, blocks.html.jinja and page.css. It needs nothing beside itself: pictures are inside, no
script, no font, nothing fetched; it follows the reader's light or dark mode and fits a phone. Whatever text is put in,
a model's or a user's, stays text.
"""

import html
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from recipes.plots.figures import as_png, as_svg
from recipes.plots.palette import DARK, LIGHT, css_variables
from recipes.utils import atomic
from recipes.utils.errors import InputError
from recipes.utils.plain_text import plain_text

HERE = Path(__file__).parent
LONG_WORD = re.compile(r"\S{16,}")  # a path, or a name made of others,
BREAK = re.compile(r"(?<=\S)[/.:](?=[^\W\d]|\*)")  # which a narrow column may break behind these


def as_shown(value: Any) -> Any:
    """A value as a template inserts it: without control characters. Jinja escapes it afterwards."""
    return value if isinstance(value, Markup) else plain_text(str(value))


def breakable(text: str) -> Markup:
    """The text of a table cell, with break opportunities in long words."""
    return Markup(LONG_WORD.sub(lambda word: BREAK.sub(r"\g<0><wbr>", word[0]), escape(as_shown(text))))


def slug(text: str) -> str:
    """The name of an anchor."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "section"


TEMPLATES = Environment(loader=FileSystemLoader(HERE), autoescape=True, finalize=as_shown, keep_trailing_newline=True)
TEMPLATES.filters |= {"breakable": breakable, "slug": slug}


class Block:
    """A part of a page."""

    def markdown(self, pictures: str) -> str:
        """The block as Markdown; the files of pictures are in the directory `pictures`."""
        raise NotImplementedError

    def html(self) -> Markup:
        """The block as HTML, by the macro that has the class's name."""
        return getattr(TEMPLATES.get_template("blocks.html.jinja").module, type(self).__name__.lower())(self)


@dataclass(frozen=True)
class Heading(Block):
    """The title of a section."""

    text: str
    level: int = 2

    def markdown(self, pictures: str) -> str:
        return f"{'#' * self.level} {escape_markdown(self.text)}"


@dataclass(frozen=True)
class Text(Block):
    """A paragraph; `quiet` ones are remarks."""

    text: str
    quiet: bool = False

    def markdown(self, pictures: str) -> str:
        """One line, in which nothing is formatted."""
        text = escape_markdown(self.text)
        return f"*{text}*" if self.quiet else text


@dataclass(frozen=True)
class Table(Block):
    """Rows of text. The first `left` columns hold words; the others hold numbers and are right-aligned."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1

    def markdown(self, pictures: str) -> str:
        """Padded, so that it is readable unrendered too."""
        lines = [[escape_cell(str(cell)) for cell in row] for row in [self.columns, *self.rows]]
        widths = [max(3, *(display_width(line[index]) for line in lines)) for index in range(len(self.columns))]
        rule = ["-" * width if index < self.left else "-" * (width - 1) + ":" for index, width in enumerate(widths)]
        return "\n".join(self._line(line, widths) for line in [lines[0], rule, *lines[1:]])

    def _line(self, cells: list[str], widths: list[int]) -> str:
        padded = []
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True)):
            room = " " * (width - display_width(cell))
            padded.append(cell + room if index < self.left else room + cell)
        return f"| {' | '.join(padded)} |"


@dataclass(frozen=True)
class Picture:
    """A figure; `name` is its file's stem, `alt` describes it in words."""

    name: str
    figure: Figure
    alt: str
    caption: str = ""

    @property
    def svg_after_tag(self) -> Markup:
        """The drawing in the page's colours, from behind `<svg` on."""
        return Markup(as_svg(self.figure, self.name).removeprefix("<svg"))


@dataclass(frozen=True)
class Pictures(Block):
    """Pictures side by side if there is room, else stacked."""

    pictures: Sequence[Picture]

    def markdown(self, pictures: str) -> str:
        """Links to the files in the directory `pictures`."""
        lines = []
        for each in self.pictures:
            lines.append(f"![{escape_markdown(each.alt)}]({pictures}/{each.name}.png)")
            lines += [f"*{escape_markdown(each.caption)}*"] if each.caption else []
        return "\n\n".join(lines)


@dataclass(frozen=True)
class Code(Block):
    """Text to copy verbatim."""

    text: str

    def markdown(self, pictures: str) -> str:
        """A block whose fence is longer than any in the text."""
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", self.text)), default=0))
        return f"{fence}\n{plain_text(self.text).rstrip()}\n{fence}"


@dataclass(frozen=True)
class Chat(Block):
    """A conversation: pairs of speaker (user, model, call of a tool, or result) and text."""

    turns: Sequence[tuple[str, str]]

    NAMES = {"user": "you    ", "model": "model  ", "call": "model  [calculator] ", "result": "       = "}  # noqa: RUF012

    def markdown(self, pictures: str) -> str:
        return Code("\n".join(self.NAMES[speaker] + text for speaker, text in self.turns)).markdown(pictures)


@dataclass(frozen=True)
class Tiles(Block):
    """Key figures in large type: pairs of value and label."""

    tiles: Sequence[tuple[str, str]]

    def markdown(self, pictures: str) -> str:
        return Table([label for _, label in self.tiles], [[value for value, _ in self.tiles]], left=0).markdown("")


@dataclass(frozen=True)
class Details(Block):
    """Blocks behind a summary that opens them."""

    summary: str
    blocks: Sequence["Block"]

    def markdown(self, pictures: str) -> str:
        """HTML's own element, which Markdown lets through."""
        summary = html.escape(plain_text(" ".join(self.summary.split())))  # an empty line would end the element
        inside = "\n\n".join(block.markdown(pictures) for block in self.blocks)
        return f"<details>\n<summary>{summary}</summary>\n\n{inside}\n\n</details>"


@dataclass
class Page:
    title: str
    blocks: list[Block] = field(default_factory=list)

    def add(self, *blocks: Block) -> None:
        self.blocks += blocks

    def markdown(self, pictures: str) -> str:
        """The whole page as Markdown, with pictures in the directory `pictures`."""
        return "\n\n".join(block.markdown(pictures) for block in [Heading(self.title, 1), *self.blocks]) + "\n"

    def html(self) -> str:
        """The whole page as HTML."""
        return TEMPLATES.get_template("page.html.jinja").render(
            title=self.title,
            blocks=self.blocks,
            sections=[block for block in self.blocks if isinstance(block, Heading) and block.level == 2],
            light=css_variables(LIGHT),
            dark=css_variables(DARK),
            css=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        )

    def write(self, directory: Path, name: str) -> list[Path]:
        """Write `name.md` with its pictures in `name/`, and `name.html`; what is there of an earlier page is replaced.

        Returns both files. Raises `InputError` if they cannot be written.
        """
        try:
            if figures := list(self.pictures(self.blocks)):
                with atomic.new_directory(directory / name) as fresh:
                    for picture in figures:
                        (fresh / f"{picture.name}.png").write_bytes(as_png(picture.figure))
            directory.mkdir(parents=True, exist_ok=True)
            atomic.write_text(directory / f"{name}.md", self.markdown(name))
            atomic.write_text(directory / f"{name}.html", self.html())
        except OSError as error:
            raise InputError(f"cannot write {name} to {directory}: {error.strerror}.") from None
        return [directory / f"{name}.md", directory / f"{name}.html"]

    def pictures(self, blocks: Sequence[Block]) -> list[Picture]:
        """All pictures among `blocks`, those inside `Details` included."""
        found = []
        for block in blocks:
            found += block.pictures if isinstance(block, Pictures) else []
            found += self.pictures(block.blocks) if isinstance(block, Details) else []
        return found


# Escaping


def escape_markdown(text: str) -> str:
    """`text` as one line without any Markdown or HTML markup, and without a list marker at its start."""
    return re.sub(r"^(\d*)([-+.)=])(?=[\s=-]|$)", r"\1\\\2", escape_inline(text))


def escape_cell(text: str) -> str:
    """`text` for a table cell: the same, with line breaks as <br>."""
    return "<br>".join(escape_inline(line) for line in plain_text(text).split("\n"))


def escape_inline(text: str) -> str:
    """Escape what has a meaning within a line."""
    text = html.escape(" ".join(plain_text(text).split()), quote=False)
    return re.sub(r"([\\`*_\[\]|~$#])", r"\\\1", text)


def display_width(text: str) -> int:
    """Terminal columns of a line: two for a wide character, none for a combining one."""
    wide = sum(unicodedata.east_asian_width(each) in "WF" for each in text)
    return len(text) + wide - sum(unicodedata.combining(each) != 0 for each in text)
