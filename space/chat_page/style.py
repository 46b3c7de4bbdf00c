"""Style sheet and scripts of the page: a small palette and system fonts, so that nothing is loaded from elsewhere."""

import gradio as gr

from recipes.plots.palette import DARK, LIGHT, css_variables

SANS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]

COLORS = f"""
:root {{ {css_variables(LIGHT)} }}
.dark {{ {css_variables(DARK)} }}
"""
RULES = """
.gradio-container { --body-background-fill: var(--page); --background-fill-primary: var(--card);
  --body-text-color: var(--ink); --body-text-color-subdued: var(--muted); --block-info-text-color: var(--muted);
  --border-color-primary: var(--line); --block-background-fill: var(--card); --block-border-color: var(--line);
  --input-background-fill: var(--card); --input-border-color: var(--line); --color-accent: var(--accent);
  --input-placeholder-color: var(--muted); --button-secondary-background-fill: var(--soft);
  --button-primary-background-fill: var(--button); --button-primary-background-fill-hover: var(--button-hover);
  --button-primary-text-color: #fff; --slider-color: var(--accent); --block-label-text-color: var(--muted); }
body, .gradio-container { background: var(--page) !important; color: var(--ink); }
.gradio-container main.contain { width: 100%; max-width: 50rem; margin: 0 auto !important; padding: 0; }
.gradio-container .main.app { padding: .75rem clamp(.75rem, 4vw, 2rem) !important; min-height: 100dvh; }
.gradio-container .column { gap: .75rem; }
/* Everything fits into the window: the conversation takes the height that head, text box and settings leave. */
.main.app > .wrap, main.contain, main.contain > .column, .tabs, .tabitem:has(#chat), .tabitem:has(#chat) > .column
  { display: flex; flex-direction: column; flex: 1 0 auto; min-height: 0; }
.tabitem:not(:has(#chat)) { flex: none; }
.gradio-container :is(button, input, [role=button]):focus-visible
  { outline: 2px solid var(--accent) !important; outline-offset: 2px; }
.prose { color: var(--ink); }
.html-container { padding: 0; }

#top { flex-wrap: nowrap; align-items: flex-start; }
#head h1 { font-size: 1.3rem; line-height: 1.3; margin: 0; overflow-wrap: anywhere; }
.quiet { margin: .15rem 0 0; font-size: .9rem; color: var(--muted); }
.trouble { color: var(--trouble); }
#colours { flex: none; width: 2.25rem; min-width: 2.25rem; height: 2.25rem; padding: 0; border-radius: 50%;
  background: none; color: var(--muted); font-size: 1.1rem; box-shadow: none; }
#colours:hover { background: var(--soft); }
.tabs { gap: 0; } .tabitem { padding: 0; }

#chat { flex: 1 1 0 !important; min-height: min(11rem, 35dvh); border-radius: 14px; --finger: 1.75rem; }
#chat .wrapper { min-height: 0; }
#chat .bubble-wrap { background: none; flex: 1; height: auto; min-height: 0; padding: 0; }
#chat .bubble-wrap:has(.message-row) { margin-top: calc(var(--finger) + .25rem); }  /* below the corner's button */
#chat .message-wrap { padding: .25rem 1rem 1rem; }
#chat .message-row { margin: .2rem 0; }
#chat .message-row .message { border-radius: 16px; }
#chat .message .message-content { font-size: 1rem; line-height: 1.5; overflow-wrap: anywhere; }
#chat .message-content .chatbot { display: block; white-space: pre-wrap; unicode-bidi: plaintext; text-align: start; }
#message textarea, #text textarea { unicode-bidi: plaintext; text-align: start; }
#chat .user.message { background: var(--soft); border: 0; box-shadow: none; border-bottom-right-radius: 4px;
  padding: .5rem .9rem; color: var(--ink); }
#chat .bot.message { background: var(--card); border: 1px solid var(--line); box-shadow: none;
  border-bottom-left-radius: 4px; padding: .5rem .9rem; color: var(--ink); }
#chat .user-row:has(textarea), #chat .user-row:has(textarea) .flex-wrap, #chat .user.message:has(textarea),
#chat .user.message:has(textarea) .message { width: 100%; max-width: 34rem; }
#chat .user.message textarea { width: 100% !important; min-height: 4.6rem !important; max-height: 40dvh;
  field-sizing: content; background: var(--card); padding: .4rem .6rem; }
#chat .message-buttons { margin: 0 0 .35rem !important; padding: 0; }
/* Their icons, 14px wide and centred, align with the edges of the text in the bubble. */
#chat .message-buttons .icon-button-wrapper { border: 0; background: none; box-shadow: none; padding: 0;
  margin-inline: calc(.9rem - (var(--finger) - 14px) / 2 - 1px); }
#chat .icon-button-wrapper .icon-button { min-width: var(--finger); min-height: var(--finger); background: none; }
#chat .icon-button-wrapper .icon-button::after { content: none; }
#chat .thought-group { border: 1px solid var(--line); border-radius: 10px; background: var(--page); margin: .2rem 0;
  padding: .25rem .6rem; width: fit-content; max-width: 100%; color: var(--muted); }
#chat .thought-group { white-space: normal; }
#chat .thought-group .title { gap: .35rem; padding: 0; }
#chat .thought-group .title .arrow { width: 1.1rem; min-height: 1.5rem; height: auto; }
#chat .thought-group .content .chatbot { font: .9rem/1.5 ui-monospace, SFMono-Regular, Menlo,
  Consolas, monospace; white-space: pre-wrap; overflow-wrap: anywhere; color: var(--ink); }
#chat .placeholder-content { justify-content: center; align-items: stretch; gap: 1.25rem; }
#chat .placeholder-content .placeholder { flex: none; height: auto; align-items: center; color: var(--muted); }
#chat .examples { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 15rem), 1fr)); gap: .6rem;
  width: 100%; max-width: 38rem; margin: 0 auto !important; padding: 0 1rem; }
#chat .example { background: var(--page); border: 1px solid var(--line); border-radius: 12px; padding: .7rem .9rem;
  text-align: left; color: var(--ink); min-width: 0; width: auto; min-height: 0; }
#chat .example:hover { border-color: var(--accent); }

#message { border: 1px solid var(--line); border-radius: 14px; background: var(--card); overflow: hidden; }
#message:focus-within { border-color: var(--accent); }
#message textarea { border: 0; box-shadow: none; background: none; font-size: 1rem; line-height: 1.5;
  padding: .65rem .9rem; max-height: 22dvh; overflow-y: auto !important; }
#message .input-container { align-items: flex-end; background: none; padding-right: .4rem; }
body[data-answering] #message .submit-button, body:not([data-answering]) #message .stop-button,
body[data-continuing] #go, body:not([data-continuing]) #halt { display: none; }
#message .submit-button, #message .stop-button { background: var(--button); color: #fff; border: 0; width: 2.1rem;
  height: 2.1rem; margin-bottom: .35rem; }
#text { border: 0; background: none; }
#text textarea { font-size: 1rem; line-height: 1.55; border-radius: 14px; border: 1px solid var(--line);
  padding: .8rem .95rem; }
#text textarea:focus, #settings input:focus, #settings textarea:focus { border-color: var(--accent); }
.figures { min-height: 1.25rem; border: 0; background: none; overflow: visible; }
.figures .prose { font-size: .82rem; color: var(--muted); font-variant-numeric: tabular-nums; }
#settings { border-radius: 14px; flex: none !important; scroll-margin: .75rem; }
#settings .form > .block { display: flex; flex-direction: column; justify-content: space-between; }  /* one height */
#settings textarea, #settings input:not([type=range], [type=number]) { border: 1px solid var(--line); }
#settings input[type=range] { --neutral-200: var(--line); }
#settings input[type=range]::-webkit-slider-thumb { background: var(--accent); box-shadow: 0 0 0 2px var(--card); }
#settings input[type=range]::-moz-range-thumb { background: var(--accent); box-shadow: 0 0 0 2px var(--card); }
.toast-body { max-width: calc(100vw - 2rem); }

@media (max-width: 600px) {
  #chat { --finger: 2.25rem; }  /* a finger's width */
  #chat .message-wrap { padding: .25rem .6rem .75rem; }
  #chat .placeholder-content { padding: .5rem 0; }
  #chat .examples { padding: 0 .6rem; gap: .45rem; }
  #chat .example { padding: .55rem .8rem; }
  #chat .thought-group .title { min-height: 2.25rem; }
  #message .submit-button, #message .stop-button, #colours { width: 2.5rem; min-width: 2.5rem; height: 2.5rem; }
  #message .submit-button, #message .stop-button { margin-bottom: .15rem; }
  #settings .form > * { min-width: 100% !important; }
  #settings .label-wrap { min-height: 2.25rem; align-items: center; }
  #settings .tab-like-container { height: 2.25rem; }
  #settings input[type=range] { height: 2.25rem; }
  #settings input[type=range]::-webkit-slider-thumb { width: 1.5rem; height: 1.5rem; margin-top: -.5rem; }
  #settings input[type=range]::-moz-range-thumb { width: 1.5rem; height: 1.5rem; }
}
"""
CSS = COLORS + RULES

