"""The pretraining script as its users meet it: what a run leaves, how it goes on, and what it survives."""

import json
import math
import os
import re
import resource
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import matplotlib.image
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPT2LMHeadModel

from modeling_nanochat import NanochatGPTForCausalLM
from recipes.training.checkpoints import whole_checkpoints
from recipes.training.optimizers import OptimizerSettings, build_adamw, register_optimizer
from recipes.utils.run_directory import read_metrics
from tests.recipes.processes import Finished, Running, flags, limit, run
from tokenizer.bpe import save_tokenizer, train_tokenizer
from tokenizer.special_tokens import SMALLEST_VOCABULARY

pytestmark = pytest.mark.launch

TRAINING_KEYS = {
    "step", "train/loss", "train/lrm", "train/dt", "train/tok_per_sec", "train/mfu", "train/grad_norm",
    "train/skipped", "train/peak_memory", "total_training_time", "total_training_flops", "epoch",
}  # fmt: skip


def losses(output_dir: Path) -> list[float]:
    return [record["train/loss"] for record in read_metrics(output_dir / "metrics.jsonl") if "train/loss" in record]


def assert_one_line(end: Finished, *parts: str) -> None:
    """The command ended by an error of the user's: one clear line on stderr, with all of `parts` in it."""
    assert end.code == 2, end.stderr
    (line,) = end.stderr.splitlines()
    assert line.startswith("pretrain: ")
    for part in parts:
        assert part in line


# What a run leaves


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory) -> tuple[Path, Finished]:
    """A run with everything on, and what it printed."""
    output_dir = tmp_path_factory.mktemp("finished")
    end = run(flags(tiny | {"output_dir": output_dir, "sample_every": 0}))
    assert end.code == 0, end.stderr
    return output_dir, end


LOAD = """
import sys
for ours in ("modeling_nanochat", "recipes", "tokenizer", "evals"):
    sys.modules[ours] = None  # as if it were not installed
from transformers import AutoModelForCausalLM, AutoTokenizer
for path in sys.argv[1:]:
    model = AutoModelForCausalLM.from_pretrained(path, trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=True)
    inputs = tokenizer("The capital of France is", return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    print(tokenizer.decode(output[0], skip_special_tokens=True))
"""


