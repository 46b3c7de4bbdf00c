"""Conversations for the tests of the chat format: the messages, and whole conversations at random."""

from hypothesis import strategies as st

from tokenizer.special_tokens import SPECIAL_TOKENS

ALL_SPECIALS = (*SPECIAL_TOKENS, "<|endoftext|>")


def user(content) -> dict:
    return {"role": "user", "content": content}


def assistant(content, *expressions: str) -> dict:
    """What the assistant says, and the expressions that it asks the calculator for."""
    message = {"role": "assistant", "content": content}
    if expressions:
        message["tool_calls"] = [call("calculator", expression=each) for each in expressions]
    return message


def call(name: str, **arguments) -> dict:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def tool(content) -> dict:
    return {"role": "tool", "name": "calculator", "content": content}


def special_ids(tokenizer) -> set[int]:
    return {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}


# Conversations at random: any Unicode, empty contents, leading and trailing spaces, several calls and turns.

JOINED = ["👩‍👩‍👧‍👦", "🇫🇷", "e\u0301", "\u200b", "\u200d", "\ufeff", "ﷺ", "日本"]
PIECES = st.sampled_from([" ", "\n", "\r\n", "\t", "\x00", "<|", "|>", "<|x|>", "<", *JOINED])
TEXTS = (
    st.lists(PIECES | st.text(max_size=8), max_size=5)
    .map("".join)
    .filter(lambda text: not any(token in text for token in ALL_SPECIALS))
)


@st.composite
def turns(draw) -> list[dict]:
    """A question, calls with their results, and the answer."""
    messages = [user(draw(TEXTS))]
    for count in draw(st.lists(st.integers(1, 2), max_size=2)):
        messages.append(assistant(draw(TEXTS), *[draw(TEXTS) for _ in range(count)]))
        messages.extend(tool(draw(TEXTS)) for _ in range(count))
    return [*messages, assistant(draw(TEXTS))]


@st.composite
def whole_conversations(draw) -> list[dict]:
    """One to three turns, with or without a system message."""
    messages = [message for turn in draw(st.lists(turns(), min_size=1, max_size=3)) for message in turn]
    return [{"role": "system", "content": draw(TEXTS)}, *messages] if draw(st.booleans()) else messages
