"""A stage's output directory: held by one run, which has one configuration and one set of data."""

import json
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from recipes.training.checkpoint_files import OURS, check_whole, discard_partial, find_checkpoint, whole_checkpoints
from recipes.training.fingerprint import Fingerprint, differences
from recipes.training.machines import check_shared
from recipes.utils import atomic
from recipes.utils.errors import InputError, SaidByMain, writing
from recipes.utils.heartbeat import heartbeat
from recipes.utils.outputs import hold
from recipes.utils.run_directory import ARGUMENTS, METRICS, is_finished, read_metrics

INPUTS_FILE = "inputs.json"
MOST_LISTED = 8  # differences in a message
ALL_OF_2025 = {"generation": 2025, "window_pattern": "L"}  # what runs were from before they could say so

T = TypeVar("T")


def agree(decide: Callable[[], T], state: PartialState, doing: str = "preparing the run") -> T:
    """Let the main process decide for all: on a network file system, each might see something else.

    An `InputError` it raises ends all of them. Where that takes minutes, it says what it is `doing`.
    """
    decision, complaint = None, None
    if state.is_main_process:
        try:
            with heartbeat(doing):
                decision = decide()
        except InputError as error:
            complaint = str(error)
    decision, complaint = broadcast_object_list([decision, complaint])
    if complaint is not None:
        raise InputError(complaint) if state.is_main_process else SaidByMain(complaint)
    return decision


@contextmanager
def hold_output_dir(output_dir: str | Path, state: PartialState) -> Iterator[None]:
    """Make `output_dir` writable and keep other runs out until the block ends; a finished run's is left alone.

    Raises `InputError` if other machines of the run do not see it.
    """
    output_dir = Path(output_dir)
    with ExitStack() as stack:

        def take() -> bool:
            finished = is_finished(output_dir)
            if not finished:
                stack.enter_context(hold(output_dir))
                discard_partial(output_dir)
            return finished

        if not agree(take, state) and state.num_processes > 1:
            check_shared(output_dir, state)
        yield


def claim_output_dir(
    output_dir: Path, arguments: Mapping[str, Any], free_to_change: Set[str], inputs: Set[str], state: PartialState
) -> bool:
    """Claim `output_dir` for this run, or check that the run it belongs to had the same `arguments`.

    Those in `free_to_change` may differ, and those that name `inputs`: `claim_inputs` compares what they name. A run
    that never made a step has no claim to the directory. Returns whether the run is finished already.
    Raises `InputError` naming every argument that differs.
    """
    mine = {name: value for name, value in arguments.items() if name not in free_to_change}

    def claim() -> bool:
        finished, file = is_finished(output_dir), output_dir / ARGUMENTS
        if _has_begun(output_dir) and file.exists():
            _refuse_changed_arguments(output_dir, mine, mine.keys() - inputs)
        elif not finished:
            _record(file, mine)
        return finished

    return agree(claim, state)


def claim_inputs(
    output_dir: Path,
    arguments: Mapping[str, Any],
    fingerprints: Callable[[], Mapping[str, Fingerprint]],
    state: PartialState,
) -> None:
    """Check that a resumed run reads the data it began with. Raises `InputError` naming all that differs.

    Without a checkpoint the run starts over, and its data may change, as when a damaged row was repaired. For a run
    from before there were fingerprints, the arguments that name the data are compared.
    """

    def claim() -> None:
        mine, file, goes_on = fingerprints(), output_dir / INPUTS_FILE, bool(whole_checkpoints(output_dir))
        if goes_on and not file.exists():
            _refuse_changed_arguments(output_dir, arguments, mine.keys())
        if not (goes_on and file.exists()):
            _record(file, mine)
            return
        theirs, named = _read(file), read_arguments(output_dir)
        changed = []
        for name in dict.fromkeys([*theirs, *mine]):
            lines = differences(theirs.get(name, {}), mine.get(name, {}))
            if lines and name in named and named[name] != arguments.get(name):
                lines = [f"{named[name]!r} there, {arguments.get(name)!r} now", *lines]
            changed += [f"--{name} {line}" for line in lines]
        if changed:
            raise InputError(
                f"output_dir {output_dir} belongs to a run that began with other data ({_listed(changed)}): "
                "put back what it began with, or choose another output_dir (it may resume from a checkpoint of this "
                "one, by --resume)."
            )

    agree(claim, state, "taking fingerprints of the data")


def choose_checkpoint(output_dir: Path, resume: str, state: PartialState, kind: str = OURS) -> Path | None:
    """The checkpoint to resume from, if any (see `find_checkpoint`). Raises `InputError` if it is damaged."""

    def choose() -> Path | None:
        checkpoint = find_checkpoint(output_dir, resume, kind)
        if checkpoint is not None:
            check_whole(checkpoint)
        return checkpoint

    return agree(choose, state, "checking the checkpoint")


def read_arguments(run: str | Path) -> dict[str, Any]:
    """Arguments of the run in a directory; none if it is not a run's. Raises `InputError` if they are damaged."""
    path = Path(run) / ARGUMENTS
    return _read(path) if path.exists() else {}


def began_with(output_dir: Path, state: PartialState) -> dict[str, Any]:
    """Arguments that the run in `output_dir` began with, if it has made a step; none if it has not."""
    return agree(lambda: read_arguments(output_dir) if _has_begun(output_dir) else {}, state)


def _has_begun(output_dir: Path) -> bool:
    """Whether a run has made a step in `output_dir`."""
    return bool(read_metrics(output_dir / METRICS) or whole_checkpoints(output_dir))


def _refuse_changed_arguments(output_dir: Path, mine: Mapping[str, Any], names: Set[str]) -> None:
    """Raise `InputError` if one of the arguments called `names` was another when the run began."""
    mine, theirs = _as_json(mine), read_arguments(output_dir)
    theirs = {name: value for name, value in ALL_OF_2025.items() if mine.get(name) is not None} | theirs
    known = [name for name in mine if name in names and name in theirs]
    changed = [f"{name} {theirs[name]!r} there, {mine[name]!r} now" for name in known if theirs[name] != mine[name]]
    if changed:
        raise InputError(
            f"output_dir {output_dir} belongs to a run of another configuration ({_listed(changed)}): "
            "choose another output_dir, or the same configuration. Only what concerns logging, evaluating, saving, "
            "publishing and the machine may change."
        )


def _listed(changed: list[str]) -> str:
    more = [f"and {len(changed) - MOST_LISTED:,} more"] if len(changed) > MOST_LISTED else []
    return "; ".join(changed[:MOST_LISTED] + more)


def _as_json(content: Mapping[str, Any]) -> dict[str, Any]:
    """As it will be read back."""
    return json.loads(json.dumps(dict(content), default=str))


def _record(path: Path, content: Mapping[str, Any]) -> None:
    with writing(path):
        atomic.write_text(path, json.dumps(_as_json(content), indent=2) + "\n")


def _read(path: Path) -> dict[str, Any]:
    """The object in a file. Raises `InputError` if it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}): put it back, or remove it.") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged (it holds no JSON object): put it back, or remove it.")
    return content
