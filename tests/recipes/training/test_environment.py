"""A run joins its trackers and its precision, and is compiled where that pays."""

import json
import os
from functools import partial
from pathlib import Path

import pytest
import torch
from accelerate.utils import DynamoBackend, TorchDynamoPlugin
from torch._dynamo.backends import distributed

from benchmarks.graphs import count_graphs
from modeling_nanochat import NanochatGPTConfig, NanochatGPTForCausalLM
from recipes.training import environment
from recipes.training.arguments import MidtrainArguments, PretrainArguments
from recipes.training.environment import (
    PIECES,
    compiler_warning,
    compute_dtype,
    has_compiler,
    keep_activations,
    refuse_other_launchers,
    should_compile,
    start_accelerator,
)
from recipes.utils.errors import InputError
from recipes.utils.processes import refuse_fsdp
from recipes.utils.run_directory import METRICS, read_metrics
from tests.recipes.processes import flags, run
from tests.recipes.training.test_plan import plan_of

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SHORT, LONG = ({"depth": 4, "num_iterations": steps} for steps in (1, 100_000))


def start(directory, mixed_precision="no", **options):
    return start_accelerator(str(directory / "a" / "run"), mixed_precision, "false", plan_of(**SHORT), **options)


# Precision and compilation


def test_matrix_products_run_in_the_precision_chosen():
    dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16, "no": torch.float32}
    assert {precision: compute_dtype(precision) for precision in dtypes} == dtypes


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not has_compiler()


@pytest.mark.skipif(not has_compiler(), reason="no compiler on this machine")
@pytest.mark.parametrize("device", [CPU, CUDA])
def test_compilation_is_what_was_asked_for_or_for_runs_that_repay_it(device):
    short, long = plan_of(**SHORT), plan_of(**LONG)
    for told, expected in (("true", True), ("false", False)):
        assert should_compile(told, short, device) is expected
    assert not should_compile("auto", short, device)
    assert should_compile("auto", long, device)
    assert compiler_warning("auto", long, device) is None


@pytest.mark.parametrize(
    ("device", "length", "told", "warned"),
    [
        (CUDA, LONG, "auto", True),
        (CUDA, SHORT, "auto", False),
        (CUDA, LONG, "false", False),
        (CPU, LONG, "auto", False),
    ],
)
def test_without_a_compiler_nothing_is_compiled_and_a_gpu_at_half_its_speed_is_told(
    no_compiler, device, length, told, warned
):
    plan = plan_of(**length)
    assert not should_compile(told, plan, device)
    warning = compiler_warning(told, plan, device)
    assert (warning is not None and "g++" in warning and "twice the time" in warning) == warned


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_compilation_that_was_asked_for_and_cannot_be_is_refused(no_compiler, device):
    with pytest.raises(InputError, match=r"--compile true: no C\+\+ compiler .* Install them, or leave --compile out"):
        should_compile("true", plan_of(**SHORT), device)


@pytest.mark.parametrize("precision", ["bf16", "no"])
def test_the_accelerator_runs_in_the_precision_chosen(tmp_path, precision, fresh_accelerate):
    accelerator = start(tmp_path, mixed_precision=precision)
    layer = accelerator.prepare(torch.nn.Linear(4, 4))
    with accelerator.autocast():
        product = torch.nn.functional.linear(torch.ones(1, 4), layer.weight)
    assert product.dtype == compute_dtype(precision)