def test_model_and_checkpoint_load_in_a_fresh_process_without_our_package(finished, tmp_path):
    output_dir, _ = finished
    end = subprocess.run(
        [sys.executable, "-c", LOAD, output_dir, output_dir / "checkpoints" / "step_000004"],
        cwd=tmp_path,
        env=os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert end.returncode == 0, end.stderr
    assert [line[:24] for line in end.stdout.splitlines()] == ["The capital of France is"] * 2


def test_metrics_hold_exactly_the_documented_keys_as_strict_json(finished):
    output_dir, _ = finished
    lines = (output_dir / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert [record["step"] for record in records] == [1, 2, 3, 3, 4, 5, 6, 6]
    for record in records:
        assert record.keys() in (TRAINING_KEYS, {"step", "val/bpb", "val/loss"})


def test_training_learns(finished):
    output_dir, _ = finished
    first, *_, last = losses(output_dir)
    assert first == pytest.approx(torch.tensor(512.0).log().item(), abs=1e-3)  # the head starts at zero
    assert last < first - 0.5


def test_the_chart_is_a_picture_of_sensible_size(finished):
    output_dir, _ = finished
    height, width, _ = matplotlib.image.imread(output_dir / "loss.png").shape
    assert 400 < height < width < 2000


def test_only_the_newest_checkpoints_are_kept(finished):
    output_dir, _ = finished
    assert [path.name for path in (output_dir / "checkpoints").iterdir()] == ["step_000004", "step_000006"]


def test_samples_of_all_prompts_are_printed(finished):
    _, end = finished
    assert sum(line.startswith("  ") and "|" in line for line in end.stdout.splitlines()) == 7


def test_a_chart_that_cannot_be_drawn_does_not_cost_the_model(tiny, tmp_path):
    (tmp_path / "loss.png").mkdir()  # in the way
    end = run(flags(tiny | {"output_dir": tmp_path}))
    assert end.code == 0, end.stderr
    assert f"could not draw {tmp_path / 'loss.png'}" in end.stdout
    assert (tmp_path / "model.safetensors").exists()


# Going on


def test_a_finished_run_says_so_and_is_left_alone(finished, tiny):
    output_dir, _ = finished
    before = {path: path.stat().st_mtime_ns for path in output_dir.rglob("*")}
    end = run(flags(tiny | {"output_dir": output_dir}))
    assert end.code == 0
    assert f"{output_dir} is finished already" in end.stdout
    assert {path: path.stat().st_mtime_ns for path in output_dir.rglob("*")} == before


def test_another_configuration_in_the_same_directory_names_what_differs(finished, tiny):
    output_dir, _ = finished
    end = run(flags(tiny | {"output_dir": output_dir, "depth": 2, "matrix_lr": 0.03, "save_every": 5}))
    assert_one_line(end, str(output_dir), "depth 1 there, 2 now", "matrix_lr 0.02 there, 0.03 now")
    assert "save_every" not in end.stderr  # changes no weight


def test_resume_none_refuses_to_train_over_checkpoints(finished, tiny, tmp_path):
    output_dir, _ = finished
    (tmp_path / "checkpoints").symlink_to(output_dir / "checkpoints")
    assert_one_line(run(flags(tiny | {"output_dir": tmp_path, "resume": "none"})), "step_000006", "--resume auto")


def test_resume_names_the_whole_checkpoints_if_the_path_is_none(finished, tiny, tmp_path):
    output_dir, _ = finished
    end = run(flags(tiny | {"output_dir": tmp_path, "resume": output_dir}))
    assert_one_line(end, f"{output_dir} is not a whole checkpoint")


def test_resume_path_begins_at_that_checkpoint_and_gives_the_same_run(finished, tiny, tmp_path):
    output_dir, _ = finished
    checkpoint = output_dir / "checkpoints" / "step_000004"
    end = run(flags(tiny | {"output_dir": tmp_path, "resume": checkpoint}))
    assert f"resuming from {checkpoint}, step 4" in end.stdout
    assert losses(tmp_path) == losses(output_dir)[4:]
    whole, resumed = (load_file(path / "model.safetensors") for path in (output_dir, tmp_path))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_resume_path_goes_back_to_an_older_checkpoint_of_its_own(finished, tiny, tmp_path):
    output_dir, _ = finished
    shutil.copytree(output_dir / "checkpoints", tmp_path / "checkpoints")
    checkpoint = tmp_path / "checkpoints" / "step_000004"
    end = run(flags(tiny | {"output_dir": tmp_path, "resume": checkpoint}))
    assert f"resuming from {checkpoint}, step 4" in end.stdout
    assert losses(tmp_path) == losses(output_dir)[4:]
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {"step_000004", "step_000006", "abandoned_step_000006"}, "the course left behind is kept, aside"


def test_resumed_with_another_learning_rate_the_new_one_counts(finished, tiny, tmp_path):
    output_dir, _ = finished
    still = {"matrix_lr": 0.0, "embedding_lr": 0.0, "unembedding_lr": 0.0}
    checkpoint = output_dir / "checkpoints" / "step_000004"
    assert run(flags(tiny | still | {"output_dir": tmp_path, "resume": checkpoint})).code == 0
    before, after = (load_file(path / "model.safetensors") for path in (checkpoint, tmp_path))
    assert all(torch.equal(before[name], after[name]) for name in before)


# The batch


def test_accumulated_micro_batches_are_one_large_batch(tiny, tmp_path):
    exact = tiny | {"mixed_precision": "no", "save_every": 0, "eval_every": -1}
    for rows in (1, 4):
        end = run(flags(exact | {"output_dir": tmp_path / str(rows), "device_batch_size": rows}))
        assert end.code == 0, end.stderr
    # Muon's steps in bf16 make 1e-4 of the last bits of a sum.
    assert losses(tmp_path / "1") == pytest.approx(losses(tmp_path / "4"), rel=5e-4)


# What it survives


def build_stumbling(model: torch.nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """AdamW whose third gradient is not a number."""
    calls = 0

    def spoil(gradient: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return gradient * torch.nan if calls == 3 else gradient

    model.get_output_embeddings().weight.register_hook(spoil)
    return build_adamw(model, settings)


class Exploding(torch.optim.SGD):
    """Leaves the weights alone, but for its fifth step: then some are infinite."""

    def step(self, closure=None):
        weight = self.param_groups[0]["params"][0]
        self.state[weight]["count"] = self.state[weight].get("count", 0) + 1
        if self.state[weight]["count"] == 5:
            weight.data.fill_(torch.inf)


def build_exploding(model: torch.nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    return Exploding(model.parameters(), lr=settings.matrix_lr)


def register_optimizers() -> None:
    """In the training process."""
    register_optimizer("stumbling")(build_stumbling)
    register_optimizer("exploding")(build_exploding)


def test_a_step_whose_gradient_is_not_finite_is_skipped_and_counted(tiny, tmp_path):
    arguments = tiny | {"output_dir": tmp_path, "device_batch_size": 4, "optimizer": "stumbling"}
    end = run(flags(arguments), before=register_optimizers)
    assert end.code == 0, end.stderr
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    records = [record for line in lines if "train/loss" in (record := json.loads(line, parse_constant=pytest.fail))]
    assert [record["train/skipped"] for record in records] == [0, 0, 1, 1, 1, 1]
    assert [record["train/grad_norm"] is None for record in records] == [False, False, True, False, False, False]
    assert all(math.isfinite(record["train/loss"]) for record in records)


@pytest.mark.parametrize(("save_every", "good"), [(1, "step_000004"), (3, "step_000003"), (50, None)])
def test_ten_skipped_steps_in_a_row_end_the_run_and_name_the_last_good_checkpoint(tiny, tmp_path, save_every, good):
    more = {"output_dir": tmp_path, "num_iterations": 30, "optimizer": "exploding", "save_every": save_every}
    end = run(flags(tiny | more), before=register_optimizers)
    assert_one_line(end, "not finite for 10 steps in a row, up to step 15")
    if good is None:
        assert "there is no good checkpoint" in end.stderr
        return
    path = tmp_path / "checkpoints" / good
    assert f"the last good checkpoint is {path}." in end.stderr
    assert all(weights.isfinite().all() for weights in load_file(path / "model.safetensors").values())

    rescue = tiny | {"output_dir": tmp_path / "rescue", "resume": path, "optimizer": "exploding"}
    assert f"resuming from {path}" in run(flags(rescue), before=register_optimizers).stdout


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (5, "a weight is not finite after step 5; the last good checkpoint is {}/step_000004."),
        (6, "loss or gradient was not finite at step 6; the last good checkpoint is {}/step_000004."),
        (9, "loss or gradient was not finite for 4 steps in a row, up to step 9; the last good checkpoint is {}/"),
    ],
)
def test_a_run_that_ends_not_finite_is_not_called_finished(tiny, tmp_path, steps, expected):
    more = {"output_dir": tmp_path, "num_iterations": steps, "optimizer": "exploding", "save_every": 1}
    end = run(flags(tiny | more), before=register_optimizers)
    assert_one_line(end, expected.format(tmp_path / "checkpoints"))
    assert "finished" not in end.stdout and not (tmp_path / "config.json").exists()
    for number, line in enumerate(re.findall(r"^step .*lrm.*$", end.stdout, re.MULTILINE), 1):
        assert (f"| {number - 5} skipped |" in line) == (number > 5), line


def fail_without_gradients() -> None:
    """In the training process: inference of more than one row finds no memory."""
    embed = torch.nn.Embedding.forward

    def forward(self: torch.nn.Embedding, ids: torch.Tensor) -> torch.Tensor:
        if not torch.is_grad_enabled() and len(ids) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return embed(self, ids)

    torch.nn.Embedding.forward = forward


def test_a_failing_evaluation_neither_ends_the_training_nor_changes_it(tiny, gpt2_config, tmp_path):
    dropout = tiny | {"model_config": gpt2_config}
    assert run(flags(dropout | {"output_dir": tmp_path / "never", "eval_every": -1})).code == 0
    end = run(flags(dropout | {"output_dir": tmp_path / "run"}), before=fail_without_gradients)
    assert end.code == 0, end.stderr
    assert "step 000006 | evaluation failed, training continues: CUDA out of memory." in end.stdout
    assert losses(tmp_path / "run") == losses(tmp_path / "never")


def test_validation_is_the_same_for_every_batch_and_packing_and_its_files_are_read_once(tiny, corpus, tmp_path):
    own = tmp_path / "corpus"
    shutil.copytree(corpus, own)
    tiny = tiny | {"dataset": own, "num_iterations": 30, "eval_every": 0, "matrix_lr": 0.0}
    tiny |= {"embedding_lr": 0.0, "unembedding_lr": 0.0}  # the same model whatever it trains on
    attempt = Running(flags(tiny | {"output_dir": tmp_path / "run"}))
    attempt.wait_until(lambda: losses(tmp_path / "run"))
    (own / "1.jsonl").rename(tmp_path / "validation.jsonl")
    (end,) = attempt.wait()
    assert end.code == 0, end.stderr
    (tmp_path / "validation.jsonl").rename(own / "1.jsonl")
    measured = [read_metrics(tmp_path / "run/metrics.jsonl")[-1]["val/bpb"]]
    for name, changed in {"rows": {"device_batch_size": 1}, "packed": {"packing": "concatenated"}}.items():
        assert run(flags(tiny | changed | {"output_dir": tmp_path / name})).code == 0
        measured.append(read_metrics(tmp_path / name / "metrics.jsonl")[-1]["val/bpb"])
    assert measured == pytest.approx([measured[0]] * 3, rel=1e-6)


def test_a_whole_text_trains_by_characters_and_belongs_to_its_run(tiny, tmp_path):
    text = "ROMEO:\nBut, soft! what light through yonder window breaks?\n\n" * 60
    (tmp_path / "play.txt").write_text(text)
    save_tokenizer(train_tokenizer([text], SMALLEST_VOCABULARY), tmp_path / "tokenizer")
    play = tiny | {"dataset": tmp_path / "play.txt", "tokenizer": tmp_path / "tokenizer", "eval_tokens": 10_000}
    play |= {"output_dir": tmp_path / "run", "document_separator": "whole"}
    end = run(flags(play))
    assert end.code == 0, end.stderr
    assert "trained on play.txt; held out for validation: the last 10% of it" in end.stdout
    assert f"concatenated: {len(text) * 9 // 10 + 1:,} tokens; this run sees" in end.stdout
    evaluated = [record for record in read_metrics(tmp_path / "run/metrics.jsonl") if "val/bpb" in record]
    assert len(evaluated) == 2
    for record in evaluated:  # a token is a character is a byte
        assert record["val/loss"] == pytest.approx(record["val/bpb"] * math.log(2), rel=1e-6)
        assert f"val/bpb {record['val/bpb']:.4f} | val/loss {record['val/loss']:.4f}" in end.stdout

    (tmp_path / "run" / "model.safetensors").unlink()  # unfinished, as after a kill
    assert_one_line(
        run(flags(play | {"document_separator": "lines"})), "document_separator 'whole' there, 'lines' now"
    )
    assert_one_line(
        run(
            flags(
                play
                | {"document_separator": "whole", "max_seq_len": 4096, "total_batch_size": 8192}
                | {"output_dir": tmp_path / "long"}
            )
        ),
        "do not fill one row of 4097 tokens",
    )
    assert run(flags(play)).code == 0


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on memory")
def test_out_of_memory_halves_the_device_batch_and_goes_on_as_if_begun_so(tiny, tmp_path):
    large = tiny | {"total_batch_size": 1024 * 32, "num_iterations": 1, "save_every": 0, "mixed_precision": "no"}
    end = run(
        flags(large | {"output_dir": tmp_path / "halved", "device_batch_size": 1024}),
        before=partial(limit, resource.RLIMIT_AS, 400 * 2**20),
    )
    assert end.code == 0, end.stderr
    said = re.findall(r"out of memory: continuing with device_batch_size (\d+)", end.stdout)
    assert [int(rows) for rows in said] == [512, 256, 128, 64, 32, 16][: len(said)]
    assert said

    assert run(flags(large | {"output_dir": tmp_path / "small", "device_batch_size": said[-1]})).code == 0
    assert losses(tmp_path / "halved") == losses(tmp_path / "small")


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on memory")
def test_out_of_memory_with_a_single_row_is_told_in_one_line(tiny, tmp_path):
    long = {"max_seq_len": 2**15, "device_batch_size": 1, "total_batch_size": 2**15, "packing": "concatenated"}
    long |= {"eval_every": -1}  # the validation split is shorter than such a row
    end = run(
        flags(tiny | long | {"output_dir": tmp_path, "mixed_precision": "no"}),
        before=partial(limit, resource.RLIMIT_AS, 400 * 2**20),
    )
    assert_one_line(end, "out of memory with a single row", "--gradient_checkpointing")


def test_disk_full_while_saving_leaves_the_previous_checkpoint_and_the_rerun_goes_on(tiny, finished, tmp_path):
    output_dir, _ = finished
    argv = flags(tiny | {"output_dir": tmp_path, "num_iterations": 6})
    attempt = Running(argv)
    attempt.wait_until(lambda: whole_checkpoints(tmp_path))
    attempt.kill()
    checkpoint = whole_checkpoints(tmp_path)[-1]
    before = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    full = run(argv, before=partial(limit, resource.RLIMIT_FSIZE, 2**20))

    assert_one_line(
        full, "could not write the checkpoint", f"{checkpoint} is intact", "Make room on the disk and rerun"
    )
    assert {path.name: path.read_bytes() for path in checkpoint.iterdir()} == before
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [checkpoint.name]
    assert run(argv).code == 0
    assert losses(tmp_path) == losses(output_dir)


def test_disk_full_while_the_model_is_written_loses_nothing(tiny, finished, tmp_path):
    output_dir, _ = finished
    shutil.copytree(output_dir / "checkpoints", tmp_path / "checkpoints")
    argv = flags(tiny | {"output_dir": tmp_path})
    full = run(argv, before=partial(limit, resource.RLIMIT_FSIZE, 2**20))

    assert_one_line(
        full, f"could not write the model to {tmp_path}", "checkpoints are intact", "Make room on the disk"
    )
    assert not (tmp_path / "config.json").exists()
    assert not list(tmp_path.glob(".model.*"))
    assert run(argv).code == 0
    whole, rerun = (load_file(path / "model.safetensors") for path in (output_dir, tmp_path))
    assert all(torch.equal(whole[name], rerun[name]) for name in whole)


# Other models, optimizers, machines


@pytest.mark.parametrize("architecture", ["gpt2", "nanochat"])
def test_other_models_train_from_scratch_and_onward(tiny, gpt2_config, tmp_path, architecture):
    model = {"model_config": gpt2_config} if architecture == "gpt2" else {}
    scratch = run(flags(tiny | model | {"output_dir": tmp_path / "scratch"}))
    assert scratch.code == 0, scratch.stderr
    onward = tiny | {"output_dir": tmp_path / "onward", "model_name_or_path": tmp_path / "scratch", "seed": 1}
    del onward["tokenizer"]  # that of the model
    assert (end := run(flags(onward))).code == 0, end.stderr
    assert losses(tmp_path / "onward")[0] < losses(tmp_path / "scratch")[0] - 0.3
    expected = {"gpt2": GPT2LMHeadModel, "nanochat": NanochatGPTForCausalLM}[architecture]
    assert isinstance(AutoModelForCausalLM.from_pretrained(tmp_path / "onward"), expected)


def test_adamw_trains(tiny, tmp_path):
    end = run(flags(tiny | {"output_dir": tmp_path, "optimizer": "adamw", "num_iterations": 30}))
    assert end.code == 0, end.stderr
    assert sum(losses(tmp_path)[-5:]) / 5 < losses(tmp_path)[0] - 0.3


def test_tensorboard_gets_the_figures(tiny, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    end = run(flags(tiny | {"output_dir": tmp_path, "log_with": "tensorboard"}))
    assert end.code == 0, end.stderr
    (file,) = {path.parent for path in tmp_path.rglob("events.out.tfevents.*") if path.parent.name == "nanochat"}
    log = events.EventAccumulator(str(file)).Reload()
    assert [event.step for event in log.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in log.Scalars("val/bpb")] == [3, 6]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler")
def test_compiled_losses_are_close_to_eager_ones(tiny, tmp_path):
    exact = tiny | {"mixed_precision": "no", "num_iterations": 3, "save_every": 0, "eval_every": -1}
    for compile in ("true", "false"):
        end = run(flags(exact | {"output_dir": tmp_path / compile, "compile": compile}))
        assert end.code == 0, end.stderr
        assert ("not compiled" in end.stdout) == (compile == "false")
    assert losses(tmp_path / "true") == pytest.approx(losses(tmp_path / "false"), abs=1e-3)
