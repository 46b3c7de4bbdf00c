"""Talking to a server: what is asked, what becomes of the answer, and what a bad server is told to be."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from recipes.chat import ChatArguments, chat
from recipes.inference.endpoint import Endpoint
from recipes.inference.generate import MAX_CALLS, Call, Reply, Result, Sampling, Text
from recipes.utils.errors import InputError, exit_on_input_error
from recipes.utils.plain_text import plain_text
from tests.recipes.inference.talker import assistant, result, user
from tests.recipes.processes import free_port

HELLO = [user("Hello.")]
DONE = "[DONE]"


class Server(ThreadingHTTPServer):
    """Answers each request with what `reply` makes of its number: pieces of a stream, or a status and a body."""

    daemon_threads = True

    def __init__(self, reply: Callable[[int], Iterable[str] | tuple[int, str]]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply, self.bodies, self.paths, self.keys = reply, [], [], []
        self.announced: int | None = None  # bytes, truly or not
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        number = len(self.server.bodies)
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.server.paths.append(self.path)
        self.server.keys.append(self.headers["authorization"])
        reply = self.server.reply(number)
        status, body = reply if isinstance(reply, tuple) else (200, (f"data: {piece}\n\n" for piece in reply))
        self.send_response(status)
        self.send_header("content-type", "text/event-stream")
        if self.server.announced is not None:
            self.send_header("content-length", str(self.server.announced))
        self.end_headers()
        for piece in [body] if isinstance(body, str) else body:
            self.wfile.write(piece.encode())

    def log_message(self, *args) -> None:
        """Silent."""


@pytest.fixture
def serve():
    servers = []

    def start(reply: Callable[[int], Iterable[str] | tuple[int, str]]) -> Server:
        servers.append(Server(reply))
        threading.Thread(target=servers[-1].serve_forever, kwargs={"poll_interval": 0.01}).start()
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def delta(**fields) -> str:
    return json.dumps({"choices": [{"index": 0, "delta": fields}]})


def texts(*pieces: str) -> list[str]:
    return [delta(role="assistant"), *(delta(content=piece) for piece in pieces), DONE]


def call(arguments: str, name: str = "calculator") -> list[str]:
    """A call as servers stream it: its name first, its arguments in pieces."""
    halves = arguments[: len(arguments) // 2], arguments[len(arguments) // 2 :]
    first = {"index": 0, "id": "x", "type": "function", "function": {"name": name, "arguments": ""}}
    rest = [{"index": 0, "function": {"arguments": half}} for half in halves]
    return [delta(tool_calls=[piece]) for piece in (first, *rest)] + [delta(), DONE]


def events(server: Server, messages=HELLO, sampling: Sampling = Sampling(), stop=None, **options) -> list:  # noqa: B008
    return list(Endpoint(server.url, **options).stream_reply(messages, sampling, stop))


# What is asked and answered


def test_the_answer_comes_in_the_pieces_that_the_server_sends(serve):
    server = serve(lambda number: texts("Grüße, ", "你好", "."))
    expected = [Text("Grüße, "), Text("你好"), Text("."), Reply([assistant("Grüße, 你好.")], stopped=False)]
    assert events(server) == expected
    assert server.paths == ["/v1/chat/completions"]
    assert server.bodies == [{"messages": HELLO, "stream": True, "temperature": 0.0}]


def test_only_what_was_chosen_is_sent(serve):
    server = serve(lambda number: texts("Yes."))
    events(server, sampling=Sampling(temperature=0.5, top_p=0.9, seed=7), model="m", max_tokens=9)
    assert server.bodies[0] == {
        "messages": HELLO,
        "stream": True,
        "model": "m",
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 7,
    }


def test_calls_are_calculated_here_and_their_results_sent_back(serve):
    replies = [call('{"expression": "12*4"}'), call('{"expression": "1/0"}'), texts("It is 48.")]
    server = serve(lambda number: replies[number])
    *pieces, reply = events(server)
    assert (
        pieces[:2] == [Call("12*4"), Result("48")] and pieces[2] == Call("1/0") and pieces[4:] == [Text("It is 48.")]
    )
    error = pieces[3].text
    assert reply.messages == [
        assistant("", "12*4"),
        result("48"),
        assistant("", "1/0"),
        result(error),
        assistant("It is 48."),
    ]
    first, second = server.bodies[2]["messages"][1], server.bodies[2]["messages"][3]
    assert json.loads(first["tool_calls"][0]["function"]["arguments"]) == {"expression": "12*4"}
    ids = [message["tool_calls"][0]["id"] for message in (first, second)]
    answers = [message for message in server.bodies[2]["messages"] if message["role"] == "tool"]
    assert answers == [
        {"role": "tool", "content": "48", "tool_call_id": ids[0]},
        {"role": "tool", "content": error, "tool_call_id": ids[1]},
    ]
    assert ids[0] != ids[1]


def test_an_unknown_tool_is_said_to_be_none_and_no_code_is_run(serve):
    replies = [call('{"command": "ls"}', name="shell"), texts("Sorry.")]
    *pieces, _ = events(serve(lambda number: replies[number]))
    assert pieces == [Call("ls"), Result("error: no such tool"), Text("Sorry.")]


def test_arguments_that_are_no_json_count_as_the_expression(serve):
    replies = [call("2+3"), texts("5.")]
    assert events(serve(lambda number: replies[number]))[:2] == [Call("2+3"), Result("5")]


def test_a_model_that_calls_for_ever_is_ended(serve):
    server = serve(lambda number: call('{"expression": "1+1"}'))
    reply = events(server)[-1]
    assert len(server.bodies) == MAX_CALLS + 1
    assert len(reply.messages) == 2 * MAX_CALLS + 1 and reply.messages[-1] == assistant("")


def test_a_stop_keeps_what_has_come(serve):
    stop = threading.Event()
    stream = Endpoint(serve(lambda number: texts("a", "b", "c")).url).stream_reply(HELLO, Sampling(), stop)
    assert next(stream) == Text("a")
    stop.set()
    assert list(stream) == [Reply([assistant("a")], stopped=True)]


def test_a_stop_ends_the_wait_for_a_server_that_hangs(serve):
    stop, over = threading.Event(), threading.Event()

    def hang(number: int) -> Iterator[str]:
        yield delta(content="a")
        over.wait(10)
        yield '{"error": "nobody stopped me"}'

    stream = Endpoint(serve(hang).url).stream_reply(HELLO, Sampling(), stop)
    assert next(stream) == Text("a")
    stop.set()
    assert list(stream) == [Reply([assistant("a")], stopped=True)]
    over.set()


def test_half_a_character_can_be_sent_back(serve):
    server = serve(lambda number: texts("\ud83d"))
    reply = events(server)[-1]
    events(server, [*HELLO, *reply.messages, user("What?")])
    assert server.bodies[1]["messages"][1] == assistant("\ud83d")


def test_an_error_of_none_is_no_error(serve):
    server = serve(lambda number: [json.dumps({"choices": [{"delta": {"content": "Hi"}}], "error": None}), DONE])
    assert events(server)[0] == Text("Hi")


def test_events_without_choices_and_comments_are_passed_over(serve):
    usage = json.dumps({"choices": [], "usage": {"total_tokens": 3}})
    server = serve(
        lambda number: (
            200,
            f": ping\n\nevent: message\ndata: {delta(content='Hi')}\n\ndata: {usage}\n\ndata: [DONE]\n",
        )
    )
    assert events(server) == [Text("Hi"), Reply([assistant("Hi")], stopped=False)]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_only_the_ends_of_lines_end_an_event(serve, end):
    """JSON may hold U+2028 and U+0085 unescaped; Python's splitlines takes them for ends of lines."""
    event = json.dumps({"choices": [{"delta": {"content": "a\u2028b\u0085c"}}]}, ensure_ascii=False)
    server = serve(lambda number: (200, f"data: {event}{end}{end}data:{end}{end}data: [DONE]{end}{end}"))
    assert events(server)[0] == Text("a\u2028b\u0085c")


