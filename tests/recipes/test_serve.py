"""A real server on loopback: `recipes.serve` with our checkpoints, `transformers serve` with a converted one."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest
from transformers import AutoTokenizer
from transformers.utils.import_utils import is_serve_available

from recipes.convert.__main__ import ConvertArguments
from recipes.convert.__main__ import main as convert
from recipes.convert.original_format import CONSTANTS_2026
from recipes.inference.endpoint import Endpoint
from recipes.inference.generate import Call, Reply, Result, Sampling, Text
from recipes.utils.errors import InputError
from tests.recipes.inference.talker import CONTEXT, SCRIPTS, assistant, calling, learn_by_heart, user
from tests.recipes.processes import PATIENCE, REPOSITORY, free_port
from tokenizer.special_tokens import SPECIAL_TOKENS

SUM, GREETING = "How much is 12*4?", "Greet the world."
CALCULATION = [*calling("", "12*4"), assistant("It is 48.")]
OURS = [sys.executable, "-m", "recipes.serve", "--model"]
TRANSFORMERS = [sys.executable, "-m", "transformers.cli.transformers", "serve"]

pytestmark = pytest.mark.skipif(not is_serve_available(), reason="needs the extra `serve`")


def started(command: list[str]) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@contextmanager
def running(command: list[str]) -> Iterator[str]:
    """The server of `command`; yields its URL."""
    port = free_port()
    process = started([*command, "--port", str(port), "--device", "cpu"])
    url = f"http://localhost:{port}"
    try:
        deadline = time.monotonic() + PATIENCE
        while not healthy(url):
            assert process.poll() is None and time.monotonic() < deadline, process.communicate(timeout=5)[0]
            time.sleep(0.1)
        yield url
    finally:
        process.kill()
        process.communicate()


def healthy(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/health").is_success
    except httpx2.TransportError:
        return False


def talker(tokenizer_dir, directory, **changes):
    conversations = [[user(SUM), *CALCULATION], [user(GREETING), assistant(SCRIPTS)]]
    for each in learn_by_heart(tokenizer_dir, conversations, **changes):
        each.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def talker_dir(tokenizer_dir, tmp_path_factory):
    return talker(tokenizer_dir, tmp_path_factory.mktemp("talker"))


@pytest.fixture(scope="module")
def ours(talker_dir):
    """URL of `recipes.serve` with the talker."""
    with running([*OURS, str(talker_dir)]) as url:
        yield url


@pytest.fixture(scope="module")
def converted(talker_dir, tmp_path_factory):
    """URL of `transformers serve` with the talker, converted."""
    directory = tmp_path_factory.mktemp("converted")
    convert(ConvertArguments(source=talker_dir, output_dir=directory, to="nanochat"))
    with running([*TRANSFORMERS, str(directory)]) as url:
        yield url


@pytest.fixture(scope="module")
def of_2026(tokenizer_dir, tmp_path_factory):
    """URL of `recipes.serve` with a talker of 2026."""
    windows = {"num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 24}
    directory = talker(tokenizer_dir, tmp_path_factory.mktemp("of_2026"), **CONSTANTS_2026, **windows)
    with running([*OURS, str(directory)]) as url:
        yield url


@pytest.fixture(params=["ours", "converted", "of_2026"])
def server(request):
    """URL of each."""
    return request.getfixturevalue(request.param)


def ask(url: str, **body) -> httpx2.Response:
    return httpx2.post(f"{url}/v1/chat/completions", json=body, timeout=PATIENCE)


@pytest.mark.slow
def test_it_answers_at_once_and_in_pieces(server):
    body = {"messages": [user(GREETING)], "temperature": 0}
    whole = ask(server, **body).json()["choices"][0]
    assert whole["message"]["content"] == SCRIPTS and whole["finish_reason"] == "stop"
    lines = ask(server, **body, stream=True).text.split("\n\n")
    deltas = [json.loads(line.removeprefix("data: "))["choices"][0]["delta"] for line in lines if "choices" in line]
    pieces = [delta["content"] for delta in deltas if delta.get("content")]
    assert len(pieces) > 1 and "".join(pieces) == SCRIPTS


@pytest.mark.slow
def test_it_hands_out_calls_and_goes_on_from_their_results(server):
    message = ask(server, messages=[user(SUM)]).json()["choices"][0]["message"]
    function = message["tool_calls"][0]["function"]
    assert function["name"] == "calculator" and json.loads(function["arguments"]) == {"expression": "12*4"}
    *pieces, reply = Endpoint(server).stream_reply([user(SUM)], Sampling())
    assert pieces[:2] == [Call("12*4"), Result("48")]
    assert all(type(piece) is Text for piece in pieces[2:]) and reply == Reply(CALCULATION, stopped=False)


@pytest.mark.slow
def test_what_it_cannot_do_is_an_error_of_openais_and_it_goes_on(ours, talker_dir):
    long = "word " * CONTEXT
    refused = {
        "context_length_exceeded": [
            ("chat/completions", {"messages": [user(long)]}),
            ("chat/completions", {"messages": [user(long)], "stream": True}),
            ("completions", {"prompt": long}),
            ("completions", {"prompt": long, "stream": True}),
            ("responses", {"input": long, "stream": False}),
            ("responses", {"input": long}),
        ],
        "model_not_found": [("chat/completions", {"messages": [user(SUM)], "model": "another"})],
        None: [
            ("chat/completions", {"messages": [{"role": "nobody", "content": "x"}]}),
            ("chat/completions", {"messages": [user(SUM)], "nonsense": 1}),
            ("chat/completions", {"messages": [user(SUM)], "logit_bias": {"99999": 1}}),
            ("chat/completions", {}),
            ("responses", {"input": 5}),
            ("nowhere", {}),
        ],
    }
    for code, requests in refused.items():
        for path, body in requests:
            answer = httpx2.post(f"{ours}/v1/{path}", json=body, timeout=PATIENCE)
            error = answer.json()["error"]
            assert answer.status_code in (400, 404) and error["type"] == "invalid_request_error"
            assert error["code"] == code and error["message"] and set(error) == {"message", "type", "param", "code"}
    with pytest.raises(InputError, match=rf"refuses.*: HTTP 400: This model's maximum context length is {CONTEXT}"):
        list(Endpoint(ours).stream_reply([user(long)], Sampling()))
    assert httpx2.get(f"{ours}/v1/models").json()["data"][0]["id"] == str(talker_dir)
    assert ask(ours, messages=[user(GREETING)]).json()["choices"][0]["message"]["content"] == SCRIPTS


@pytest.mark.slow
@pytest.mark.parametrize("limit", [{}, {"max_tokens": 10_000}])
def test_an_answer_goes_no_further_than_the_context(ours, talker_dir, limit):
    specials = AutoTokenizer.from_pretrained(talker_dir).convert_tokens_to_ids(list(SPECIAL_TOKENS))
    endless = {str(token): -100 for token in specials}
    answer = ask(ours, messages=[user(GREETING)], logit_bias=endless, temperature=0, **limit).json()
    assert answer["usage"]["total_tokens"] == CONTEXT and answer["choices"][0]["finish_reason"] == "length"
    few = ask(ours, messages=[user(GREETING)], logit_bias=endless, temperature=0, max_tokens=3).json()
    assert few["usage"]["completion_tokens"] == 3


@pytest.mark.slow
def test_ctrl_c_ends_it_without_a_traceback(talker_dir):
    process = started([*OURS, str(talker_dir), "--port", str(port := free_port()), "--device", "cpu"])
    deadline = time.monotonic() + PATIENCE
    while not healthy(f"http://localhost:{port}"):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 0 and "Traceback" not in said and "KeyboardInterrupt" not in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--model", "/no/such/model"], "serve: model /no/such/model: no such directory."),
        (["--model", "{talker}", "--port", "{taken}"], "choose another --port."),
    ],
    ids=["model", "port"],
)
def test_what_cannot_be_served_is_one_clear_line(talker_dir, flags, line):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        given = {"talker": talker_dir, "taken": taken.getsockname()[1]}
        process = started([sys.executable, "-m", "recipes.serve", *(word.format_map(given) for word in flags)])
        said = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 2 and said.strip().splitlines()[-1].endswith(line) and "Traceback" not in said
