"""SFT as its users meet it: what it learns, keeps and leaves, from our models and others'."""

import json
import shutil
import signal
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)

from recipes.data.conversations import open_conversations
from recipes.data.messages import assistant, user
from recipes.inference.generate import Sampling, generate_replies
from recipes.utils.run_directory import read_metrics
from tests.recipes import processes
from tests.recipes.processes import Running, flags
from tests.recipes.test_exactness import assert_same_run, assert_same_tensors
from tests.recipes.test_pretrain import register_optimizers
from tokenizer.chat import encode_conversation
from tokenizer.special_tokens import SPECIAL_TOKENS

pytestmark = pytest.mark.launch

run = partial(processes.run, script="sft")


@pytest.fixture(scope="module")
def sft(student, sums) -> dict:
    """Arguments of a run of a second: everything but the output directory."""
    return {
        "source": student,
        "conversations": sums,
        "per_device_train_batch_size": 16,
        "init_lr_frac": 0.5,
        "logging_steps": 1,
        "eval_steps": 5,
        "save_steps": 5,
    }


@pytest.fixture(scope="module")
def finished(sft, tmp_path_factory) -> tuple[Path, processes.Finished]:
    """A run that nobody disturbed, and what it printed."""
    output_dir = tmp_path_factory.mktemp("finished")
    end = run(flags(sft | {"output_dir": output_dir}))
    assert end.code == 0, end.stderr
    return output_dir, end


def records_with(key: str, output_dir: Path) -> list[dict]:
    return [record for record in read_metrics(output_dir / "metrics.jsonl") if key in record]


def checkpoints(output_dir: Path) -> dict[int, Path]:
    return {int(path.name[11:]): path for path in (output_dir / "checkpoints").glob("checkpoint-*")}


def complaint(arguments: dict) -> str:
    """The one line that the command ends with."""
    end = run(flags(arguments))
    assert end.code == 2, end.stderr or end.stdout
    (line,) = end.stderr.splitlines()
    assert line.startswith("sft: ")
    return line


