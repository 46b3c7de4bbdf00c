"""A Hub on this machine: what huggingface_hub asks of huggingface.co to create, upload, list, resolve and download.

Large files go by LFS: its clients run with HF_HUB_DISABLE_XET=1, and HF_ENDPOINT set to the server's address.
"""

import json
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

from tests.hub.store import NAMES, Commit, File, Refused, Repository, Store, is_large

DROP = "drop"  # close the connection halfway through the request
USERS = {"hf_adas_token": "ada", "hf_adas_reading_token": "ada", "hf_bobs_token": "bob"}  # by their access tokens
ROLES = {"hf_adas_reading_token": "read"}  # of tokens; the others may write
ORGANIZATIONS = {"lab": {"ada"}}
ID = r"(?P<id>[\w.-]+/[\w.-]+)"
API = rf"/api/(?P<kind>model|dataset|space)s/{ID}"
REVISION = r"(?P<revision>[^/]+)"
FILES = rf"/(?:(?P<kind>dataset|space)s/)?{ID}"


class HubServer(ThreadingHTTPServer):
    """Keeps what it was asked. `meddle` may hold a request up, or answer DROP, a status or a refusal."""

    daemon_threads = True

    def __init__(self, directory: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.store = Store(directory, USERS, ORGANIZATIONS)
        self.requests: list[tuple[str, str]] = []  # method and path
        self.uploads: list[str] = []  # names of large files that came whole
        self.jobs: list[dict] = []  # what was submitted
        self.broke: set[str] = set()  # who cannot pay
        self.meddle: Callable[[str, str], str | int | Refused | None] = lambda method, path: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def storage_url(self) -> str:
        """Where large files are downloaded: of another name, as on the real Hub, which clients send no token to."""
        return f"http://localhost:{self.server_port}"

    def repository(self, identifier: str, kind: str = "model") -> Repository:
        return self.store.repositories[kind, identifier]

    def files(self, identifier: str, kind: str = "model", revision: str = "main") -> dict[str, bytes]:
        """What a repository holds."""
        files = self.repository(identifier, kind).at(revision).files
        return {path: self.store.content(file.sha256).read_bytes() for path, file in files.items()}

    def handle_error(self, request, client_address) -> None:
        """A client that has gone is what some tests are about."""


class Handler(BaseHTTPRequestHandler):
    """Routes a request by its method and path to a function below, and sends what that returns or why it refuses."""

    server: HubServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle_request(self) -> None:
        path = urlsplit(self.path).path
        self.server.requests.append((self.command, unquote(path)))
        order = self.server.meddle(self.command, unquote(path))
        length = int(self.headers.get("content-length") or 0)
        if order == DROP:
            self.rfile.read(length // 2)
            self.close_connection = True
            return
        self.body = self.rfile.read(length)
        try:
            if isinstance(order, Refused):
                raise order
            if isinstance(order, int):
                raise Refused(order, "out of order")
            self.user = self.authenticate()
            for method, pattern, answer in ROUTES:
                if method == self.command.replace("HEAD", "GET") and (match := re.fullmatch(pattern, path)):
                    self.send(*answer(self, **{name: unquote(part or "") for name, part in match.groupdict().items()}))
                    return
            raise Refused(404, f"no such address here: {self.command} {self.path}")
        except Refused as refusal:
            about = {"x-error-message": refusal.message}
            about |= {"x-error-code": refusal.code} if refusal.code else {}
            about |= {"x-repo-commit": refusal.commit} if refusal.commit else {}
            self.send({"error": refusal.message}, about, refusal.status)

    do_GET = do_HEAD = do_POST = do_PUT = handle_request

    def authenticate(self) -> str | None:
        """Whose token it is; None without one."""
        token = (self.headers["authorization"] or "").removeprefix("Bearer ")
        if token and token not in self.server.store.users:
            raise Refused(401, "Invalid credentials in Authorization header")
        self.role = ROLES.get(token, "write")
        return self.server.store.users.get(token)

    def json(self) -> dict:
        return json.loads(self.body)

    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.path).query)

    def find(self, kind: str, id: str, write: bool = False) -> Repository:
        repository = self.server.store.find(self.user, kind or "model", id, write)
        if write:
            self.need_writing()
        return repository

    def need_writing(self) -> None:
        if self.role == "read":
            raise Refused(403, "This token may only read")

    def send(self, body: bytes | dict | list, headers: dict[str, str] | None = None, status: int = 200) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        self.send_response(status)
        for name, value in ({"content-type": kind, "content-length": str(len(content))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *args) -> None:
        """Silent."""


Answer = tuple  # a body; or with headers; or with a status as well


def home(request: Handler) -> Answer:
    return ({},)


def whoami(request: Handler) -> Answer:
    if request.user is None:
        raise Refused(401, "Invalid username or password.")
    names = [name for name, members in request.server.store.organizations.items() if request.user in members]
    organizations = [{"type": "org", "name": name} for name in names]
    auth = {"type": "access_token", "accessToken": {"displayName": "a token", "role": request.role}}
    return ({"type": "user", "name": request.user, "orgs": organizations, "auth": auth},)


def validate_yaml(request: Handler) -> Answer:
    asked = request.json()
    head = re.match(r"---\n(.*?)\n---\n", asked["content"], re.DOTALL)
    try:
        data = yaml.safe_load(head[1]) if head else {}
    except yaml.YAMLError as error:
        return {"errors": [{"message": str(error)}], "warnings": []}, {}, 400
    if asked["repoType"] == "space" and "sdk" not in data:
        return {"errors": [{"message": '"sdk" is required'}], "warnings": []}, {}, 400
    return ({"errors": [], "warnings": []},)


def create(request: Handler) -> Answer:
    asked = request.json()
    if request.user is None:
        raise Refused(401, "Invalid username or password.")
    request.need_writing()
    kind, namespace = asked.get("type") or "model", asked.get("organization") or request.user
    private = asked.get("visibility") == "private" or asked.get("private") is True
    address = f"{request.server.url}/{NAMES[kind]}{namespace}/{asked['name']}"
    try:
        made = request.server.store.create(request.user, kind, namespace, asked["name"], private, asked.get("sdk"))
    except Refused as refusal:
        if refusal.status != 409:
            raise
        return {"error": refusal.message, "url": address}, {}, 409
    return ({"url": address, "name": made.id, "id": made.id},)


def preupload(request: Handler, kind: str, id: str, revision: str) -> Answer:
    known = request.find(kind, id, write=True).at(revision).files
    answers = []
    for file in request.json()["files"]:
        path = file["path"]
        mode = "lfs" if is_large(path, file["size"]) else "regular"
        oid = known[path].oid if path in known else None
        answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
    return ({"files": answers},)


def lfs_batch(request: Handler, kind: str, id: str) -> Answer:
    request.find(kind, id, write=True)
    objects = []
    for each in request.json()["objects"]:
        address = f"{request.server.url}/lfs/{each['oid']}"
        wanted = {"upload": {"href": address}, "verify": {"href": f"{address}/verify"}}
        known = request.server.store.content(each["oid"]).exists()
        objects.append({**each, **({} if known else {"actions": wanted})})
    return ({"transfer": "basic", "objects": objects},)


def lfs_upload(request: Handler, oid: str) -> Answer:
    if request.server.store.keep(request.body, large=True).sha256 != oid:
        raise Refused(400, "the content is not what its name says")
    request.server.uploads.append(oid)
    return (b"",)


def lfs_verify(request: Handler, oid: str) -> Answer:
    request.server.store.large_file(oid, request.json()["size"])
    return ({},)


def commit(request: Handler, kind: str, id: str, revision: str) -> Answer:
    repository = request.find(kind, id, write=True)
    lines = [json.loads(line) for line in request.body.splitlines()]
    made = request.server.store.commit(repository, revision, lines)
    address = f"{request.server.url}/{NAMES[kind]}{id}/commit/{made.sha}"
    return ({"success": True, "commitOid": made.sha, "commitUrl": address},)


def info(request: Handler, kind: str, id: str, revision: str = "main") -> Answer:
    repository = request.find(kind, id)
    commit = repository.at(revision)
    siblings = [{"rfilename": path} for path in sorted(commit.files)]
    about = {"_id": "0", "id": id, "modelId": id, "author": id.partition("/")[0], "sha": commit.sha, "tags": []}
    about |= {"private": repository.private, "siblings": siblings}
    about |= {"sdk": repository.sdk} if kind == "space" else {}
    about |= {"pipeline_tag": "text-generation"} if kind == "model" else {}  # what its card says, in our tests
    return (about,)


def entry(path: str, file: File) -> dict:
    large = {"lfs": {"oid": file.sha256, "size": file.size, "pointerSize": 130}} if file.large else {}
    return {"type": "file", "path": path, "size": file.size, "oid": file.blob, **large}


def listing(commit: Commit, folder: str, recursive: bool) -> list[dict]:
    """Files below `folder`, and folders; git names a folder by its content, we by its path."""
    start = f"{folder}/" if folder else ""
    below = {path: file for path, file in commit.files.items() if path.startswith(start)}
    if folder and not below:
        raise Refused(404, "Entry not found", "EntryNotFound", commit.sha)
    parts = {path: path.removeprefix(start).split("/") for path in below}
    found = {start + "/".join(each[:depth]) for each in parts.values() for depth in range(1, len(each))}
    folders = [{"type": "directory", "path": path, "size": 0, "oid": f"{hash(path) % 16**40:040x}"} for path in found]
    whole = [*folders, *(entry(path, file) for path, file in below.items())]
    direct = [each for each in whole if recursive or "/" not in each["path"].removeprefix(start)]
    return sorted(direct, key=lambda each: each["path"])


def tree(request: Handler, kind: str, id: str, revision: str, path: str) -> Answer:
    recursive = request.query().get("recursive", ["false"])[0].lower() == "true"
    return (listing(request.find(kind, id).at(revision), path.strip("/"), recursive),)


def paths_info(request: Handler, kind: str, id: str, revision: str) -> Answer:
    files = request.find(kind, id).at(revision).files
    asked = parse_qs(request.body.decode())["paths"]
    return ([entry(path, files[path]) for path in asked if path in files],)


def refs(request: Handler, kind: str, id: str) -> Answer:
    repository = request.find(kind, id)
    branches, tags = (
        [{"name": name, "ref": f"refs/{folder}/{name}", "targetCommit": sha} for name, sha in named.items()]
        for folder, named in (("heads", repository.branches), ("tags", repository.tags))
    )
    return ({"branches": branches, "tags": tags, "converts": []},)


def add_tag(request: Handler, kind: str, id: str, revision: str) -> Answer:
    repository = request.find(kind, id, write=True)
    repository.tags[request.json()["tag"]] = repository.at(revision).sha
    return ({},)


def set_variable(request: Handler, kind: str, id: str) -> Answer:
    repository, asked = request.find(kind, id, write=True), request.json()
    repository.variables[asked["key"]] = asked["value"]
    return ({key: {"key": key, "value": value} for key, value in repository.variables.items()},)


def resolve(request: Handler, kind: str, id: str, revision: str, path: str) -> Answer:
    commit, file = request.find(kind, id).file(revision, path)
    headers = {"x-repo-commit": commit.sha, "etag": f'"{file.oid}"'}
    if file.large:  # elsewhere, by an address that needs no token
        headers |= {"location": f"{request.server.storage_url}/content/{file.sha256}", "etag": f'"{file.blob}"'}
        return b"", headers | {"x-linked-etag": f'"{file.sha256}"', "x-linked-size": str(file.size)}, 302
    return part_of(request, request.server.store.content(file.sha256).read_bytes(), headers)


def content(request: Handler, oid: str) -> Answer:
    if request.user is not None:
        raise Refused(400, "a token was sent where it does not belong")
    return part_of(request, request.server.store.content(oid).read_bytes(), {"etag": f'"{oid}"'})


def part_of(request: Handler, data: bytes, headers: dict[str, str]) -> Answer:
    """A file, from where an interrupted download goes on."""
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers["range"] or "")
    if not wanted:
        return data, headers
    start, end = int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1)
    return data[start : end + 1], headers | {"content-range": f"bytes {start}-{end}/{len(data)}"}, 206