def test_tensorboard_gets_the_arguments_and_the_metrics(tmp_path, fresh_accelerate):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accelerator = start(tmp_path, log_with="tensorboard", config={"depth": 2})
    accelerator.log({"train/loss": 2.5}, step=3)
    accelerator.end_training()
    found = []
    for path in tmp_path.rglob("events.out.tfevents.*"):
        events = EventAccumulator(str(path))
        events.Reload()
        if "train/loss" in events.Tags()["scalars"]:
            found += [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert found == [(3, 2.5)]


# Compiled, by several processes


@pytest.mark.slow
@pytest.mark.parametrize(("generation", "depth", "vocab_size"), [(2025, 20, 65_536), (2026, 26, 32_768)])
def test_a_compiled_step_under_ddp_is_cut_into_few_pieces(generation, depth, vocab_size):
    config = NanochatGPTConfig.from_depth(depth, vocab_size, generation=generation, max_position_embeddings=64)
    found = count_graphs(config)
    assert found.graphs == 1 and 5 <= found.ddp_pieces <= PIECES
    assert (found.attentions, found.masked) == (depth, 0)


def cut_finely(directory: Path) -> None:
    """In a training process: compile without a compiler, in pieces of a few matrices, and write down how many."""

    class FineCuts(distributed.DDPOptimizer):
        def __init__(self, bucket_bytes_cap, backend_compile_fn):
            super().__init__(2**16, backend_compile_fn, first_bucket_cap=2**16)

        def compile_fn(self, *args, **kwargs):
            compiled = super().compile_fn(*args, **kwargs)
            (directory / "pieces.json").write_text(json.dumps(len(self.buckets)))
            return compiled

    def plugin(backend, **options):
        return TorchDynamoPlugin(backend=DynamoBackend.AOT_EAGER, **options)

    distributed.DDPOptimizer, environment.TorchDynamoPlugin = FineCuts, plugin


@pytest.mark.slow
@pytest.mark.launch
def test_two_processes_learn_compiled_what_they_learn_eagerly(tiny, tmp_path):
    """Two micro-batches a step, of which DDP exchanges the gradients of the last."""
    few = tiny | {"depth": 2, "generation": 2026, "device_batch_size": 1, "mixed_precision": "no"}
    records = {}
    for compiled in ("false", "true"):
        options = few | {"compile": compiled, "output_dir": tmp_path / compiled}
        end = run(flags(options), 2, partial(cut_finely, tmp_path))
        assert end.code == 0, end.stderr
        records[compiled] = read_metrics(tmp_path / compiled / METRICS)
    assert json.loads((tmp_path / "pieces.json").read_text()) > 2
    for eager, compiled in zip(records["false"], records["true"], strict=True):
        for name in eager.keys() & {"train/loss", "train/grad_norm", "val/bpb"}:
            # Muon orthogonalizes in bf16 where the CPU has it, which makes more of what differs by rounding.
            assert compiled[name] == pytest.approx(eager[name], rel=5e-3), (eager["step"], name)


# Activations


@pytest.fixture
def budget():
    yield keep_activations
    keep_activations(1.0, compiled=False)


def kept_bytes() -> int:
    """What a compiled model keeps for its backward pass."""
    torch.manual_seed(0)
    torch._dynamo.reset()
    model = NanochatGPTForCausalLM(NanochatGPTConfig.from_depth(2, vocab_size=64, max_position_embeddings=64))
    sizes: dict[int, int] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    ids = torch.arange(256).view(4, 64) % 64
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        torch.compile(model, backend="aot_eager_decomp_partition")(ids, labels=ids, skip_logits=True).loss.backward()
    return sum(size for place, size in sizes.items() if place not in own)


def test_a_budget_makes_a_compiled_model_keep_fewer_activations(budget):
    sizes = []
    for share in (1.0, 0.5, 0.2):
        budget(share, compiled=True)
        sizes.append(kept_bytes())
    assert sizes[0] > 1.3 * sizes[1] > 1.3 * sizes[2]


def test_a_budget_without_compilation_is_refused():
    with pytest.raises(
        InputError, match="activation_memory_budget 0.5 acts on compiled training alone: add --compile"
    ):
        keep_activations(0.5, compiled=False)


@pytest.mark.parametrize("name", ["DEEPSPEED", "PARALLELISM_CONFIG"])
def test_launchers_that_the_loop_does_not_know_are_refused(monkeypatch, name):
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(InputError, match=f"launched with {name}, which this loop does not support"):
        refuse_other_launchers(PretrainArguments())


@pytest.fixture
def under_fsdp(monkeypatch):
    """What `accelerate launch` sets for accelerate_configs/fsdp2.yaml."""
    for name in ("ACCELERATE_USE_FSDP", "FSDP_CPU_RAM_EFFICIENT_LOADING"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("FSDP_VERSION", "2")


def test_fsdp_is_taken(under_fsdp):
    for args in (
        PretrainArguments(),
        MidtrainArguments(source="base", conversations="primer", output_dir="mid"),
    ):  # whose optimizer is that of its source
        refuse_other_launchers(args)
    assert os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] == "False", "every process loads what it begins with"


@pytest.mark.parametrize(
    ("flags", "variables", "what"),
    [
        ({}, {"FSDP_VERSION": "1"}, "fsdp_version 1"),
        ({}, {"FSDP_OFFLOAD_PARAMS": "true"}, "fsdp_offload_params"),
        ({}, {"FSDP_ACTIVATION_CHECKPOINTING": "true"}, "take --gradient_checkpointing"),
        ({"optimizer": "adamw"}, {}, "--optimizer adamw"),
        ({"mixed_precision": "fp16"}, {}, "--mixed_precision fp16"),
        ({"use_peft": True, "model_name_or_path": "model"}, {}, "--use_peft"),
    ],
)
def test_what_does_not_go_together_with_fsdp_is_refused(under_fsdp, monkeypatch, flags, variables, what):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f"launched with FSDP, which does not go together with .*{what}"):
        refuse_other_launchers(PretrainArguments(**flags))


def test_later_stages_refuse_fsdp(under_fsdp):
    with pytest.raises(InputError, match=r"FSDP, which only pretraining and midtraining support: use .*ddp\.yaml"):
        refuse_fsdp()
