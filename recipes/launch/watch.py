"""A stage as a process beside which somebody keeps its checkpoints: on the Hub, or in a volume."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from recipes.training.checkpoint_files import MANIFEST, whole_checkpoints
from recipes.utils.run_directory import CHECKPOINTS

SECONDS_BETWEEN_LOOKS = 2
# torch's launcher kills what does not end within 30 seconds of SIGTERM; a checkpoint may take longer.
PATIENCE_OF_LAUNCHER = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "600"}


def run_watched(command: Sequence[str], look: Callable[[], None]) -> int:
    """The exit code of a stage; `look` is called every few seconds while it runs.

    SIGTERM and Ctrl-C are the stage's to answer: it saves a checkpoint and ends.
    """
    stage = subprocess.Popen(command, env=PATIENCE_OF_LAUNCHER | os.environ)
    with on_sigterm(stage.terminate):
        while True:
            try:
                return stage.wait(timeout=SECONDS_BETWEEN_LOOKS)
            except subprocess.TimeoutExpired:
                look()
            except KeyboardInterrupt:
                stage.terminate()


@contextmanager
def on_sigterm(do: Callable[[], None]) -> Iterator[None]:
    """Within the block, SIGTERM calls `do`; in a thread, where Python sets no handlers, it stays what it was."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: do())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def newest_checkpoints_of(run_dir: Path) -> list[Path]:
    """The newest checkpoint of each stage of a run whose files will not change any more."""
    stages = sorted({path.parent for path in run_dir.glob(f"*/{CHECKPOINTS}")})
    whole = ([path for path in whole_checkpoints(stage) if (path / MANIFEST).exists()] for stage in stages)
    return [each[-1] for each in whole if each]
