"""What a Hub knows: users, repositories, their commits, and the files' contents in a directory."""

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from huggingface_hub.utils.sha import git_hash

LARGE = {".safetensors", ".bin", ".pt", ".parquet", ".png"}  # kept by LFS, as a new repository's .gitattributes says
LARGEST_REGULAR = 10_000_000  # bytes; beyond that, every file is
NAMES = {"model": "", "dataset": "datasets/", "space": "spaces/"}  # in addresses


class Refused(Exception):
    """A request that the Hub turns down: the status, and what its headers say of the reason."""

    def __init__(self, status: int, message: str, code: str | None = None, commit: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.commit = status, message, code, commit


@dataclass(frozen=True)
class File:
    """A file of a commit."""

    size: int
    sha256: str
    blob: str  # git's name for it; of a large file, for its pointer
    large: bool

    @property
    def oid(self) -> str:
        """By which uploads are compared, and downloads are cached."""
        return self.sha256 if self.large else self.blob


@dataclass(frozen=True)
class Commit:
    """A state of a repository."""

    sha: str
    title: str
    files: dict[str, File]


@dataclass
class Repository:
    """Commits by their names: full ones, of branches and of tags."""

    kind: str
    id: str
    private: bool
    sdk: str | None = None
    commits: list[Commit] = field(default_factory=list)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)

    def at(self, revision: str) -> Commit:
        """The commit of a branch, a tag or a (long enough) name of its own."""
        sha = self.branches.get(revision) or self.tags.get(revision) or revision
        for commit in self.commits:
            if len(sha) >= 7 and commit.sha.startswith(sha):
                return commit
        raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def file(self, revision: str, path: str) -> tuple[Commit, File]:
        """A file, and the commit it was found in."""
        commit = self.at(revision)
        if path not in commit.files:
            raise Refused(404, "Entry not found", "EntryNotFound", commit.sha)
        return commit, commit.files[path]

    def add_commit(self, branch: str, title: str, files: dict[str, File]) -> Commit:
        """A new state of a branch."""
        parent = self.branches.get(branch, "")
        content = json.dumps([parent, title, len(self.commits), {path: each.oid for path, each in files.items()}])
        commit = Commit(hashlib.sha1(f"{self.kind}/{self.id} {content}".encode()).hexdigest(), title, files)
        self.commits.append(commit)
        self.branches[branch] = commit.sha
        return commit


class Store:
    """All of it. `users` maps access tokens to names, `organizations` a name to those of its members."""

    def __init__(self, directory: Path, users: dict[str, str], organizations: dict[str, set[str]]) -> None:
        self.directory, self.users, self.organizations = directory, users, organizations
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.lock = threading.RLock()

    def may_write(self, user: str | None, namespace: str) -> bool:
        """Whether what lies below a name is the user's."""
        return user is not None and (user == namespace or user in self.organizations.get(namespace, ()))

    def create(self, user: str, kind: str, namespace: str, name: str, private: bool, sdk: str | None) -> Repository:
        """A new repository with its first commit."""
        if not self.may_write(user, namespace):
            raise Refused(403, f'You don\'t have the rights to create a {kind} under the namespace "{namespace}"')
        with self.lock:
            if (kind, f"{namespace}/{name}") in self.repositories:
                raise Refused(409, f"You already created this {kind} repo")
            repository = Repository(kind, f"{namespace}/{name}", private, sdk)
            attributes = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in sorted(LARGE))
            repository.add_commit("main", "initial commit", {".gitattributes": self.keep(attributes.encode())})
            self.repositories[kind, repository.id] = repository
        return repository

    def find(self, user: str | None, kind: str, identifier: str, write: bool = False) -> Repository:
        """A repository, as far as the user may see it; to write into, only one of theirs."""
        repository = self.repositories.get((kind, identifier))
        mine = self.may_write(user, identifier.partition("/")[0])
        if repository is None or (repository.private and not mine):
            # Those who are not logged in are not told which of the two it is, nor that they might be let in.
            raise Refused(404 if user else 401, "Repository not found", "RepoNotFound")
        if write and not mine:
            status = 403 if user else 401
            raise Refused(status, "You don't have the rights to write to this repository")
        return repository

    def content(self, sha256: str) -> Path:
        """Where a file's bytes are."""
        return self.directory / sha256

    def keep(self, data: bytes, large: bool = False) -> File:
        """Store a file's bytes."""
        sha256 = hashlib.sha256(data).hexdigest()
        self.content(sha256).write_bytes(data)
        return File(len(data), sha256, git_hash(data), large)

    def large_file(self, sha256: str, size: int) -> File:
        """One whose bytes were uploaded before."""
        if not self.content(sha256).exists() or self.content(sha256).stat().st_size != size:
            raise Refused(400, f"LFS pointer pointed to a file that does not exist: {sha256}")
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
        return File(size, sha256, git_hash(pointer.encode()), large=True)

    def commit(self, repository: Repository, branch: str, lines: list[dict]) -> Commit:
        """Apply what a commit's request holds: a header, then an operation a line. All of them, or none."""
        with self.lock:
            header, files = lines[0]["value"], dict(repository.at(branch).files)
            if header.get("parentCommit", repository.branches.get(branch)) != repository.branches.get(branch):
                raise Refused(412, "A commit has happened since. Please refresh and try again.")
            for line in lines[1:]:
                value = line["value"]
                match line["key"]:
                    case "file":
                        files[value["path"]] = self.keep(base64.b64decode(value["content"], validate=True))
                    case "lfsFile":
                        files[value["path"]] = self.large_file(value["oid"], value["size"])
                    case "deletedFile":
                        del files[value["path"]]
                    case other:
                        raise Refused(400, f"unknown operation {other}")
            return repository.add_commit(branch, header["summary"], files)


def is_large(path: str, size: int) -> bool:
    """Whether a file goes to LFS."""
    return PurePosixPath(path).suffix in LARGE or size > LARGEST_REGULAR
