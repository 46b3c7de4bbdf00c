"""The page's benchmark measures a page that is really served; how fast it is is not for a test."""

import re
import subprocess
import sys

import pytest

from benchmarks import space
from benchmarks.space import BenchmarkArguments, Chat, served
from benchmarks.space import main as run_benchmark
from evals.tokenizer.samples import DOMAINS
from recipes.utils.errors import InputError
from recipes.utils.provenance import ROOT
from tests.recipes.inference.talker import always, load_tokenizer
from tokenizer.bpe import train_tokenizer

pytestmark = [pytest.mark.slow, pytest.mark.browser]


@pytest.fixture(scope="module")
def babbler(tmp_path_factory) -> str:
    """A model that writes one letter for ever."""
    directory = tmp_path_factory.mktemp("model")
    train_tokenizer([text[:400] for text in DOMAINS.values()], 400).save_pretrained(directory)
    tokenizer = load_tokenizer(directory, 1000)
    always("a", tokenizer, context=1000).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return str(directory)


def test_the_command_prints_times_and_that_nothing_was_lost_or_mixed(babbler):
    """In a process of its own: another test's browser may be open in this one."""
    setting = f"--model {babbler} --repeats 1 --new_tokens 8 --chats 3 --seconds 2 --crowd_tokens 4"
    command = [sys.executable, "-m", "benchmarks.space", *setting.split()]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.search(r"first words on the page after \d+ ms|not measured, there is no Chromium", printed)
    assert re.search(r"^8 tokens through the page in \d+ ms, by plain generate in \d+ ms: \d+\.\d\d x$", printed, re.M)
    answers, faults = re.search(r"3 chats for 2 s: (\d+) answers, (\d+) lost or mixed", printed).groups()
    assert int(answers) >= 6 and faults == "0"
    assert re.search(r"memory: \d{3,} MB after a fifth of the time, \d{3,} MB in the end", printed)


def test_a_chat_sees_its_conversation_and_faults_are_counted(babbler, monkeypatch, capsys):
    with served(babbler) as (url, server):
        chat = Chat(url)
        chat.ask("One", 3)
        chat.ask("Two", 5)
        texts = [message["content"][0]["text"] for message in chat.shown]
        assert texts == ["One", "aaa", "Two", "aaaaa"] and chat.tokens() == 5

        asked = iter(range(10**6))
        monkeypatch.setattr(space, "ask_both", lambda chat, number, args: [{"text": str(next(asked))}])
        space.report_crowd(url, server, BenchmarkArguments(chats=1, seconds=0.1))
    assert "mixed: 0 was shown" in capsys.readouterr().out


def test_a_directory_without_a_model_is_named(tmp_path):
    with pytest.raises(InputError, match=f"{tmp_path} holds no model"):
        run_benchmark(BenchmarkArguments(model=str(tmp_path)))
