"""The Hub of the tests answers huggingface_hub as the real one does."""

import hashlib

import pytest
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    constants,
    hf_hub_download,
    snapshot_download,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.hub.server import DROP, serve

WEIGHTS = bytes(range(256)) * 50
FILES = {"config.json": b"{}", "model.safetensors": WEIGHTS, "more/notes.txt": b"a\nb\n", "empty.txt": b""}


@pytest.fixture(autouse=True)
def online(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


@pytest.fixture
def hub():
    with serve() as server:
        yield server


@pytest.fixture
def ada(hub):
    return HfApi(hub.url, token="hf_adas_token")


@pytest.fixture
def bob(hub):
    return HfApi(hub.url, token="hf_bobs_token")


@pytest.fixture
def nobody(hub):
    return HfApi(hub.url, token=False)


def push(api, repo="ada/model", files=FILES, **more):
    api.create_repo(repo, exist_ok=True, **more)
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    return api.create_commit(repo, operations, commit_message="push", repo_type=more.get("repo_type"))


def test_what_is_pushed_comes_back(hub, ada, tmp_path):
    assert ada.whoami()["name"] == "ada"
    commit = push(ada)
    assert sorted(ada.list_repo_files("ada/model")) == sorted([".gitattributes", *FILES])
    snapshot = snapshot_download("ada/model", endpoint=hub.url, token=False, cache_dir=tmp_path / "cache")
    assert snapshot.endswith(commit.oid)
    for path, content in FILES.items():
        with open(f"{snapshot}/{path}", "rb") as file:
            assert file.read() == content
    assert hub.uploads == [hashlib.sha256(WEIGHTS).hexdigest()], "one file by LFS, the others in the commit"


def test_kinds_are_kept_apart(ada):
    for kind in ("model", "dataset", "space"):
        sdk = {"space_sdk": "gradio"} if kind == "space" else {}
        push(ada, "lab/thing", {"a.txt": kind.encode()}, repo_type=kind, **sdk)
    for kind in ("model", "dataset", "space"):
        assert ada.repo_info("lab/thing", repo_type=kind).id == "lab/thing"
        assert {file.path for file in ada.list_repo_tree("lab/thing", repo_type=kind)} == {".gitattributes", "a.txt"}
    assert ada.space_info("lab/thing").sdk == "gradio"
    assert ada.add_space_variable("lab/thing", "MODEL_ID", "ada/model")["MODEL_ID"].value == "ada/model"


def test_listings_have_sizes_and_folders(ada):
    push(ada)
    top = {entry.path: entry for entry in ada.list_repo_tree("ada/model")}
    assert set(top) == {".gitattributes", "config.json", "empty.txt", "model.safetensors", "more"}
    assert top["model.safetensors"].lfs.sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert top["config.json"].size == 2 and top["config.json"].lfs is None
    assert [entry.path for entry in ada.list_repo_tree("ada/model", "more")] == ["more/notes.txt"]
    (notes,) = ada.get_paths_info("ada/model", ["more/notes.txt", "none.txt"])
    assert notes.size == 4


def test_a_revision_stays_what_it_was(hub, ada, tmp_path):
    first = push(ada, files={"a.txt": b"one", "old.txt": b"x"})
    ada.create_tag("ada/model", tag="v1")
    operations = [CommitOperationAdd("a.txt", b"two"), CommitOperationDelete("old.txt")]
    second = ada.create_commit("ada/model", operations, commit_message="second")
    place = {"endpoint": hub.url, "cache_dir": tmp_path / "cache", "token": False}
    for revision, content in (("v1", b"one"), (first.oid, b"one"), ("main", b"two"), (second.oid, b"two")):
        with open(hf_hub_download("ada/model", "a.txt", revision=revision, **place), "rb") as file:
            assert file.read() == content
    refs = ada.list_repo_refs("ada/model")
    assert {ref.name: ref.target_commit for ref in refs.tags} == {"v1": first.oid}
    assert {ref.name: ref.target_commit for ref in refs.branches} == {"main": second.oid}
    assert "old.txt" not in ada.list_repo_files("ada/model")
    with pytest.raises(EntryNotFoundError):
        hf_hub_download("ada/model", "old.txt", **place)
    with pytest.raises(RevisionNotFoundError):
        ada.model_info("ada/model", revision="v2")


def test_unchanged_files_are_not_sent_again(hub, ada):
    first = push(ada)
    assert push(ada).oid == first.oid
    assert push(ada, files=FILES | {"config.json": b"{ }"}).oid != first.oid
    assert len(hub.uploads) == 1


def test_a_commit_of_what_was_never_uploaded_is_refused(hub, ada):
    ada.create_repo("ada/model")
    line = b'{"key": "lfsFile", "value": {"path": "a.bin", "oid": "%s", "size": 3}}' % (b"0" * 64)
    header = b'{"key": "header", "value": {"summary": "x"}}'
    with pytest.raises(HfHubHTTPError) as refusal:
        from huggingface_hub.utils import get_session, hf_raise_for_status

        address = f"{hub.url}/api/models/ada/model/commit/main"
        headers = {"authorization": "Bearer hf_adas_token"}
        hf_raise_for_status(get_session().post(address, content=header + b"\n" + line, headers=headers))
    assert refusal.value.response.status_code == 400
    assert ada.list_repo_files("ada/model") == [".gitattributes"]


def test_private_means_private(ada, bob, nobody):
    push(ada, private=True)
    assert ada.model_info("ada/model").private
    for other, status in ((bob, 404), (nobody, 401)):
        with pytest.raises(RepositoryNotFoundError) as refusal:
            other.model_info("ada/model")
        assert refusal.value.response.status_code == status


def test_only_the_owner_writes(ada, bob, nobody):
    push(ada)
    for repo in ("ada/model", "lab/model"):
        with pytest.raises(HfHubHTTPError) as refusal:
            bob.create_repo(repo)
        assert refusal.value.response.status_code == 403
    with pytest.raises(HfHubHTTPError) as refusal:
        bob.create_commit("ada/model", [CommitOperationAdd("a.txt", b"")], commit_message="mine")
    assert refusal.value.response.status_code == 403
    with pytest.raises(HfHubHTTPError):
        nobody.create_repo("ada/other")


def test_a_reading_token_reads(hub, ada):
    push(ada, private=True)
    reader = HfApi(hub.url, token="hf_adas_reading_token")
    roles = {api.whoami()["auth"]["accessToken"]["role"] for api in (ada, reader)}
    assert roles == {"read", "write"} and reader.model_info("ada/model").private
    for write in (
        lambda: reader.create_repo("ada/other"),
        lambda: reader.create_commit("ada/model", [CommitOperationAdd("a.txt", b"")], commit_message="mine"),
    ):
        with pytest.raises(HfHubHTTPError) as refusal:
            write()
        assert refusal.value.response.status_code == 403


def test_a_wrong_token_is_told(hub):
    with pytest.raises(HfHubHTTPError) as refusal:
        HfApi(hub.url, token="hf_somebody").whoami()
    assert refusal.value.response.status_code == 401


def test_a_connection_can_break_halfway(hub, ada):
    hub.meddle = lambda method, path: DROP if "/commit/" in path else None
    with pytest.raises(Exception, match="disconnected"):
        push(ada)
    hub.meddle = lambda method, path: None
    assert ada.list_repo_files("ada/model") == [".gitattributes"]
    push(ada)
    assert len(hub.uploads) == 1 and "model.safetensors" in ada.list_repo_files("ada/model")


def test_jobs_are_kept_and_not_run(hub, ada, bob):
    prices = {each.name: each.unit_cost_usd for each in ada.list_jobs_hardware()}
    assert prices["h200x8"] > prices["h200"] > 0
    made = ada.run_job(image="python:3.12", command=["true"], flavor="h200", secrets={"A": "b"}, timeout="2h")
    assert ada.inspect_job(job_id=made.id).flavor == "h200" and hub.jobs[0]["timeoutSeconds"] == 7200
    for other, namespace, status in ((bob, "ada", 403), (ada, "nobody", 403)):
        with pytest.raises(HfHubHTTPError) as refusal:
            other.run_job(image="x", command=["true"], namespace=namespace)
        assert refusal.value.response.status_code == status
    hub.broke.add("ada")
    with pytest.raises(HfHubHTTPError) as refusal:
        ada.run_job(image="x", command=["true"])
    assert refusal.value.response.status_code == 402 and len(hub.jobs) == 1
