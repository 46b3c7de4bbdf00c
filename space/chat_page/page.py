"""Layout of the page, and which handler belongs to which event."""

import html
import re
import time
from pathlib import Path

import gradio as gr

from recipes.utils.errors import InputError

from .engine import Engine
from .handlers import Continue, Talk
from .limits import MAX_NEW_TOKENS, MAX_WAITING, SESSIONS
from .style import CSS, SCRIPT, SWITCH_COLOURS, theme

EXAMPLES = [
    "Why is the sky blue?",
    "What is the capital of France?",
    "Anna has 14 apples and buys 27 more. How many apples does Anna have now?",
    "How many letters r are in strawberry?",
]
BEGINNINGS = ["The capital of France is", "Once upon a time", "The planets of the solar system are:"]
ICON = Path(__file__).parent / "icon.svg"
USUAL_TOKENS = 256
EVERY = 2  # seconds between checks whether the model is loaded
QUIETLY = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
# Through the queue, because gradio reports errors only there, but ahead of those who wait in it.
AT_ONCE = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}
IN_TURN = {"concurrency_id": "model", "concurrency_limit": 1, "show_progress": "minimal", "api_visibility": "private"}
# A tab keeps what it shows when it is reloaded, which gradio does after the server was restarted.
KEEP = "(shown, text) => { if (window.restored) sessionStorage.nanochat = JSON.stringify([shown, text]); }"
# While an answer streams, the button stops it; the style sheet shows either the send or the stop button.
BUSY = "(turn, ...others) => { if (turn) document.body.dataset.answering = turn; return [turn, ...others]; }"
IDLE = "(...all) => { delete document.body.dataset.answering; return all; }"
# An unanswered question goes back into the text box, unless the visitor is already typing the next one.
GIVE_BACK = """(shown, text) => {
  delete document.body.dataset.answering;
  const last = shown.at(-1);
  if (last?.role !== "user" || text) return [shown, text];
  return [shown.slice(0, -1), last.content[0].text.replace(/([<&])\u200b/g, "$1")];
}"""
# A finished answer has a line of figures. Without it, an older answer ended, and the newest is still streaming.
ENDED = f"(shown, text, line) => line ? ({GIVE_BACK})(shown, text) : [shown, text]"
INTO_VIEW = """() => {
  setTimeout(() => document.querySelector("#settings").scrollIntoView({behavior: "smooth", block: "nearest"}), 50);
}"""
RESTORE = f"""(shown, text) => {{
  window.restored = true;
  try {{
    [shown, text] = JSON.parse(sessionStorage.nanochat);
  }} catch {{}}  // there is nothing, or the browser keeps nothing
  return ({GIVE_BACK})(shown, text);
}}"""


def serve(chat: Engine, base: Engine, port: int | None = None, block: bool = True) -> gr.Blocks:
    """Serve the page on `port` (None: 7860, or the next free one); `block` until it is interrupted.

    Raises `InputError` if the port is taken.
    """
    page = build_page(chat, base)
    try:
        page.launch(
            server_port=port,
            prevent_thread_lock=True,
            quiet=True,  # gradio would print links of its own
            theme=theme(),
            css=CSS,
            js=SCRIPT,
            favicon_path=str(ICON),
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            max_file_size="1kb",  # nothing is to be uploaded
            state_session_capacity=SESSIONS,
            ssr_mode=False,
            share=False,
        )
    except OSError as error:  # gradio's own advice addresses callers of launch()
        where = "7860 and the ports after it" if port is None else f"port {port}"
        raise InputError(f"the page cannot be served on {where}: give --port another.") from error
    print(f"the chat page is at {page.local_url}; Ctrl-C ends it", flush=True)
    if block:
        page.block_thread()
    return page