def chat(directory: Path, text: str = "What is 3 plus 4?") -> str:
    """What a model says, by nothing but transformers."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory)
    prompt = tokenizer.apply_chat_template([user(text)], add_generation_prompt=True, return_tensors="pt")
    written = model.generate(**prompt, max_new_tokens=20, do_sample=False)
    return tokenizer.decode(written[0, prompt["input_ids"].size(1) :])


# A run


def test_it_learns_and_says_so_in_the_keys_of_pretraining(finished):
    output_dir, _ = finished
    trained, evaluated = (records_with(key, output_dir) for key in ("train/loss", "val/loss"))
    assert [record["step"] for record in trained] == list(range(1, 16)), "one pass over 237 conversations"
    assert trained[-1]["train/loss"] < trained[0]["train/loss"] / 2
    assert [record["step"] for record in evaluated] == [5, 10, 15]
    assert evaluated[-1]["val/loss"] < evaluated[0]["val/loss"]
    assert trained[0].keys() >= {
        *("step", "epoch", "train/loss", "train/lrm", "train/dt", "train/tok_per_sec", "train/mfu"),
        *("train/grad_norm", "total_training_time", "total_training_flops"),
    }


def test_the_learning_rate_falls_in_a_line_to_0(finished):
    multipliers = [record["train/lrm"] for record in records_with("train/loss", finished[0])]
    assert multipliers == pytest.approx([1 - step / 15 for step in range(15)])


def test_the_optimizer_is_muon_at_its_share_of_pretrainings_learning_rates(finished):
    output_dir, _ = finished
    groups = torch.load(checkpoints(output_dir)[15] / "optimizer.pt", weights_only=True)["param_groups"]
    width = (64 / 768) ** -0.5
    assert [(group["kind"], len(group["params"])) for group in groups] == [("muon", 6), ("adamw", 1), ("adamw", 1)]
    assert [group["initial_lr"] for group in groups] == pytest.approx([0.01, 0.1 * width, 0.002 * width])


def test_the_finished_model_chats_and_stops_where_its_turn_or_a_call_ends(finished):
    output_dir, _ = finished
    said = chat(output_dir)
    assert said.endswith(("<|assistant_end|>", "<|python_end|>")), said
    tokenizer = AutoTokenizer.from_pretrained(output_dir)
    stops = tokenizer.convert_tokens_to_ids(["<|assistant_end|>", "<|python_end|>"])
    assert GenerationConfig.from_pretrained(output_dir).eos_token_id == stops
    assert (output_dir / "loss.png").exists() and (output_dir / "modeling_nanochat.py").exists()


def test_a_finished_directory_is_left_alone(sft, finished):
    output_dir, _ = finished
    before = (output_dir / "model.safetensors").stat().st_mtime_ns
    end = run(flags(sft | {"output_dir": output_dir}))
    assert end.code == 0 and "is finished already" in end.stdout
    assert (output_dir / "model.safetensors").stat().st_mtime_ns == before


def test_a_stage_is_found_beside_the_output_and_adamw_trains_it(sft, student):
    output_dir = student.parent / "sft"
    end = run(flags(sft | {"source": "mid", "optimizer": "adamw", "max_steps": 5, "output_dir": output_dir}))
    assert end.code == 0, end.stderr
    assert f"model {student}" in end.stdout
    groups = torch.load(checkpoints(output_dir)[5] / "optimizer.pt", weights_only=True)["param_groups"]
    assert not any("kind" in group for group in groups)
    losses = [record["train/loss"] for record in records_with("train/loss", output_dir)]
    assert losses[-1] < losses[0]


def test_packed_it_takes_fewer_steps_over_the_same_tokens(sft, finished, tmp_path):
    packed = {"packing": "true", "per_device_train_batch_size": 8, "output_dir": tmp_path}
    end = run(flags(sft | packed))
    assert end.code == 0, end.stderr
    losses = [record["train/loss"] for record in records_with("train/loss", tmp_path)]
    assert len(losses) < 15 and losses[-1] < losses[0] * 0.7
    assert (tmp_path / "config.json").exists()


def test_gradients_accumulated_over_two_batches_are_those_of_one(sft, finished, tmp_path):
    halves = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2, "max_steps": 2}
    end = run(flags(sft | halves | {"output_dir": tmp_path}))
    assert end.code == 0, end.stderr
    assert_same_steps(tmp_path, finished[0])


@pytest.mark.slow
def test_two_processes_make_the_steps_of_one_with_twice_the_batch(sft, finished, tmp_path):
    end = run(flags(sft | {"per_device_train_batch_size": 8, "output_dir": tmp_path}), 2)
    assert end.code == 0, end.stderr
    assert_same_steps(tmp_path, finished[0])
    assert len(records_with("train/loss", tmp_path)) == 15
    assert end.stdout.count("finished:") == 1
    assert "Warning" not in end.stderr


def assert_same_steps(one: Path, other: Path) -> None:
    """The first step's loss and gradient are the same, up to rounding; the second's too, so the update was."""
    for step in (0, 1):
        mine, theirs = (records_with("train/loss", path)[step] for path in (one, other))
        for key in ("train/loss", "train/grad_norm"):
            assert mine[key] == pytest.approx(theirs[key], rel=2e-2 if step else 5e-3), (step, key)


# Best, last and stopped


def test_early_stopping_ends_a_run_that_gets_worse_and_the_best_is_the_result(sft, finished, tmp_path):
    worse = {"source": finished[0], "init_lr_frac": 300, "warmup_steps": 15}  # the first step has a rate of 0
    arguments = sft | worse | {"eval_steps": 1, "save_steps": 1, "output_dir": tmp_path}
    end = run(flags(arguments | {"early_stopping": "true", "early_stopping_patience": 2}))
    assert end.code == 0, end.stderr
    losses = {record["step"]: record["val/loss"] for record in records_with("val/loss", tmp_path)}
    best, last = min(losses, key=losses.get), max(losses)
    assert last == best + 2 < 15
    assert checkpoints(tmp_path).keys() == {best, last}
    result = load_file(tmp_path / "model.safetensors")
    assert_same_tensors(result, load_file(checkpoints(tmp_path)[best] / "model.safetensors"))


def test_killed_and_stopped_and_run_again_it_equals_the_undisturbed_run(sft, finished, tmp_path):
    argv = flags(sft | {"output_dir": tmp_path})
    attempt = Running(argv, script="sft")
    attempt.wait_until(lambda: len(records_with("train/loss", tmp_path)) >= 7)
    assert attempt.kill() == [-signal.SIGKILL]
    attempt = Running(argv, script="sft")
    attempt.wait_until(lambda: len(records_with("train/loss", tmp_path)) >= 8)
    attempt.signal(signal.SIGTERM)
    (end,) = attempt.wait()
    assert end.code == 0, end.stderr
    stopped_at = max(checkpoints(tmp_path))
    assert f"checkpoint-{stopped_at} is saved, the same command resumes from it" in end.stdout
    assert stopped_at < 15 and not (tmp_path / "config.json").exists()

    assert run(argv).code == 0
    assert_same_run(tmp_path, finished[0])
    records = records_with("train/loss", tmp_path)
    seconds = [record["total_training_time"] for record in records]
    assert seconds == sorted(seconds)
    tokens = [record["train/tok_per_sec"] * record["train/dt"] for record in records]
    assert max(tokens) < 16 * 40, "a resumed run counts its own tokens only"


def test_killed_before_it_could_save_the_model_it_only_saves_the_model(sft, finished, tmp_path):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).unlink()
    for name in ("trainer_state.json", "optimizer.pt"):  # of a checkpoint that was not whole
        path = tmp_path / "checkpoints" / "checkpoint-99" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("{")
    end = run(flags(sft | {"output_dir": tmp_path}))
    assert end.code == 0, end.stderr
    assert_same_run(tmp_path, finished[0])


# Adapters and quantized models


@pytest.mark.parametrize("bits", [None, 4, 8])
def test_adapters_are_merged_into_a_model_that_loads_without_them(sft, student, tmp_path, bits):
    quantized = {f"load_in_{bits}bit": "true"} if bits else {}
    end = run(flags(sft | quantized | {"use_peft": "true", "init_lr_frac": 2, "output_dir": tmp_path}))
    assert end.code == 0, end.stderr
    assert "Warning" not in end.stderr and "MatMul8bitLt" not in end.stderr
    trained, evaluated = (records_with(key, tmp_path) for key in ("train/loss", "val/loss"))
    assert trained[-1]["train/loss"] < trained[0]["train/loss"] - 0.2

    before, after = (load_file(path / "model.safetensors") for path in (student, tmp_path))
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if ".layers." in name}, "all linear layers, nothing else"
    assert {tensor.dtype for tensor in after.values()} == {torch.float32}
    assert load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert "quantization_config" not in json.loads((tmp_path / "config.json").read_text())
    lowest = min(record["val/loss"] for record in evaluated)
    assert held_out_loss(tmp_path, sft["conversations"]) == pytest.approx(lowest, abs=0.05 if bits else 0.01)


def test_the_same_seed_gives_the_same_adapters(sft, gpt2, tmp_path):
    for name in "ab":
        new = {"source": gpt2, "use_peft": "true", "max_steps": 1, "output_dir": tmp_path / name}
        assert run(flags(sft | new)).code == 0
    assert_same_tensors(*(load_file(tmp_path / name / "model.safetensors") for name in "ab"))


def held_out_loss(directory: Path, conversations: Path) -> float:
    """Mean loss over what the assistant says in the held-out conversations, of a model as it was saved."""
    tokenizer, model = AutoTokenizer.from_pretrained(directory), AutoModelForCausalLM.from_pretrained(directory)
    total = count = 0
    for row in open_conversations(str(conversations), "validation"):
        ids, mask = (torch.tensor([each]) for each in encode_conversation(tokenizer, row["messages"]))
        losses = torch.nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:], reduction="none")
        total, count = total + losses[mask[0, 1:] == 1].sum().item(), count + mask.sum().item()
    return total / count


# Other models


@pytest.fixture(scope="module")
def gpt2(documents, tmp_path_factory) -> Path:
    """A GPT-2 of one layer with a tokenizer like its own: bytes, `<|endoftext|>`, no bos in front, no template."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    options = {"initial_alphabet": alphabet, "special_tokens": ["<|endoftext|>"], "show_progress": False}
    backend.train_from_iterator(documents, trainers.BpeTrainer(vocab_size=400, **options))
    end = "<|endoftext|>"
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=end, eos_token=end, unk_token=end)
    directory = tmp_path_factory.mktemp("gpt2")
    tokenizer.save_pretrained(directory)
    GPT2LMHeadModel(
        GPT2Config(vocab_size=400, n_layer=1, n_head=2, n_embd=32, n_positions=96, bos_token_id=0, eos_token_id=0)
    ).save_pretrained(directory)
    return directory


