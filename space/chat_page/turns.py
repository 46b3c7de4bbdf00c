"""Answers under way: whose they are, how they are stopped, and how often the page hears of them."""

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from itertools import count

from recipes.inference.generate import Event, Text

from .limits import MAX_SECONDS, SESSIONS

PACE = 1 / 20  # seconds between two updates of the page: reads as smoothly as every token, and costs far less


class Turns:
    """The answer that each visitor waits for, by session and number: nobody reaches another's."""

    def __init__(self) -> None:
        self._latest: OrderedDict[str, tuple[int, threading.Event]] = OrderedDict()
        self._numbers = count(1)
        self._lock = threading.Lock()

    def begin(self, session: str) -> int:
        """Number of a new answer that is asked for; one that is still being written is stopped."""
        with self._lock:
            self._halt(session)
            number = next(self._numbers)
            self._latest[session] = number, threading.Event()
            self._latest.move_to_end(session)
            if len(self._latest) > SESSIONS:
                self._halt(next(iter(self._latest)))
                self._latest.popitem(last=False)
            return number

    def current(self, session: str, number: int) -> threading.Event | None:
        """What stops this answer; None if it is no longer waited for."""
        with self._lock:
            latest, stop = self._latest.get(session, (0, None))
            return stop if latest == number else None

    def stop(self, session: str) -> None:
        """Stop the answer under way, also while it waits in the queue. Without one, nothing happens."""
        with self._lock:
            self._halt(session)

    def forget(self, session: str) -> None:
        """Nobody waits for the answer under way any more."""
        with self._lock:
            self._halt(session)
            self._latest.pop(session, None)

    def _halt(self, session: str) -> None:
        if session in self._latest:
            self._latest[session][1].set()


def paced(events: Iterator[Event], stop: threading.Event) -> Iterator[list[Event]]:
    """All events, as many at a time as have come within `PACE` seconds. Stops the answer after `MAX_SECONDS`."""
    bunch: list[Event] = []
    started, shown = time.monotonic(), 0.0
    for event in events:
        bunch.append(event)
        now = time.monotonic()
        if now - started > MAX_SECONDS:
            stop.set()
        if now - shown >= PACE or not isinstance(event, Text):
            yield bunch
            bunch, shown = [], now
    if bunch:
        yield bunch
