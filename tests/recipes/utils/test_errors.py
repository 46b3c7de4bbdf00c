"""A mistake in the input or a failing disk is one line and an exit code; a mistake of ours keeps its traceback."""

import errno
import os
import re
import subprocess
import sys

import pytest

from recipes.utils.errors import InputError, exit_on_input_error, writing


def end_of(main, capsys) -> str:
    """The one line on stderr that a program ends with."""
    with pytest.raises(SystemExit) as stopped:
        exit_on_input_error("pretrain", main)
    assert stopped.value.code == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    return err


def raising(error: Exception):
    def main():
        raise error

    return main


def test_an_input_error_is_one_line_on_stderr_and_exit_code_2(capsys):
    assert (
        end_of(raising(InputError("no dataset: give --dataset.")), capsys) == "pretrain: no dataset: give --dataset.\n"
    )


@pytest.mark.parametrize("error", [ValueError, RuntimeError, KeyboardInterrupt, FileNotFoundError])
def test_any_other_error_goes_through(error):
    with pytest.raises(error, match="ours"):
        exit_on_input_error("pretrain", raising(error("ours")))


def test_without_an_error_nothing_happens(capsys):
    exit_on_input_error("pretrain", lambda: print("done"))
    assert capsys.readouterr() == ("done\n", "")


# Disks


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, r"could not write runs/a \(No space left on device\)\. Make room on the disk and rerun\."),
        (errno.EDQUOT, r"could not write runs/a \(Disk quota exceeded\)\. Make room within your quota and rerun\."),
        (errno.EROFS, r"could not write runs/a \(Read-only file system\)\. Mount it writable and rerun\."),
        (errno.EIO, r"could not read or write runs/a \(Input/output error\)\. Check the disk and rerun\."),
        (errno.ENAMETOOLONG, r"could not read or write runs/a \(File name too long\)\. Choose a shorter name\."),
    ],
)
def test_a_failing_disk_is_one_line_wherever_it_fails(number, expected, capsys):
    def main():
        try:
            raise OSError(number, os.strerror(number), "runs/a")
        except OSError as error:
            raise RuntimeError("a library's own") from error

    assert re.fullmatch(f"pretrain: {expected}\n", end_of(main, capsys))


def test_who_writes_says_what_and_what_is_left():
    with (
        pytest.raises(InputError, match=r"^could not write the model \(Input/output error\); a is intact\. Check"),
        writing("the model", lambda: "a is intact"),
    ):
        raise OSError(errno.EIO, "Input/output error")


def test_a_mistake_while_writing_is_no_failure_of_the_disk():
    with pytest.raises(KeyError), writing("the model"):
        {}["no such key"]


WRITERS = """
import os, resource, sys
from recipes.utils.errors import exit_on_input_error
import torch, safetensors.torch, tokenizers, datasets
from tokenizers.models import BPE

numbers = torch.zeros(100_000)
tokenizer = tokenizers.Tokenizer(BPE({chr(code): code for code in range(300, 9000)}, []))
rows = datasets.Dataset.from_dict({"text": ["x" * 1000] * 1000})
writers = {
    "python": lambda path: open(path, "wb").write(bytes(100_000)),
    "torch": lambda path: torch.save(numbers, path),
    "safetensors": lambda path: safetensors.torch.save_file({"a": numbers}, path),
    "tokenizers": tokenizer.save,
    "datasets": lambda path: rows.map(lambda row: {"a": 1}, cache_file_name=path + ".arrow"),
}
datasets.disable_progress_bars()
for name, write in writers.items():
    sys.stderr.flush()
    if os.fork() == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        exit_on_input_error(name, lambda: write(f"{sys.argv[1]}/{name}"))
        os._exit(0)
    _, status = os.wait()
    assert os.waitstatus_to_exitcode(status) == 2, name
"""


@pytest.mark.launch
@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the size of files")
def test_what_each_library_raises_when_a_file_can_grow_no_more_is_recognized(tmp_path):
    command = [sys.executable, "-c", WRITERS, str(tmp_path)]
    end = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert end.returncode == 0, end.stderr
    lines = end.stderr.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["python", "torch", "safetensors", "tokenizers", "datasets"]
    assert all(
        re.search(r": could not write .* \((File too large|the disk took no more)\)\. Make room", each)
        for each in lines
    )