@pytest.mark.parametrize("adapted", [False, True], ids=["whole", "adapters"])
def test_gpt2_gets_the_template_and_its_embeddings_grow(sft, gpt2, tmp_path, adapted):
    given = {"use_peft": "true"} if adapted else {}
    end = run(flags(sft | given | {"source": gpt2, "output_dir": tmp_path, "num_train_epochs": 2}))
    assert end.code == 0 and not end.stderr, end.stderr  # nor of its tied head, or of the embeddings that are new
    trained, evaluated = (records_with(key, tmp_path) for key in ("train/loss", "val/loss"))
    assert trained[-1]["train/loss"] < trained[0]["train/loss"] - (0.05 if adapted else 1)
    lowest = min(record["val/loss"] for record in evaluated)
    assert held_out_loss(tmp_path, sft["conversations"]) == pytest.approx(lowest, abs=0.02)

    tokenizer, model = AutoTokenizer.from_pretrained(tmp_path), AutoModelForCausalLM.from_pretrained(tmp_path)
    assert tokenizer.convert_ids_to_tokens(range(400, 409)) == list(SPECIAL_TOKENS)
    assert len(tokenizer) == model.config.vocab_size == 409
    (reply,) = generate_replies(model, tokenizer, [[user("What is 3 plus 4?")]], Sampling(max_new_tokens=8))
    assert reply[-1]["role"] == "assistant"
    assert chat(tmp_path)


