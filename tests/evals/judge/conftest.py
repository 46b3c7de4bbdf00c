"""A model whose answers are known, an instruction set, and the command."""

import json

import pytest

from evals.judge import endpoint
from evals.judge.__main__ import evaluate
from evals.tokenizer.samples import DOMAINS
from tests.evals.judge.known import ANSWERS, arguments
from tests.recipes.inference.talker import KNOWN, learn_by_heart, user
from tokenizer.bpe import train_tokenizer


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(endpoint, "WAITS", (0.01, 0.01, 0.01))


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([text[:400] for text in DOMAINS.values()], vocab_size=300)


@pytest.fixture(scope="module")
def model_dir(tokenizer, tmp_path_factory):
    """A model that gives `ANSWERS`."""
    directory = tmp_path_factory.mktemp("model")
    tokenizer.save_pretrained(directory)
    model, own_tokenizer = learn_by_heart(directory, [[user(question), *KNOWN[question]] for question in ANSWERS])
    model.save_pretrained(directory)
    own_tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def instructions(tmp_path_factory):
    path = tmp_path_factory.mktemp("instructions") / "set.json"
    rows = [{"instruction": question, "input": "", "output": f"Reference to {question}"} for question in ANSWERS]
    path.write_text(json.dumps(rows))
    return path


@pytest.fixture
def judged(model_dir, instructions, tmp_path):
    """Runs the command with a server as its judge; gives how many answers have no score, and the file."""

    def run(server, **changed):
        output = tmp_path / "judge.json"
        settings = {"model": model_dir, "instructions": instructions, "judge": server.url, "output": output}
        return evaluate(arguments(**settings | changed)), json.loads(output.read_text())

    return run
