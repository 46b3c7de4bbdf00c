"""A process that takes the Hub on this machine for huggingface.co."""

import os
from pathlib import Path
from typing import Any

from huggingface_hub import constants


def hub_environment(url: str, token: str | None, home: Path) -> dict[str, str]:
    """Variables for a new process: who it is on the Hub, and where it keeps what it downloads."""
    theirs = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    theirs = {name: value for name, value in theirs.items() if not name.startswith(("HF_", "PYTHON"))}
    mine = {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1"}
    return theirs | mine | ({"HF_TOKEN": token} if token else {})


def hub_constants(url: str, home: Path) -> dict[str, Any]:
    """The same as huggingface_hub's constants, for a process that has imported it already."""
    return {
        "ENDPOINT": url,
        "HUGGINGFACE_CO_URL_TEMPLATE": f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_TOKEN_PATH": str(home / "token"),
    }


def use_hub(url: str, token: str | None, home: Path) -> None:
    """From now on, in this process."""
    for name, value in hub_constants(url, home).items():
        setattr(constants, name, value)
    os.environ.pop("HF_TOKEN", None)
    if token is not None:
        os.environ["HF_TOKEN"] = token
