"""A place that cannot be written is told before any work; one that is being written keeps other processes out."""

import errno
import fcntl
import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from recipes.utils.errors import InputError
from recipes.utils.outputs import ensure_writable, hold

HOLDER = """
import os, sys, time
from recipes.utils.outputs import hold
with hold(sys.argv[1], "run_dir", replaced=sys.argv[2] == "True"):
    if sys.argv[3] == "fork" and os.fork() == 0:
        sys.stdout.close()
        time.sleep(100)
    print(os.getpid(), flush=True)
    time.sleep(100)
"""


class Holder:
    """Another process that holds a directory, with a child forked from it if `fork`."""

    def __init__(self, directory: Path, replaced: bool = False, fork: bool = False) -> None:
        command = [sys.executable, "-c", HOLDER, str(directory), str(replaced), "fork" if fork else "alone"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert self.process.stdout.readline() == f"{self.process.pid}\n"

    def kill(self) -> None:
        """SIGKILL, to it alone."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """And to what it has forked."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def tmpfs(tmp_path):
    """Mounts a file system of its own, where that is allowed."""
    directory = tmp_path / "mounted"
    directory.mkdir()

    def mount(options: str) -> Path:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)], capture_output=True)
        if done.returncode:
            pytest.skip("this user may not mount")
        return directory

    yield mount
    subprocess.run(["umount", str(directory)], capture_output=True)


# Before the work


def test_a_place_is_made_and_nothing_is_left_in_it(tmp_path):
    ensure_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [("file", "it is a file"), ("file/below", "Not a directory"), ("x" * 300, "File name too long")],
)
@pytest.mark.parametrize("check", [ensure_writable, lambda directory: hold(directory).__enter__()])
def test_a_place_that_cannot_be_is_told(tmp_path, name, reason, check):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=f"^cannot write to output_dir {tmp_path / name}: {reason}\\.$"):
        check(tmp_path / name)


@pytest.mark.parametrize(("options", "reason"), [("ro", "Read-only file system"), ("size=64k", "No space left")])
def test_a_disk_that_takes_nothing_is_told(tmpfs, options, reason):
    directory = tmpfs(options)
    if options != "ro":
        (directory / "all").write_bytes(bytes(2**16))
    with pytest.raises(InputError, match=f"cannot write to --output x: {reason}"):
        ensure_writable(directory / "run", "--output x")


def test_a_limit_on_files_is_told(tmp_path):
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        try:
            ensure_writable(tmp_path)
        except InputError as error:
            os._exit(0 if "File too large" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# One at a time


@pytest.mark.parametrize("replaced", [False, True])
def test_a_second_process_is_told_who_holds_it_and_comes_in_once_that_has_ended(tmp_path, replaced):
    holder = Holder(tmp_path / "run", replaced)
    try:
        for _ in range(2):  # looking on frees nothing
            with pytest.raises(InputError) as refused, hold(tmp_path / "run", "run_dir", replaced):
                pass
    finally:
        holder.kill()
    expected = f"run_dir {tmp_path / 'run'} is being written by process {holder.process.pid} on {socket.gethostname()}"
    assert str(refused.value).startswith(expected)
    with hold(tmp_path / "run", "run_dir", replaced):
        pass
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == [], "nothing of the lock is left"


def test_a_lock_dies_with_its_process_and_not_with_what_that_has_forked(tmp_path):
    holder = Holder(tmp_path / "run", fork=True)
    try:
        holder.kill()
        with hold(tmp_path / "run"):
            second = subprocess.run(
                [sys.executable, "-c", HOLDER, tmp_path / "run", "False", "alone"], capture_output=True
            )
            assert b"is being written by process %d on" % os.getpid() in second.stderr
    finally:
        holder.end()


def test_where_there_are_no_locks_it_is_said_once_and_the_work_goes_on(tmp_path, monkeypatch, capsys):
    def refuse(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with hold(tmp_path / "run"):
        worked = True
    assert worked
    assert capsys.readouterr().out == (
        f"note: {tmp_path / 'run'} cannot be locked (No locks available): start no second run into it\n"
    )
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.launch
def test_of_many_that_come_and_go_there_is_never_more_than_one(tmp_path):
    script = (
        "import os, sys, time\nfrom recipes.utils.errors import InputError\nfrom recipes.utils.outputs import hold\n"
        "times = 0\n"
        "while times < 20:\n"
        "    try:\n"
        "        with hold(sys.argv[1]):\n"
        "            os.mkdir(sys.argv[2])\n"  # fails if another process is in here
        "            os.rmdir(sys.argv[2])\n"
        "            times += 1\n"
        "    except InputError:\n"
        "        time.sleep(0.001)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "run"), str(tmp_path / "inside")]
    crowd = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [(process.communicate(timeout=100)[1], process.returncode) for process in crowd] == [("", 0)] * 3