def machine(name: str, price: float, gpus: int = 0) -> dict:
    gpu = {"type": "gpu", "model": "H200", "quantity": str(gpus), "vram": "141 GB", "manufacturer": "Nvidia"}
    cost = {"unitCostMicroUSD": round(price * 1e6), "unitCostUSD": price, "unitLabel": "minute"}
    return {
        "name": name,
        "prettyName": name,
        "cpu": "2 vCPU",
        "ram": "16 GB",
        "accelerator": gpu if gpus else None,
    } | cost


def jobs_hardware(request: Handler) -> Answer:
    return ([machine("cpu-basic", 0.000167), machine("h200", 0.0833, 1), machine("h200x8", 0.6667, 8)],)


def run_job(request: Handler, namespace: str) -> Answer:
    if request.user is None:
        raise Refused(401, "Invalid username or password.")
    if not request.server.store.may_write(request.user, namespace):
        raise Refused(403, "You don't have the rights to run jobs there")
    request.need_writing()
    if namespace in request.server.broke:
        raise Refused(402, "Pre-paid credit balance is insufficient")
    asked = request.json()
    about = {"id": f"{len(request.server.jobs):024x}", "createdAt": "2026-11-28T12:00:00.000Z", "environment": {}}
    about |= {name: asked.get(name) for name in ("dockerImage", "command", "arguments", "flavor", "labels")}
    about |= {"status": {"stage": "SCHEDULING"}, "owner": {"id": "0", "name": namespace, "type": "user"}}
    request.server.jobs.append(asked | {"info": about})
    return (about,)


