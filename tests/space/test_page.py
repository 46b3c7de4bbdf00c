"""What a visitor does on the page, in a real browser, on a desktop and on a phone."""

import time

import gradio as gr
import pytest
from playwright.sync_api import expect

from recipes.utils.errors import InputError
from space.chat_page.page import serve
from tests.space.browser import Visitor
from tests.space.conftest import HTML, loaded

pytestmark = [pytest.mark.slow, pytest.mark.browser]


@pytest.fixture(params=["desktop", "phone"])
def visitor(request, browser, page_url):
    visitor = Visitor(browser, page_url, request.param)
    yield visitor
    visitor.leave()
    assert not visitor.foreign, "the page fetches something from elsewhere"


@pytest.fixture(params=["desktop", "phone"])
def impatient(request, browser, slow_url):
    visitor = Visitor(browser, slow_url, request.param)
    yield visitor
    visitor.leave()


def test_an_answer_comes_with_its_figures(visitor):
    visitor.converse("I am Bo.")
    expect(visitor.questions).to_have_text(["I am Bo."])
    expect(visitor.answers).to_have_text(["Hello, Bo."])
    expect(visitor.figures).to_contain_text("tokens/s")
    expect(visitor.box).to_have_value("")
    visitor.ask("Who am I?")
    expect(visitor.answers).to_have_text(["Hello, Bo.", "You are Bo."])  # it has read the whole conversation


def test_a_call_is_shown_folded_and_opens(visitor):
    visitor.converse("How much is 12*4?")
    expect(visitor.calls).to_have_text(["Calculator"])
    expect(visitor.answers.last).to_contain_text("Let me see:")
    expect(visitor.answers.last).to_contain_text("It is 48.")
    visitor.calls.get_by_role("button").first.click()
    expect(visitor.calls.last).to_contain_text("12*4")
    expect(visitor.calls.last).to_contain_text("= 48")


def test_the_page_fits_its_window(impatient):
    impatient.ask("W" * 50)
    expect(impatient.answers.last).to_contain_text("a" * 60)
    wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert impatient.page.evaluate(wide)
    expect(impatient.box).to_be_in_viewport()
    impatient.page.locator("#message .stop-button").click()
    expect(impatient.figures).to_contain_text("stopped")


def test_an_answer_grows_and_stops(impatient):
    impatient.ask("Go on.")
    expect(impatient.answers.last).to_contain_text("aa")
    impatient.page.locator("#message .stop-button").click()
    expect(impatient.figures).to_contain_text("stopped")
    tokens = int(impatient.figures.inner_text().split("·")[1].split()[0])
    assert tokens < 256 and impatient.answers.last.inner_text() == "a" * tokens
    impatient.ask("Again.")  # another can be asked at once
    expect(impatient.answers).to_have_count(2)
    impatient.page.locator("#message .stop-button").click()
    expect(impatient.figures).to_contain_text("stopped")
    expect(impatient.questions).to_have_count(2)


def test_retry_edit_and_undo(visitor):
    visitor.converse("I am Bo.")
    seed = visitor.figures.inner_text().split()[-1]
    visitor.press("Retry")
    expect(visitor.figures).to_contain_text("seed")
    expect(visitor.figures).not_to_contain_text(seed)
    visitor.is_answered()
    expect(visitor.answers).to_have_text(["Hello, Bo."])

    visitor.converse("Who am I?")
    visitor.page.locator("#chat").get_by_label("Edit", exact=True).first.click()
    visitor.page.locator("#chat textarea").fill("Greet the world.")
    visitor.press("Submit")
    expect(visitor.questions).to_have_text(["Greet the world."])  # what followed is gone
    expect(visitor.answers).to_have_text(["Grüße, 你好 and 👩‍🚀!"])
    visitor.is_answered()
    visitor.press("Undo")
    expect(visitor.questions).to_have_count(0)
    expect(visitor.box).to_have_value("Greet the world.")


def test_a_refused_edit_changes_nothing(browser, page_url):
    visitor = Visitor(browser, page_url)
    visitor.converse("I am Bo.")
    visitor.press("Edit")
    visitor.page.locator("#chat textarea").fill("x" * 9000)
    visitor.press("Submit")
    expect(visitor.page.locator(".toast-body")).to_contain_text("9,000 characters, and 8,000 are allowed")
    expect(visitor.questions).to_have_text(["I am Bo."])
    expect(visitor.answers).to_have_text(["Hello, Bo."])
    expect(visitor.figures).to_contain_text("token")
    visitor.leave()