# Copies text without the zero-width spaces of conversation.shown_text; labels the buttons that show only an icon,
# whenever gradio creates them; keeps the end of the conversation in view when its window shrinks; and restores the
# colours that the visitor chose.
SCRIPT = """() => {
  const plain = (text) => text.replace(/([<&])\\u200b/g, "$1");
  if (navigator.clipboard) {
    const write = navigator.clipboard.writeText.bind(navigator.clipboard);
    navigator.clipboard.writeText = (text) => write(plain(text));
  }
  document.addEventListener("copy", (event) => {
    if (event.target.closest && event.target.closest("textarea, input")) return;
    event.clipboardData.setData("text/plain", plain(String(getSelection())));
    event.preventDefault();
  });

  const names = {"#colours": "Light or dark", "#message .submit-button": "Send", "#message .stop-button": "Stop"};
  const name = () => Object.entries(names).forEach(([selector, name]) => {
    const button = document.querySelector(selector);
    if (button && !button.title) Object.assign(button, {title: name, ariaLabel: name});
  });
  new MutationObserver(name).observe(document.body, {childList: true, subtree: true});
  name();

  const list = document.querySelector("#chat .bubble-wrap");
  let atEnd = true;
  list.addEventListener("scroll", () => { atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 30; });
  new ResizeObserver(() => { if (atEnd) list.scrollTop = list.scrollHeight; }).observe(list);

  try {  // a browser may deny storage to a page in another site's frame, such as a Space
    const dark = localStorage.nanochatDark;
    if (dark) document.body.classList.toggle("dark", dark === "true");
  } catch {}
}"""

SWITCH_COLOURS = """() => {
  const dark = document.body.classList.toggle("dark");
  try { localStorage.nanochatDark = dark; } catch {}
}"""


def theme() -> gr.themes.Base:
    return gr.themes.Base(primary_hue="blue", neutral_hue="slate", font=SANS, font_mono=MONO, radius_size="lg")
