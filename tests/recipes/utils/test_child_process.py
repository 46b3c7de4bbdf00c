"""Children get the launcher that their number of processes needs, and the signals that end their parent."""

import os
import signal
import subprocess
import sys
import threading

from recipes.utils.child_process import launcher, wait_for


def test_one_process_needs_no_launcher():
    assert launcher(1) == [sys.executable]
    assert launcher(8)[-2:] == ["--num_processes", "8"]


CHILD = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda number, frame: (print("saved"), sys.exit(0)))
print("started", flush=True)
time.sleep(60)
"""


def test_a_signal_reaches_the_child_which_may_save_before_it_ends():
    child = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "started\n"
    before = signal.getsignal(signal.SIGTERM)
    try:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
        assert wait_for(child) == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    assert child.stdout.read() == "saved\n"