def build_page(chat: Engine, base: Engine) -> gr.Blocks:
    """Build the page. `base` continues texts: a base model, or the chat model again."""
    with gr.Blocks(title="nanochat", fill_width=True, analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        with gr.Row(elem_id="top"):
            head = gr.HTML(describe(chat), elem_id="head")
            colours = gr.Button("◐", elem_id="colours", size="sm", min_width=40, scale=0)
        with gr.Tabs():
            with gr.Tab("Chat"):
                shown, box, line, turn = chat_tab()
            with gr.Tab("Continue a text"):
                text, go, halt, text_line, text_turn = text_tab(base)
        with gr.Accordion("Settings", open=False, elem_id="settings") as opening:
            system, *sampling, tokens, seed = settings(longest_answer(chat))
        sampling += [tokens, seed]

        talk, continuation = Talk(chat), Continue(base)
        asked = [shown, line, turn]
        first_steps = [
            box.submit(talk.send, [shown, box, line], [shown, box, line, turn], **AT_ONCE),
            shown.example_select(talk.example, [shown, line], asked, **AT_ONCE),
            shown.retry(talk.retry, [shown, line], asked, **AT_ONCE),
            shown.edit(talk.edit, [shown, line], asked, **AT_ONCE),
        ]
        wanted = [turn, shown, system, *sampling]
        answers = [
            step.success(talk.answer, wanted, [shown, line], js=BUSY, show_progress_on=shown, **IN_TURN)
            for step in first_steps
        ]
        for given_up in (
            shown.undo(talk.undo, shown, [shown, box, line], **AT_ONCE),
            shown.clear(talk.clear, None, [shown, line], **AT_ONCE),
        ):
            given_up.then(None, None, None, js=IDLE)  # not earlier: an update of the answer may still arrive
        # Late updates of an earlier answer must not be shown any more.
        gr.on([box.submit, shown.example_select, shown.retry, shown.edit, shown.undo, shown.clear], cancels=answers)
        for answer in answers:
            answer.then(None, [shown, box, line], [shown, box], js=ENDED)
            # For example with a full queue, where it could not begin.
            answer.failure(None, [shown, box], [shown, box], js=GIVE_BACK)
        box.stop(talk.stop, None, None, js=IDLE, **QUIETLY)
        gr.on([shown.change, box.change], None, [shown, box], js=KEEP)
        page.load(None, [shown, box], [shown, box], js=RESTORE)

        begun = gr.on(
            [go.click, text.submit], continuation.begin, [text, text_line], [text_line, text_turn], **AT_ONCE
        )
        written = begun.success(
            continuation.write,
            [text_turn, text, *sampling],
            [text, text_line],
            js=BUSY.replace("answering", "continuing"),
            show_progress_on=text,
            **IN_TURN,
        )
        written.then(None, None, None, js=IDLE.replace("answering", "continuing"))
        halt.click(continuation.stop, None, None, js=IDLE.replace("answering", "continuing"), **QUIETLY)

        clock = gr.Timer(EVERY)
        to_come = [] if chat.ready else [tokens]  # its limit is the model's context, unknown until then
        gr.on([page.load, clock.tick], lambda: look(chat, to_come), None, [head, clock, *to_come], **QUIETLY)
        opening.expand(None, js=INTO_VIEW)
        page.unload(talk.leave)
        page.unload(continuation.leave)
        colours.click(None, js=SWITCH_COLOURS)
    return page.queue(max_size=MAX_WAITING, api_open=False)


def chat_tab() -> tuple[gr.Chatbot, gr.Textbox, gr.HTML, gr.Number]:
    shown = gr.Chatbot(
        show_label=False,
        elem_id="chat",
        height=None,
        render_markdown=False,  # what a model writes is text, whatever it looks like
        sanitize_html=True,
        latex_delimiters=[],
        allow_tags=False,
        buttons=["copy"],
        editable="user",
        feedback_options=None,
        examples=[{"text": text} for text in EXAMPLES],
        placeholder="Ask something",
    )
    box = gr.Textbox(
        placeholder="Write a message",
        label="Message",  # not shown, but read aloud
        show_label=False,
        container=False,
        lines=1,
        max_lines=8,
        submit_btn=True,
        stop_btn=True,
        autofocus=True,
        elem_id="message",
    )
    line = gr.HTML(elem_id="figures", elem_classes="figures")
    return shown, box, line, gr.Number(visible="hidden", precision=0)


def text_tab(base: Engine) -> tuple[gr.Textbox, gr.Button, gr.Button, gr.HTML, gr.Number]:
    gr.HTML(f"<p class='quiet'>{html.escape(name_of(base.source))} continues any text, without a chat around it.</p>")
    text = gr.Textbox(
        "",
        label="Text",
        show_label=False,
        container=False,
        lines=10,
        max_lines=24,
        elem_id="text",
        placeholder="Begin a text",
    )
    with gr.Row():
        go = gr.Button("Continue", variant="primary", elem_id="go")
        halt = gr.Button("Stop", elem_id="halt")
    line = gr.HTML(elem_classes="figures")
    gr.Examples([[each] for each in BEGINNINGS], text, label="Beginnings", cache_examples=False)
    return text, go, halt, line, gr.Number(visible="hidden", precision=0)


def settings(longest: int) -> list[gr.components.Component]:
    """System prompt, temperature, top-k, top-p, tokens (at most `longest`), seed."""
    system = gr.Textbox("", label="System prompt", placeholder="Instructions for the whole chat", lines=2, max_lines=6)
    with gr.Row():
        temperature = gr.Slider(0, 2, 0.6, step=0.05, label="Temperature", info="0: the likeliest")
        top_k = gr.Slider(0, 200, 50, step=1, label="Top-k", info="0: all tokens")
        top_p = gr.Slider(0.05, 1, 1, step=0.05, label="Top-p", info="1: all tokens")
    with gr.Row():
        tokens = gr.Slider(1, longest, min(USUAL_TOKENS, longest), step=1, label="Tokens of an answer, at most")
        seed = gr.Textbox("", label="Seed", placeholder="Another each time", max_lines=1)
    controls = [system, temperature, top_k, top_p, tokens, seed]
    for control in controls:  # the handler explains a wrong value in words; gradio would only say "Error"
        control.preprocess = lambda payload: payload
    return controls


def longest_answer(engine: Engine) -> int:
    """Maximum number of tokens of an answer: at most the model's context, once that is known."""
    return min(MAX_NEW_TOKENS, engine.context) if engine.ready else MAX_NEW_TOKENS


def look(engine: Engine, limits: list[gr.Slider]) -> tuple[str | dict, ...]:
    """Updates of the head, of the clock (stopped once the model is loaded) and of `limits` (known from then on)."""
    longest = longest_answer(engine)
    limit = gr.update(maximum=longest, value=min(USUAL_TOKENS, longest)) if engine.ready else gr.skip()
    return describe(engine), gr.update(active=not engine.ready), *[limit for _ in limits]


def describe(engine: Engine) -> str:
    """The page's head as HTML: the model's name and size, or why it is not loaded yet."""
    name = html.escape(name_of(engine.source))
    if engine.ready:
        size = sum(each.numel() for each in engine.model.parameters())
        context = f", {engine.context:,} tokens of context" if engine.context < 2**31 else ""
        about = f"{rounded(size)} parameters{context}. It is small, and often wrong."
    elif engine.trouble:
        wait = max(0, round(engine.next_attempt - time.monotonic()))
        about = f"<span class='trouble'>{html.escape(engine.trouble)} Trying again in {wait} s.</span>"
    else:
        about = "The model is being loaded …"
    return f"<h1>{name}</h1><p class='quiet' role='status'>{about}</p>"


def name_of(source: str) -> str:
    """The model's name for people: its Hub id, or the last two parts of its directory's path."""
    return source if re.fullmatch(r"[\w.-]+/[\w.-]+", source) else "/".join(Path(source).resolve().parts[-2:])


def rounded(size: int) -> str:
    """Format a count: 5,242,880 as 5.2M."""
    for unit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if size >= unit:
            return f"{size / unit:.{1 if size < 100 * unit else 0}f}{letter}"
    return str(size)
