"""A page is whole in one file, says what it was given, and no text in it becomes anything but text."""

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import image

from evals.report.page import Chat, Code, Details, Heading, Page, Picture, Pictures, Table, Text, Tiles
from recipes.plots.figures import draw_bars
from recipes.plots.palette import DARK, HELD_OUT, LIGHT, REFERENCES, STAGE_COLORS, TOKENIZER
from recipes.utils.errors import InputError
from recipes.utils.plain_text import plain_text
from tests.space.browser import SIZES, open_browser

NASTY = "<script>alert(1)</script> | `code` *b* [x](http://a.b) $x$ </td></table> &amp; \\| <!--"
VOID = {"meta", "br", "wbr", "img", "link"}


class Reader(HTMLParser):
    """The text of a page, what it links to, and whether its elements are closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.links, self.tags, self.open, self.ok = "", [], set(), [], True
        self.feed(page)
        self.close()
        self.ok = self.ok and not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "xlink:href", "data", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.open = self.open[:-1] if tag not in VOID else self.open

    def handle_endtag(self, tag):
        self.ok = self.ok and bool(self.open) and self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "title"):
            self.text += data


def bars(title="Bars"):
    return draw_bars(
        ["a", "b"], {"ours": [1.0, -0.5], "theirs": [2.0, None]}, title, ["red", "blue"], marks={"guess": [0.3, None]}
    )


def every_block(text=NASTY):
    return [
        Heading(text),
        Text(text),
        Text(text, quiet=True),
        Table([text, "n"], [[text, "1"], ["two\nlines", "2"]]),
        Pictures([Picture("one", bars(), text, text), Picture("two", bars("Other"), "alt")]),
        Code(text),
        Chat([("user", text), ("call", "1+1"), ("result", "2"), ("model", text)]),
        Tiles([("1", text)]),
        Details(text, [Text(text), Pictures([Picture("inside", bars(), "alt")])]),
    ]


@pytest.fixture
def written(tmp_path):
    markdown, html = Page(NASTY, every_block()).write(tmp_path, "report")
    return markdown.read_text(encoding="utf-8"), html.read_text(encoding="utf-8")


def test_the_html_is_whole_and_needs_nothing_beside_itself(written):
    page = Reader(written[1])
    assert page.ok and page.links
    assert all(link.startswith("#") for link in page.links), page.links
    assert not page.tags & {"script", "link", "img", "iframe", "object"}
    assert not re.search(r"url\((?!#)|@import", written[1])
    assert "prefers-color-scheme: dark" in written[1] and "width=device-width" in written[1]


def test_its_drawings_are_sound_named_and_in_the_pages_colours(written):
    drawings = re.findall(r"<svg.*?</svg>", written[1], re.DOTALL)
    assert len(drawings) == 3
    for drawing in drawings:
        root = ElementTree.fromstring(drawing)
        assert root.attrib["aria-label"] and root.attrib["viewBox"]
        assert "currentColor" in drawing and "var(--muted)" in drawing and "#1f2430" not in drawing
    ids = [re.findall(r'<clipPath id="(\w+)"', drawing) for drawing in drawings]
    assert len({each for group in ids for each in group}) == sum(map(len, ids)), "ids of two drawings must not clash"


def test_the_markdown_links_to_pictures_that_are_there(written, tmp_path):
    links = re.findall(r"(?<!\\)\]\((.*?)\)\n", written[0])
    assert links == ["report/one.png", "report/two.png", "report/inside.png"]
    for link in links:
        pixels = image.imread(tmp_path / link)
        assert pixels.shape[1] == 1200 and pixels.std() > 0


def test_a_heading_a_cell_and_a_reply_cannot_break_out(written):
    markdown, html = written
    assert Reader(html).text.count(NASTY) == 13  # once in each block, and the title
    assert "<script>" not in html
    outside = re.sub(r"^(`{3,})\n.*?^\1$|<summary>.*?</summary>", "", markdown, flags=re.DOTALL | re.MULTILINE)
    assert "<script" not in outside and not re.search(r"(?<!\\)\]\(http", outside)
    row = next(line for line in outside.splitlines() if line.startswith("| ") and "alert" in line)
    assert len(re.findall(r"(?<!\\)\|", row)) == 3, "a table of two columns"
    assert "two<br>lines" in outside


def test_a_renderer_of_markdown_sees_text_only(written):
    markdown_it = pytest.importorskip("markdown_it")
    rendered = markdown_it.MarkdownIt("commonmark", {"html": True}).enable("table").render(written[0])
    page = Reader(rendered)
    assert page.ok and not page.tags & {"script", "a", "b", "ul", "ol"}
    assert {"table", "h1", "h2", "pre", "details", "img"} <= page.tags
    assert page.text.count(NASTY) == 13
    assert rendered.count("<table>") == 2 and page.links == ["report/one.png", "report/two.png", "report/inside.png"]


@pytest.mark.parametrize(
    "text", ["1. one", "12) two", "- three", "+ four", "* five", "# six", "> seven", "---", "==="]
)
def test_a_paragraph_stays_a_paragraph(text):
    markdown_it = pytest.importorskip("markdown_it")
    rendered = markdown_it.MarkdownIt("commonmark").render(Text(text).markdown(""))
    page = Reader(rendered)
    assert page.tags == {"p"} and page.text.strip() == text


@pytest.mark.slow
@given(st.text())
def test_html_says_exactly_what_it_was_given(text):
    for block in (Text(text), Code(text.rstrip() or "x"), Table(["a"], [[text]])):
        said = Reader(block.html())
        assert said.ok and not said.tags & {"script", "b"}
    assert Reader(Text(text).html()).text == plain_text(text)


@given(st.lists(st.text(), min_size=2, max_size=4))
def test_a_row_of_markdown_keeps_its_number_of_cells(cells):
    lines = Table(cells, [cells]).markdown("").split("\n")
    assert len(lines) == 3
    assert {len(re.findall(r"(?<!\\)\|", re.sub(r"\\\\", "", line))) for line in lines} == {len(cells) + 1}


@pytest.mark.parametrize("text", ["plain", "``` fence", "`````", "a\n```\nb"])
def test_code_keeps_its_fence(text):
    first, *inside, last = Code(text).markdown("").split("\n")
    assert set(first) == {"`"} and first == last and "\n".join(inside) == text
    assert all(len(run) < len(first) for run in re.findall("`+", text))


def test_columns_of_markdown_stand_below_each_other():
    lines = Table(["task", "score"], [["a long name", "1"], ["日本", "12.5"]]).markdown("").split("\n")
    assert lines == [
        "| task        | score |",
        "| ----------- | ----: |",
        "| a long name |     1 |",
        "| 日本        |  12.5 |",
    ]


@pytest.mark.slow
def test_writing_again_gives_the_same_bytes_and_no_old_picture(tmp_path):
    Page("First", [Pictures([Picture("old", bars(), "alt")])]).write(tmp_path, "report")
    runs = []
    for _ in range(2):
        Page("Second", every_block()).write(tmp_path, "report")
        runs.append({path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()})
    assert runs[0] == runs[1]
    assert {path.name for path in runs[0]} == {"report.md", "report.html", "one.png", "two.png", "inside.png"}


def test_what_cannot_be_written_is_one_clear_line(tmp_path):
    Path(tmp_path, "file").write_text("")
    with pytest.raises(InputError, match="cannot write report to .*file"):
        Page("x", [Text("y")]).write(tmp_path / "file", "report")


# How it looks

BROKEN_WORDS = """() => {
  const broken = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    for (const word of node.textContent.matchAll(/[^\\s-]+/g)) {
      const range = document.createRange();
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      const lines = new Set([...range.getClientRects()].map((line) => Math.round(line.top)));
      if (lines.size > 1) broken.push(word[0]);
    }
  }
  return broken;
}"""
PATH = "runs/experiments/2026-07-01/nanochat-transformers.primer/sft"
LONG = "W" * 300


@pytest.mark.slow
@pytest.mark.browser
def test_no_word_is_broken_that_fits_its_column(tmp_path):
    sentence = "Mercury, Venus, Earth, Mars, Jupiter, Saturn, Uranus and Neptune go around the sun, a star. " * 3
    page = Page("A page", [])
    page.add(
        Table(
            ["prompt", "the model goes on", ""], [["The planets of the solar system are:", sentence, "right"]], left=3
        ),
        Table(
            ["weights", "shape", "n"], [["layers.*.self_attn.q_proj", "4,096\u00a0x\u00a0256", "1,048,576"]], left=2
        ),
        Table(["stage", "data", "steps"], [["SFT", "primer:sft", "40"], ["mid", PATH, "80"]], left=2),
        Table(["judge", "score"], [["an-organization/a-model-of-a-long-name-8x22B-instruct", "40.0"]]),
        Table(["a", "b"], [[LONG, LONG]], left=2),
        Tiles([("1,234,567,890", "parameters")]),
    )
    page.write(tmp_path, "report")
    with open_browser() as browser:
        for size in SIZES.values():
            tab = browser.new_page(viewport=size)
            tab.goto((tmp_path / "report.html").as_uri())
            assert set(tab.evaluate(BROKEN_WORDS)) <= {LONG}
            assert tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_each_colour_has_one_meaning():
    charts = [*STAGE_COLORS.values(), *HELD_OUT, TOKENIZER, *REFERENCES]
    assert len(set(charts)) == len(charts)
    assert LIGHT.keys() == DARK.keys()
