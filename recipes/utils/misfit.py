"""Say in words how a checkpoint's tables differ from those of the model that they are loaded into."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # importing it takes seconds, which loading a tokenizer does not need
    from transformers import PreTrainedModel

MOST_NAMED = 3
BLOCK = re.compile(r"^(?:(?:model|transformer)\.)?(?:layers|h)\.(\d+)\.")
# Of other architectures: masks and positions that older versions of transformers saved, and newer ones compute.
OLD_BUFFERS = re.compile(r"(attn|attention)\.(bias|masked_bias|causal_mask)$|(inv_freq|position_ids)$")


def compare_tables(model: "PreTrainedModel", tables: Mapping[str, Any]) -> dict[str, set]:
    """What `from_pretrained` reports of its loading, for `tables` of a shape each that have the names of `model`."""
    mine = {name: tuple(table.shape) for name, table in model.state_dict().items()}
    theirs = {name: tuple(table.shape) for name, table in tables.items()}
    both = mine.keys() & theirs.keys()
    return {
        "missing_keys": mine.keys() - theirs.keys() - set(model.all_tied_weights_keys),
        "unexpected_keys": theirs.keys() - mine.keys(),
        "mismatched_keys": {(name, theirs[name], mine[name]) for name in both if theirs[name] != mine[name]},
    }


def describe_misfit(model: "PreTrainedModel", report: Mapping[str, set]) -> str | None:
    """What is wrong with the tables that were loaded into `model`, by the likeliest cause; None if they fit.

    Args:
        report: missing_keys, unexpected_keys and mismatched_keys (name, shape there, shape in the model), as of
            `from_pretrained(..., output_loading_info=True)`.
    """
    lacking, beyond, misfits = report["missing_keys"], report["unexpected_keys"], report["mismatched_keys"]
    quantized = getattr(model, "is_quantized", False)  # their tables have companions, such as scales
    beyond = set() if quantized else {name for name in beyond if not OLD_BUFFERS.search(name)}
    if not (lacking or beyond or misfits):
        return None
    depth = getattr(model.config.get_text_config(), "num_hidden_layers", 0)
    there = _layers_there(model, depth, lacking, beyond)
    if there != depth:
        return f"they have {there} layers and not {depth}"
    if lacking:
        return f"{_named(lacking)} missing"
    return f"{_named(beyond)} not part of the model" if beyond else _describe_shape(model, misfits)


def _layers_there(model: "PreTrainedModel", depth: int, lacking: set[str], beyond: set[str]) -> int:
    """Blocks that the tables have: those beyond the model's count, those of which no table is there do not."""
    more = [int(block[1]) for name in beyond if (block := BLOCK.match(name))]
    if more and max(more) >= depth:
        return 1 + max(more)
    names = model.state_dict().keys() - lacking
    found = {int(block[1]) for name in names if (block := BLOCK.match(name))}
    last = max(found, default=-1)
    is_cut_off = bool(found) and found == set(range(last + 1))
    return 1 + last if is_cut_off else depth


def _describe_shape(model: "PreTrainedModel", misfits: set[tuple]) -> str:
    """The first table of another shape, in terms of the config if it is the embedding."""
    misfits = {name: (tuple(there), tuple(here)) for name, there, here in misfits}
    embedding = model.get_input_embeddings()
    for name in sorted(misfits):
        there, here = misfits[name]
        if model.get_submodule(name.rpartition(".")[0]) is not embedding or len(there) != 2:
            continue
        if there[1] != here[1]:
            return f"{name} is {there[1]} wide and not {here[1]}, as hidden_size says"
        return f"{name} has {there[0]:,} rows and not {here[0]:,}, as vocab_size {model.config.vocab_size:,} says"
    name = min(misfits)
    there, here = misfits[name]
    return f"{name} is {there} and not {here}"


def _named(names: set[str]) -> str:
    """Up to three names with their verb."""
    names = sorted(names)
    more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return f"{', '.join(names[:MOST_NAMED])}{more} {'is' if len(names) == 1 else 'are'}"
