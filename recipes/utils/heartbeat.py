"""Say that something long is still under way."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

EVERY = 60.0  # seconds


@contextmanager
def heartbeat(doing: str, on_this_rank: bool = True) -> Iterator[None]:
    """Print a line each minute until the block ends, so that nobody takes it for a hang, on this rank or another."""
    if not on_this_rank:
        yield
        return
    ended = threading.Event()

    def beat() -> None:
        started = time.monotonic()
        while not ended.wait(EVERY):
            print(f"still {doing}, for {(time.monotonic() - started) / 60:.0f} min", flush=True)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
