"""What a model has written runs and is judged rightly; `test_containment` is about what it may not do."""

import signal
import tempfile
import textwrap
from concurrent.futures import ThreadPoolExecutor

import pytest

from evals import execution
from evals.execution import MOST_KEPT, ExecutionUnavailable, Limits, containment, run_python

BRIEF = Limits(cpu_seconds=1, seconds=2.0)
PATIENT = Limits(seconds=60.0)  # to touch half a gigabyte takes a busy machine seconds


def run(code, limits=BRIEF):
    return run_python(textwrap.dedent(code), limits)


# Verdicts


def test_a_program_that_runs_to_its_end_has_passed():
    end = run("import sys\nprint('out')\nprint('err', file=sys.stderr)")
    assert (end.status, end.exit_code, end.stdout, end.stderr) == ("passed", 0, "out\n", "err\n")
    assert end.seconds > 0 and set(end.layers) >= {"limits"}


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
        ("import os\nfor fd in range(1, 256):\n try: os.write(fd, b'passed')\n except OSError: 0\nexit()", 0),
        ("import os\nfor fd in range(1, 256):\n try: os.write(fd, b'\\xff')\n except OSError: 0", 0),
        ("import os\nfor fd in range(1, 256):\n try: os.ftruncate(fd, 0)\n except OSError: 0\nexit()", 0),
        ("import os\nfor fd in range(1, 256):\n try: os.pwrite(fd, b'forged\\n', 0)\n except OSError: 0\nexit()", 0),
        ("import os; os.closerange(3, 256)", 1),
    ],
)
def test_a_program_that_ends_early_has_not_passed(code, exit_code):
    end = run(code)
    assert end.layers == containment()
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
    "import os, signal; os.kill(os.getpid(), signal.SIGXCPU)",  # as the kernel does, when other threads were busy too
    "import os\nfor fd in range(3, 256):\n try:\n  while True: os.write(fd, bytes(9999))\n except OSError: pass",
]


@pytest.mark.slow
def test_a_program_that_does_not_end_is_ended():
    with ThreadPoolExecutor(len(ENDLESS)) as pool:
        assert [end.status for end in pool.map(run, ENDLESS)] == ["timeout"] * len(ENDLESS)


@pytest.mark.parametrize(
    "code", ["bytearray(10**11)", "x = [0]\nwhile True: x += x", "x = 'a'\nwhile True: x = x * 2"]
)
def test_a_program_that_fills_the_memory_runs_out_of_it(code):
    assert run(code, PATIENT).status == "memory"


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
    with pytest.raises(ExecutionUnavailable, match="programs cannot be run here.*nowhere"):
        run("pass")


def test_what_the_machine_does_not_permit_is_tried_once_more(tmp_path, monkeypatch):
    place = tmp_path / "late"
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    monkeypatch.setattr(execution, "PAUSE", 0.0)
    end = run("pass")
    assert (end.status, end.exit_code, end.layers) == ("failed", None, ()) and "No such file" in end.stderr
    monkeypatch.setattr(execution, "PAUSE", 1.0)
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(run, "pass")
        place.mkdir()
        assert second.result().status == "passed" and list(place.iterdir()) == []
