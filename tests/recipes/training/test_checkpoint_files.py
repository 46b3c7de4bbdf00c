"""The checkpoint to go on from is the one meant, and no damage to it goes unnoticed."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from recipes.training.checkpoint_files import (
    OURS,
    TRAINERS,
    check_room,
    check_whole,
    discard_partial,
    find_checkpoint,
    find_damage,
    set_aside_after,
    unfinished_checkpoints,
    whole_checkpoints,
    write_manifest,
)
from recipes.utils.errors import InputError

STATES = {OURS: "training_state.json", TRAINERS: "trainer_state.json"}
KINDS = pytest.mark.parametrize("kind", [OURS, TRAINERS])


def checkpoint(run: Path, kind: str, step: int, manifest: bool = True) -> Path:
    """Small, but of the files that each loop writes."""
    path = run / "checkpoints" / f"{kind}{step:06d}"
    path.mkdir(parents=True)
    save_file({"a": torch.arange(1000.0)}, path / "model.safetensors")
    torch.save({"state": torch.arange(1000.0) + step}, path / ("optimizer.bin" if kind == OURS else "optimizer.pt"))
    (path / STATES[kind]).write_text(json.dumps({"step": step, "global_step": step}))
    (path / "README.md").write_text("A card, which nothing is resumed from.")
    if manifest:
        write_manifest(path)
    return path


def names(run: Path) -> set[str]:
    return {path.name for path in (run / "checkpoints").iterdir()}


# Finding


@KINDS
def test_the_newest_is_by_number_not_by_letter_and_others_by_their_path(tmp_path, kind):
    assert find_checkpoint(tmp_path, "auto", kind) is None
    first, second = (checkpoint(tmp_path, kind, step) for step in (999_999, 1_000_000))
    assert whole_checkpoints(tmp_path) == [first, second]
    assert find_checkpoint(tmp_path, "auto", kind) == second
    assert find_checkpoint(tmp_path, str(first), kind) == first
    elsewhere = checkpoint(tmp_path / "other", kind, 5)
    assert find_checkpoint(tmp_path / "new", str(elsewhere), kind) == elsewhere
    assert find_checkpoint(tmp_path, str(elsewhere), kind) == second, "it was only where this run began"
    aside = elsewhere.rename(elsewhere.with_name("abandoned_5"))
    assert find_checkpoint(tmp_path / "new", str(aside), kind) == aside


@KINDS
def test_a_path_that_is_no_checkpoint_of_this_kind_is_refused_with_those_there_are(tmp_path, kind):
    own = checkpoint(tmp_path, kind, 5)
    others = checkpoint(tmp_path / "other", OURS if kind == TRAINERS else TRAINERS, 7)
    for path in ("nowhere", tmp_path, others, own / "model.safetensors"):
        with pytest.raises(
            InputError, match=f"^--resume {path} is not a whole checkpoint; those of {tmp_path}: {own}"
        ):
            find_checkpoint(tmp_path, str(path), kind)


@KINDS
def test_beginning_afresh_among_checkpoints_is_refused(tmp_path, kind):
    assert find_checkpoint(tmp_path, "none", kind) is None
    own = checkpoint(tmp_path, kind, 5)
    with pytest.raises(InputError, match=f"{tmp_path} already holds {own.name}: .* --resume auto"):
        find_checkpoint(tmp_path, "none", kind)


def test_what_is_half_written_is_no_checkpoint(tmp_path):
    whole = [checkpoint(tmp_path, TRAINERS, 1), checkpoint(tmp_path, TRAINERS, 2, manifest=False)]
    half = checkpoint(tmp_path, TRAINERS, 3, manifest=False)
    (half / "trainer_state.json").write_text('{"global')
    no_state = checkpoint(tmp_path, TRAINERS, 4, manifest=False)
    (no_state / "trainer_state.json").unlink()
    there = names(tmp_path)
    (tmp_path / "checkpoints" / ".step_000005.partial").mkdir()
    assert whole_checkpoints(tmp_path) == whole
    assert unfinished_checkpoints(tmp_path) == {half, no_state}
    discard_partial(tmp_path)
    assert names(tmp_path) == there


@KINDS
def test_going_back_sets_newer_ones_aside_also_if_they_are_damaged(tmp_path, kind):
    old, _, newest = (checkpoint(tmp_path, kind, step) for step in (1, 2, 3))
    (newest / STATES[kind]).unlink()
    set_aside_after(old, 1, tmp_path)
    aside = {f"abandoned_{kind}{step:06d}" for step in (2, 3)}
    assert names(tmp_path) == {old.name, *aside}
    assert find_checkpoint(tmp_path, "auto", kind) == old
    checkpoint(tmp_path, kind, 2)
    set_aside_after(old, 1, tmp_path)
    assert names(tmp_path) == {old.name, *aside}


# Damage


def halve(path: Path) -> str:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return f"{path.name} has {path.stat().st_size:,} of "


def empty(path: Path) -> str:
    path.write_bytes(b"")
    return f"{path.name} has 0 of "


def remove(path: Path) -> str:
    path.unlink()
    return f"{path.name} is missing"


def flip(path: Path) -> str:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return f"{path.name} has other bytes than were written"


@KINDS
@pytest.mark.parametrize("spoil", [halve, empty, remove, flip])
@pytest.mark.parametrize("file", ["model.safetensors", "optimizer", "state"])
def test_any_damage_is_named_with_the_newest_one_before_that_is_whole(tmp_path, kind, spoil, file):
    first, second, newest = (checkpoint(tmp_path, kind, step) for step in (1, 2, 3))
    assert find_damage(newest) is None
    (newest / "README.md").write_text("Edited.")
    check_whole(newest)

    (path,) = (path for path in newest.iterdir() if file in path.name)
    damage = spoil(path)
    with pytest.raises(InputError) as error:
        check_whole(newest)
    assert str(error.value).startswith(f"checkpoint {newest} is damaged: {damage}")
    assert str(error.value).endswith(
        f"The one before it, {second.name}, is whole: resume from it by --resume {second}"
    )

    flip(second / "model.safetensors")
    with pytest.raises(InputError, match=f"--resume {first}$"):
        check_whole(newest)
    remove(first / "model.safetensors")
    with pytest.raises(InputError, match=r"No checkpoint before it is whole: put the file back, or start again"):
        check_whole(newest)


@KINDS
@pytest.mark.parametrize("spoil", [halve, empty, remove])
@pytest.mark.parametrize("file", ["model.safetensors", "optimizer", "state"])
def test_of_a_checkpoint_without_a_manifest_it_is_seen_what_is_cut_off_or_missing(tmp_path, kind, spoil, file):
    path = checkpoint(tmp_path, kind, 1, manifest=False)
    assert find_damage(path) is None
    (spoilt,) = (each for each in path.iterdir() if file in each.name)
    spoil(spoilt)
    expected = "the optimizer's state is missing" if file == "optimizer" and spoil is remove else spoilt.name
    assert find_damage(path).startswith(expected)


@pytest.mark.parametrize("content", ["", "{", "[5]", '{"model.safetensors": 5}', '{"model.safetensors": {"size": 5}}'])
def test_a_manifest_that_is_none_is_damage_too(tmp_path, content):
    path = checkpoint(tmp_path, OURS, 1)
    (path / "manifest.json").write_text(content)
    assert find_damage(path) == "manifest.json is not what was written"


def test_a_model_whose_checkpoint_the_disk_cannot_take_is_refused(tmp_path):
    with torch.device("meta"):
        model = torch.nn.Linear(10**9, 10**9)  # of 8 EB with its optimizer
    with pytest.raises(InputError, match=r"takes at least 8,000,000,00\d,\d+ MB, and where output_dir .* is, only "):
        check_room(tmp_path, model)
    check_room(tmp_path, torch.nn.Linear(10, 10))
