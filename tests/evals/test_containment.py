"""What a model has written can do no harm: attacks on the machine, other processes, files and our secrets."""

import ctypes
import os
import struct
import subprocess
import sys
import tempfile
import textwrap
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from evals.execution import LAYERS, Limits, containment
from evals.execution import contained as child
from tests.evals.test_execution import run

ROOT = Path(__file__).parents[2]
# Where the kernel does not contain them, attacks are not tried: they would do what they are meant to.
contained = pytest.mark.skipif(bool(set(LAYERS) - set(containment())), reason="this machine lacks a layer")


def attempt(action):
    """The program that tries `action`, and says so if it is not permitted."""
    imports = "import fcntl, os, shutil, socket, struct, subprocess"
    return f"{imports}\ntry:\n{textwrap.indent(action, '    ')}\nexcept OSError:\n    print('denied')"


@contained
@pytest.mark.parametrize(
    "action",
    [
        "os.fork()",
        "while True: os.fork()",
        "os.posix_spawn('/bin/true', ['true'], {})",
        "os.execv('/bin/true', ['true'])",
        "subprocess.run(['true'])",
        "socket.socket()",
        "socket.socket(socket.AF_UNIX)",
        "socket.create_connection(('1.1.1.1', 53), 1)",
        "os.kill(os.getppid(), 0)",
        "os.kill(-1, 0)",  # 0 is no signal, but needs the same permission
        "os.kill(0, 0)",
        "os.killpg(0, 0)",
        "os.killpg(os.getpgid(os.getppid()), 0)",
        "fcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, os.getppid())",
        "fcntl.fcntl(os.pipe()[0], 15, struct.pack('ii', 1, os.getppid()))",  # F_SETOWN_EX
        "fcntl.fcntl(os.pipe()[0], 10, 9)",  # F_SETSIG
        "fcntl.fcntl(open('mine', 'w'), fcntl.F_SETLEASE, fcntl.F_WRLCK)",
        "fcntl.ioctl(socket.socketpair()[0], 0x8901, struct.pack('i', os.getppid()))",  # FIOSETOWN
        "fcntl.ioctl(socket.socketpair()[0], 0x8902, struct.pack('i', os.getppid()))",  # SIOCSPGRP
        "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)",
        "socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)",
        "os.pidfd_open(os.getppid())",
        "open(f'/proc/{os.getppid()}/environ').read()",
        "open('/proc/self/environ').read()",
        "os.listdir('/')",
        "os.listdir(os.path.dirname(os.getcwd()))",
        "open('/etc/passwd').read()",
        "os.memfd_create('x')",
        "os.sched_setaffinity(os.getppid(), [0])",
        "os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
        "open('/dev/shm/attack', 'w')",
    ],
)
def test_what_a_program_may_not_do(action):
    end = run(attempt(action))
    assert (end.status, end.stdout) == ("passed", "denied\n"), end


@contained
@pytest.mark.parametrize(
    "call",  # of the C library, so that no number is ours; without the filter, none fails for want of permission
    [
        "ptrace(0, 0, 0, 0)",
        "process_vm_readv(me, None, 0, None, 0, 0)",
        "prctl(15, b'name')",
        "personality(0xFFFFFFFF)",
        "klogctl(10, None, 0)",
        "inotify_init()",
        "inotify_init1(0)",
        "memfd_create(b'x', 0)",
        "shmget(0, 4096, 0o600)",
        "shmat(10**6, None, 0)",
        "shmctl(10**6, 0, None)",
        "semget(0, 1, 0o600)",
        "semctl(10**6, 0, 0)",
        "msgget(0, 0o600)",
        "msgctl(10**6, 0, None)",
        "truncate(b'mine', 0)",
        "chmod(b'mine', 0o600)",
        "fchmod(0, 0o600)",
        "chown(b'mine', -1, -1)",
        "setxattr(b'mine', b'user.a', b'', 0, 0)",
        "removexattr(b'mine', b'user.a')",
        "utimes(b'mine', None)",
        "utimensat(-100, b'mine', None, 0)",
        "sched_setscheduler(0, 0, bytes(64))",
        "socketpair(1, 2, 0, bytearray(8))",
        "bind(3, bytes(16), 16)",
        "connect(3, bytes(16), 16)",
        "listen(3, 1)",
        "syscall(425, 1, bytes(120))",
        "syscall(434, me, 0)",
    ],
)
def test_what_goes_around_python_is_denied(call):
    end = run(
        f"""
        import ctypes, errno, os
        open("mine", "w").close()
        me, libc = os.getpid(), ctypes.CDLL(None, use_errno=True)
        bytearray = ctypes.create_string_buffer
        print(libc.{call}, errno.errorcode[ctypes.get_errno()])
        """
    )
    assert end.stdout == "-1 EPERM\n", end


