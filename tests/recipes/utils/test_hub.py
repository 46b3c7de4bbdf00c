"""Whether the Hub answers is known within seconds, whatever is at its address."""

import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

pytestmark = pytest.mark.launch

PROBE = """
from recipes.utils.errors import InputError
from recipes.utils.hub import check_hub_reachable
try:
    check_hub_reachable("so use a local file.")
except InputError as error:
    print(error)
else:
    print("reachable")
"""
SECONDS = 60  # until the test gives up; retries as the libraries make them take longer


def probe(endpoint: str, offline: str = "0") -> str:
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": offline}
    done = subprocess.run(
        [sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def server(answer: bytes | None):
    """A server on this machine that gives every request the same answer, or none at all; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        held = []

        def serve():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                held.append(connection)
                if answer is not None:
                    connection.recv(4096)
                    connection.sendall(answer)
                    connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        for connection in held:
            connection.close()


def test_a_closed_port_is_one_clear_line():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, but nobody listens
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        line = probe(endpoint)
    assert line.startswith(f"the Hub ({endpoint}) cannot be reached (")
    assert line.endswith("), and so use a local file.\n") and line.count("\n") == 1


def test_a_server_that_never_answers_is_one_clear_line():
    with server(None) as endpoint:
        line = probe(endpoint)
    assert line.startswith(f"the Hub ({endpoint}) cannot be reached (") and line.count("\n") == 1


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "503 Service Unavailable"])
def test_any_answer_is_an_answer(status):
    with server(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()) as endpoint:
        assert probe(endpoint) == "reachable\n"


def test_an_answer_that_is_no_http_is_one_clear_line():
    with server(b"SSH-2.0-OpenSSH_9.6\r\n") as endpoint:
        line = probe(endpoint)
    assert line.startswith(f"the Hub ({endpoint}) cannot be reached (") and line.count("\n") == 1


def test_an_address_that_is_none_is_one_clear_line():
    assert probe("hub").startswith("HF_ENDPOINT is not the URL of a Hub: 'hub', and so use")


def test_offline_is_said_without_asking():
    with server(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as endpoint:
        line = probe(endpoint, offline="1")
    assert line == "the Hub is switched off by HF_HUB_OFFLINE, and so use a local file.\n"
