"""A real server that speaks `/v1/chat/completions`, and answers each request as a test tells it to."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DROP = "drop"  # close the connection without a word
Reply = str | dict | tuple[int, dict[str, str], str]  # what the judge writes; or any JSON; or status, headers and body


class JudgeServer(ThreadingHTTPServer):
    """Keeps what it was asked. `reply` gets a prompt and how many times it has been asked before."""

    daemon_threads = True

    def __init__(self, reply: Callable[[str, int], Reply], models: list[str] | None, query: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply, self.models, self.query = reply, models, query  # of every request
        self.requests: list[dict] = []  # bodies
        self.keys: list[str | None] = []  # headers
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1{self.query}"

    @property
    def prompts(self) -> list[str]:
        return [body["messages"][0]["content"] for body in self.requests]

    def handle_error(self, request, client_address) -> None:
        """A client that has gone is what some tests are about."""


class Handler(BaseHTTPRequestHandler):
    server: JudgeServer

    def do_GET(self) -> None:
        self.server.keys.append(self.headers["authorization"])
        if self.path != f"/v1/models{self.server.query}" or self.server.models is None:
            self.send(404, {}, "{}")
        else:
            self.send(200, {}, json.dumps({"data": [{"id": name} for name in self.server.models]}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        prompt = body["messages"][0]["content"]
        with self.server.lock:
            before = self.server.prompts.count(prompt)
            self.server.requests.append(body)
            self.server.keys.append(self.headers["authorization"])
        known = self.path == f"/v1/chat/completions{self.server.query}"
        reply = self.server.reply(prompt, before) if known else (404, {}, "{}")
        if reply == DROP:
            self.close_connection = True
        elif isinstance(reply, tuple):
            self.send(*reply)
        else:
            message = {"role": "assistant", "content": reply}
            chat = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
            self.send(200, {}, json.dumps(chat if isinstance(reply, str) else reply))

    def send(self, status: int, headers: dict[str, str], body: str) -> None:
        content = body.encode()
        self.send_response(status)
        for name, value in ({"content-type": "application/json", "content-length": len(content)} | headers).items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args) -> None:
        """Silent."""


@contextmanager
def serve(
    reply: Callable[[str, int], Reply], models: list[str] | None = ("grader",), query: str = ""
) -> Iterator[JudgeServer]:
    """The server, in a thread, until the block ends."""
    with JudgeServer(reply, models, query) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
