"""Checkpoint directories of our loop and of transformers' Trainer: find the one to resume from, and detect damage.

The last file written to a checkpoint is a manifest of the others, so that a truncated or altered file is detected
before anything is loaded.
"""

import json
import re
import shutil
import zlib
from pathlib import Path

import torch

from recipes.utils import atomic
from recipes.utils.errors import InputError
from recipes.utils.loading import unreadable
from recipes.utils.run_directory import CHECKPOINTS

MANIFEST = "manifest.json"
NAME = re.compile(r"(step_|checkpoint-)(\d+)")  # step_000500 by our loop, checkpoint-500 by transformers' Trainer
OURS, TRAINERS = "step_", "checkpoint-"
STATE_FILES = {OURS: "training_state.json", TRAINERS: "trainer_state.json"}  # the counters, by each of them
WEIGHTS = re.compile(r"(adapter_)?model(-\d+-of-\d+)?\.safetensors")
READ_BY_RESUMING = {".safetensors", ".bin", ".pt", ".pth", ".pkl", ".json", ".jinja"}


def optimizer_file(checkpoint: Path, rank: int) -> Path:
    """Where one of several ranks saves its share of the optimizer's state. The first file has accelerate's name."""
    return checkpoint / (f"optimizer_{rank:05d}.bin" if rank else "optimizer.bin")


def optimizer_files(checkpoint: Path) -> list[Path]:
    """Where the ranks have saved their shares of the optimizer's state, in their order."""
    return [optimizer_file(checkpoint, 0), *sorted(checkpoint.glob("optimizer_?????.bin"))]


def read_optimizer_shards(checkpoint: Path) -> list[dict]:
    """The state dicts of all ranks that saved one, in their order.

    Of several only what is used is read: they are mapped into memory, so copy what is to outlive the checkpoint.
    """
    files = optimizer_files(checkpoint)
    return [torch.load(file, map_location="cpu", weights_only=True, mmap=len(files) > 1) for file in files]


def step_of(checkpoint: Path) -> int:
    """Finished optimizer steps of a checkpoint, by its name."""
    return int(NAME.fullmatch(checkpoint.name)[2])


def whole_checkpoints(output_dir: Path) -> list[Path]:
    """Checkpoints of a run that were written to the end, oldest first."""
    found = [path for path in (output_dir / CHECKPOINTS).glob("*") if NAME.fullmatch(path.name)]
    return sorted((path for path in found if _was_finished(path)), key=step_of)


def _was_finished(checkpoint: Path) -> bool:
    """Whether it was written to the end: our loop renames the directory last, Trainer writes in place."""
    if checkpoint.name.startswith(OURS) or (checkpoint / MANIFEST).exists():
        return True
    try:
        return bool(json.loads((checkpoint / STATE_FILES[TRAINERS]).read_bytes()))
    except (OSError, ValueError):
        return False


def find_checkpoint(output_dir: Path, resume: str, kind: str = OURS) -> Path | None:
    """The checkpoint of this `kind` to resume from: the newest for "auto", None for "none", else the one named.

    A checkpoint of another run is only the start of this one: once this run has its own, it resumes from those.
    Raises `InputError` if the named one is not a checkpoint, or if "none" would overwrite those in `output_dir`.
    """
    own = whole_checkpoints(output_dir)
    if resume == "auto":
        return own[-1] if own else None
    if resume == "none":
        if own:
            raise InputError(f"{output_dir} already holds {own[-1].name}: choose another, or resume by --resume auto.")
        return None
    path = Path(resume)
    named = NAME.fullmatch(path.name)
    if not path.is_dir() or not (named[1] == kind if named else (path / STATE_FILES[kind]).exists()):
        known = ", ".join(str(path) for path in own) or "none"
        raise InputError(f"--resume {resume} is not a whole checkpoint; those of {output_dir}: {known}.")
    begins_elsewhere = path.resolve().parent != (output_dir / CHECKPOINTS).resolve()
    return own[-1] if own and begins_elsewhere else path


def check_room(output_dir: Path, model: torch.nn.Module) -> None:
    """Raise `InputError` if the disk has no room for one checkpoint: before the first step, not after hours."""
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    weights = sum(parameter.nbytes for parameter in model.parameters())
    # Adapters are saved without what they adapt. Of the optimizer, momentum at least: 4 bytes a parameter.
    needed = 4 * trained + (4 * trained if hasattr(model, "peft_config") else weights)
    free = shutil.disk_usage(output_dir).free
    if free < needed:
        raise InputError(
            f"a checkpoint of this model takes at least {needed / 1e6:,.0f} MB, and where output_dir {output_dir} is, "
            f"only {free / 1e6:,.0f} MB are free: make room on the disk, or choose another output_dir."
        )


