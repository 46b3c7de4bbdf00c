"""Whatever a control of the page can hold, or a program sends in its place, is answered or refused in words."""

import json
import uuid

import httpx2
import pytest

from recipes.utils.errors import InputError
from space.chat_page.handlers import sampling_of
from space.chat_page.page import longest_answer
from tests.space.conftest import loaded, served

WORKS = {
    "temperature": [0, 2, 2.0, 0.05],
    "top_k": [0, 1, 200, 1.0],
    "top_p": [1, 1.0, 0.05],
    "tokens": [1, 112, 100_000, 2.5],
    "seed": ["", None, " 7 ", 7, "9" * 18],
    "system": ["", "Be kind."],
}
REFUSED = {
    "temperature": [None, "", "hot", True, -1, [1]],
    "top_k": [None, "", -1],
    "top_p": [None, 0, 1.5],
    "tokens": [None, "", 0, -3],
    "seed": ["-1", str(2**70), "1.5", 1.5, "x", []],
    "system": [None, 5, "x" * 10_000],
}
NAMES = list(WORKS)


class Program:
    """A program that does what a browser does: one question, with the controls as given."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        config = httpx2.get(f"{self.url}/config").json()
        self.prefix = config.get("api_prefix", "")
        self.functions = {each["api_name"]: each["id"] for each in config["dependencies"]}

    def call(self, name: str, data: list, session: str) -> tuple[list, list[str]]:
        """The last values of an event, and the warnings that came with it."""
        body = {"data": data, "fn_index": self.functions[name], "session_hash": session}
        httpx2.post(f"{self.url}{self.prefix}/queue/join", json=body).raise_for_status()
        warnings = []
        with httpx2.stream("GET", f"{self.url}{self.prefix}/queue/data?session_hash={session}", timeout=60) as stream:
            for line in stream.iter_lines():
                message = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {"msg": ""}
                if message["msg"] == "log":
                    warnings.append(message["log"])
                if message["msg"] == "process_completed":
                    assert message["success"], message
                    return message["output"]["data"], warnings
        raise AssertionError("no end")

    def ask(self, **controls) -> tuple[str, list[str]]:
        """The line under the answer, and the warnings."""
        session = uuid.uuid4().hex
        values = {"system": "", "temperature": 0, "top_k": 50, "top_p": 1, "tokens": 20, "seed": ""} | controls
        (_, _, _, turn), _ = self.call("send", [[], "I am Bo.", ""], session)
        shown = [{"role": "user", "content": [{"type": "text", "text": "I am Bo."}]}]
        (_, line), warnings = self.call("answer", [turn, shown, *values.values()], session)
        return line, warnings


@pytest.fixture(scope="module")
def program(talker):
    with served(loaded(talker)) as url:
        yield Program(url)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_what_a_control_can_hold_is_answered(program, name):
    for value in WORKS[name]:
        line, warnings = program.ask(**{"temperature": 0.5, name: value})
        assert "token" in line and not warnings, value


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_anything_else_is_refused_in_words(program, name):
    for value in REFUSED[name]:
        line, warnings = program.ask(**{"temperature": 0.5, name: value})
        assert line == "no answer · broken off" and len(warnings) == 1, value
        assert any(word in warnings[0] for word in ("must be", "are allowed")), warnings


def test_numbers_out_of_range_are_refused_before_they_are_drawn_with():
    for wrong in (float("nan"), float("inf"), -float("inf")):
        for place in range(4):
            controls = [0.5, 5, 1, 10]
            controls[place] = wrong
            with pytest.raises(InputError, match="must be a number"):
                sampling_of(*controls, "")


@pytest.mark.slow
def test_the_limit_of_an_answer_is_no_more_than_the_context(talker, babbler):
    assert longest_answer(loaded(talker)) == 112
    assert longest_answer(loaded(babbler)) == 1024
