"""Weights divided among the processes, for models that do not fit into each: FSDP2, torch's `fully_shard`.

Asked for by `accelerate launch --config_file accelerate_configs/fsdp2.yaml`. The weights are divided here, not by
accelerate: it would make the head a unit of its own, whole only inside its own forward pass, while the chunked loss
reads its weights without one. Its checkpoints hold a pickle, are not what `from_pretrained` loads, and resume under
FSDP alone; ours are those of every other run.

Evaluations and samples make more forward passes on one process than on another, which would wait for ever for the
others' rows. They get a copy of the whole model in 16 bits, which needs no exchange.
"""

from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from accelerate import Accelerator
from accelerate.utils import DynamoBackend, gather_object
from torch import nn
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from transformers import PreTrainedModel

from recipes.training.environment import compute_dtype
from recipes.utils.errors import InputError
from recipes.utils.processes import launched_with_fsdp


def shard_weights(model: PreTrainedModel, accelerator: Accelerator) -> None:
    """Divide the weights of `model` among the processes if the launcher asked for FSDP, before its optimizer is built.

    Blocks and value embeddings are gathered one by one, when they compute. The rest, head and embedding above all, is
    whole from the beginning of a forward pass to the end of the backward pass, so that the loss can read the head.
    """
    if not launched_with_fsdp() or accelerator.num_processes == 1:
        return
    if accelerator.mixed_precision == "fp16":  # of cards without bf16, where no precision was asked for
        raise InputError("accelerate was launched with FSDP, which does not train in fp16: add --mixed_precision no.")
    layers, tables = blocks(model), further_tables(model)
    if accelerator.state.dynamo_plugin.backend != DynamoBackend.NO:
        compile_parts(model, layers, accelerator.state.dynamo_plugin.to_kwargs())
    dtype = compute_dtype(accelerator.mixed_precision)
    options = {
        "mesh": init_device_mesh(accelerator.device.type, (accelerator.num_processes,)),
        # Gathered and multiplied in 16 bits, where there are any, without autocast; gradients are summed in fp32.
        "mp_policy": MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False),
    }
    for module in (*tables, *layers):
        fully_shard(module, **options)
    fully_shard(model, reshard_after_forward=False, **options)


def blocks(model: PreTrainedModel) -> list[nn.Module]:
    """The layers that a transformers model says are not to be split: those that compute one after the other."""
    return [module for module in model.modules() if type(module).__name__ in (model._no_split_modules or ())]


def further_tables(model: PreTrainedModel) -> list[nn.Module]:
    """Embeddings beside the model's first: value embeddings, which together are as large as its blocks."""
    first = model.get_input_embeddings()
    return [module for module in model.modules() if isinstance(module, nn.Embedding) and module is not first]


def compile_parts(model: PreTrainedModel, layers: list[nn.Module], options: dict[str, Any]) -> None:
    """Compile each block and the loss, with torch.compile's `options`; alike blocks share one graph.

    The whole model cannot be one graph: FSDP gathers and frees weights between the blocks.
    """
    for layer in layers:
        layer.forward = torch.compile(layer.forward, **options)
    if hasattr(model, "loss_without_logits"):
        model.loss_without_logits = torch.compile(model.loss_without_logits, **options)


def prepare(
    accelerator: Accelerator, model: PreTrainedModel, optimizer: torch.optim.Optimizer
) -> tuple[nn.Module, torch.optim.Optimizer]:
    """`accelerator.prepare`, with DDP, precision and compilation; sharded weights have all that already."""
    if is_sharded(model):
        return model, accelerator.prepare_optimizer(optimizer)
    return accelerator.prepare(model, optimizer)


def is_sharded(model: nn.Module) -> bool:
    """Whether the processes each hold some of the model's rows."""
    return isinstance(model, FSDPModule)


def whole_copy(model: PreTrainedModel, accelerator: Accelerator) -> PreTrainedModel:
    """The model itself; of sharded weights a copy on every process, in the precision of training.

    All processes must call this. Raises `RuntimeError` on all of them if one has no memory for the copy itself.
    """
    if not is_sharded(model):
        return model
    copy, failure = bare(model).to(compute_dtype(accelerator.mixed_precision)), None
    try:
        copy.to_empty(device=accelerator.device)
    except RuntimeError as error:
        failure = f"no memory for the whole model on rank {accelerator.process_index}: {error}"
    if failure := next(filter(None, gather_object([failure])), None):
        raise RuntimeError(failure)
    copy.tie_weights()  # they have been allocated one by one
    with torch.no_grad():
        for mine, shard in zip(copy.parameters(), model.parameters(), strict=True):
            mine.copy_(shard.to(mine.dtype).full_tensor())
        for mine, theirs in zip(copy.buffers(), model.buffers(), strict=True):
            mine.copy_(theirs)
    return copy


def whole_on_main(model: PreTrainedModel) -> PreTrainedModel | None:
    """The model itself; of sharded weights a copy in the main process's memory, to be saved. None on the others.

    All processes must call this.
    """
    if not is_sharded(model):
        return model
    weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if not weights:
        return None
    copy = bare(model)
    copy.load_state_dict(weights, assign=True)
    copy.tie_weights()
    return copy


def bare(model: PreTrainedModel) -> PreTrainedModel:
    """A model of the same configuration, without weights and of its own class, which FSDP has replaced by another."""
    own = next(kind for kind in type(model).__mro__ if not issubclass(kind, FSDPModule))
    with torch.device("meta"):
        copy = own(model.config)
    copy.generation_config = model.generation_config
    return copy


def load_rows(model: PreTrainedModel, directory: str | Path) -> None:
    """Read this process's rows of sharded weights from what `save_pretrained` wrote."""
    planner = DefaultLoadPlanner(allow_partial_load=True)  # a tied head is not there
    dcp.load(model.state_dict(), storage_reader=dcp.HuggingFaceStorageReader(str(directory)), planner=planner)
