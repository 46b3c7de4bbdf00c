"""Answers under way: whose they are, and how they are stopped."""

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from recipes.inference.generate import Event

from .limits import MAX_SECONDS, SESSIONS

SETTLING = 2.0  # seconds, at most, until the last update of an answer that has been given up is on the page


class Turn:
    """An answer that a visitor waits for."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.stop = threading.Event()
        self.settled = threading.Event()  # no update is on its way to the page
        self.settled.set()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """While updates are on their way."""
        self.settled.clear()
        try:
            yield
        finally:
            self.settled.set()


class Turns:
    """The answer that each visitor waits for, by session and number: nobody reaches another's.

    One that is given up has settled when the call returns: no late update of it undoes what the page shows next.
    """

    def __init__(self) -> None:
        self._latest: OrderedDict[str, Turn] = OrderedDict()
        self._numbers = count(1)
        self._lock = threading.Lock()

    def begin(self, session: str) -> int:
        """Number of a new answer that is asked for; one that is still being written is given up."""
        self.forget(session)
        with self._lock:
            turn = self._latest[session] = Turn(next(self._numbers))
            if len(self._latest) > SESSIONS:
                self._latest.popitem(last=False)[1].stop.set()
            return turn.number

    def current(self, session: str, number: int) -> Turn | None:
        """The answer, or None if it is no longer waited for."""
        with self._lock:
            latest = self._latest.get(session)
            return latest if latest is not None and latest.number == number else None

    def stop(self, session: str) -> None:
        """Stop the answer under way, also while it waits in the queue. Without one, nothing happens."""
        with self._lock:
            if session in self._latest:
                self._latest[session].stop.set()

    def forget(self, session: str) -> None:
        """Give up the answer under way."""
        with self._lock:
            turn = self._latest.pop(session, None)
        if turn is not None:
            turn.stop.set()
            turn.settled.wait(SETTLING)


def limited(events: Iterator[Event], stop: threading.Event) -> Iterator[Event]:
    """All events; an answer that takes longer than `MAX_SECONDS` is stopped."""
    deadline = time.monotonic() + MAX_SECONDS
    for event in events:
        if time.monotonic() > deadline:
            stop.set()
        yield event
