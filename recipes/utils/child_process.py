"""Start programs of ours in processes of their own, and wait for them."""

import signal
import subprocess
import sys

from recipes.utils.provenance import ROOT


def launcher(processes: int) -> list[str]:
    """What starts a script: `accelerate launch` for several processes; one needs no launcher."""
    if processes == 1:
        return [sys.executable]
    config = str(ROOT / "accelerate_configs" / "ddp.yaml")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--quiet", "--config_file", config]
    return [*launch, "--num_processes", str(processes)]


def wait_for(process: subprocess.Popen) -> int:
    """The exit code of `process`. Signals are for it to answer: it saves a checkpoint before it ends."""
    signal.signal(signal.SIGTERM, lambda number, frame: process.terminate())
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # Ctrl-C on a terminal has reached the child as well
            continue
