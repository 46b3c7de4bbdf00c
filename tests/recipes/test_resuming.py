"""A run goes on with what it began with, or says what differs: arguments, data, tokenizer, model, processes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from modeling_nanochat import NanochatGPTForCausalLM
from recipes.training.checkpoint_files import whole_checkpoints
from tests.recipes.processes import flags, run
from tests.recipes.test_exactness import assert_same_run
from tokenizer.bpe import train_tokenizer

pytestmark = pytest.mark.launch


@pytest.fixture
def place(corpus, tokenizer_dir, student, sums, tmp_path) -> Path:
    """All that the stages read, in a directory of its own, for a test to change."""
    place = tmp_path / "place"
    shutil.copytree(corpus, place / "corpus")
    shutil.copytree(tokenizer_dir, place / "tokenizer")
    shutil.copytree(student, place / "mid")
    shutil.copy(sums, place / "talk.jsonl")
    (place / "mix.yaml").write_text(f"- source: {place / 'talk.jsonl'}\n- source: spelling\n  rows: 40\n")
    return place


def arguments(stage: str, place: Path) -> dict:
    """Of a run of few steps with a checkpoint after each second one."""
    loop = {"device_batch_size": 2, "num_iterations": 4, "eval_every": -1, "sample_every": -1, "save_every": 2}
    loop |= {"compile": "false", "keep_checkpoints": 0}
    trainer = {"per_device_train_batch_size": 16, "max_steps": 4, "save_steps": 2, "logging_steps": 1}
    talk = {"source": place / "mid", "conversations": place / "talk.jsonl"}
    short = {"max_seq_len": 32, "total_batch_size": 128}
    return {
        "pretrain": loop | short | {"dataset": place / "corpus", "tokenizer": place / "tokenizer", "depth": 1},
        "midtrain": loop | talk | {"max_seq_len": 64, "total_batch_size": 512},
        "sft": trainer | talk | {"eval_steps": 2, "eval_rows": 8, "conversations": place / "mix.yaml"},
        "dpo": trainer | {"source": place / "mid", "preferences": place / "pairs.jsonl", "eval_steps": 2},
        "grpo": trainer | {
            "source": place / "mid", "problems": f"gsm8k:{place / 'gsm8k'}", "num_generations": 4,
            "max_completion_length": 4, "pass_every": -1, "max_steps": 2, "save_steps": 1,
        },
    }[stage]  # fmt: skip


def begin(stage: str, place: Path, processes: int = 1) -> dict:
    """Train, and make it a run that is halfway: its last checkpoint and its model are gone. Returns its arguments."""
    (place / "gsm8k").mkdir()
    with (place / "pairs.jsonl").open("w") as file:
        for n in range(80):
            texts = {"prompt": ("user", f"{n}?"), "chosen": ("assistant", "Yes."), "rejected": ("assistant", "No.")}
            row = {key: [{"role": role, "content": text}] for key, (role, text) in texts.items()}
            file.write(json.dumps(row) + "\n")
    for split, count in (("train", 40), ("test", 4)):
        rows = [{"question": f"What is {n}+1?", "answer": f"#### {n + 1}"} for n in range(count)]
        (place / "gsm8k" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = arguments(stage, place) | {"output_dir": place / "run"}
    end = run(flags(given), processes, script=stage)
    assert end.code == 0, end.stderr
    shutil.copytree(place / "run", place / "undisturbed")
    (place / "run" / "config.json").unlink()
    shutil.rmtree(whole_checkpoints(place / "run")[-1])
    return given


def complaint(stage: str, given: dict) -> str:
    """The line that a command ends with, without a traceback."""
    end = run(flags(given), script=stage)
    assert end.code == 2, end.stderr or end.stdout
    return end.stderr.splitlines()[-1]


def more_text(place: Path) -> None:
    (place / "corpus" / "2.jsonl").write_text(json.dumps({"text": "More."}) + "\n")


def edited_text(place: Path) -> None:
    path = place / "corpus" / "0.jsonl"
    content = bytearray(path.read_bytes())
    at = content.index(b"e", len(content) // 2)
    content[at : at + 1] = b"a"
    path.write_bytes(content)


def other_tokenizer(place: Path) -> None:
    texts = [json.loads(line)["text"] for line in (place / "corpus" / "1.jsonl").open()]
    train_tokenizer(texts, vocab_size=512).save_pretrained(place / "tokenizer")


def other_weights(place: Path) -> None:
    model = NanochatGPTForCausalLM.from_pretrained(place / "mid")
    torch.nn.init.normal_(model.lm_head.weight, std=0.02)
    model.save_pretrained(place / "mid")


def longer_talk(place: Path) -> None:
    talk = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
    with (place / "talk.jsonl").open("a") as file:
        file.write(json.dumps({"messages": talk}) + "\n")


def other_mixture(place: Path) -> None:
    (place / "mix.yaml").write_text((place / "mix.yaml").read_text().replace("rows: 40", "rows: 41"))


def other_problems(place: Path) -> None:
    (place / "gsm8k" / "train.jsonl").write_text(
        (place / "gsm8k" / "train.jsonl").read_text().replace("#### 7", "#### 8")
    )


def other_pairs(place: Path) -> None:
    (place / "pairs.jsonl").write_text((place / "pairs.jsonl").read_text().replace("Yes.", "Yes!"))


def elsewhere(place: Path) -> None:
    """Everything, the run included, moves to another directory."""
    target = place / "moved"
    target.mkdir()
    for path in list(place.iterdir()):
        if path not in (target, place / "undisturbed"):
            path.rename(target / path.name)
    mixture = target / "mix.yaml"
    mixture.write_text(mixture.read_text().replace(f"{place}/", f"{target}/"))


CHANGES: dict[str, list[tuple[Callable[[Path], None] | None, dict, str]]] = {
    "pretrain": [
        (more_text, {}, "--dataset 2.jsonl: new"),
        (edited_text, {}, "--dataset 0.jsonl: other content"),
        (other_tokenizer, {}, "--tokenizer tokenizer.json: "),
        (None, {"dataset": "primer"}, "corpus' there, 'primer' now; --dataset 0.jsonl: missing"),
        (None, {"total_batch_size": 256}, "total_batch_size 128 there, 256 now"),
        (None, {"num_iterations": 5}, "num_iterations 4 there, 5 now"),
    ],
    "midtrain": [
        (longer_talk, {}, "--conversations talk.jsonl: size "),
        (other_weights, {}, "--source model.safetensors: other content"),
        (None, {"conversations": "spelling"}, "--conversations talk.jsonl: missing"),
        (None, {"init_lr_frac": 0.5}, "init_lr_frac 1.0 there, 0.5 now"),
    ],
    "sft": [
        (longer_talk, {}, "--conversations entry 1: talk.jsonl: size "),
        (other_mixture, {}, "--conversations mix.yaml: other content"),
        (other_weights, {}, "--source model.safetensors: other content"),
        (None, {"conversations": "spelling"}, "mix.yaml' there, 'spelling' now; --conversations mix.yaml: missing"),
        (None, {"per_device_train_batch_size": 32}, "per_device_train_batch_size 16 there, 32 now"),
        (None, {"use_peft": "true"}, "use_peft False there, True now"),
        (None, {"save_only_model": "true"}, "save_only_model leaves optimizer and random state out"),
    ],
    "dpo": [
        (other_pairs, {}, "--preferences pairs.jsonl: other content"),
        (other_weights, {}, "--source model.safetensors: other content"),
        (None, {"preferences": "primer"}, "pairs.jsonl' there, 'primer' now; --preferences pairs.jsonl: missing"),
        (None, {"beta": 0.2}, "beta 0.1 there, 0.2 now"),
        (None, {"loss_type": "ipo"}, "loss_type ['sigmoid'] there, ['ipo'] now"),
    ],
    "grpo": [
        (other_problems, {}, "--problems train.jsonl: "),
        (other_weights, {}, "--source model.safetensors: other content"),
        (None, {"num_generations": 8}, "num_generations 4 there, 8 now"),
        (None, {"temperature": 0.7}, "temperature 1.0 there, 0.7 now"),
    ],
}  # fmt: skip

FREE = {
    "pretrain": {"save_every": 3, "log_every": 1, "eval_tokens": 512},
    "midtrain": {"num_workers": 2, "save_every": 3, "sample_every": 100},
    "sft": {"save_total_limit": 5, "run_name": "x", "dataloader_num_workers": 1, "eval_rows": 8},
    "dpo": {"save_total_limit": 5, "run_name": "x", "eval_rows": 400},
    "grpo": {"save_total_limit": 5, "disable_tqdm": "true", "per_device_eval_batch_size": 4},
}


@pytest.mark.slow
@pytest.mark.parametrize("stage", CHANGES)
def test_a_run_goes_on_as_it_began_or_names_what_differs(place, stage):
    given = begin(stage, place)
    keep = shutil.copytree(place, place.parent / "kept")
    for change, flag, expected in CHANGES[stage]:
        if change is not None:
            change(place)
        line = complaint(stage, given | flag)
        assert expected in line, (change, flag)
        assert line.startswith(f"{stage}: ") and ("choose another output_dir" in line or "save_only_model" in line)
        if change is not None:
            shutil.rmtree(place)
            shutil.copytree(keep, place)

    elsewhere(place)
    moved = {
        name: str(value).replace(str(place), str(place / "moved")) for name, value in (given | FREE[stage]).items()
    }
    end = run(flags(moved), script=stage)
    assert end.code == 0, end.stderr
    assert_same_run(place / "moved" / "run", place / "undisturbed")


def test_a_row_mended_before_the_first_checkpoint_needs_no_other_directory(place):
    path = place / "corpus" / "0.jsonl"
    whole = path.read_text()
    lines = whole.splitlines()
    path.write_text("\n".join([*lines[:140], "{damaged", *lines[140:]]))
    large = {"total_batch_size": 2048, "device_batch_size": 64, "packing": "concatenated", "num_iterations": 20}
    given = arguments("pretrain", place) | large | {"output_dir": place / "run", "save_every": 0}
    assert "line 141: not valid JSON" in complaint("pretrain", given)
    assert (place / "run" / "inputs.json").exists(), "it had noted what it reads"
    path.write_text(whole)
    end = run(flags(given))
    assert end.code == 0, end.stderr


@pytest.mark.slow
def test_another_number_of_processes_is_refused_by_sft_in_one_line(place):
    given = begin("sft", place, processes=2)
    assert "num_processes 2 there, 1 now" in complaint("sft", given)
