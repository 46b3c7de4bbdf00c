"""The commit of this checkout, for a machine that fetches the project by it."""

import re
import subprocess
from pathlib import Path

from recipes.utils.errors import InputError


def pinned_source(root: Path) -> tuple[tuple[str, str], str | None]:
    """URL and commit of the checkout in `root`, and why others could not fetch just that; None if they can.

    Raises `InputError` if it is no git checkout.
    """

    def git(*words: str) -> str:
        command = ["git", "-C", str(root), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no").splitlines()
        remotes = git("remote").split()
        remote = "origin" if "origin" in remotes else next(iter(remotes), None)
        url = https_url(git("remote", "get-url", remote)) if remote else "URL_OF_YOUR_REPOSITORY"
        pushed = git("branch", "--remotes", "--contains", commit) if remote else ""
    except (OSError, subprocess.SubprocessError):
        raise InputError("this is no git checkout: a job fetches the project by its commit, so clone it.") from None
    refusal = None
    if changed:
        first = changed[0].split()[-1]
        refusal = f"{len(changed)} changed file(s), as {first}, would not be in the job: commit and push them."
    elif remote is None:
        refusal = "this checkout has no remote: a job fetches the project from one. Push it to GitHub or the Hub."
    elif not pushed:
        refusal = f"commit {commit[:12]} is not on {remote}: git push."
    return (url, commit), refusal


def https_url(url: str) -> str:
    """An address that needs no key: git@github.com:user/name.git is https://github.com/user/name.git."""
    match = re.fullmatch(r"(?:ssh://)?(?:\w+@)([\w.-]+)[:/](.+)", url)
    return f"https://{match[1]}/{match[2]}" if match else re.sub(r"(?<=://)[^/@\s]+@", "", url)  # without a password
