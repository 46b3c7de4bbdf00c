"""Take docs/chat.png and docs/report.png of a finished run: `python docs/screenshots.py runs/cpu`.

Needs Chromium and the extras `dev` and `space`; `evals.report` must have written the run's report.html.
"""

import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "space")]

from chat_page.engine import Engine  # noqa: E402
from chat_page.page import serve  # noqa: E402

QUESTIONS = (
    "What is the capital of France?",
    "What is 12 times 7?",
)
SIZE = {"width": 960, "height": 780}
ZOOM = 1.5  # device pixels a CSS pixel: sharp at half a README's width
COLORS = 64  # of the palette: a page of text and few colours needs no more
PATIENCE = 120_000  # milliseconds


def main(run: Path) -> None:
    chat, base = Engine(str(run / "grpo")), Engine(str(run / "base"), chat=False)
    chat.start()
    base.start()
    page = serve(chat, base, block=False)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        picture_chat(browser, page.local_url, ROOT / "docs" / "chat.png")
        picture_report(browser, run / "report.html", ROOT / "docs" / "report.png")
        browser.close()
    page.close()


def picture_chat(browser: Browser, url: str, path: Path) -> None:
    """Ask all questions, unfold the last calculation, and take the picture."""
    page = browser.new_page(viewport=SIZE, device_scale_factor=ZOOM)
    page.set_default_timeout(PATIENCE)
    page.goto(url)
    for number, question in enumerate(QUESTIONS, 1):
        page.locator("#message textarea").fill(question)
        page.locator("#message textarea").press("Enter")
        expect(page.locator("#chat .user.message")).to_have_count(number, timeout=PATIENCE)
        expect(page.locator("#figures")).to_contain_text("tokens/s", timeout=PATIENCE)
    if page.locator("#chat .thought-group").count():
        page.locator("#chat .thought-group .title").last.click()
    page.locator("#message textarea").blur()
    page.wait_for_timeout(1000)  # the page moves to its end
    save(page.screenshot(), path)


def picture_report(browser: Browser, report: Path, path: Path) -> None:
    """The report from its exams on."""
    page = browser.new_page(viewport=SIZE, device_scale_factor=ZOOM)
    page.goto(report.resolve().as_uri())
    page.get_by_role("heading", name="Exams").evaluate("heading => heading.scrollIntoView()")
    save(page.screenshot(), path)


def save(screenshot: bytes, path: Path) -> None:
    """Write a screenshot with a palette, a third of its size."""
    path.write_bytes(screenshot)
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