LANDLOCK_ALONE = """
import os, socket
from evals.execution import contained
contained.drop_privileges()
assert contained.restrict_files(os.getcwd(), [])
for attack in (lambda: os.kill(os.getppid(), 0), lambda: socket.socket().bind(("127.0.0.1", 0))):
    try:
        attack()
    except PermissionError:
        print("denied")
"""


@contained
@pytest.mark.skipif(child.libc.syscall(child.LANDLOCK_CREATE_RULESET, None, 0, 1) < 6, reason="needs Linux 6.12")
def test_landlock_alone_denies_signals_and_tcp(tmp_path):
    command = [sys.executable, "-c", LANDLOCK_ALONE]
    end = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert end.stdout == "denied\ndenied\n", end.stderr


@contained
@pytest.mark.parametrize(
    "action",
    [
        "os.remove(path)",
        "open(path, 'w')",
        "open(path, 'a')",
        "open(path).read()",
        "os.truncate(path, 0)",
        "os.chmod(path, 0)",
        "os.utime(path, (1, 1))",
        "os.rename(path, 'mine')",
        "os.rename('mine', path)",
        "os.link(path, 'mine2')",
        "os.symlink(path, 'mine2'); open('mine2', 'w')",
        "os.rmdir(os.path.dirname(path) + '/empty')",
        "os.mkdir(os.path.dirname(path) + '/new')",
        "shutil.rmtree(os.path.dirname(path))",
    ],
)
def test_what_lies_outside_survives(action, tmp_path):
    path = tmp_path / "precious"
    path.write_text("value")
    (tmp_path / "empty").mkdir()
    before = path.stat()
    end = run(f"open('mine', 'w').close()\npath = {str(path)!r}\n" + attempt(action))
    assert (end.status, end.stdout) == ("passed", "denied\n"), end
    after = path.stat()
    assert path.read_text() == "value"
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["empty", "precious"]


