"""From files to a repository on the Hub: looked at first, then created, then filled by one commit.

One commit, so that a repository never shows half a model. Interrupted, the same call completes it: what the Hub has
already is known by its hash and not sent again.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HTTPError, RepositoryNotFoundError  # HTTPError: any of httpx's
from huggingface_hub.utils import disable_progress_bars, logging

from recipes.publish.files import MODEL_FILES, Upload
from recipes.utils.errors import InputError, in_one_line
from recipes.utils.hub import check_hub_reachable, check_repo_id

AGAIN = "what was uploaded is kept: the same again completes it."
NOTHING = "nothing was uploaded: try again later."

INTERRUPTED = 130  # exit code, as of a program that ends by SIGINT


@dataclass(frozen=True)
class Publication:
    """A planned upload to one repository."""

    repo: str
    kind: str  # model or space
    uploads: list[Upload]
    private: bool
    exists: bool
    removed: list[str]  # files of the model that was there before
    variables: dict[str, str] = field(default_factory=dict)  # of a Space

    @property
    def url(self) -> str:
        return f"{constants.ENDPOINT}/{constants.REPO_TYPES_URL_PREFIXES.get(self.kind, '')}{self.repo}"

    def lines(self) -> list[str]:
        """What will be uploaded, for the user to confirm."""
        visibility = "private" if self.private else "public"
        there = "which exists" if self.exists else "new"
        lines = [f"to {self.url} ({visibility} {self.kind}, {there}):"]
        lines += [f"  {size(upload.size):>9}  {upload.path}" for upload in self.uploads]
        lines += [f"  {'delete':>9}  {path}" for path in self.removed]
        lines += [f"  {'variable':>9}  {name} = {value}" for name, value in self.variables.items()]
        return [*lines, f"  {self.total:>9}  in {len(self.uploads)} files"]

    @property
    def total(self) -> str:
        return size(sum(upload.size for upload in self.uploads))


def size(count: float) -> str:
    """Bytes with a unit: 12.3 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5 or unit == "GB":
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def check_account(*repos: str) -> str:
    """Check the login and return the user's name on the Hub.

    Raises `InputError` for a malformed repository id, if the Hub cannot be used, or if the user may not write to
    `repos`, as far as the Hub tells beforehand.
    """
    for repo in repos:
        check_repo_id(repo)
    token = get_token()
    if token is not None and not token.isascii():
        raise InputError("your access token (HF_TOKEN, or hf auth login) holds characters that no token has.")
    if token is None:
        raise InputError(
            "publishing needs an access token of the Hub: log in by hf auth login, or set HF_TOKEN to one that may "
            f"write (from {tokens_page()})."
        )
    check_hub_reachable("publishing needs it.")
    with one_line("your account", NOTHING):
        user = HfApi().whoami()
    for repo in repos:
        check_rights(user, repo)
    return user["name"]


def check_rights(user: dict[str, Any], repo: str) -> None:
    """Raise `InputError` if whoami's answer about `user` rules out writing to `repo`."""
    token = (user.get("auth") or {}).get("accessToken") or {}
    role = token.get("role")  # read, write, or fineGrained, which may be anything
    if role == "read":
        raise InputError(f"your access token may only read: make one that may write ({tokens_page()}).")
    owners = {user["name"].lower(), *(each["name"].lower() for each in user.get("orgs", []))}
    if role == "write" and repo.partition("/")[0].lower() not in owners:
        raise InputError(
            f"you may not write to {repo}: it is neither yours ({user['name']}) nor an organization's of yours."
        )


def prepare_publication(
    repo: str, kind: str, uploads: list[Upload], private: bool, variables: dict[str, str] | None = None
) -> Publication:
    """Plan the upload. Raises `InputError` if a private repository is asked for and the existing one is public."""
    with one_line(repo, NOTHING):
        try:
            there = HfApi().repo_info(repo, repo_type=kind)
        except RepositoryNotFoundError:
            return Publication(repo, kind, uploads, private, False, [], variables or {})
    wanted = {upload.path for upload in uploads}
    known = [each.rfilename for each in there.siblings or []]
    removed = [path for path in known if kind == "model" and MODEL_FILES.fullmatch(path) and path not in wanted]
    publication = Publication(repo, kind, uploads, bool(there.private), True, removed, variables or {})
    if private and not there.private:
        raise InputError(
            f"{repo} exists and is public: make it private at {publication.url}/settings, or ask for no private one."
        )
    return publication


def publish(publication: Publication, message: str) -> None:
    """Upload, and print the URL. Raises `InputError` if the Hub refuses or the connection breaks."""
    repo, kind, api = publication.repo, publication.kind, HfApi()
    logging.set_verbosity_error()  # our own messages cover its warnings
    if not sys.stderr.isatty():
        disable_progress_bars()
    sdk = {"space_sdk": "gradio"} if kind == "space" else {}
    with one_line(repo, AGAIN):
        api.create_repo(repo, repo_type=kind, private=publication.private, exist_ok=True, **sdk)
        for name, value in publication.variables.items():  # before the files, whose arrival starts the Space
            api.add_space_variable(repo, name, value)
        before = api.repo_info(repo, repo_type=kind).sha
        operations = [CommitOperationAdd(upload.path, upload.source) for upload in publication.uploads]
        operations += [CommitOperationDelete(path) for path in publication.removed]
        commit = api.create_commit(repo, operations, commit_message=message, repo_type=kind)
    if commit.oid == before:
        print(f"{publication.url} is up to date (revision {commit.oid[:12]})")
    else:
        print(f"published: {publication.url} (revision {commit.oid[:12]})")


@contextmanager
def one_line(about: str, remedy: str) -> Iterator[None]:
    """Turn errors of the Hub and the connection into one-line `InputError`s: about what, and the remedy."""
    try:
        yield
    except (HTTPError, OSError, RuntimeError) as error:  # hf_xet's are RuntimeErrors, and those of single files
        cause = first_cause(error)
        if isinstance(cause, HfHubHTTPError):
            raise InputError(explain(cause, about, remedy)) from None
        reason = in_one_line(cause)
        raise InputError(f"the connection for {about} broke off ({reason}); {remedy}") from None
    except ValueError as error:
        if "README.md" not in str(error):
            raise
        raise InputError(f"the Hub does not take the model card of {about}: {' '.join(str(error).split())}") from None


def first_cause(error: BaseException) -> BaseException:
    """The root cause of an error; a refusal by the Hub is its own cause."""
    while error.__cause__ is not None and not isinstance(error, HfHubHTTPError):
        error = error.__cause__
    return error


def explain(error: HfHubHTTPError, about: str, remedy: str) -> str:
    """The Hub's refusal in terms of what the user can do."""
    status = error.response.status_code
    said = " ".join((error.server_message or error.response.reason_phrase or "").split())[:200]
    if status == 401:
        return f"the Hub does not accept your access token ({said}): log in again by hf auth login, or set HF_TOKEN."
    if status == 402:
        return f"your account cannot pay for {about} ({said}): add credit at {constants.ENDPOINT}/settings/billing."
    if status == 403:
        return (
            f"you may not write to {about} ({said}): take a name of your own, or a token that may ({tokens_page()})."
        )
    if status in (409, 412):
        return f"{about} changed in the meantime ({said}): publish again."
    return f"the Hub answered {status} for {about} ({said}); {remedy}"


def tokens_page() -> str:
    """URL of the page where access tokens are created."""
    return f"{constants.ENDPOINT}/settings/tokens"
