"""Python programs that a model has written, run in a process of their own that can do as little as possible.

A program is one process. It gets a throwaway directory, no input, and no variable of our environment. Around it stand,
each doing what the others cannot:

- limits (any Unix): memory, CPU time, size of each file and of each output, open files; and a session of its own that
  is killed as a whole when the program has ended or run too long.
- seccomp (Linux on x86-64 and ARM64): no sockets but pairs of streams within the program, no further processes, hence
  nothing that could outlive the program; no signals to others, not by way of the kernel either; no change of
  permissions and times, not in the program's own directory either; no inspection of other processes. Threads are
  allowed.
- landlock (Linux 5.13 and newer): nothing is written outside the throwaway directory, and no contents are read but
  Python's and the system's libraries': not /proc, where our environment stands, not tokens, not data. From Linux 6.12
  it denies signals to others and abstract sockets as well, a second time.
- On Linux, root's capabilities are given up, and the program dies with the process that started it.

None of this needs privileges: it works as root, as a user, and in containers. `containment` says what this machine
offers, and warns of what it lacks. Where seccomp or landlock is missing, as on macOS (which has no limit on memory
either), an audit hook denies the same to Python's own calls. That stops mistakes, not attacks: a program may then read
what its user may, and one that goes around Python may do all that its user may.

What is not contained anywhere: gaps in the kernel itself; the number of threads, which only time and memory bound; the
load on the machine until then. Each file is bounded, their number is not: a program may fill the disk that holds
temporary files until its time is over, and make others fail that write at the same time. It may learn of any path
whether it exists, with its size, owner and times, and change into that directory; it gets no lists of names and no
contents. And the verdict is kept from a program that ends early or prints what it likes, not from one that searches
its own process for the secret that marks the end.
"""

import json
import logging
import os
import secrets
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import IO, Literal

logger = logging.getLogger(__name__)

LAYERS = ("limits", "seccomp", "landlock")
CONTAINED = Path(__file__).with_name("contained.py")
SYSTEM = ("/usr", "/lib", "/lib64", "/nix/store", "/etc/ld.so.cache", "/etc/localtime", "/dev/urandom", "/dev/zero")
MOST_KEPT = 10_000  # bytes of each output
PAUSE = 1.0  # seconds before what the machine did not permit is tried again


@dataclass(frozen=True)
class Limits:
    """What a program may use. Sizes are in bytes; `seconds` are those of the clock on the wall."""

    cpu_seconds: int = 5  # does not depend on how busy the machine is
    seconds: float = 10.0
    memory: int = 512 * 2**20  # address space; not on macOS
    file_size: int = 2**20  # of each file, of stdout and of stderr
    open_files: int = 64


@dataclass(frozen=True)
class Execution:
    """How a program ended.

    Attributes:
        status: passed: it ran past its last line; memory: a `MemoryError` ended it; timeout: out of CPU time or
            overdue; failed: everything else, such as an exception, `exit(0)`, a crash, no room on the disk for it.
        exit_code: negative: killed by that signal; None: it could not be started.
        stdout, stderr: their beginnings.
        layers: those of `LAYERS` that contained it.
    """

    status: Literal["passed", "failed", "timeout", "memory"]
    exit_code: int | None
    stdout: str
    stderr: str
    seconds: float
    layers: tuple[str, ...]


class ExecutionUnavailable(RuntimeError):
    """Programs cannot be run on this machine, whatever they are."""


def run_python(code: str, limits: Limits | None = None) -> Execution:
    """Run `code` as a module called `program`, so that what stands under `if __name__ == "__main__"` is left out.

    May be called from several threads at a time. What the machine does not permit for the moment, as when its disk is
    full, is tried once more, and then this program has failed. Raises `ExecutionUnavailable` where a process of ours
    does not even get to where the program would begin, which is never a program's fault.
    """
    limits = limits or Limits()
    with suppress(OSError, ExecutionUnavailable):
        return _run(code, limits)
    time.sleep(PAUSE)
    try:
        return _run(code, limits)
    except OSError as error:
        return Execution("failed", None, "", f"this machine could not run it: {error}", 0.0, ())


