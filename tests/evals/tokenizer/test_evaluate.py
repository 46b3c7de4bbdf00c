"""Bytes per token by domain, and tokenizers that cannot be loaded."""

import json
import threading

import pytest
from matplotlib import image

from evals.report.page import Page
from evals.tokenizer.evaluate import bytes_per_token, from_transformers, load_all, table
from evals.tokenizer.report import tokenizer_blocks
from tests.tokenizer.test_train import run_module
from tokenizer.bpe import save_tokenizer


@pytest.fixture
def saved(tokenizer, tmp_path):
    save_tokenizer(tokenizer, tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


def test_bytes_are_utf8_and_special_tokens_do_not_count(saved):
    assert bytes_per_token(len, {"ascii": "abcd", "greek": "αβγ"}) == {"ascii": 1.0, "greek": 2.0}
    assert from_transformers(str(saved))("q") == 1


def test_what_cannot_be_loaded_is_skipped_with_its_reason():
    def missing():
        raise OSError("no such file\non this machine")

    def hangs():
        threading.Event().wait(60)

    loaded, skipped = load_all({"good": lambda: len, "missing": missing, "slow": hangs}, seconds=0.2)
    assert loaded == {"good": len}
    assert skipped == {"missing": "OSError: no such file on this machine", "slow": "not loaded within 0.2 s"}


def test_table_shows_the_ratio_of_ours_to_theirs():
    line = table({"prose": 5.0}, {"theirs": {"prose": 4.0}}).splitlines()[1]
    assert line.split() == ["prose", "5.00", "4.00", "(1.25x)"]


def test_command_prints_and_writes_every_domain(saved, documents, tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": f"{number} {documents[0]}"}) + "\n" for number in range(500)))
    done = run_module(
        "tokenizer.evaluate", "--tokenizer", saved, "--dataset", corpus, "--output_dir", tmp_path / "figures"
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "figures" / "tokenizer_evaluation.json").read_text())
    ours = result["bytes_per_token"]["ours"]
    assert {"prose", "code", "maths", "other languages", "Hindi", str(corpus)} <= set(ours)
    assert all(value >= 1 for value in ours.values())
    lengths = {int(size): count for size, count in result["token_lengths"].items()}
    assert sum(lengths.values()) == result["vocab_size"] - len(result["special_tokens"]) == 591
    longest = max(lengths)
    assert result["longest_tokens"][0]["bytes"] == len(result["longest_tokens"][0]["token"].encode()) == longest
    report = (tmp_path / "figures" / "tokenizer_report.md").read_text()
    for name in ("tokenizer_domains", "tokenizer_lengths"):
        assert f"(tokenizer_report/{name}.png)" in report
        assert image.imread(tmp_path / "figures" / "tokenizer_report" / f"{name}.png").std() > 0
    assert f"{ours['prose']:.2f}" in report and "600 tokens" in report
    assert "<svg" in (tmp_path / "figures" / "tokenizer_report.html").read_text()
    for name in {"GPT-2", "GPT-4", "GPT-4o"} - set(result["bytes_per_token"]):
        assert f"skipped {name}: {result['skipped'][name]}" in done.stdout


@pytest.mark.parametrize("others", [[], ["GPT-2"], ["GPT-2", "GPT-4", "GPT-4o"]])
def test_the_report_compares_with_those_references_that_there_are(others):
    values = {"prose": 4.0, "code": 2.0, "corpus.jsonl": 3.0, "French": 1.5}
    figures = {"ours": values} | {name: {key: value / 2 for key, value in values.items()} for name in others}
    page = Page("Tokenizer", tokenizer_blocks({"bytes_per_token": figures, "skipped": {"o200k": "no network"}}))
    text = page.markdown("pictures")
    assert text.count("2.00 (2.00x)") == len(others) and ("In brackets" in text) == bool(others)
    assert "o200k" in text and "corpus.jsonl" in text
    assert f"against {', '.join(others)}" in text if others else "against" not in text


@pytest.mark.slow
def test_command_names_a_missing_tokenizer(tmp_path):
    done = run_module("tokenizer.evaluate", "--tokenizer", tmp_path / "nothing")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(f"tokenizer {tmp_path / 'nothing'}: no such directory.")
