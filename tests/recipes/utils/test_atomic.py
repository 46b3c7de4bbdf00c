"""Files and directories appear whole or not at all: after exceptions, and after a SIGKILL at any moment."""

import subprocess
import sys
from pathlib import Path

import pytest

from recipes.utils import atomic

OLD, NEW = "the old content", "the new content"


def contents(directory: Path) -> dict[str, str]:
    return {str(path.relative_to(directory)): path.read_text() for path in directory.rglob("*") if path.is_file()}


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


# Without accidents


@pytest.mark.parametrize("there_before", [False, True])
def test_a_directory_appears_with_all_that_was_written(tmp_path, there_before):
    final = tmp_path / "a" / "final"
    if there_before:
        final.mkdir(parents=True)
        (final / "gone").write_text(OLD)
    with atomic.new_directory(final) as directory:
        (directory / "one").write_text(NEW)
        (directory / "sub").mkdir()
        (directory / "sub" / "two").write_text(NEW)
        assert not (final / "one").exists()
    assert contents(final) == {"one": NEW, "sub/two": NEW}
    assert names(tmp_path / "a") == {"final"}


@pytest.mark.parametrize("there_before", [False, True])
def test_a_file_is_written_or_replaced(tmp_path, there_before):
    path = tmp_path / "file"
    if there_before:
        path.write_text(OLD)
    atomic.write_text(path, "naïve ☃\n")
    assert path.read_bytes() == "naïve ☃\n".encode()
    assert names(tmp_path) == {"file"}


def test_moved_files_join_and_replace_those_that_are_there(tmp_path):
    source, final = tmp_path / "source", tmp_path / "final"
    for directory in (source, final):
        directory.mkdir()
    for name in ("a", "b", "c"):
        (source / name).write_text(NEW)
    for name in ("b", "kept"):
        (final / name).write_text(OLD)
    atomic.move_files_into(source, final, last="a")
    assert contents(final) == {"a": NEW, "b": NEW, "c": NEW, "kept": OLD}
    assert not names(source)


@pytest.mark.launch
def test_many_that_write_one_file_at_once_leave_it_as_one_of_them_wrote_it(tmp_path):
    script = (
        "import sys\nfrom pathlib import Path\nfrom recipes.utils import atomic\n"
        "for _ in range(50): atomic.write_text(Path(sys.argv[1]), sys.argv[2] * 50_000)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "file")]
    crowd = [subprocess.Popen([*command, letter], stderr=subprocess.PIPE, text=True) for letter in "abc"]
    assert [(process.communicate(timeout=100)[1], process.returncode) for process in crowd] == [("", 0)] * 3
    text = (tmp_path / "file").read_text()
    assert text == text[0] * 50_000
    assert names(tmp_path) == {"file"}


# Exceptions


@pytest.mark.parametrize("there_before", [False, True])
def test_an_exception_leaves_what_was_there_and_nothing_else(tmp_path, there_before):
    final = tmp_path / "final"
    if there_before:
        final.mkdir()
        (final / "file").write_text(OLD)
    with pytest.raises(RuntimeError, match="in the middle"), atomic.new_directory(final) as directory:
        (directory / "file").write_text("half")
        raise RuntimeError("in the middle")
    assert contents(tmp_path) == ({"final/file": OLD} if there_before else {})
    assert names(tmp_path) == ({"final"} if there_before else set())


def test_text_that_cannot_be_encoded_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "file"
    path.write_text(OLD)
    with pytest.raises(UnicodeEncodeError):
        atomic.write_text(path, "half \ud800")
    assert path.read_text() == OLD
    assert names(tmp_path) == {"file"}


# SIGKILL. A script repeats one operation in children of its own, the n-th of which kills itself at the n-th of all
# calls to the system that Python announces, until one child comes through.

KILL_EVERYWHERE = """
import os, signal, sys
from pathlib import Path
from recipes.utils import atomic

def prepare(directory):
    {prepare}

def operate(directory):
    {operate}

def kill_at(moment):
    seen = 0
    def hook(event, args):
        nonlocal seen
        if event.split(".")[0] in ("open", "os", "shutil", "tempfile") and event != "os.kill":
            seen += 1
            if seen == moment:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)

moment, status = 0, -1
while status != 0:
    moment += 1
    directory = Path(sys.argv[1], str(moment))
    directory.mkdir()
    prepare(directory)
    child = os.fork()
    if child == 0:
        kill_at(moment)
        operate(directory)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), status
"""


def kill_everywhere(directory: Path, prepare: list[str], operate: list[str]) -> list[Path]:
    """What each kill left, by its moment; the last was not killed."""
    script = KILL_EVERYWHERE.format(prepare="\n    ".join(prepare), operate="\n    ".join(operate))
    subprocess.run([sys.executable, "-c", script, str(directory)], check=True, timeout=120)
    left = sorted(directory.iterdir(), key=lambda path: int(path.name))
    assert len(left) > 3
    return left


WRITE_DIRECTORY = [
    "with atomic.new_directory(directory / 'final') as fresh:",
    "    for name in ('one', 'two'):",
    "        (fresh / name).write_text('the new content')",
]


def test_a_killed_process_leaves_a_whole_directory_or_none(tmp_path):
    *killed, finished = kill_everywhere(tmp_path, ["pass"], WRITE_DIRECTORY)
    whole = {"one": NEW, "two": NEW}
    for directory in killed:
        assert not (directory / "final").exists() or contents(directory / "final") == whole
    assert contents(finished) == {"final/one": NEW, "final/two": NEW}


def test_a_killed_process_leaves_the_old_directory_or_the_new_never_a_mixture(tmp_path):
    prepare = ["(directory / 'final').mkdir()", "(directory / 'final' / 'one').write_text('the old content')"]
    *killed, finished = kill_everywhere(tmp_path, prepare, WRITE_DIRECTORY)
    states = [contents(directory / "final") for directory in killed if (directory / "final").exists()]
    assert all(state in ({"one": OLD}, {"one": NEW, "two": NEW}) for state in states)
    assert {"one": OLD} in states
    assert contents(finished) == {"final/one": NEW, "final/two": NEW}


def test_a_killed_process_leaves_the_old_text_or_the_new(tmp_path):
    write = ["atomic.write_text(directory / 'file', 'the new content')"]
    for number, prepare in enumerate(["pass", "(directory / 'file').write_text('the old content')"]):
        there = tmp_path / str(number)
        there.mkdir()
        left = kill_everywhere(there, [prepare], write)
        found = {(path / "file").read_text() if (path / "file").exists() else None for path in left}
        assert found == {OLD if number else None, NEW}
        assert names(left[-1]) == {"file"}


def test_the_last_file_is_moved_only_after_all_others(tmp_path):
    prepare = [
        "for part in ('source', 'final'):",
        "    (directory / part).mkdir()",
        "for name in ('config', 'a', 'z'):",
        "    (directory / 'source' / name).write_text('the new content')",
    ]
    move = ["atomic.move_files_into(directory / 'source', directory / 'final', last='config')"]
    left = [names(directory / "final") for directory in kill_everywhere(tmp_path, prepare, move)]
    assert left[0] == set() and left[-1] == {"a", "z", "config"}
    assert any(0 < len(found) < 3 for found in left)
    assert all(found == {"a", "z", "config"} for found in left if "config" in found)