def unfinished_checkpoints(output_dir: Path) -> set[Path]:
    """Checkpoints that a killed process or a full disk left half-written."""
    found = (output_dir / CHECKPOINTS).glob("*")
    return {path for path in found if NAME.fullmatch(path.name) and not _was_finished(path)}


def discard_partial(output_dir: Path) -> None:
    """Remove the half-written or half-deleted checkpoints that a killed run of our loop left."""
    for path in (output_dir / CHECKPOINTS).glob(f".{OURS}*.partial"):
        shutil.rmtree(path)


def set_aside_after(checkpoint: Path, step: int, output_dir: Path) -> None:
    """Resuming from an older checkpoint starts a new branch: newer ones are kept, under names nothing resumes from."""
    if checkpoint.resolve().parent != (output_dir / CHECKPOINTS).resolve():
        return
    for newer in whole_checkpoints(output_dir):
        if step_of(newer) > step:
            aside = newer.with_name(f"abandoned_{newer.name}")
            shutil.rmtree(aside, ignore_errors=True)
            newer.rename(aside)


def describe_newest(output_dir: Path) -> str:
    """A message on which checkpoint is intact after a failure to write."""
    found = whole_checkpoints(output_dir)
    return f"{found[-1]} is intact" if found else "no earlier checkpoint exists"


# Damage


def write_manifest(checkpoint: Path) -> None:
    """Sync all files of a checkpoint to disk, then record their sizes and checksums, which marks it as whole."""
    atomic.sync_tree(checkpoint)
    paths = [path for path in sorted(checkpoint.iterdir()) if path.suffix in READ_BY_RESUMING and path.is_file()]
    files = {path.name: {"size": path.stat().st_size, "crc32": _crc32(path)} for path in paths}
    atomic.write_text(checkpoint / MANIFEST, json.dumps(files, indent=2) + "\n")


def check_whole(checkpoint: Path) -> None:
    """Raise `InputError` if a file of the checkpoint is damaged, naming the newest one before it that is whole."""
    damage = find_damage(checkpoint)
    if damage is None:
        return
    siblings = whole_checkpoints(checkpoint.absolute().parent.parent)
    before = [path for path in siblings if NAME.fullmatch(checkpoint.name) and step_of(path) < step_of(checkpoint)]
    whole = next((path for path in reversed(before) if find_damage(path) is None), None)
    if whole is None:
        remedy = "No checkpoint before it is whole: put the file back, or start again in another output_dir."
    else:
        whole = checkpoint.parent / whole.name
        remedy = f"The one before it, {whole.name}, is whole: resume from it by --resume {whole}"
    raise InputError(f"checkpoint {checkpoint} is damaged: {damage}. {remedy}")


def find_damage(checkpoint: Path, only: str = "") -> str | None:
    """Which file is missing or differs from what was written, and how; None if all is whole.

    With `only`, files whose names start with it.
    """
    try:
        if not (checkpoint / MANIFEST).exists():
            return None if only else _find_damage_without_manifest(checkpoint)
        files = dict(json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8")))
        names = [name for name in files if name.startswith(only)]
        return next((damage for name in names if (damage := _damage(checkpoint / name, **files[name]))), None)
    except (ValueError, TypeError):
        return f"{MANIFEST} is not what was written"


def _damage(path: Path, size: int, crc32: int) -> str | None:
    """How a file differs from what was written."""
    try:
        now = path.stat().st_size
        if now != size:
            return f"{path.name} has {now:,} of {size:,} bytes"
        return None if _crc32(path) == crc32 else f"{path.name} has other bytes than were written"
    except FileNotFoundError:
        return f"{path.name} is missing"
    except OSError as error:
        return f"{path.name} cannot be read ({error.strerror})"


def _crc32(path: Path) -> int:
    """CRC-32, at about 3 GB/s: three times as fast as a cryptographic hash, and enough against accidents."""
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            checksum = zlib.crc32(chunk, checksum)
    return checksum


def _find_damage_without_manifest(checkpoint: Path) -> str | None:
    """Damage of a checkpoint from before there were manifests: a file that is missing, truncated or unreadable."""
    paths = sorted(checkpoint.iterdir())
    state_file = STATE_FILES[TRAINERS if checkpoint.name.startswith(TRAINERS) else OURS]
    wanted = {
        state_file: lambda name: name in STATE_FILES.values(),
        "model.safetensors": WEIGHTS.fullmatch,
        "the optimizer's state": lambda name: name.startswith("optimizer"),
    }
    for name, matches in wanted.items():
        if not any(matches(path.name) for path in paths):
            return f"{name} is missing"
    return next((f"{path.name} is damaged ({reason})" for path in paths if (reason := unreadable(path))), None)
