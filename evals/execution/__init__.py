"""Run Python programs written by a model, in a sandboxed process that can do as little as possible.

A program is one process. It gets a temporary directory, no input, and no variables of our environment. Several layers
contain it, each of which does what the others cannot:

- limits (any Unix): memory, CPU time, size of each file and of each output, open files; and a session of its own,
  which is killed as a whole when the program has ended or run too long.
- seccomp (Linux on x86-64 and ARM64): no sockets except stream pairs within the program; no further processes, so that
  nothing can outlive the program; no signals to others, also not through the kernel; no change of permissions and
  times, even in the program's own directory; no inspection of other processes. Threads are allowed.
- landlock (Linux 5.13 and newer): no writing outside the temporary directory, and no reading of file contents except
  Python's and the system's libraries: not /proc, which holds our environment, not tokens, not data. From Linux 6.12 on
  it also denies signals to others and abstract sockets, as a second barrier.
- On Linux, the program drops root's capabilities, and dies with the process that started it.

None of this needs privileges: it works as root, as a user, and in containers. `containment` returns the layers of this
machine, and warns about missing ones. Without seccomp or landlock, as on macOS (which has no memory limit either), an
audit hook denies the same things to Python's own calls. That stops mistakes, not attacks: a program may then read what
its user may read, and one that bypasses Python may do everything that its user may do.

Not contained on any machine: bugs in the kernel; the number of threads, which only time and memory bound; the load on
the machine until then. The size of each file is bounded, but not their number: a program may fill the disk of
temporary files until its time is over, which makes others fail that write at the same time. It may find out whether
any path exists, with its size, owner and times, and change into a directory; it cannot list names or read contents. A
program that ends early or prints anything it likes cannot fake a verdict, but one that searches its own process for
the secret that marks the end can.
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
MOST_KEPT = 10_000  # bytes kept of each output
PAUSE = 1.0  # seconds before trying again what the machine could not do, such as writing to a full disk


@dataclass(frozen=True)
class Limits:
    """Resource limits of a program. Sizes are in bytes; `seconds` is wall-clock time."""

    cpu_seconds: int = 5  # independent of how busy the machine is
    seconds: float = 10.0
    memory: int = 512 * 2**20  # address space; no limit on macOS
    file_size: int = 2**20  # of each file, of stdout and of stderr
    open_files: int = 64


@dataclass(frozen=True)
class Execution:
    """How a program ended.

    Attributes:
        status: passed: it ran past its last line; memory: a `MemoryError` ended it; timeout: it used up its CPU or
            wall-clock time; failed: everything else, such as an exception, `exit(0)`, a crash, or a full disk.
        exit_code: negative if killed by that signal; None if it could not be started.
        stdout, stderr: the beginning of its outputs.
        layers: which of `LAYERS` contained it.
    """

    status: Literal["passed", "failed", "timeout", "memory"]
    exit_code: int | None
    stdout: str
    stderr: str
    seconds: float
    layers: tuple[str, ...]


class ExecutionUnavailable(RuntimeError):
    """No program can be run on this machine."""


def run_python(code: str, limits: Limits | None = None) -> Execution:
    """Run `code` as a module called `program`, so that code under `if __name__ == "__main__"` is not run.

    May be called from several threads at once. If the machine temporarily cannot run it, as with a full disk, it is
    tried once more, and then the program counts as failed. Raises `ExecutionUnavailable` if our process fails before
    the program begins, which is never the program's fault.
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
            # -I isolates it from our environment and directory; -S skips `site`, which takes longer than all the rest.
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
    """The layers that contain programs on this machine, found by running an empty one. Warns if some are missing.

    Raises `ExecutionUnavailable` if even an empty program fails.
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
    """Wait for the process to end, and kill its whole session. Returns whether it took more than `seconds`."""
    deadline = time.monotonic() + seconds
    try:
        while not (ended := _has_ended(process)) and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        with suppress(ProcessLookupError, PermissionError):  # macOS denies killing a group of dead processes
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return not ended


def _has_ended(process: subprocess.Popen) -> bool:
    if not hasattr(os, "waitid"):
        return process.poll() is not None
    # WNOWAIT leaves the process in the table, so that its id is not reused before its session is killed.
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


@contextmanager
def _files(count: int) -> Iterator[list[IO[bytes]]]:
    """Unnamed files. Unlike pipes they need no reader, and a process that keeps one open does not block us."""
    with ExitStack() as stack:
        yield [stack.enter_context(tempfile.TemporaryFile()) for _ in range(count)]


@contextmanager
def _pipes(count: int) -> Iterator[list[tuple[int, int]]]:
    """Pipes, as two file descriptors each. Unlike in a file, what was written to a pipe cannot be changed later."""
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
    """A temporary directory that is always removed, whatever the program put into it."""
    directory = tempfile.TemporaryDirectory(prefix="program.", ignore_cleanup_errors=True)
    try:
        yield os.path.realpath(directory.name)
    finally:
        with suppress(RecursionError):  # directories nested thousands deep
            directory.cleanup()
        if os.path.exists(directory.name):
            with suppress(OSError):
                subprocess.run(["rm", "-rf", directory.name], stderr=subprocess.DEVNULL)


def _packages() -> list[str]:
    """Directories of installed packages."""
    paths = sysconfig.get_paths()
    return list(dict.fromkeys([paths["purelib"], paths["platlib"]]))


def _receive(pipe: int) -> bytes:
    """Up to 1000 bytes from a pipe, without waiting; our own messages are shorter."""
    with suppress(BlockingIOError):
        return os.read(pipe, 1000)
    return b""


def _beginning(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(MOST_KEPT).decode(errors="replace")