def _run(code: str, limits: Limits) -> Execution:
    secret = secrets.token_hex()
    with _throwaway_directory() as home, _files(3) as (request, stdout, stderr), _pipes(2) as (begun, verdict):
        ask = {"code": code, "secret": secret, "begun": begun[1], "verdict": verdict[1], "home": home}
        ask |= {"limits": asdict(limits), "readable": [sys.base_prefix, sys.prefix, *SYSTEM], "packages": _packages()}
        request.write(json.dumps(ask).encode())
        request.seek(0)
        started = time.perf_counter()
        process = subprocess.Popen(
            # Isolated from our environment and directory; without `site`, which takes longer than all the rest.
            [sys.executable, "-I", "-S", "-B", "-X", "utf8", CONTAINED],
            stdin=request,
            stdout=stdout,
            stderr=stderr,
            cwd=home,
            env={"HOME": home, "TMPDIR": home, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            pass_fds=[begun[1], verdict[1]],
            start_new_session=True,
        )
        overdue = _wait(process, limits.seconds)
        seconds = time.perf_counter() - started
        layers, end = _receive(begun[0]).decode().split(), _receive(verdict[0])
        said, complaint = (_beginning(file) for file in (stdout, stderr))
    killed = process.returncode == -signal.SIGKILL  # also where the program ignores SIGXCPU
    if overdue or process.returncode == -signal.SIGXCPU or (killed and seconds >= limits.cpu_seconds):
        status = "timeout"
    elif not layers:
        raise ExecutionUnavailable(f"programs cannot be run here: {complaint.strip() or process.returncode}")
    else:
        status = {secret.encode(): "passed", b"memory": "memory"}.get(end, "failed")
    return Execution(status, process.returncode, said, complaint, seconds, tuple(layers))


@cache
def containment() -> tuple[str, ...]:
    """The layers that contain programs on this machine, found out by running one. Warns if some are missing.

    Raises `ExecutionUnavailable` where not even an empty program passes.
    """
    end = run_python("")
    if end.status != "passed":
        raise ExecutionUnavailable(f"programs cannot be run here: an empty one ends with {end.status} {end.stderr}")
    layers = end.layers
    if missing := [layer for layer in LAYERS if layer not in layers]:
        logger.warning(
            f"programs of the model run without {' and '.join(missing)}, which this machine lacks: they are not fully "
            "contained. Use Linux 5.13 or newer, or a container that holds nothing of value."
        )
    return layers


def _wait(process: subprocess.Popen, seconds: float) -> bool:
    """Wait for the process's end, and end its whole session. Returns whether it took more than `seconds`."""
    deadline = time.monotonic() + seconds
    try:
        while not (ended := _has_ended(process)) and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        with suppress(ProcessLookupError, PermissionError):  # macOS denies it for a group of the dead
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return not ended


def _has_ended(process: subprocess.Popen) -> bool:
    if not hasattr(os, "waitid"):
        return process.poll() is not None
    # Leaves it, so that its number stays its own.
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


@contextmanager
def _files(count: int) -> Iterator[list[IO[bytes]]]:
    """Nameless files. Unlike pipes they need no reader, and nobody who holds one open keeps us waiting."""
    with ExitStack() as stack:
        yield [stack.enter_context(tempfile.TemporaryFile()) for _ in range(count)]


@contextmanager
def _pipes(count: int) -> Iterator[list[tuple[int, int]]]:
    """Pipes, as two file descriptors each: what has been written cannot be taken back, as it could in a file."""
    with ExitStack() as stack:
        pipes = []
        for _ in range(count):
            pipes.append(os.pipe())
            for end in pipes[-1]:
                stack.callback(os.close, end)
            os.set_blocking(pipes[-1][0], False)
        yield pipes


@contextmanager
def _throwaway_directory() -> Iterator[str]:
    """A new directory, which is gone afterwards whatever it holds."""
    directory = tempfile.TemporaryDirectory(prefix="program.", ignore_cleanup_errors=True)
    try:
        yield os.path.realpath(directory.name)
    finally:
        with suppress(RecursionError):  # directories within directories, thousands deep
            directory.cleanup()
        if os.path.exists(directory.name):
            with suppress(OSError):
                subprocess.run(["rm", "-rf", directory.name], stderr=subprocess.DEVNULL)


def _packages() -> list[str]:
    """Where installed packages are."""
    paths = sysconfig.get_paths()
    return list(dict.fromkeys([paths["purelib"], paths["platlib"]]))


def _receive(pipe: int) -> bytes:
    """What a pipe holds, without waiting for more: all of it, or more than anybody has asked for."""
    with suppress(BlockingIOError):
        return os.read(pipe, 1000)
    return b""


def _beginning(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(MOST_KEPT).decode(errors="replace")