def processes_of(home):
    """Processes that have `home` as their home directory."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            found += [process] if process.environ().get("HOME") == home else []
    return found


@contained
@pytest.mark.parametrize("setup", ["", "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"])
def test_nothing_outlives_a_program(setup):
    end = run(
        f"""
        import ctypes, os, threading, time
        {setup}
        print(os.getcwd(), flush=True)
        libc = ctypes.CDLL(None)
        for fork in (os.fork, libc.fork, libc.vfork, lambda: libc.syscall(435, bytes(88), 88)):
            try:
                if fork() == 0:
                    os.setsid()
                    if fork() == 0:
                        time.sleep(1000)
                    os._exit(0)
            except OSError:
                pass
        threading.Thread(target=time.sleep, args=[1000]).start()
        """
    )
    assert end.status == "passed" and processes_of(end.stdout.strip()) == []


@contained
def test_a_program_dies_with_the_process_that_runs_it(tmp_path):
    program = "open('begun', 'w'); import time; time.sleep(1000)"
    code = f"from evals.execution import Limits, run_python\nrun_python({program!r}, Limits(seconds=1000))"
    runner = psutil.Popen([sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"TMPDIR": str(tmp_path)})
    while not list(tmp_path.glob("program.*/begun")):
        assert runner.poll() is None
        time.sleep(0.01)
    programs = runner.children()
    runner.kill()
    runner.wait()
    gone, alive = psutil.wait_procs(programs, timeout=30)
    assert gone and not alive


@contained
def test_a_program_cannot_raise_its_limits():
    raising = "import resource\nresource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)"
    assert "ValueError" in run(raising).stderr or "PermissionError" in run(raising).stderr


def test_our_environment_is_not_there(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "s3cret")
    end = run("import os\nprint(dict(os.environ))")
    assert end.status == "passed" and "s3cret" not in end.stdout
    own = run("import os\nprint(os.environ['HOME'] == os.environ['TMPDIR'] == os.getcwd(), os.listdir())")
    assert own.stdout == "True []\n"


@pytest.mark.parametrize(
    "code",
    [
        "open('file', 'w').write('x')",
        "import os\nfor n in range(3000): os.mkdir('a'); os.chdir('a')",
        "import os\nos.mkdir('closed', 0)",
        "import os\nfor n in range(3000): open(str(n), 'w').close()",
        "while True: pass",
    ],
)
def test_the_directory_is_gone_afterwards(code, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert run(code).status in ("passed", "timeout")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", ["open('f', 'wb').write(bytes(10**7))", "open('f', 'wb').truncate(10**12)"])
def test_files_have_a_limit(code):
    end = run(code, Limits(file_size=10**6))
    assert end.status == "failed" and "File too large" in end.stderr


# Where the kernel does not help

UNHELPFUL = """
from evals.execution import containment, run_python
from tests.evals.test_containment import attempt, refuse_containment
refuse_containment()
containment.cache_clear()
print(containment())
for action in {actions!r}:
    print(run_python(attempt(action)).stdout.strip(), action)
print(run_python("print('fine')").stdout)
"""


def refuse_containment():
    """From now on the kernel denies this process and its children seccomp, after this very filter, and landlock."""
    _, column = child.MACHINES[os.uname().machine]
    prctl, error = child.DENIED["the kernel's inner workings, and these restrictions"]["prctl"][column], 0x50001
    instructions = [(child.LOAD, 0, 0, child.NUMBER)]
    for number in (child.LANDLOCK_CREATE_RULESET, child.LANDLOCK_RESTRICT_SELF):
        instructions += [(child.EQUALS, 0, 1, number), (child.RETURN, 0, 0, error)]
    instructions += [(child.EQUALS, 0, 3, prctl), (child.LOAD, 0, 0, child.FIRST_ARGUMENT)]
    instructions += [(child.EQUALS, 0, 1, child.PR_SET_SECCOMP), (child.RETURN, 0, 0, error)]
    program = b"".join(struct.pack("HBBI", *each) for each in [*instructions, (child.RETURN, 0, 0, child.ALLOW)])
    buffer = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("HP", len(program) // 8, ctypes.addressof(buffer))
    child.libc.prctl(child.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    assert child.libc.prctl(child.PR_SET_SECCOMP, child.SECCOMP_MODE_FILTER, described, 0, 0) == 0


@contained
def test_without_the_kernels_help_python_itself_denies_and_a_warning_is_given(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("value")
    actions = ["os.fork()", "subprocess.run(['true'])", "socket.socket()", "os.kill(os.getppid(), 0)"]
    actions += [f"os.remove({str(precious)!r})", f"open({str(precious)!r}, 'w')", f"shutil.rmtree({str(tmp_path)!r})"]
    actions += ["os.system('true')", f"os.rename({str(precious)!r}, 'mine')"]
    command = [sys.executable, "-c", UNHELPFUL.format(actions=actions)]
    end = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert end.returncode == 0, end.stderr
    expected = ["('limits', 'audit')", *(f"denied {action}" for action in actions), "fine"]
    assert end.stdout.split("\n")[: len(expected)] == expected
    assert end.stderr.count("without seccomp and landlock") == 1
    assert precious.read_text() == "value"