def inspect_job(request: Handler, namespace: str, job: str) -> Answer:
    for each in request.server.jobs:
        if each["info"]["id"] == job and each["info"]["owner"]["name"] == namespace:
            return (each["info"],)
    raise Refused(404, "Job not found")


ROUTES = [
    ("GET", "/api/jobs/hardware", jobs_hardware),
    ("POST", r"/api/jobs/(?P<namespace>[\w.-]+)", run_job),
    ("GET", r"/api/jobs/(?P<namespace>[\w.-]+)/(?P<job>\w+)", inspect_job),
    ("GET", "/", home),
    ("GET", "/api/whoami-v2", whoami),
    ("POST", "/api/validate-yaml", validate_yaml),
    ("POST", "/api/repos/create", create),
    ("POST", rf"{API}/preupload/{REVISION}", preupload),
    ("POST", rf"{FILES}\.git/info/lfs/objects/batch", lfs_batch),
    ("PUT", "/lfs/(?P<oid>[0-9a-f]{64})", lfs_upload),
    ("POST", "/lfs/(?P<oid>[0-9a-f]{64})/verify", lfs_verify),
    ("POST", rf"{API}/commit/{REVISION}", commit),
    ("GET", API, info),
    ("GET", rf"{API}/revision/{REVISION}", info),
    ("GET", rf"{API}/tree/{REVISION}(?P<path>/.*)?", tree),
    ("POST", rf"{API}/paths-info/{REVISION}", paths_info),
    ("GET", rf"{API}/refs", refs),
    ("POST", rf"{API}/tag/{REVISION}", add_tag),
    ("POST", rf"{API}/variables", set_variable),
    ("GET", rf"{FILES}/resolve/{REVISION}/(?P<path>.+)", resolve),
    ("GET", "/content/(?P<oid>[0-9a-f]{64})", content),
]  # fmt: skip


@contextmanager
def serve() -> Iterator[HubServer]:
    """The server, in threads, until the block ends; nothing of it is left."""
    with tempfile.TemporaryDirectory(prefix="hub.") as directory, HubServer(Path(directory)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
