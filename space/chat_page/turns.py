"""Track which visitor waits for which answer, and stop answers."""

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from recipes.inference.generate import Event

from .limits import MAX_SECONDS, SESSIONS

SETTLING = 2.0  # seconds to wait at most for the last update of an abandoned answer


class Turn:
    """One answer that a visitor waits for."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.stop = threading.Event()
        self.settled = threading.Event()  # no update is being sent to the page
        self.settled.set()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Mark the turn as unsettled while updates are being sent."""
        self.settled.clear()
        try:
            yield
        finally:
            self.settled.set()


class Turns:
    """The newest answer of each session, found by session and number, so that no visitor reaches another's.

    An abandoned answer has settled when `forget` returns: no late update of it overwrites what the page shows next.
    """

    def __init__(self) -> None:
        self._latest: OrderedDict[str, Turn] = OrderedDict()
        self._numbers = count(1)
        self._lock = threading.Lock()

    def begin(self, session: str) -> int:
        """Start a new answer and return its number. An answer that is still streaming is abandoned."""
        self.forget(session)
        with self._lock:
            turn = self._latest[session] = Turn(next(self._numbers))
            if len(self._latest) > SESSIONS:
                self._latest.popitem(last=False)[1].stop.set()
            return turn.number

    def current(self, session: str, number: int) -> Turn | None:
        """The answer with this number, or None if the visitor no longer waits for it."""
        with self._lock:
            latest = self._latest.get(session)
            return latest if latest is not None and latest.number == number else None

    def stop(self, session: str) -> None:
        """Stop the current answer, even while it waits in the queue. Does nothing if there is none."""
        with self._lock:
            if session in self._latest:
                self._latest[session].stop.set()

    def forget(self, session: str) -> None:
        """Abandon the current answer."""
        with self._lock:
            turn = self._latest.pop(session, None)
        if turn is not None:
            turn.stop.set()
            turn.settled.wait(SETTLING)


def limited(events: Iterator[Event], stop: threading.Event) -> Iterator[Event]:
    """Yield all events, and stop an answer that takes longer than `MAX_SECONDS`."""
    deadline = time.monotonic() + MAX_SECONDS
    for event in events:
        if time.monotonic() > deadline:
            stop.set()
        yield event
