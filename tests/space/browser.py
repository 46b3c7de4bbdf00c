"""A page as a visitor has it: what stands there, and what one does there."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

SIZES = {
    "desktop": {"width": 1280, "height": 800},
    "tablet": {"width": 820, "height": 1180},
    "phone": {"width": 390, "height": 844},
    "landscape": {"width": 844, "height": 390},  # the phone, held the other way
}
PATIENCE = 60_000  # milliseconds: on a busy machine, a page of a million characters takes long


def find_chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Headless Chromium. Skips the test where there is none."""
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


class Visitor:
    """Someone with a tab of their own. `foreign` are the addresses elsewhere that the tab has asked for."""

    def __init__(self, browser: Browser, url: str, size: str = "desktop", scheme: str = "light") -> None:
        self.context = browser.new_context(viewport=SIZES[size], color_scheme=scheme, has_touch=size == "phone")
        self.page: Page = self.context.new_page()
        self.foreign: list[str] = []
        self.dialogs: list[str] = []
        self.page.on("request", lambda request: self.note(request.url, url))
        self.page.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))
        self.page.set_default_timeout(PATIENCE)
        self.page.goto(url)
        expect(self.box).to_be_visible()

    def note(self, asked: str, home: str) -> None:
        if not asked.startswith((home, "data:", "blob:")):
            self.foreign.append(asked)

    @property
    def box(self) -> Locator:
        return self.page.locator("#message textarea")

    @property
    def questions(self) -> Locator:
        return self.page.locator("#chat .user.message")

    @property
    def answers(self) -> Locator:
        """Answers with at least one word: not the bubble that gradio shows before it. (Stop there: no answer.)"""
        return self.page.locator("#chat .bot.message:not(.pending)")

    @property
    def calls(self) -> Locator:
        return self.page.locator("#chat .thought-group")

    @property
    def figures(self) -> Locator:
        return self.page.locator("#figures")

    def ask(self, text: str) -> None:
        self.box.fill(text)
        self.box.press("Enter")

    def converse(self, text: str) -> None:
        """Ask, and wait for the whole answer."""
        asked = self.questions.count()
        self.ask(text)
        expect(self.questions).to_have_count(asked + 1)  # the line under the last answer has gone with it
        self.is_answered()

    def is_answered(self) -> None:
        """Wait for the line under the answer, which is its end."""
        expect(self.figures).to_contain_text("token")
        expect(self.page.locator("#message .submit-button")).to_be_visible()
        # The conversation is drawn anew after that: a button that is replaced between press and release does nothing.
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def press(self, label: str) -> None:
        """A button of the conversation, the last of its name."""
        self.page.locator("#chat").get_by_label(label, exact=True).last.click()

    def leave(self) -> None:
        self.context.close()
