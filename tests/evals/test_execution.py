"""What a model has written runs, is judged rightly, and can do no harm."""

import ctypes
import os
import signal
import struct
import subprocess
import sys
import tempfile
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from evals import execution
from evals.execution import LAYERS, MOST_KEPT, Limits, containment, run_python
from evals.execution import contained as child

ROOT = Path(__file__).parents[2]
BRIEF = Limits(cpu_seconds=1, seconds=2.0)
# Where the kernel does not contain them, attacks are not tried: they would do what they are meant to.
contained = pytest.mark.skipif(bool(set(LAYERS) - set(containment())), reason="this machine lacks a layer")


def run(code, limits=BRIEF):
    return run_python(textwrap.dedent(code), limits)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Where throwaway directories are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


# Verdicts


def test_a_program_that_runs_to_its_end_has_passed():
    end = run("import sys\nprint('out')\nprint('err', file=sys.stderr)")
    assert (end.status, end.exit_code, end.stdout, end.stderr) == ("passed", 0, "out\n", "err\n")
    assert 0 < end.seconds < BRIEF.seconds and set(end.layers) >= {"limits"}


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("1 / 0", 1),
        ("assert False", 1),
        ("def f(:", 1),
        ("x = '\\ud800\0'", 1),
        ("exit(0)", 0),
        ("quit()", 0),
        ("import sys; sys.exit(0)", 0),
        ("raise SystemExit", 0),
        ("import os; os._exit(0)", 0),
        ("import atexit, os; atexit.register(os._exit, 0); 1 / 0", 0),
        ("import os; os.abort()", -signal.SIGABRT),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("import sys; sys.setrecursionlimit(10**8)\ndef f(x): return [f(x) for _ in 'a']\nf(0)", None),
        ("import os\nfor fd in range(1, 64):\n try: os.write(fd, b'passed')\n except OSError: 0\nexit()", 0),
        ("import os; os.closerange(3, 64)", 1),
    ],
)
def test_a_program_that_ends_early_has_not_passed(code, exit_code):
    end = run(code)
    if exit_code is None:
        assert end.status != "passed"
    else:
        assert (end.status, end.exit_code) == ("failed", exit_code)


def test_an_error_is_told():
    assert "ZeroDivisionError" in run("1 / 0").stderr


ENDLESS = [
    "while True: pass",
    "import time; time.sleep(1000)",
    "import signal\nfor n in (1, 2, 15, 24): signal.signal(n, signal.SIG_IGN)\nwhile True: pass",
    "import sys\nwhile True: sys.stdin.read()",
    "import threading\nthreading.Thread(target=threading.Event().wait).start()\nraise ValueError",
    "while True:\n try: print('x' * 9999)\n except OSError: pass",
    "try:\n while True: pass\nfinally:\n while True: pass",
]


def test_a_program_that_does_not_end_is_ended():
    with ThreadPoolExecutor(len(ENDLESS)) as pool:
        assert [end.status for end in pool.map(run, ENDLESS)] == ["timeout"] * len(ENDLESS)


@pytest.mark.parametrize(
    "code", ["bytearray(10**11)", "x = [0]\nwhile True: x += x", "x = 'a'\nwhile True: x = x * 2"]
)
def test_a_program_that_fills_the_memory_runs_out_of_it(code):
    assert run(code).status == "memory"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_is_kept_up_to_a_limit(stream):
    end = run(f"import sys\nwhile True: sys.{stream}.write('x' * 1000)", Limits(file_size=10**6))
    assert end.status == "failed" and getattr(end, stream) == MOST_KEPT * "x"


def test_output_may_be_no_text():
    assert run(r"import sys; sys.stdout.buffer.write(b'\xff\xfea')").stdout == "\ufffd\ufffda"


@pytest.mark.parametrize("code", ["import os; os.close(1); os.close(2)", "import sys; sys.stdout = sys.stderr = None"])
def test_a_program_may_close_its_outputs(code):
    assert run(code).status == "passed"


def test_ordinary_python_works():
    end = run(
        """
        import asyncio, ctypes, dataclasses, datetime, hashlib, os, pickle, random, re, tempfile, threading
        @dataclasses.dataclass
        class Point:
            x: int
        assert pickle.loads(pickle.dumps(Point(1))) == Point(1)
        thread = threading.Thread(target=print, args=["thread"])
        thread.start(), thread.join()
        asyncio.run(asyncio.sleep(0))
        with open("file", "w") as file, tempfile.TemporaryDirectory() as directory:
            file.write("x")
            os.mkdir("sub")
            os.rename("file", directory + "/file")
        datetime.datetime.now().astimezone(), random.random(), hashlib.sha256(b"").hexdigest()
        import numpy
        assert numpy.ones(3).sum() == 3
        if __name__ == "__main__":
            print("main")
        """,
        Limits(),
    )
    assert (end.status, end.stdout) == ("passed", "thread\n"), end.stderr


def test_programs_run_side_by_side():
    with ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(run_python, [f"print({n})\nassert {n} % 3" for n in range(24)]))
    assert [end.stdout for end in ends] == [f"{n}\n" for n in range(24)]
    assert [end.status for end in ends] == ["passed" if n % 3 else "failed" for n in range(24)]


def test_where_nothing_can_run_no_program_is_blamed(monkeypatch):
    monkeypatch.setattr(execution, "CONTAINED", "/nowhere.py")
    with pytest.raises(RuntimeError, match="programs cannot be run here.*nowhere"):
        run("pass")


# Attacks


def attempt(action):
    """The program that tries `action`, and says so if it is not permitted."""
    imports = "import os, shutil, signal, socket, subprocess"
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
        "os.kill(-1, signal.SIGKILL)",
        "os.kill(0, signal.SIGKILL)",
        "os.killpg(0, signal.SIGKILL)",
        "os.killpg(os.getpgid(os.getppid()), signal.SIGKILL)",
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
@pytest.mark.parametrize(("name", "numbers"), [each for group in child.DENIED.values() for each in group.items()])
def test_system_calls_are_denied_by_their_numbers(name, numbers):
    number = numbers[child.MACHINES[os.uname().machine][1]]
    if number is None:
        pytest.skip("this machine has no such system call")
    call = f"ctypes.CDLL(None, use_errno=True).syscall({number}, 0, 0, 0, 0, 0, 0)"
    end = run(f"import ctypes\nprint({call}, ctypes.get_errno())")
    assert end.stdout == f"-1 {child.EPERM}\n"


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
    assert path.read_text() == "value" and path.stat().st_mode == before.st_mode
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
def test_the_directory_is_gone_afterwards(code, temporary):
    assert run(code).status in ("passed", "timeout")
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("code", ["open('f', 'wb').write(bytes(10**7))", "open('f', 'wb').truncate(10**12)"])
def test_files_have_a_limit(code):
    end = run(code, Limits(file_size=10**6))
    assert end.status == "failed" and "File too large" in end.stderr


# Where the kernel does not help

UNHELPFUL = """
from evals.execution import containment, run_python
from tests.evals.test_execution import attempt, refuse_containment
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
