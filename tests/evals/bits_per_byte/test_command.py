"""`python -m evals.bits_per_byte` as a command: the table, the file, processes, training's figure, mistakes."""

import json
import math
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertLMHeadModel, ByT5Tokenizer, T5Config, T5ForConditionalGeneration

from evals.bits_per_byte.__main__ import BitsPerByteArguments, evaluate, in_column, main
from recipes.data.corpora import open_corpus
from recipes.training.evaluations import bits_per_byte_evaluation
from recipes.utils.arguments import parse_arguments
from recipes.utils.errors import InputError
from recipes.utils.loading import load_tokenizer, load_weights
from recipes.utils.provenance import ROOT
from tests.evals.bits_per_byte.foreign import (
    TEXTS,
    gpt2_model,
    gpt2_tokenizer,
    llama_model,
    llama_tokenizer,
    save,
    word_tokenizer,
)
from tests.modeling_nanochat.tiny import random_model
from tokenizer.bpe import train_tokenizer


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Of two files, the last is held out."""
    directory = tmp_path_factory.mktemp("data")
    for name, texts in (("0", ["to train on"]), ("1", TEXTS)):
        (directory / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return directory


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Directories of models, by kind."""
    root = tmp_path_factory.mktemp("models")
    own, gpt2, llama, of_bytes = train_tokenizer(TEXTS, 300), gpt2_tokenizer(), llama_tokenizer(), ByT5Tokenizer()
    return {
        "ours": save(random_model(vocab_size=len(own)), own, root / "ours"),
        "gpt2": save(gpt2_model(len(gpt2)), gpt2, root / "gpt2"),
        "llama": save(llama_model(len(llama)), llama, root / "llama"),
        "bytes": save(gpt2_model(len(of_bytes)), of_bytes, root / "bytes"),
    }


def arguments(*words):
    return parse_arguments(BitsPerByteArguments, argv=[str(word) for word in words])


def compare(models, data, output, *words):
    """The names of failed models, and the results."""
    flags = [word for model in models for word in ("--model", model)]
    failed = evaluate(arguments(*flags, "--dataset", data, "--output", output, *words))
    return failed, json.loads(output.read_text())


def test_models_are_ranked_on_the_same_bytes(models, data, tmp_path, capsys):
    failed, results = compare(models.values(), data, tmp_path / "results.json")
    said = capsys.readouterr().out
    num_bytes = sum(len(text.encode()) for text in TEXTS)
    assert not failed and results["bytes"] == num_bytes and results["documents"] == len(TEXTS)
    assert (results["max_seq_len"], results["stride"]) == (64, 32), "the shortest context"
    found = results["models"]
    assert {each["bytes"] for each in found} == {each["reproduced_bytes"] for each in found} == {num_bytes}
    assert [each["bits_per_byte"] for each in found] == sorted(each["bits_per_byte"] for each in found)
    assert len({each["tokens"] for each in found}) == 4
    for each in found:
        assert each["loss"] * each["tokens"] == pytest.approx(each["bits_per_byte"] * math.log(2) * num_bytes)
        assert each["bytes_per_token"] == num_bytes / each["tokens"]
        assert each["perplexity"] == pytest.approx(math.exp(each["loss"]))
        assert each["more_than_best"] == pytest.approx(each["bits_per_byte"] - found[0]["bits_per_byte"])
        assert (each["standard_error"] is None) == (each is found[0])
        (line,) = (line for line in said.splitlines() if line.startswith(f"{each['model']} "))
        assert f"{each['bits_per_byte']:.4f}" in line and f"{each['tokens']:,}" in line
    assert "its tokenizer changes" not in said
    starts = {each["model"]: each["start_token"] for each in found}
    assert starts[models["gpt2"]] == "<|endoftext|>" and starts[models["llama"]] == "<s>"


def test_one_model_needs_no_other(models, data, tmp_path):
    _, results = compare([models["gpt2"]], data, tmp_path / "results.json")
    assert results["models"][0]["standard_error"] is None