# The key


def test_the_key_is_sent_and_the_login_to_the_hub_never(serve, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("MY_KEY", " sk-1\n")
    server = serve(lambda number: texts("Yes."))
    chat(ChatArguments(endpoint=server.url, prompt="Hello."))
    chat(ChatArguments(endpoint=server.url, prompt="Hello.", api_key_env="MY_KEY"))
    assert server.keys == [None, "Bearer sk-1"]
    assert capsys.readouterr().out == "Yes.\nYes.\n"


@pytest.mark.parametrize("key", [None, " ", "schlüssel"])
def test_a_missing_or_impossible_key_is_told(monkeypatch, key):
    monkeypatch.delenv("MY_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("MY_KEY", key)
    with pytest.raises(InputError, match="environment variable MY_KEY holds no key"):
        chat(ChatArguments(endpoint="http://localhost:1", prompt="Hello.", api_key_env="MY_KEY"))


# An answer that does not end


@pytest.mark.parametrize(
    "pieces",
    [
        [delta(content="The answer")],
        [delta(content="The answer"), delta(content=" is")],
        [delta(content="The answer"), json.dumps({"choices": []})],
    ],
    ids=["one piece", "two", "usage"],
)
def test_a_stream_that_breaks_off_says_so(serve, pieces, capsys):
    server = serve(lambda number: pieces)
    with pytest.raises(InputError, match=r"broke off in the middle of its answer\.$"):
        chat(ChatArguments(endpoint=server.url, prompt="Hello."))
    assert capsys.readouterr().out.startswith("The answer") and "\n" not in server.url


def test_a_connection_cut_in_mid_answer_says_so(serve):
    """Fewer bytes than were announced."""
    server = serve(lambda number: [delta(content="The answer")])
    server.announced = 10_000
    with pytest.raises(InputError, match="broke off in the middle of its answer: .*peer closed connection"):
        events(server)


@pytest.mark.parametrize("end", [[DONE], [json.dumps({"choices": [{"delta": {}, "finish_reason": "stop"}]})]])
def test_either_sign_is_an_end(serve, end):
    server = serve(lambda number: [delta(content="Yes."), *end])
    assert events(server)[-1] == Reply([assistant("Yes.")], stopped=False)


# What does not reach the terminal

ATTACKS = "\x1b]0;title\x07 \x1b[2J \x9b31m \x1bP1\x1b\\ \x08\x08 \r> \u202eesrever\u2066 a\tb\nc \ud800"


def test_nothing_that_a_server_says_commands_the_terminal(serve, capsys):
    server = serve(lambda number: texts(ATTACKS[:3], ATTACKS[3:]))
    chat(ChatArguments(endpoint=server.url, prompt="Hello."))
    assert capsys.readouterr().out == "]0;title [2J 31m P1\\  > esrever a\tb\nc \n"
    refusing = serve(lambda number: (400, json.dumps({"error": {"message": ATTACKS}})))
    with pytest.raises(SystemExit):
        exit_on_input_error("chat", lambda: chat(ChatArguments(endpoint=refusing.url, prompt="Hello.")))
    said = capsys.readouterr().err
    assert said == plain_text(said) and said.count("\n") == 1 and "title" in said


# Bad input


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((404, '{"detail": "No model m"}'), r"refuses \(asked without a --model\): HTTP 404: No model m$"),
        ((401, '{"error": {"message": "bad key"}}'), "HTTP 401: bad key$"),
        ((500, "<html>\noops</html>"), "HTTP 500: <html> oops</html>$"),
        ([delta(content="a"), '{"error": "out of memory"}'], "broke off: out of memory$"),
        (["[1, 2]"], "sends no chat completion"),
        (["nonsense"], "sends no chat completion: nonsense$"),
        (["[" * 100_000], r"sends no chat completion: \[+$"),
        ([delta(content=["a"]), DONE], "sends no chat completion: "),
        ([json.dumps({"choices": [{"delta": "a"}]})], "sends no chat completion: "),
        ([delta(tool_calls=["a"])], "sends no chat completion: "),
        ([delta(tool_calls=[{"index": "a"}])], "sends no chat completion: "),
        ([delta(tool_calls=[{"function": {"arguments": {}}}])], "sends no chat completion: "),
        ((200, "<html>Welcome</html>"), "sends no chat completion: is that the URL of its API"),
        ((200, json.dumps({"choices": [{"message": assistant("whole")}]})), "sends no chat completion: is that"),
        ((302, ""), "HTTP 302: Found$"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_server_that_fails_is_one_clear_line_and_the_question_forgotten(serve, reply, message):
    with pytest.raises(InputError, match=message) as caught:
        events(serve(lambda number: reply))
    assert "\n" not in str(caught.value)


def test_what_a_url_holds_of_secrets_is_not_shown():
    with pytest.raises(InputError, match="holds a password.*use --api_key_env") as caught:
        chat(ChatArguments(endpoint="http://me:secret@localhost:1", prompt="Hello."))
    assert "secret" not in str(caught.value)
    with pytest.raises(InputError, match="does not answer") as caught:
        chat(ChatArguments(endpoint=f"http://localhost:{free_port()}/v1?key=secret", prompt="Hello."))
    assert "secret" not in str(caught.value)


def test_no_server_is_one_clear_line():
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(InputError, match=f"^endpoint {url} does not answer .*: is its server running"):
        chat(ChatArguments(endpoint=url, prompt="Hello."))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({}, "no model to chat with"),
        ({"endpoint": "localhost:8000"}, "is not a URL: give one like http://localhost:8000/v1"),
        ({"endpoint": "http://localhost:1", "top_k": 5, "temperature": 1.0}, "top_k is not part of the OpenAI API"),
        ({"model": "somewhere", "api_key_env": "KEY"}, "api_key_env is for an endpoint"),
        ({"endpoint": "http://localhost:1", "max_new_tokens": 0}, "max_new_tokens must be at least 1"),
    ],
    ids=str,
)
def test_impossible_flags_are_input_errors(flags, message):
    with pytest.raises(InputError, match=message):
        chat(ChatArguments(prompt="Hello.", **flags))
