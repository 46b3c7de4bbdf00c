"""`python recipes/pretrain.py ...`, or another recipe, as a real process that starts in milliseconds.

It is forked from a server that has imported the recipes already; everything else (arguments, signals, exit code, what
is printed) is as in a shell. Several processes of one run find each other by the variables that torchrun sets.
"""

import gc
import multiprocessing
import multiprocessing.forkserver
import os
import resource
import runpy
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from unittest import mock

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 120  # seconds after which a test gives up on a process


@dataclass
class Finished:
    """What a command left: its exit code (negative: killed by that signal) and what it printed."""

    code: int
    stdout: str
    stderr: str


class Running:
    """The process, or the processes, of one command. Each calls `before` first, as to set itself a limit."""

    def __init__(
        self, argv: list[str], processes: int = 1, before: Callable[[], object] = int, script: str = "pretrain"
    ) -> None:
        self._logs = tempfile.TemporaryDirectory(prefix="logs.")
        self.outputs = [Path(self._logs.name, f"{rank}.out") for rank in range(processes)]
        self.errors = [Path(self._logs.name, f"{rank}.err") for rank in range(processes)]
        for path in (*self.outputs, *self.errors):
            path.touch()
        environment = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
        if processes > 1:
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(processes)}
        self.processes = []
        for rank, (output, error) in enumerate(zip(self.outputs, self.errors, strict=True)):
            mine = environment | ({"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {})
            process = _server().Process(target=_run_script, args=(script, argv, mine, output, error, before))
            process.start()
            self.processes.append(process)

    @property
    def alive(self) -> bool:
        """Whether all of its processes run."""
        return all(process.is_alive() for process in self.processes)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Return as soon as `condition` holds or the command has ended."""
        deadline = time.monotonic() + PATIENCE
        while self.alive and not condition():
            assert time.monotonic() < deadline, f"nothing came of it:\n{self.outputs[0].read_text()}"
            time.sleep(0.001)

    def signal(self, number: int, rank: int = 0) -> None:
        """Send a signal to one process."""
        os.kill(self.processes[rank].pid, number)

    def signal_groups(self, number: int) -> None:
        """Send a signal to all processes, their loader workers included, as Ctrl-C on a terminal does."""
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)

    def kill(self) -> list[int]:
        """SIGKILL to all; the exit codes, -9 each if the kill came in time."""
        self.signal_groups(signal.SIGKILL)
        for process in self.processes:
            process.kill()  # in case it had no group of its own yet
            process.join(PATIENCE)
        return [process.exitcode for process in self.processes]

    def wait(self) -> list[Finished]:
        """Every process's end."""
        for process in self.processes:
            process.join(PATIENCE)
            if process.is_alive():
                self.kill()
                raise AssertionError(f"it hangs:\n{self.outputs[0].read_text()}{self.errors[0].read_text()}")
        return [
            Finished(process.exitcode, output.read_text(), error.read_text())
            for process, output, error in zip(self.processes, self.outputs, self.errors, strict=True)
        ]


def run(argv: list[str], processes: int = 1, before: Callable[[], object] = int, script: str = "pretrain") -> Finished:
    """Run a command to its end; of several processes, what the first one printed."""
    ends = Running(argv, processes, before, script).wait()
    return Finished(max((end.code for end in ends), key=abs), ends[0].stdout, ends[0].stderr)


def flags(arguments: dict) -> list[str]:
    """`{"depth": 1}` as `--depth 1`."""
    return [word for name, value in arguments.items() for word in (f"--{name}", str(value))]


def limit(kind: int, size: int) -> None:
    """In the training process: at most `size` bytes, of addresses beyond those in use now or of a file."""
    size += addresses() if kind == resource.RLIMIT_AS else 0
    resource.setrlimit(kind, (size, size))


@contextmanager
def no_more_memory(size: int = 0) -> Iterator[None]:
    """In the training process: within the block, at most `size` bytes of addresses beyond those in use now."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (addresses() + size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def addresses() -> int:
    """Bytes of this process's address space in use."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@cache
def _server() -> multiprocessing.context.ForkServerContext:
    """What starts the processes: a server without network that has imported the recipes and run nothing."""
    context = multiprocessing.get_context("forkserver")
    drawing = ["matplotlib.backends.backend_agg", "matplotlib.pyplot"]
    context.set_forkserver_preload(
        ["recipes.pretrain", "recipes.midtrain", "recipes.sft", "recipes.dpo", "recipes.grpo", *drawing]
    )
    with mock.patch.dict(os.environ, HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1"):  # read at import
        multiprocessing.forkserver.ensure_running()
    return context


def _run_script(
    name: str, argv: list[str], environment: dict[str, str], output: Path, error: Path, before: Callable
) -> None:
    """In the new process: become `python recipes/NAME.py *argv`."""
    import torch

    multiprocessing.set_start_method(None, force=True)  # for its own children the default, as in a shell
    gc.freeze()  # what the server imported need not be searched for garbage
    os.setsid()  # a process group of its own, as a shell gives
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background has ignored
    for path, descriptor in ((output, 1), (error, 2)):
        os.dup2(os.open(path, os.O_WRONLY), descriptor)
    os.environ.update(environment)
    torch.set_num_threads(1)
    before()
    script = str(REPOSITORY / "recipes" / f"{name}.py")
    sys.argv = [script, *argv]
    runpy.run_path(script, run_name="__main__")