def test_rows_are_those_of_validation_in_training(models, data, tmp_path):
    AcceleratorState._reset_state(reset_partial_state=True)
    tokenizer = load_tokenizer(models["ours"])
    plan = SimpleNamespace(max_seq_len=48, device_batch_size=3)
    validation = open_corpus(str(data)).validation
    in_training = bits_per_byte_evaluation(validation, tokenizer, Accelerator(cpu=True), plan, 10**6, every=1)
    expected = in_training.measure(load_weights(models["ours"], tokenizer, dtype=torch.float32))
    flags = ("--window", "rows", "--max_seq_len", 48)
    _, results = compare([models["ours"]], data, tmp_path / "results.json", *flags)
    assert results["models"][0]["bits_per_byte"] == pytest.approx(expected["val/bpb"], rel=1e-5)
    assert results["models"][0]["loss"] == pytest.approx(expected["val/loss"], rel=1e-5)


@pytest.mark.launch
def test_two_processes_give_the_figures_of_one(models, data, tmp_path):
    flags = ["--model", models["gpt2"], models["ours"], "--dataset", data, "--output"]
    evaluate(arguments(*flags, tmp_path / "one.json"))
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", 2, "--main_process_port", 0]
    launch += ["--config_file", ROOT / "accelerate_configs/cpu.yaml", "-m", "evals.bits_per_byte"]
    command = [str(word) for word in (*launch, *flags, tmp_path / "two.json")]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("± is the standard error") == 1
    one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two"))
    assert len(one["models"]) == len(two["models"]) == 2
    for mine, theirs in zip(one["models"], two["models"], strict=True):
        assert mine["model"] == theirs["model"]
        for name in ("bits_per_byte", "loss", "more_than_best", "tokens", "bytes"):
            assert mine[name] == pytest.approx(theirs[name], rel=1e-6)


@pytest.mark.parametrize("kind", ["gpt2", "bytes"])
def test_a_text_smaller_than_the_context_is_measured(models, kind, tmp_path):
    (tmp_path / "text.txt").write_text("Once upon a time.\nThere was a text.")
    flags = ("--document_separator", "lines", "--split", "train")
    _, results = compare([models[kind]], tmp_path / "text.txt", tmp_path / "results.json", *flags)
    assert 0 < results["bytes"] < 20 and results["models"][0]["tokens"] < 64


def test_a_text_read_whole_is_split_as_in_training(models, tmp_path):
    (tmp_path / "text.txt").write_text("".join(TEXTS))
    flags = ("--document_separator", "whole")
    _, held_out = compare([models["gpt2"]], tmp_path / "text.txt", tmp_path / "results.json", *flags)
    _, train = compare([models["gpt2"]], tmp_path / "text.txt", tmp_path / "train.json", *flags, "--split", "train")
    assert held_out["bytes"] + train["bytes"] == sum(len(text.encode()) for text in TEXTS)
    assert train["bytes"] > 5 * held_out["bytes"]
    _, both = compare([models["gpt2"]], tmp_path / "text.txt", tmp_path / "all.json", *flags, "--split", "all")
    assert both["bytes"] == held_out["bytes"] + train["bytes"]
    _, some = compare([models["gpt2"]], tmp_path / "text.txt", tmp_path / "some.json", *flags, "--max_bytes", 100)
    assert some["bytes"] == 100


def test_a_tokenizer_that_loses_text_is_told(models, data, tmp_path, capsys):
    lossy = save(gpt2_model(200), word_tokenizer(), tmp_path / "lossy")
    _, results = compare([lossy, models["gpt2"]], data, tmp_path / "results.json")
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "its tokenizer changes" in line)
    assert line.startswith(f"{lossy}: ") and "too few there" in line
    (found,) = (each for each in results["models"] if each["model"] == lossy)
    assert found["reproduced_bytes"] < found["bytes"] == results["bytes"]


def test_a_model_far_off_keeps_its_columns_apart_and_the_file_json(models, data, tmp_path, capsys):
    loud = load_weights(models["gpt2"], None, dtype=torch.float32)
    loud.get_output_embeddings().weight.data *= 3000
    directory = save(loud, load_tokenizer(models["gpt2"]), tmp_path / "loud")
    _, results = compare([directory, models["gpt2"]], data, tmp_path / "results.json")
    assert "Infinity" not in (tmp_path / "results.json").read_text()
    assert results["models"][1]["loss"] > 700 and results["models"][1]["perplexity"] is None
    columns = [in_column(perplexity) for perplexity in (93.604, 999_999.0, 1e6, 1e300, math.inf)]
    assert columns == ["93.60", "999999.00", "1.00e+06", "1.00e+300", "inf"]


