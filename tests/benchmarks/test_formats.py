"""The table of formats: each is measured, and a quantized model is smaller and still itself."""

import re

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.utils.import_utils import is_torchao_available

from benchmarks import formats
from modeling_nanochat import NanochatGPTConfig, NanochatGPTForCausalLM
from recipes.data.corpora import open_corpus
from recipes.utils.arguments import parse_arguments
from recipes.utils.errors import InputError
from tests.modeling_nanochat.tiny import random_ids, randomized
from tokenizer.bpe import train_tokenizer

BITS = [
    pytest.param(bits, marks=pytest.mark.skipif(not is_torchao_available(), reason="needs torchao")) for bits in (8, 4)
]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    """A model of random weights, and its tokenizer."""
    directory = tmp_path_factory.mktemp("model")
    tokenizer = train_tokenizer([row["text"] for row in open_corpus("primer").validation.take(100)], 512)
    config = NanochatGPTConfig.from_depth(2, vocab_size=512, max_position_embeddings=64)
    randomized(NanochatGPTForCausalLM(config)).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture
def run(model_dir, capsys):
    """The benchmark; returns megabytes and bits per byte of each format."""

    def start(*flags: str) -> dict[str, tuple[float, float]]:
        argv = ["--model", str(model_dir), "--eval_tokens", "512", "--lora_steps", "2", *flags]
        formats.main(parse_arguments(formats.BenchmarkArguments, argv=argv))
        lines = re.findall(r"^(\S.*?) +([\d.]+) MB +([\d.]+)$", capsys.readouterr().out, re.MULTILINE)
        return {name: (float(size), float(bpb)) for name, size, bpb in lines}

    return start


@pytest.mark.skipif(not is_torchao_available(), reason="needs torchao")
def test_every_format_is_measured_and_smaller_ones_are_smaller(run):
    table = run()
    sizes = [size for size, _ in table.values()]
    assert len(table) == 6
    assert sizes[0] > sizes[1] > sizes[2] > sizes[3] and sizes[4] > sizes[0] == sizes[5]
    assert all(bpb == pytest.approx(table["fp32"][1], rel=0.1) for _, bpb in table.values())


def test_without_torchao_the_others_are_measured(run, monkeypatch):
    find = formats.importlib.util.find_spec
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None if name == "torchao" else find(name))
    table = run()
    assert list(table) == ["fp32", "bf16", "fp32 + LoRA of rank 8", "the same, merged"]
    assert table["bf16"][0] == pytest.approx(table["fp32"][0] / 2, abs=0.01)
    assert table["the same, merged"][1] == pytest.approx(table["fp32 + LoRA of rank 8"][1], abs=1e-3)
    assert table["the same, merged"][1] != table["fp32"][1]  # it has learnt something


def test_without_peft_the_table_has_no_adapters(run, monkeypatch):
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)
    assert list(run()) == ["fp32", "bf16"]


@pytest.mark.skipif(not is_torchao_available(), reason="needs torchao")
def test_weights_that_were_left_as_they_are_do_not_pass_for_int4(run):
    with pytest.raises(InputError, match="group_size 7 does not fit"):
        run("--group_size", "7")


@pytest.mark.parametrize("flag", ["--eval_tokens", "--group_size", "--lora_rank"])
def test_nothing_of_something_is_an_input_error(run, flag):
    with pytest.raises(InputError, match="must be at least 1, not 0"):
        run(flag, "0")


@pytest.mark.parametrize("bits", BITS)
def test_a_quantized_model_loads_scores_and_generates_alone_and_in_batches(model_dir, bits):
    config = formats.torchao_config(bits, 32, torch.device("cpu"))
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32, quantization_config=config)
    model.requires_grad_(False)
    assert type(model.lm_head.weight) is not torch.nn.Parameter
    ids = random_ids(4, 12, vocab_size=512)
    assert model(ids, labels=ids, skip_logits=True).loss.item() == pytest.approx(model(ids, labels=ids).loss.item())
    exact = AutoModelForCausalLM.from_pretrained(model_dir)(ids).logits.detach()
    assert torch.nn.functional.cosine_similarity(model(ids).logits, exact, dim=-1).mean() > (
        0.99 if bits == 8 else 0.8
    )
    options = {"max_new_tokens": 6, "do_sample": False}
    for rows in (ids, ids[:1]):
        assert torch.equal(model.generate(rows, **options), model.generate(rows, **options, use_cache=False))
