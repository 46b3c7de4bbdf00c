"""What a stage inherits from the run that trained its source: settings, and the optimizer's state."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from recipes.training.arguments import MidtrainArguments, PretrainArguments
from recipes.training.checkpoint_files import (
    find_damage,
    optimizer_file,
    read_optimizer_shards,
    whole_checkpoints,
)
from recipes.training.horizon import check_batch
from recipes.training.muon import MuonSteps
from recipes.training.output_dir import read_arguments
from recipes.training.rules import RULES, THREE_RATES, with_rules
from recipes.training.sharding import merge_shards
from recipes.utils.errors import InputError, in_one_line
from recipes.utils.loading import load_config
from recipes.utils.model_facts import generation_of
from recipes.utils.run_directory import ARGUMENTS, is_finished

# In a parameter group: what the run sets, and the settings that states did not have before 2026.
MAY_BE_MISSING = {"initial_lr", "params", *MuonSteps.__annotations__}


def inherit_settings(args: MidtrainArguments, state: PartialState) -> MidtrainArguments:
    """`args` with unset ones taken from the run that trained the source, or else pretraining's defaults. Prints them.

    Raises `InputError` if the batch is not known or does not divide among the processes.
    """
    config = load_config(args.source)
    context = getattr(config, "max_position_embeddings", PretrainArguments.max_seq_len)
    theirs = {"max_seq_len": context} | read_arguments(args.source)
    rules = RULES[generation_of(config)]
    # A weight decay by rule has fallen to 0 by the end of the base run, and stays there.
    defaults = {"optimizer": PretrainArguments.optimizer, "weight_decay": 0.0} | rules.flags()
    if args.learning_rate is not None:  # one rate for all was given, or three: the source's other ones do not count
        theirs = {name: value for name, value in theirs.items() if name not in THREE_RATES}
    elif any(getattr(args, name) is not None for name in THREE_RATES):
        theirs.pop("learning_rate", None)
    missing = [name for name in args.INHERITED_FROM_SOURCE if getattr(args, name) is None]
    inherited = {name: theirs.get(name) for name in missing}
    inherited |= {name: defaults.get(name) for name, value in inherited.items() if value is None}
    try:
        args = replace(args, **inherited)
    except InputError as error:
        raise InputError(f"{Path(args.source, ARGUMENTS)}: {error}") from None
    if args.total_batch_size is None:
        raise InputError(f"{args.source} does not say what it was trained with: give --total_batch_size (tokens).")
    check_batch(args.total_batch_size, args.device_batch_size or 1, args.max_seq_len, state.num_processes)
    taken = (f"{name} {theirs[name]}" for name in missing if theirs.get(name) is not None)
    state.print(f"{'source':<13}{args.source}, trained with {', '.join(taken) or 'unknown settings'}")
    return args


def with_rates_of_model(args: Any, source: str, output_dir: Path) -> Any:
    """Arguments of SFT, DPO or GRPO, with pretraining's learning rates of the model's generation where none are given.

    The model is the source, or the finished one, whose source may be gone.
    """
    if all(getattr(args, name) is not None for name in THREE_RATES):
        return args
    config = load_config(str(output_dir) if is_finished(output_dir) else source, args.trust_remote_code)
    return with_rules(args, RULES[generation_of(config)])


def source_tokens(source: str) -> int | None:
    """Tokens that the run in `source` was trained on; None if it does not say."""
    theirs = read_arguments(source)
    steps, batch = theirs.get("num_iterations"), theirs.get("total_batch_size")
    return steps * batch if isinstance(steps, int) and isinstance(batch, int) else None


def warm_start(optimizer: torch.optim.Optimizer, name: str, source: str) -> str:
    """Load into `optimizer`, called `name`, its state at the end of the run in `source`.

    Learning rates and other settings stay this run's. Returns a line that says where the state comes from, or why the
    optimizer starts without one: no checkpoint, another optimizer, other shapes.
    """
    checkpoints = [path for path in whole_checkpoints(Path(source)) if optimizer_file(path, 0).exists()]
    if not checkpoints:
        return f"{name}, starting without state: {source} holds no checkpoint with its state"
    theirs = read_arguments(source).get("optimizer", name)
    if theirs != name:
        return f"{name}, starting without state: {source} was trained by {theirs}"
    file = optimizer_file(checkpoints[-1], 0)
    if damage := find_damage(checkpoints[-1], only=file.stem):
        return f"{name}, starting without state: {checkpoints[-1]} is damaged ({damage})"
    try:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        saved = merge_shards(read_optimizer_shards(checkpoints[-1]), parameters)
        misfit = _misfit(saved, optimizer)
    except (OSError, RuntimeError, pickle.UnpicklingError, LookupError, EOFError) as error:
        misfit = in_one_line(error)
    if misfit:
        return f"{name}, starting without state: {file} does not fit ({misfit})"
    optimizer.load_state_dict({"state": saved["state"], "param_groups": optimizer.state_dict()["param_groups"]})
    return f"{name}, warm-started from {file}"


def _misfit(saved: dict[str, Any], optimizer: torch.optim.Optimizer) -> str | None:
    """Why the saved state does not belong to this optimizer's parameters, or None if it does."""
    groups, mine = saved["param_groups"], optimizer.param_groups
    if [len(group["params"]) for group in groups] != [len(group["params"]) for group in mine]:
        sizes, own = ([len(group["params"]) for group in each] for each in (groups, mine))
        return f"its groups hold {sizes} parameters, this run's {own}"
    for index, (theirs, own) in enumerate(zip(groups, mine, strict=True)):
        names, own_names = theirs.keys() - MAY_BE_MISSING, own.keys() - MAY_BE_MISSING
        if names != own_names or theirs.get("kind") != own.get("kind"):
            return f"its group {index} is another optimizer's"
        if own.get("kind") == "muon" and MuonSteps.of(theirs) != MuonSteps.of(own):
            return f"it is that of {MuonSteps.of(theirs)}, and this run's is {MuonSteps.of(own)}"
        for number, parameter in zip(theirs["params"], own["params"], strict=True):
            for name, value in saved["state"].get(number, {}).items():
                if torch.is_tensor(value) and value.ndim > 0 and not _fits(value.shape, parameter.shape):
                    return f"its {name} is {tuple(value.shape)} where a parameter is {tuple(parameter.shape)}"
    return None


def _fits(shape: torch.Size, parameter: torch.Size) -> bool:
    """Whether a state has its parameter's shape, or one value for each row or column, as NorMuon's second moment."""
    return len(shape) == len(parameter) and all(size in (1, full) for size, full in zip(shape, parameter, strict=True))