def test_damaged_rows_can_be_skipped_as_the_message_about_them_says(models, tmp_path):
    (tmp_path / "0.jsonl").write_text('{"text": "to train on"}\n')
    (tmp_path / "1.jsonl").write_text('{"text": "Good."}\nnot JSON\n{"text": "Also good."}\n')
    with pytest.raises(InputError, match="or leave such rows out by --skip_damaged"):
        compare([models["gpt2"]], tmp_path, tmp_path / "results.out")
    _, results = compare([models["gpt2"]], tmp_path, tmp_path / "results.out", "--skip_damaged", "true")
    assert (results["documents"], results["bytes"]) == (2, len("Good.Also good."))


def test_of_a_single_passage_no_standard_error_is_told(models, tmp_path, capsys):
    (tmp_path / "text.txt").write_text("Once upon a time there was a text.")
    flags = ("--document_separator", "whole", "--split", "train")
    compare([models["gpt2"], models["ours"]], tmp_path / "text.txt", tmp_path / "results.json", *flags)
    assert "standard error" not in capsys.readouterr().out


# What fails


def spoilt(models, directory):
    save(load_weights(models["gpt2"], None, dtype=torch.float32), load_tokenizer(models["gpt2"]), directory)
    weights = load_file(directory / "model.safetensors")
    weights["transformer.wte.weight"][100] = float("nan")
    save_file(weights, directory / "model.safetensors", {"format": "pt"})
    return str(directory)


def encoder(directory):
    tokenizer = gpt2_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    return save(BertLMHeadModel(config), tokenizer, directory)


def test_a_model_that_fails_costs_no_other_its_figures(models, data, tmp_path, capsys):
    bad = [spoilt(models, tmp_path / "nan"), encoder(tmp_path / "bert")]
    failed, results = compare([bad[0], models["gpt2"], bad[1]], data, tmp_path / "results.json")
    assert failed == bad and [each["model"] for each in results["models"]] == [models["gpt2"]]
    assert "NaN" in results["failed"][bad[0]]
    assert "is not a causal LM: a BertLMHeadModel reads the tokens it is to predict." in results["failed"][bad[1]]
    said = capsys.readouterr().out
    assert f"not measured, for the reasons above: {', '.join(bad)}" in said
    with pytest.raises(SystemExit) as ended:
        main(arguments("--model", *bad[:1], models["gpt2"], "--dataset", data))
    assert ended.value.code == 1
    with pytest.raises(InputError, match="^no model could be measured"):
        main(arguments("--model", *bad, "--dataset", data))


def test_an_encoder_decoder_is_told_before_anything_is_measured(models, data, tmp_path, capsys):
    T5ForConditionalGeneration(
        T5Config(vocab_size=300, d_model=16, d_ff=16, num_layers=1, num_heads=1)
    ).save_pretrained(tmp_path / "t5")
    with pytest.raises(InputError, match="is an encoder-decoder"):
        evaluate(arguments("--model", models["gpt2"], tmp_path / "t5", "--dataset", data))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (["--max_seq_len", 65], "max_seq_len 65 is beyond the context of {gpt2}, 64 tokens: leave it out"),
        (["--stride", 65], "stride 65 would skip tokens: give at most the 64 of a window."),
        (["--window", "rows", "--stride", 8], "stride is for --window sliding: rows do not overlap."),
        (["--model", "{gpt2}/"], "model {gpt2}/ is given twice"),
        (["--model", "/no/such"], "model /no/such: no such directory"),
        (["--dataset", "/no/such.txt"], "no such file or directory: /no/such.txt."),
        (["--output", "/dev/null/x.json"], "cannot write to /dev/null/x.json"),
        (["--split", "test"], "split must be one of validation, train, all, not 'test'."),
        (["--max_bytes", 0], "max_bytes must be at least 1"),
        (["--text_column", "body"], "no key 'body'"),
    ],
)
def test_mistakes_are_told_in_one_line(models, data, changed, told):
    words = ["--model", models["gpt2"], "--dataset", data, *(str(word).format(**models) for word in changed)]
    with pytest.raises(InputError) as complaint:
        evaluate(arguments(*words))
    assert "\n" not in str(complaint.value)
    assert told.format(**models) in str(complaint.value) or "no column 'body'" in str(complaint.value)