def test_html_is_text_whoever_wrote_it(visitor):
    script = "<script>alert(1)</script><img src=x onerror=alert(2)> &amp; [a](javascript:alert(3)) $x$"
    visitor.converse(script)
    typed = visitor.questions.last.inner_text().replace("\N{ZERO WIDTH SPACE}", "")
    assert typed.strip() == script
    visitor.press("Clear")
    expect(visitor.questions).to_have_count(0)
    visitor.converse("Write HTML.")
    assert visitor.answers.last.inner_text().replace("\N{ZERO WIDTH SPACE}", "").strip() == HTML
    assert visitor.page.locator("#chat :is(.user, .bot).message :is(script, img, b, a, strong, .katex)").count() == 0
    assert not visitor.dialogs


def test_clearing_while_an_answer_grows(impatient):
    impatient.ask("Go on.")
    expect(impatient.answers.last).to_contain_text("aa")
    impatient.press("Clear")
    expect(impatient.page.locator("#message .submit-button")).to_be_visible()
    expect(impatient.questions).to_have_count(0)
    impatient.ask("Again.")
    expect(impatient.answers.last).to_contain_text("a")
    expect(impatient.questions).to_have_text(["Again."])
    impatient.page.locator("#message .stop-button").click()
    expect(impatient.figures).to_contain_text("stopped")
    expect(impatient.questions).to_have_text(["Again."])


def test_an_update_on_its_way_does_not_undo_clearing(browser, slow_url, monkeypatch):
    """Each update of the answer takes as long as where the machine is busy."""
    make = gr.Chatbot.postprocess

    def make_slowly(self, value):
        time.sleep(0.3 if value else 0)
        return make(self, value)

    visitor = Visitor(browser, slow_url)
    visitor.ask("Go on.")
    expect(visitor.answers.last).to_contain_text("aa")
    monkeypatch.setattr(gr.Chatbot, "postprocess", make_slowly)
    visitor.page.wait_for_timeout(700)
    visitor.press("Clear")
    expect(visitor.page.locator("#message .submit-button")).to_be_visible()
    visitor.page.wait_for_timeout(700)  # longer than an update takes
    expect(visitor.questions).to_have_count(0)
    visitor.leave()


def test_a_message_too_long_or_empty_is_refused_and_kept(visitor):
    visitor.box.evaluate("(box) => { box.value = 'x'.repeat(1e6); box.dispatchEvent(new Event('input')); }")
    visitor.box.press("Enter")
    toast = visitor.page.locator(".toast-body")
    expect(toast).to_contain_text("The message has 1,000,000 characters, and 8,000 are allowed")
    assert len(visitor.box.input_value()) == 1_000_000
    visitor.ask("   ")
    expect(toast).to_contain_text("The message is empty")
    visitor.ask("Gre\x07et the\x1b world.")  # what remains of it is known
    expect(visitor.answers).to_have_text(["Grüße, 你好 and 👩‍🚀!"])


def test_a_conversation_survives_reloading_and_is_only_this_tabs(visitor, browser, page_url):
    visitor.converse("I am Bo.")
    visitor.box.fill("Who am")
    visitor.page.reload()
    expect(visitor.answers).to_have_text(["Hello, Bo."])
    expect(visitor.box).to_have_value("Who am")
    other = Visitor(browser, page_url)
    expect(other.page.locator("#chat .example")).not_to_have_count(0)
    expect(other.answers).to_have_count(0)
    other.leave()


def test_a_question_that_was_never_answered_is_back_in_the_text_box(browser, page_url):
    """The server went away between the two."""
    visitor = Visitor(browser, page_url)
    visitor.converse("I am Bo.")
    visitor.page.wait_for_function("sessionStorage.nanochat.includes('Hello, Bo.')")
    visitor.page.evaluate("""() => {
      const [shown, text] = JSON.parse(sessionStorage.nanochat);
      shown.push({role: "user", content: [{type: "text", text: "<\\u200bb> is bold?"}]});
      sessionStorage.nanochat = JSON.stringify([shown, text]);
    }""")
    visitor.page.reload()
    expect(visitor.box).to_have_value("<b> is bold?")
    expect(visitor.questions).to_have_text(["I am Bo."])
    visitor.leave()


