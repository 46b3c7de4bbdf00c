"""SLURM on this machine: `srun` and `scontrol` as stubs that do what the real ones do to a job's processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from recipes.utils.provenance import ROOT

PATIENCE = 180  # seconds
JOB = 4217

# A launcher process for each node starts that node's tasks and waits for them; when one fails, all are killed.
SRUN = """#!{python}
import os, signal, subprocess, sys
words = sys.argv[1:]
while words[0].startswith("--"):
    words.pop(0)
nodes, per_node = int(os.environ["SLURM_JOB_NUM_NODES"]), int(os.environ["SLURM_NTASKS_PER_NODE"])
launchers = []
for node in range(nodes):
    if (pid := os.fork()) == 0:
        os.setsid()
        tasks = []
        for local in range(per_node):
            mine = {{"SLURM_PROCID": node * per_node + local, "SLURM_LOCALID": local, "SLURM_NODEID": node}}
            environment = os.environ | {{name: str(value) for name, value in mine.items()}}
            tasks.append(subprocess.Popen(words, env=environment))
            with open("{place}/tasks", "a") as file:
                print(tasks[-1].pid, *words, file=file)
        codes = [task.wait() for task in tasks]
        os._exit(max(code if code >= 0 else 128 - code for code in codes))
    launchers.append(pid)
worst = 0
for _ in range(nodes):
    pid, status = os.wait()
    launchers.remove(pid)
    worst = max(worst, os.waitstatus_to_exitcode(status))
    if worst:  # --kill-on-bad-exit
        for other in launchers:
            os.killpg(other, signal.SIGKILL)
sys.exit(worst)
"""
SCONTROL = """#!/bin/bash
echo "$@" >> {place}/scontrol
case "$1 $2" in
    "show hostnames") printf '127.0.0.1\\n%.0s' $(seq "$SLURM_JOB_NUM_NODES") ;;
    "show job") echo "JobId=$3 JobName=nanochat"; echo "   JobState=$(cat {place}/state) Reason=None" ;;
esac
"""


@dataclass
class Cluster:
    """Runs the batch script as slurmd would: in the directory it was submitted from, with a job's variables."""

    place: Path
    nodes: int = 2
    tasks_per_node: int = 1

    def __post_init__(self) -> None:
        (self.place / "bin").mkdir(parents=True)
        for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
            path = self.place / "bin" / name
            path.write_text(text.format(python=sys.executable, place=self.place))
            path.chmod(0o755)
        self.state("RUNNING")
        self.starts = 0

    def state(self, name: str) -> None:
        """What the controller says of the job."""
        (self.place / "state").write_text(name)

    def start(self, *argv: str, directory: Path = ROOT, **more: str) -> subprocess.Popen:
        """The batch script with its arguments; its output goes to `log`."""
        (self.place / "tasks").unlink(missing_ok=True)
        variables = {
            "SLURM_JOB_ID": JOB, "SLURM_JOB_NODELIST": f"node[1-{self.nodes}]", "SLURM_JOB_NUM_NODES": self.nodes,
            "SLURM_NTASKS": self.nodes * self.tasks_per_node, "SLURM_NTASKS_PER_NODE": self.tasks_per_node,
            "SLURM_CPUS_PER_TASK": 1, "SLURM_RESTART_COUNT": self.starts, "PYTHON": sys.executable,
            "PATH": f"{self.place / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": ROOT, "ACCELERATE_USE_CPU": "true",
            "HF_HUB_OFFLINE": 1,
        }  # fmt: skip
        environment = os.environ | {name: str(value) for name, value in variables.items()} | more
        script = ["bash", str(ROOT / "recipes" / "launch" / "slurm.sh"), *argv]
        self.starts += 1
        with self.log.open("a") as log:
            return subprocess.Popen(script, cwd=directory, env=environment, stdout=log, stderr=log)

    def run(self, *argv: str, **more) -> int:
        """The script's exit code."""
        return self.start(*argv, **more).wait(PATIENCE)

    @property
    def log(self) -> Path:
        return self.place / "slurm.out"

    @property
    def tasks(self) -> list[tuple[int, str]]:
        """Process and command of each task."""
        lines = (self.place / "tasks").read_text().splitlines() if (self.place / "tasks").exists() else []
        return [(int(line.split()[0]), line.partition(" ")[2]) for line in lines]

    @property
    def asked(self) -> list[str]:
        """What scontrol was asked."""
        path = self.place / "scontrol"
        return path.read_text().splitlines() if path.exists() else []

    def signal_tasks(self, number: int = signal.SIGTERM) -> None:
        """As slurmstepd does before the time is up."""
        for process, _ in self.tasks:
            os.kill(process, number)

    def wait_until(self, condition: Callable[[], bool], job: subprocess.Popen) -> None:
        """Return as soon as `condition` holds; the job must still run then."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert job.poll() is None and time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.01)