def test_a_run_whose_weights_are_not_finite_ends_and_is_not_called_finished(sft, tmp_path):
    more = {"output_dir": tmp_path, "optimizer": "exploding", "save_steps": 2, "eval_steps": 2}
    end = run(flags(sft | more), before=register_optimizers)
    assert end.code == 2 and "finished" not in end.stdout, end.stderr
    *_, line = end.stderr.splitlines()
    good = tmp_path / "checkpoints" / "checkpoint-4"
    assert line.startswith("sft: the weights are not finite, or too large to compute with, after step 5; ")
    assert f"the last good checkpoint is {good}. " in line
    assert all(weight.isfinite().all() for weight in load_file(good / "model.safetensors").values())
    assert not (tmp_path / "config.json").exists()


# Bad input


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"source": "./nowhere"}, "model ./nowhere: no such directory"),
        ({"source": "sft"}, "sft holds no config.json"),
        ({"conversations": "nonsense"}, "no conversations called 'nonsense'"),
        ({"load_in_4bit": "true"}, "a model in 4 or 8 bits cannot be trained whole: add --use_peft"),
        ({"load_in_8bit": "true"}, "a model in 4 or 8 bits cannot be trained whole: add --use_peft"),
        ({"learning_rate": 1e-4}, "learning_rate has no effect here: use --init_lr_frac"),
        ({"model_name_or_path": "gpt2"}, "model_name_or_path has no effect here: use --source"),
        ({"eval_strategy": "no", "early_stopping": "true"}, "--early_stopping needs evaluations"),
        ({"save_steps": 10}, "save_steps 10 must equal eval_steps 5"),
        ({"max_length": 200}, "max_length 200 is beyond the model's context of 96 tokens"),
        ({"max_length": 4}, "conversations fits into 4 tokens"),
        ({"optimizer": "sgd"}, "unknown optimizer 'sgd'"),
        ({"resume": "./nowhere"}, "--resume ./nowhere is not a whole checkpoint"),
        ({"earlystopping": "true"}, "did you mean early_stopping?"),
    ],
)
def test_what_cannot_be_is_one_clear_line(sft, tmp_path, wrong, expected):
    assert expected in complaint(sft | wrong | {"output_dir": tmp_path / "sft"})


def test_what_does_not_fit_is_cut_at_a_message_or_dropped_and_counted(sft, tmp_path):
    fitting = [user("Hello!"), assistant("Hi.")]
    too_much = [*fitting, user("word " * 100), assistant("Yes.")]
    hopeless = [user("word " * 100), assistant("Yes.")]
    rows = [[*fitting, user(str(i)), assistant("Ok.")] for i in range(20)] + 3 * [too_much] + 2 * [hopeless]
    path = tmp_path / "long.jsonl"
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    end = run(flags(sft | {"conversations": path, "per_device_train_batch_size": 1, "output_dir": tmp_path / "sft"}))
    assert end.code == 0, end.stderr
    (warning,) = [line for line in end.stderr.splitlines() if "do not fit into 96 tokens" in line]
    assert "truncated 3 and dropped 2 of" in warning
    losses = [record["train/loss"] for record in records_with("train/loss", tmp_path / "sft")]
    assert None not in losses and len(losses) >= 20

    path.write_text("".join(json.dumps({"messages": [user("word " * n), assistant("Yes.")]}) + "\n" for n in (99, 98)))
    line = complaint(sft | {"conversations": path, "output_dir": tmp_path / "none"})
    assert "none of the 1 conversations fits into 96 tokens" in line