def test_two_at_once_see_only_their_own(browser, page_url):
    ada, bo = Visitor(browser, page_url), Visitor(browser, page_url, "phone")
    for _ in range(3):
        ada.ask("How much is 12*4?")
        bo.ask("I am Bo.")
        ada.is_answered()
        bo.is_answered()
        expect(ada.answers).to_have_count(1)
        assert "48" in ada.answers.inner_text() and "Bo" not in ada.page.inner_text("#chat")
        assert "Hello, Bo." in bo.answers.inner_text() and "48" not in bo.page.inner_text("#chat")
        for visitor in (ada, bo):
            visitor.press("Clear")
            expect(visitor.questions).to_have_count(0)
            expect(visitor.figures).to_be_empty()
    ada.leave()
    bo.leave()


def test_stopping_while_others_are_served(browser, slow_url):
    first, second = Visitor(browser, slow_url), Visitor(browser, slow_url)
    first.ask("Go on.")
    expect(first.answers.last).to_contain_text("a")
    second.ask("Go on.")
    second.page.locator("#message .stop-button").click()  # it still waits in the queue
    expect(second.page.locator("#message .submit-button")).to_be_visible()
    first.page.locator("#message .stop-button").click()
    expect(first.figures).to_contain_text("stopped")
    expect(second.figures).to_contain_text("no answer")
    expect(second.box).to_have_value("Go on.")  # given back
    first.leave()
    second.leave()


def test_a_text_is_continued_and_stopped(browser, slow_url):
    visitor = Visitor(browser, slow_url)
    visitor.page.get_by_role("tab", name="Continue a text").click()
    text = visitor.page.locator("#text textarea")
    text.fill("Once <b>upon</b> ")
    visitor.page.locator("#go").click()
    visitor.page.wait_for_function("document.querySelector('#text textarea').value.includes('> aaa')")
    visitor.page.locator("#halt").click()
    expect(visitor.page.locator("#go")).to_be_visible()
    expect(visitor.page.get_by_text("stopped · ")).to_be_visible()
    visitor.leave()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(browser, page_url, scheme):
    visitor = Visitor(browser, page_url, scheme=scheme)
    expect(visitor.page.locator("#chat")).to_be_visible()
    brightness = "Number(getComputedStyle(document.querySelector('#chat')).backgroundColor.match(/[0-9]+/)[0])"
    assert (visitor.page.evaluate(brightness) > 127) == (scheme == "light")
    visitor.page.locator("#colours").click()
    switched = f"({brightness} > 127) == {'false' if scheme == 'light' else 'true'}"
    visitor.page.wait_for_function(switched)
    visitor.page.reload()
    expect(visitor.box).to_be_visible()
    visitor.page.wait_for_function(switched)
    visitor.leave()


def test_all_that_is_pressed_has_a_name_and_the_size_of_a_finger(browser, page_url):
    visitor = Visitor(browser, page_url, "phone")
    visitor.converse("How much is 12*4?")
    expect(visitor.page.get_by_role("textbox", name="Message")).to_be_visible()
    names = ["Light or dark", "Send", "Clear", "Copy message", "Edit", "Retry", "Undo"]
    for button in (visitor.page.get_by_role("button", name=name, exact=True).last for name in names):
        size = button.bounding_box()
        assert min(size["width"], size["height"]) >= 32
    visitor.leave()


def test_where_the_browser_keeps_nothing_all_else_works(browser, page_url):
    """As in the frame of a Space, for a visitor who blocks other sites' storage."""
    visitor = Visitor(browser, page_url)
    denied = "get() { throw new DOMException('denied', 'SecurityError'); }"
    visitor.context.add_init_script(
        f"for (const name of ['localStorage', 'sessionStorage']) Object.defineProperty(window, name, {{ {denied} }});"
    )
    visitor.page.reload()
    visitor.converse("I am Bo.")
    expect(visitor.answers).to_have_text(["Hello, Bo."])
    visitor.page.locator("#colours").click()
    visitor.page.wait_for_function("document.body.classList.contains('dark')")
    visitor.leave()


def test_a_question_whose_answer_cannot_begin_is_given_back(browser, page_url):
    """The queue fills between the question and its answer."""
    visitor = Visitor(browser, page_url)
    joins = []

    def refuse_the_second(route) -> None:
        joins.append(route.request.url)
        if len(joins) == 2:
            route.fulfill(status=503, content_type="application/json", body='{"detail": "Queue is full."}')
        else:
            route.continue_()

    visitor.page.route("**/queue/join*", refuse_the_second)
    visitor.ask("I am Bo.")
    expect(visitor.page.locator(".toast-body")).to_contain_text("busy")
    expect(visitor.box).to_have_value("I am Bo.")
    expect(visitor.questions).to_have_count(0)
    visitor.box.press("Enter")
    expect(visitor.answers).to_have_text(["Hello, Bo."])
    visitor.leave()


