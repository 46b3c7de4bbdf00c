"""Progress of several downloads at once: one bar on a terminal, elsewhere a line now and then."""

import sys
import threading
import time
from typing import Any

from tqdm import tqdm

LINES = 20  # printed in all, roughly, when the output is not a terminal


class DownloadProgress:
    """Files and bytes that have come, of all.

    Attributes:
        file_bar: the class of a single file's bar, for huggingface_hub; it passes the bytes on to the one bar.
    """

    def __init__(self, num_files: int, num_bytes: int, what: str) -> None:
        self.num_files, self.num_bytes, self.what = num_files, num_bytes, what
        self.files = self.bytes = 0  # that are whole
        self.started = time.monotonic()
        off = not sys.stderr.isatty()
        self.bar = tqdm(total=num_bytes, unit="B", unit_scale=True, dynamic_ncols=True, disable=off or not num_files)
        self.file_bar = type("BarOfAFile", (FileBar,), {"whole": self.bar, "lock": threading.Lock()})

    def count(self, num_bytes: int) -> None:
        """One more file is whole."""
        self.files, self.bytes = self.files + 1, self.bytes + num_bytes
        done = f"{self.files:,} of {self.num_files:,} {self.what}"
        self.bar.set_description_str(done)
        if self.bar.disable and (self.files % max(1, self.num_files // LINES) == 0 or self.files == self.num_files):
            speed = self.bytes / max(time.monotonic() - self.started, 1e-3)
            print(
                f"{done}, {bytes_text(self.bytes)} of {bytes_text(self.num_bytes)}, {bytes_text(speed)}/s", flush=True
            )

    def close(self) -> None:
        """End the bar."""
        self.bar.close()


class FileBar:
    """Looks to huggingface_hub like a bar of tqdm's."""

    whole: tqdm
    lock: threading.Lock

    def __init__(self, *_: Any, **__: Any) -> None:
        """Title and size are of no use here."""

    def __enter__(self) -> "FileBar":
        return self

    def update(self, num_bytes: int = 1) -> None:
        with self.lock:
            self.whole.update(num_bytes)

    def ignore(self, *_: Any, **__: Any) -> None:
        """Of the network's bytes, which may be compressed, and of the rest."""

    __exit__ = close = update_transfer = set_postfix_str = set_transfer_postfix_str = ignore


def bytes_text(num_bytes: float) -> str:
    """A number of bytes for people: 17.1GB."""
    return tqdm.format_sizeof(num_bytes, "B")
