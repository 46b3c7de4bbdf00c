import pytest

from recipes.data.splits import list_names, natural_order, split_files
from recipes.utils.errors import InputError

HUB = [f"d/train-{i:05d}-of-00002.parquet" for i in range(2)] + ["d/test-00000-of-00001.parquet"]


@pytest.mark.parametrize(
    ("files", "train", "validation", "left_out"),
    [
        (HUB, HUB[:2], HUB[2:], []),
        (["wiki.train.txt", "wiki.valid.txt", "wiki.test.txt"], [0], [1], [2]),
        (["d/train/0.jsonl", "d/train/1.jsonl", "d/validation/0.jsonl"], [0, 1], [2], []),
        (["d/data/Train.JSONL", "d/data/TEST.JSONL"], [0], [1], []),
        (["a.txt", "b.txt", "dev.txt"], [0, 1], [2], []),
        (["train.parquet", "extra.parquet"], [0], [], [1]),
        (["train/test_a.txt", "train/a.txt"], [1], [0], []),  # a file's own name counts before its directory's
        (["train-test-split.txt", "other.txt"], [1, 0], [], []),  # two names are none
        (["latest.txt", "contest.txt", "trainer.txt", "devil.txt"], [1, 3, 0, 2], [], []),
        (["shard_10.txt", "shard_9.txt", "shard_100.txt"], [1, 0, 2], [], []),
        (["test.jsonl"], [0], [], []),  # asked for by name
        (["x/test/a.txt", "x/test/b.txt"], [0, 1], [], []),  # as is a directory
    ],
)
def test_names_say_what_is_trained_on_and_what_is_held_out(files, train, validation, left_out):
    found = split_files(files)
    expected = [[files[i] if isinstance(i, int) else i for i in part] for part in (train, validation, left_out)]
    assert [found.train, found.validation, found.left_out] == expected


def test_nothing_but_held_out_files_is_an_error_that_names_them():
    with pytest.raises(InputError, match=r"no file to train on: all 2, from d/test-0.txt to d/test-1.txt"):
        split_files(["d/test-0.txt", "d/test-1.txt"])


def test_numbers_sort_as_numbers():
    names = ["part2b", "part10", "part2", "1", "part", "10", "9", "a/2/b10", "a/2/b9", "a/10/b1"]
    assert sorted(names, key=natural_order) == [
        "1", "9", "10", "a/2/b9", "a/2/b10", "a/10/b1", "part", "part2", "part2b", "part10",
    ]  # fmt: skip


def test_many_names_are_listed_by_their_ends():
    assert list_names(["a", "b", "c"]) == "a, b, c"
    assert list_names([f"{i}" for i in range(1000)]) == "0 ... 999 (1,000 files)"