def test_settings_are_taken_and_checked(browser, page_url):
    visitor = Visitor(browser, page_url)
    visitor.page.locator("#settings .label-wrap").click()
    visitor.converse("Greet the world.")  # gradio empties what is filled in within milliseconds of the opening
    seed = visitor.page.get_by_label("Seed")
    seed.fill("7")
    visitor.page.wait_for_timeout(300)  # longer than a visitor's fingers take to the text box
    visitor.converse("I am Bo.")
    expect(visitor.figures).to_contain_text("seed 7")
    seed.fill("seven")
    visitor.page.wait_for_timeout(300)
    visitor.ask("Who am I?")
    expect(visitor.page.locator(".toast-body")).to_contain_text("The seed must be a whole number")
    expect(visitor.box).to_have_value("Who am I?")  # given back
    visitor.leave()


def test_a_port_that_is_taken_is_named(talker, page_url):
    port = int(page_url.rstrip("/").rpartition(":")[2])
    with pytest.raises(InputError, match=f"port {port}: give --port another"):
        serve(loaded(talker), loaded(talker), port, block=False)


# What it looks like


def box_of(locator) -> dict:
    """Where an element stands in the window."""
    box = locator.bounding_box()
    return box | {"right": box["x"] + box["width"], "bottom": box["y"] + box["height"]}


@pytest.fixture(params=["desktop", "phone", "tablet", "landscape"])
def onlooker(request, browser, page_url):
    visitor = Visitor(browser, page_url, request.param)
    yield visitor
    visitor.leave()


def test_the_field_of_an_edit_is_as_wide_as_its_bubble(onlooker):
    onlooker.converse("I am Bo.")
    onlooker.press("Edit")
    field, bubble = onlooker.page.locator("#chat textarea"), onlooker.page.locator("#chat .user.message")
    assert box_of(field)["width"] > 0.85 * box_of(bubble)["width"] > 200


def test_a_long_draft_scrolls_inside_its_box(onlooker):
    onlooker.box.fill("A\n" * 30)
    onlooker.page.wait_for_timeout(300)
    send, window = box_of(onlooker.page.locator("#message .submit-button")), onlooker.page.viewport_size
    assert send["bottom"] <= window["height"] and send["right"] <= window["width"]
    assert onlooker.box.evaluate("(box) => box.scrollHeight > box.clientHeight + 100")
    onlooker.page.locator("#message .submit-button").click()
    expect(onlooker.questions).to_have_count(1)


def test_the_end_of_the_conversation_stays_in_view_beside_a_long_draft(onlooker):
    for _ in range(3):
        onlooker.converse("How much is 12*4?")
    onlooker.box.fill("A\n" * 30)
    onlooker.page.wait_for_timeout(300)
    buttons, chat = box_of(onlooker.page.get_by_label("Undo").last), box_of(onlooker.page.locator("#chat"))
    assert chat["y"] <= buttons["y"] and buttons["bottom"] <= chat["bottom"]


def test_settings_open_into_view(onlooker):
    onlooker.page.get_by_role("button", name="Settings").click()
    seed = onlooker.page.get_by_label("Seed")
    expect(seed).to_be_visible()
    onlooker.page.wait_for_timeout(1000)
    settings, height = box_of(onlooker.page.locator("#settings")), onlooker.page.viewport_size["height"]
    assert settings["y"] >= 0 and (settings["bottom"] <= height or settings["y"] < 50)
    sliders = [box_of(each) for each in onlooker.page.locator("#settings input[type=range]").all()]
    assert len(sliders) == 4
    in_one_row = len({slider["x"] for slider in sliders[:3]}) == 3
    assert not in_one_row or len({round(slider["y"]) for slider in sliders[:3]}) == 1


def test_signs_begin_and_end_where_the_text_in_the_bubble_does(onlooker):
    onlooker.converse("I am Bo.")
    page = onlooker.page.locator("#chat")
    answer = box_of(page.locator(".bot.message .message-content span").last)
    question = box_of(page.locator(".user.message .message-content span").last)
    first = box_of(page.locator(".message-buttons-left .icon-button svg").first)
    last = box_of(page.locator(".message-buttons-right .icon-button svg").last)
    assert abs(first["x"] - answer["x"]) <= 2 and abs(last["right"] - question["right"]) <= 2
