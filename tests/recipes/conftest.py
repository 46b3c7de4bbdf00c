"""A tokenizer, a corpus and arguments small enough to train in a second or two."""

import json
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from transformers import AutoTokenizer, GPT2Config

from modeling_nanochat import NanochatGPTConfig, NanochatGPTForCausalLM
from recipes.data.corpora import open_corpus
from recipes.data.messages import assistant, calculator_call, user
from recipes.training.models import set_special_tokens
from tests.recipes.inference.talker import calling, learn_by_heart
from tokenizer.bpe import train_tokenizer


@pytest.fixture
def fresh_accelerate():
    """accelerate keeps its state in the process: forget it before the test and after."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture(scope="session")
def documents() -> list[str]:
    """A few hundred documents of the primer."""
    return [row["text"] for row in open_corpus("primer").validation.take(400)]


@pytest.fixture(scope="session")
def corpus(documents, tmp_path_factory) -> Path:
    """A directory of two files: one to train on, one to validate on."""
    directory = tmp_path_factory.mktemp("corpus")
    for name, part in (("0", documents[:360]), ("1", documents[360:])):
        (directory / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in part))
    return directory


@pytest.fixture(scope="session")
def tokenizer_dir(documents, tmp_path_factory) -> Path:
    """Ours, of 512 tokens."""
    directory = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(documents, vocab_size=512).save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def tiny(corpus, tokenizer_dir) -> dict:
    """Arguments of a run of a second: everything but the output directory."""
    return {
        "dataset": corpus,
        "tokenizer": tokenizer_dir,
        "depth": 1,
        "max_seq_len": 32,
        "device_batch_size": 2,
        "total_batch_size": 128,
        "num_iterations": 6,
        "eval_every": 3,
        "eval_tokens": 256,
        "save_every": 2,
        "sample_every": -1,
        "compile": "false",
    }


@pytest.fixture(scope="session")
def gpt2_config(tmp_path_factory) -> Path:
    """config.json of a GPT-2 of one layer, with the dropout that GPT-2 has by default."""
    directory = tmp_path_factory.mktemp("gpt2")
    GPT2Config(n_layer=1, n_head=2, n_embd=32, n_positions=64).save_pretrained(directory)
    return directory / "config.json"


@pytest.fixture(scope="session")
def student(tokenizer_dir, tmp_path_factory) -> Path:
    """A model of one layer that knows nothing, with a chat template: a run's directory of its name."""
    directory = tmp_path_factory.mktemp("run") / "mid"
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir, model_max_length=96)
    config = NanochatGPTConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=96,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = NanochatGPTForCausalLM(config)
        torch.nn.init.normal_(model.lm_head.weight, std=0.01)  # or nothing before it would learn at the first step
    set_special_tokens(model, tokenizer)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def sums(tmp_path_factory) -> Path:
    """Conversations of a user's, 240 to train on and a few held out: some with the calculator, some without words."""
    lines = []
    for a in range(15):
        for b in range(16):
            call = calculator_call("It is ", f"{a}+{b}", str(a + b)) if b % 2 else []
            messages = [user(f"What is {a} plus {b}?"), *call, assistant(f"{a + b}.")]
            lines.append(json.dumps({"messages": messages}) + "\n")
    path = tmp_path_factory.mktemp("conversations") / "sums.jsonl"
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="session")
def pairs(tmp_path_factory) -> Path:
    """Preferences of a user's: a right sum, some by the calculator, to a wrong one; in both layouts."""
    lines = []
    for a in range(15):
        for b in range(16):
            call = calculator_call("It is ", f"{a}+{b}", str(a + b)) if b % 2 else []
            prompt = [user(f"What is {a} plus {b}?")]
            chosen, rejected = [*call, assistant(f"{a + b}.")], [assistant(f"Perhaps {a + b + 1}.")]
            whole = {"chosen": prompt + chosen, "rejected": prompt + rejected}
            row = whole if a % 2 else {"prompt": prompt, "chosen": chosen, "rejected": rejected}
            lines.append(json.dumps(row) + "\n")
    path = tmp_path_factory.mktemp("preferences") / "pairs.jsonl"
    path.write_text("".join(lines))
    return path


GUESSED = "Twelve times four?"  # which the guesser calculates as 12*4 or as 12+4


@pytest.fixture(scope="session")
def guesser(tokenizer_dir, tmp_path_factory) -> Path:
    """A model that calls the calculator for one question, rightly in half of its replies: a run's SFT."""
    conversations = [
        [user(GUESSED), *(call := calling("", expression)), assistant(f"It is {call[-1]['content']}.")]
        for expression in ("12*4", "12+4")
    ]
    model, tokenizer = learn_by_heart(tokenizer_dir, conversations)
    directory = tmp_path_factory.mktemp("run") / "sft"
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def guessed(tmp_path_factory) -> str:
    """Its question ten times, and once held out, in the layout of GSM8K."""
    directory = tmp_path_factory.mktemp("gsm8k")
    line = json.dumps({"question": GUESSED, "answer": "12*4 = <<12*4=48>>48\n#### 48"}) + "\n"
    for split, times in (("train", 10), ("test", 1)):
        (directory / f"{split}.jsonl").write_text(line * times)
    return f"gsm8k:{directory}"
