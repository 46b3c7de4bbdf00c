"""A run's directory in small: the files that its stages and evaluations leave, without weights."""

import json
from pathlib import Path
from typing import Any

from modeling_nanochat import NanochatGPTConfig

LAUNCH = {
    "time": "2026-01-02T03:04:05+00:00",
    "processes": 8,
    "precision": "bf16",
    "hardware": {"cpu": "A CPU", "cores": 4, "memory_gb": 16, "gpus": ["NVIDIA H100 80GB HBM3"] * 8},
    "versions": {"python": "3.11.0", "torch": "2.13.0"},
    "git": {"commit": "0123456789abcdef" * 2, "dirty": False},
}
# Of a d12 of 2026.
FEATURES = "generation 2026: value embeddings, residual scalars, smear, backout, windows of 513 tokens in 9 layers"
CONFIG = {"vocab_size": 512, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def lines(records: list[dict]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def training(steps: int, speed: float = 1000.0, **more: float) -> list[dict]:
    """Records of a stage that trains on 64 tokens a step, a second each."""
    return [
        {"step": step, "train/loss": 5.0 / step, "train/tok_per_sec": speed, "train/mfu": 0.4,
         "total_training_time": float(step), "total_training_flops": 1e6 * step, **more}
        for step in range(1, steps + 1)
    ]  # fmt: skip


def task(accuracy: float, baseline: float = 0.25, count: int = 200) -> dict:
    centered = (accuracy - baseline) / (1 - baseline)
    return {"kind": "letters", "type": "multiple_choice", "shots": 0, "cropped": 0, "count": count, "seconds": 1.0,
            "accuracy": accuracy, "baseline": baseline, "centered": centered, "too_long": 0}  # fmt: skip


CHAT = {
    "base": {"arc_easy": task(0.26), "facts": task(0.10, 0.0)},
    "sft": {"arc_easy": task(0.4321), "facts": task(0.91, 0.0)},
    "grpo": {"arc_easy": task(0.4444), "facts": task(0.9, 0.0), "gsm8k": task(0.05, 0.0) | {"pass@8": 0.2},
             "gsm8k_flexible": task(0.0789, 0.0)},
}  # fmt: skip
NOTES = ["GSM8K counts the number after `#### ` alone.", "ARC is asked in other words | than others'."]
CONVERSATION = [
    {"role": "user", "content": "How much is 12*4? <script>alert(1)</script> | a"},
    {"role": "assistant", "content": "Let me see: ", "tool_calls": [
        {"type": "function", "function": {"name": "calculator", "arguments": {"expression": "12*4"}}}]},
    {"role": "tool", "name": "calculator", "content": "48"},
    {"role": "assistant", "content": "It is 48."},
]  # fmt: skip
CORE_22 = {f"task_{number}": task(0.25 + 0.02 * number) for number in range(22)}


def core(tasks: dict, whole: bool = True) -> dict:
    mean = sum(each["centered"] for each in tasks.values()) / len(tasks)
    scores = {"core": mean if whole else None, "core_partial": None if whole else mean}
    return {"model": "x", **scores, "max_examples": None if whole else 100, "missing": [], "tasks": tasks}


def write_run(directory: Path) -> Path:
    """Base, mid, SFT and GRPO, each finished, with every file that the report knows."""
    for stage in ("base", "mid", "sft", "grpo"):
        NanochatGPTConfig(**CONFIG, max_position_embeddings=96).save_pretrained(directory / stage)
        command = f"python recipes/{stage}.py --output_dir runs/small/{stage}"
        data = {"base": "primer", "mid": "primer:mid"}.get(stage, "primer:sft")
        write(directory / stage / "launches.json", [LAUNCH | {"command": command, "data": data}])
        if stage in CHAT:
            write(directory / stage / "evals" / "chat.json", {"model": "x", "notes": NOTES, "tasks": CHAT[stage]})
    write(directory / "base" / "arguments.json", {"total_batch_size": 64, "dataset": "primer", "max_seq_len": 32})
    write(directory / "mid" / "arguments.json", {"total_batch_size": 64, "conversations": "primer:mid"})
    write(directory / "base" / "metrics.jsonl", lines([*training(40), {"step": 40, "val/bpb": 0.87654321}]))
    write(directory / "mid" / "metrics.jsonl", lines([*training(20), {"step": 20, "val/bpb": 0.5}]))
    write(directory / "sft" / "metrics.jsonl", lines([*training(10), {"step": 10, "val/loss": 0.7}]))
    errors = {"val/greedy_clustered_se": 0.0234, "val/pass@1_clustered_se": None}
    before, after = ({"step": step, "val/greedy": 0.3 + 0.001 * step, "val/pass@1": 0.2, "val/pass@8": 0.6, **errors}
                     for step in (0, 10))  # fmt: skip
    rewards = training(10, **{"train/reward": 0.5, "train/groups_with_spread": 0.375, "train/tools/call_frequency": 2})
    ends = {name: {"step": step, "working": f"[6*{step} = {6 * step}] It is {6 * step}.", "right": step > 0}
            for name, step in (("before", 0), ("after", 10))}  # fmt: skip
    shown = [{"question": "How much is 6 times 10? <b>", "answer": "60", **ends}]
    write(directory / "grpo" / "before_after.json", {"problems": shown})
    write(directory / "grpo" / "metrics.jsonl", lines([before, *rewards, after]))
    write(directory / "base" / "evals" / "core.json", core(CORE_22))
    judged = [{"instruction": "Write a line.", "input": "", "reference": "r", "answer": "A | line.", "score": 40,
               "reason": "It is one."}]  # fmt: skip
    judge = {"judge": "a-judge", "count": 1, "mean_score": 40.0, "failed": 0, "rows": judged}
    write(directory / "sft" / "evals" / "judge.json", judge)
    completions = [{"prompt": "The capital of France is", "completion": " Paris | <b>", "right": True}]
    samples = {"model": "x", "completions": completions}
    write(directory / "base" / "evals" / "samples.json", samples)
    write(directory / "grpo" / "evals" / "samples.json", samples | {"conversation": CONVERSATION})
    evaluation = {
        "bytes_per_token": {"ours": {"prose": 4.5, "code": 2.5, "French": 2.0}, "GPT-2": {"prose": 4.0, "code": 2.0}},
        "skipped": {"GPT-4": "no network"},
        "vocab_size": 512,
        "special_tokens": ["<|bos|>"],
        "token_lengths": {"1": 256, "2": 200, "30": 1},
        "longest_tokens": [{"token": " |<i>", "bytes": 30}],
    }
    write(directory / "tokenizer" / "tokenizer_evaluation.json", evaluation)
    write(directory / "tokenizer" / "launches.json", [LAUNCH | {"command": "python -m tokenizer.train --seed 0"}])
    return directory


def add_dpo(directory: Path, next_source: str) -> None:
    """A DPO stage in the directory of `write_run`, whose GRPO then began with `next_source`: sft or dpo."""
    NanochatGPTConfig(**CONFIG, max_position_embeddings=96).save_pretrained(directory / "dpo")
    launch = LAUNCH | {"command": "python recipes/dpo.py --output_dir runs/small/dpo", "data": "primer"}
    write(directory / "dpo" / "launches.json", [launch | {"source": "runs/small/sft"}])
    measured = {"val/loss": 0.5, "val/rewards/accuracies": 0.75, "val/rewards/margins": 1.25}
    records = training(10, **{"train/rewards/accuracies": 0.8, "train/rewards/margins": 1.0})
    ends = [{"step": 5, **measured}, {"step": 10, **measured, "val/rewards/accuracies": 0.875}]
    write(directory / "dpo" / "metrics.jsonl", lines([*records, *ends]))
    chat = {"facts": task(0.9, 0.0), "honesty": task(0.8, 0.0)}
    write(directory / "dpo" / "evals" / "chat.json", {"model": "x", "notes": [], "tasks": chat})
    launch = LAUNCH | {"command": "python recipes/grpo.py --output_dir runs/small/grpo", "data": "primer"}
    write(directory / "grpo" / "launches.json", [launch | {"source": f"runs/small/{next_source}"}])
