"""What surrounds training: the loader, a resume, generation, and a step of GRPO."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import PreTrainedTokenizerFast

from benchmarks.gpu import training
from benchmarks.gpu.arguments import GPUArguments
from benchmarks.gpu.card import dtype_of, median_seconds, timed
from benchmarks.twins import build_ours
from recipes.data.corpora import open_corpus
from recipes.data.packing import build_rows_loader
from recipes.training.checkpoints import Checkpointer, TrainingState, unwrap
from recipes.training.export import save_model
from recipes.training.loop import rows_loss
from recipes.training.models import set_special_tokens
from recipes.utils.run_directory import METRICS, read_metrics
from tokenizer.bpe import train_tokenizer

ROOT = Path(__file__).parents[2]
VOCABULARY = 4096  # of the tokenizer that is trained here
LOADER_WORKERS = 4  # as in recipes/configs/pretrain/gpu.yaml
GRPO_STEPS = 3
NEW_TOKENS = 128


def make_tokenizer(args: GPUArguments) -> PreTrainedTokenizerFast:
    """One of the embedded corpus, which takes seconds."""
    documents = (row["text"] for row in open_corpus("primer").train.take(20_000))
    return train_tokenizer(documents, min(VOCABULARY, args.vocab_size or VOCABULARY))


def measure_loader(args: GPUArguments, results: dict[str, Any]) -> dict[str, float]:
    """Tokens/s that a process's loader delivers, and how many times what it trained at most."""
    workers = LOADER_WORKERS if torch.cuda.is_available() else 0
    rows = args.rows or 8
    loader = build_rows_loader(
        open_corpus("primer").train, make_tokenizer(args), args.max_seq_len + 1, rows, num_workers=workers
    )
    batches = iter(loader)
    next(batches)  # workers have started
    count = 5 if workers == 0 else 50

    def load() -> None:
        for _ in islice(batches, count):
            pass

    speed = count * rows * args.max_seq_len / timed(load, torch.device("cpu"))
    processes = PartialState().num_processes
    trained = [each["tokens/s"] / processes for each in results.values() if "tokens/s" in each and "MFU" in each]
    return {"tokens/s": speed, "workers": workers} | ({"headroom": speed / max(trained)} if trained else {})


def measure_generation(args: GPUArguments, device: torch.device, generation: int) -> dict[str, float]:
    """Greedy tokens/s in bf16 of the first depth, one text and sixteen at a time, by both kinds of cache."""
    tokenizer = make_tokenizer(args)
    model = build_ours(tokenizer, args.depths[0], args.max_seq_len, generation).to(device, dtype_of(device))
    new, found = min(NEW_TOKENS, args.max_seq_len // 4), {}
    for batch in (1, 16):
        prompt = torch.randint(0, 256, (batch, 16), device=device)
        for cache in ("dynamic", "static"):
            options = {"do_sample": False, "cache_implementation": cache, "min_new_tokens": new, "pad_token_id": 0}

            def generate(prompt: torch.Tensor = prompt, options: dict[str, Any] = options) -> None:
                model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=new, **options)

            found[f"batch {batch}, {cache} tokens/s"] = batch * new / median_seconds(generate, device, repeats=3)
    return found


def measure_resume(args: GPUArguments, state: PartialState) -> dict[str, Any]:
    """Seconds to save and to load a checkpoint of the first depth, its size, and the two losses that must agree."""
    tokenizer = make_tokenizer(args)
    generation = args.generations[0]
    config, plan = training.plan_for(args, state, args.depths[0], generation, vocab_size=len(tokenizer))
    accelerator, model, optimizer = training.prepare(args, config, plan)
    loader = build_rows_loader(
        open_corpus("primer").train,
        tokenizer,
        args.max_seq_len + 1,
        plan.device_batch_size,
        rank=state.process_index,
        world_size=state.num_processes,
    )

    def steps(batches: Iterator[dict[str, torch.Tensor]], count: int) -> list[float]:
        losses = []
        for batch in islice(batches, count):
            loss = rows_loss(model, batch["tokens"].to(accelerator.device), batch["tokens"][:, 1:].numel())
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad(set_to_none=state.num_processes == 1)
            losses.append(loss.item())
        return losses

    directory = Path(args.output_dir, "resume")
    if state.is_main_process:
        shutil.rmtree(directory, ignore_errors=True)
    state.wait_for_everyone()
    checkpointer = Checkpointer(accelerator, unwrap(model), optimizer, directory, loader, tokenizer, keep=1)
    try:
        batches = iter(loader)
        steps(batches, 2)
        saving = timed(lambda: checkpointer.save(TrainingState(step=2)), accelerator.device)
        path = directory / "checkpoints" / "step_000002"
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        before = steps(batches, 2)
        loading = timed(lambda: checkpointer.restore(path), accelerator.device)
        after = steps(iter(loader), 2)
    finally:
        checkpointer.close()
        state.wait_for_everyone()
        if state.is_main_process:
            shutil.rmtree(directory, ignore_errors=True)
    difference = max(abs(one - other) for one, other in zip(before, after, strict=True))
    return {"save s": saving, "load s": loading, "checkpoint GB": size / 1e9, "loss differs by": difference}


def measure_grpo(args: GPUArguments, device: torch.device) -> dict[str, float]:
    """Seconds of a step of recipes/grpo.py, which runs in its own process, with a model that never ends a reply."""
    on_gpu = device.type == "cuda"
    tokenizer = make_tokenizer(args)
    with tempfile.TemporaryDirectory() as directory:
        source, output = Path(directory, "sft"), Path(directory, "grpo")
        source.mkdir()
        model = build_ours(tokenizer, args.depths[0], max(args.max_seq_len, 256), args.generations[0])
        set_special_tokens(model, tokenizer)
        save_model(model, tokenizer, source)
        flags: dict[str, Any] = {
            "source": source,
            "output_dir": output,
            "problems": "primer",
            "max_problems": 64,
            "max_steps": GRPO_STEPS,
            "num_generations": 16 if on_gpu else 2,
            "per_device_train_batch_size": 16 if on_gpu else 2,
            "max_completion_length": 256 if on_gpu else 8,
            "pass_every": -1,
            "logging_steps": 1,
        }
        words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        # Without what accelerate told this process: the other trains alone.
        outside = ("RANK", "WORLD_SIZE", "MASTER_", "LOCAL_", "GROUP_", "ROLE_", "TORCHELASTIC_", "ACCELERATE_")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(outside)}
        # And of one card: with several in sight, Trainer would take them all in one process.
        environment["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
        command = [sys.executable, "recipes/grpo.py", *words]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no message")
        seconds = [record["train/dt"] for record in read_metrics(output / METRICS) if "train/dt" in record]
    tokens = flags["per_device_train_batch_size"] * flags["max_completion_length"]
    return {"step s": min(seconds), "replies a step": flags["per_device_train_batch_size"], "tokens at most": tokens}
