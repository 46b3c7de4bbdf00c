"""Conversions keep every weight and every token, and refuse what they cannot keep."""

import json
import pickle
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, NanoChatForCausalLM

from evals.tokenizer.samples import DOMAINS
from modeling_nanochat import NanochatGPTForCausalLM
from recipes import midtrain, sft
from recipes.convert.__main__ import ConvertArguments
from recipes.convert.__main__ import main as convert_main
from recipes.data.corpora import open_corpus
from recipes.data.sources import SOURCES
from recipes.training.arguments import MidtrainArguments
from recipes.training.models import set_special_tokens
from recipes.training.posttraining_arguments import ModelArguments, SFTArguments
from recipes.utils.arguments import parse_arguments
from recipes.utils.errors import InputError
from tests.modeling_nanochat.tiny import random_ids, random_model
from tests.recipes.originals import encoding_of, make_encoding, original_logits, random_weights, write_original
from tokenizer.encode import encode_documents

PROMPTS, LENGTH = 100, 48
TALK = [{"role": "user", "content": "What is 12*4?"}]


@pytest.fixture
def convert(monkeypatch):
    """`python -m recipes.convert`, with flags as keywords; returns the new directory."""

    def run(source: Path, output_dir: Path, to: str, **flags) -> Path:
        convert_main(ConvertArguments(source=source, output_dir=output_dir, to=to, **flags))
        return output_dir

    return run


@pytest.fixture(scope="module")
def ours(tokenizer_dir, tmp_path_factory) -> Path:
    """A checkpoint of ours: random weights, grouped-query attention."""
    directory = tmp_path_factory.mktemp("ours")
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    model = random_model(vocab_size=len(tokenizer), num_key_value_heads=2, rope_theta=5000.0)
    set_special_tokens(model, tokenizer)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def encoding():
    return make_encoding([row["text"] for row in open_corpus("primer").validation.take(200)], 600)


@pytest.fixture(scope="module")
def original(encoding, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("original")
    write_original(directory, encoding)
    return directory


def logits(directory: Path, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)(ids).logits


def assert_same_logits(actual: torch.Tensor, expected: torch.Tensor) -> None:
    assert expected.std() > 1  # they say something
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)


# Ours and transformers' own


def test_nanochat_gives_the_same_logits_and_back_the_same_weights(convert, ours, tmp_path):
    theirs = convert(ours, tmp_path / "theirs", "nanochat")
    back = convert(theirs, tmp_path / "back", "ours")
    ids = random_ids(PROMPTS, LENGTH, vocab_size=512)
    assert type(AutoModelForCausalLM.from_pretrained(theirs)) is NanoChatForCausalLM
    assert_same_logits(logits(theirs, ids), logits(ours, ids))
    assert type(AutoModelForCausalLM.from_pretrained(back)) is NanochatGPTForCausalLM
    before, after = load_file(ours / "model.safetensors"), load_file(back / "model.safetensors")
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert json.loads((back / "config.json").read_text()) == json.loads((ours / "config.json").read_text())
    assert {"modeling_nanochat.py", "configuration_nanochat.py"} <= {path.name for path in back.iterdir()}


def test_tokenizer_template_and_generation_config_come_along(convert, ours, tmp_path):
    theirs = convert(ours, tmp_path / "theirs", "nanochat")
    assert not list(theirs.glob("*.py")) and "auto_map" not in json.loads((theirs / "config.json").read_text())
    before, after = (AutoTokenizer.from_pretrained(directory) for directory in (ours, theirs))
    assert after.get_vocab() == before.get_vocab()
    assert after.apply_chat_template(TALK, add_generation_prompt=True) == before.apply_chat_template(
        TALK, add_generation_prompt=True
    )
    assert after.response_template == before.response_template
    model = AutoModelForCausalLM.from_pretrained(theirs)
    assert model.generation_config.eos_token_id == before.convert_tokens_to_ids(
        ["<|assistant_end|>", "<|python_end|>"]
    )
    inputs = before.apply_chat_template(TALK, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    expected = AutoModelForCausalLM.from_pretrained(ours).generate(**inputs, max_new_tokens=20, do_sample=False)
    assert torch.equal(model.generate(**inputs, max_new_tokens=20, do_sample=False), expected)


def test_a_model_without_special_tokens_converts_and_back(convert, tokenizer_dir, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    random_model(vocab_size=len(tokenizer)).save_pretrained(tmp_path / "ours")
    tokenizer.save_pretrained(tmp_path / "ours")
    early = json.loads((tmp_path / "ours" / "config.json").read_text())
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        early.pop(name, None)
    (tmp_path / "ours" / "config.json").write_text(json.dumps(early))
    theirs = convert(tmp_path / "ours", tmp_path / "theirs", "nanochat")
    back = convert(theirs, tmp_path / "back", "ours")
    for directory in (theirs, back):
        config = AutoModelForCausalLM.from_pretrained(directory).config
        assert config.bos_token_id is None and config.eos_token_id is None and config.pad_token_id is None
    ids = random_ids(1, 9, vocab_size=512)
    written = [
        AutoModelForCausalLM.from_pretrained(directory).generate(ids, max_new_tokens=9, do_sample=False)
        for directory in (tmp_path / "ours", theirs, back)
    ]
    assert torch.equal(written[0], written[1]) and torch.equal(written[0], written[2]) and written[0].size(1) == 18


def test_weights_in_bf16_stay_in_bf16(convert, ours, tmp_path):
    half = AutoModelForCausalLM.from_pretrained(ours, dtype=torch.bfloat16)
    half.save_pretrained(tmp_path / "half")
    AutoTokenizer.from_pretrained(ours).save_pretrained(tmp_path / "half")
    theirs = convert(tmp_path / "half", tmp_path / "theirs", "nanochat")
    weights = load_file(theirs / "model.safetensors")
    assert all(torch.equal(weights[name], tensor) for name, tensor in half.state_dict().items())
    assert AutoModelForCausalLM.from_pretrained(theirs).dtype == torch.bfloat16


# The original's files


def mixed_text() -> list[str]:
    """A megabyte and more: the primer, other languages, code, all of Unicode, and pieces that meet in odd ways."""
    draw = random.Random(0)
    points = [point for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    unicode = ["".join(map(chr, draw.choices(points, k=400))) for _ in range(100)]
    odd = ["".join(draw.choices(" \t\n\r\u00a0\u3000'abSſİıstlvrd12٩½.-!<|>", k=300)) for _ in range(300)]
    primer = [row["text"] for row in open_corpus("primer").train.take(2500)]
    return primer + 10 * list(DOMAINS.values()) + unicode + odd


def test_tokens_equal_tiktokens_on_a_megabyte_of_mixed_text(convert, original, encoding, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(convert(original, tmp_path / "ours", "ours"))
    texts = mixed_text()
    assert sum(len(text.encode()) for text in texts) > 1_000_000
    expected = encoding.encode_ordinary_batch(texts)
    assert [ids[1:] for ids in encode_documents(tokenizer, texts)] == expected
    assert len(tokenizer) == encoding.n_vocab
    assert {name: tokenizer.convert_tokens_to_ids(name) for name in encoding.special_tokens_set} == {
        name: encoding.encode_single_token(name) for name in encoding.special_tokens_set
    }
    text = DOMAINS["other languages"]
    assert tokenizer.decode(encoding.encode_ordinary(text)) == text


def test_tokens_that_no_training_would_have_left_are_encoded_as_tiktoken_does(convert, original, tmp_path):
    """Where a token can be made in several ways, or in none, out of others."""
    longer = [b"aba", b"ba", b"ab", b"bab", b"xyz", b"abab", b"aa"]
    encoding = encoding_of({token: rank for rank, token in enumerate([*(bytes([i]) for i in range(256)), *longer])})
    write_original(tmp_path / "original", encoding)
    tokenizer = AutoTokenizer.from_pretrained(convert(tmp_path / "original", tmp_path / "ours", "ours"))
    draw = random.Random(0)
    texts = ["xyz", "wxyz", *("".join(draw.choices("ab", k=draw.randrange(1, 12))) for _ in range(500))]
    assert [ids[1:] for ids in encode_documents(tokenizer, texts)] == encoding.encode_ordinary_batch(texts)


@pytest.mark.parametrize(("to", "angles_in"), [("ours", torch.bfloat16), ("nanochat", torch.float32)])
def test_logits_equal_the_originals(convert, original, encoding, tmp_path, to, angles_in):
    """But for the rounding of its angles, which NanoChat lacks."""
    directory = convert(original, tmp_path / to, to)
    ids = random_ids(PROMPTS, LENGTH, vocab_size=encoding.n_vocab)
    weights = torch.load(original / "model_000300.pt")
    assert_same_logits(logits(directory, ids), original_logits(weights, ids, encoding.n_vocab, angles_in))
    model = AutoModelForCausalLM.from_pretrained(directory)
    assert model.config.bos_token_id == encoding.encode_single_token("<|bos|>")


def test_padded_rows_go_and_names_of_a_compiled_model_and_a_bf16_embedding_are_read(convert, encoding, tmp_path):
    padded = -(-encoding.n_vocab // 64) * 64
    assert padded > encoding.n_vocab
    weights = random_weights(encoding.n_vocab, rows=padded)
    weights["transformer.wte.weight"] = weights["transformer.wte.weight"].bfloat16()
    write_original(tmp_path / "original", encoding, {f"_orig_mod.{name}": each for name, each in weights.items()})
    directory = convert(tmp_path / "original", tmp_path / "ours", "ours")
    ids = random_ids(4, LENGTH, vocab_size=encoding.n_vocab)
    assert_same_logits(logits(directory, ids), original_logits(weights, ids, encoding.n_vocab))
    stored = load_file(directory / "model.safetensors")
    assert len(stored["lm_head.weight"]) == len(stored["model.embed_tokens.weight"]) == encoding.n_vocab
    assert {tensor.dtype for tensor in stored.values()} == {torch.float32}


def test_the_epsilon_of_its_norms_is_the_originals(convert, encoding, tmp_path):
    weights = random_weights(encoding.n_vocab)
    weights["transformer.wte.weight"] *= 1e-3  # so small that epsilon counts
    write_original(tmp_path / "original", encoding, weights)
    ids = random_ids(4, LENGTH, vocab_size=encoding.n_vocab)
    directory = convert(tmp_path / "original", tmp_path / "ours", "ours")
    assert_same_logits(logits(directory, ids), original_logits(weights, ids, encoding.n_vocab))


def test_the_last_step_is_taken_or_the_one_named_and_a_tokenizer_from_elsewhere(convert, original, encoding, tmp_path):
    later = write_original(tmp_path / "runs", encoding, random_weights(encoding.n_vocab, seed=1), step=700)
    earlier = write_original(tmp_path / "runs", encoding, random_weights(encoding.n_vocab, seed=2), step=10)
    (tmp_path / "runs" / "tokenizer.pkl").unlink()
    for name, flags, weights in (("last", {}, later), ("first", {"step": 10}, earlier)):
        directory = convert(tmp_path / "runs", tmp_path / name, "ours", tokenizer=original, **flags)
        assert torch.equal(load_file(directory / "model.safetensors")["lm_head.weight"], weights["lm_head.weight"])


# Bad input

EXECUTED = []


def strike() -> None:
    EXECUTED.append("run")


class Malicious:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return strike, ()


def refused(convert, source, tmp_path, match: str, to: str = "nanochat", **flags) -> None:
    with pytest.raises(InputError, match=match) as caught:
        convert(source, tmp_path / "never", to, **flags)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 450
    assert not list(tmp_path.glob("*never*"))


def test_a_malicious_tokenizer_is_refused_and_nothing_run(convert, encoding, tmp_path):
    write_original(tmp_path / "original", encoding)
    (tmp_path / "original" / "tokenizer.pkl").write_bytes(pickle.dumps(Malicious()))
    refused(convert, tmp_path / "original", tmp_path, r"tokenizer.pkl is not a tokenizer of nanochat's: it asks for ")
    assert EXECUTED == []


def test_malicious_weights_are_refused_and_nothing_run(convert, encoding, tmp_path):
    write_original(tmp_path / "original", encoding, {"lm_head.weight": Malicious()})
    refused(convert, tmp_path / "original", tmp_path, "model_000300.pt cannot be read as weights and nothing else: ")
    assert EXECUTED == []


@pytest.mark.parametrize("name", ["model_000300.pt", "meta_000300.json", "tokenizer.pkl"])
@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_truncated_originals_are_told_by_name(convert, original, tmp_path, name, share):
    source = tmp_path / "original"
    source.mkdir()
    for path in original.iterdir():
        content = path.read_bytes()
        (source / path.name).write_bytes(content[: int(share * len(content))] if path.name == name else content)
    refused(convert, source, tmp_path, name)


def test_another_vocabulary_is_refused_on_either_way(convert, original, ours, encoding, tmp_path):
    write_original(tmp_path / "original", encoding, vocab_size=encoding.n_vocab + 1)
    refused(convert, tmp_path / "original", tmp_path, "belongs to another model")
    AutoModelForCausalLM.from_pretrained(ours).save_pretrained(tmp_path / "mixed")
    converted = convert(original, tmp_path / "converted", "ours")
    AutoTokenizer.from_pretrained(converted).save_pretrained(tmp_path / "mixed")
    refused(convert, tmp_path / "mixed", tmp_path, "has 609 tokens and the model 512: it belongs to another model")


def test_weights_of_other_sizes_are_refused(convert, encoding, tmp_path):
    write_original(tmp_path / "deeper", encoding, n_layer=3)
    refused(convert, tmp_path / "deeper", tmp_path, "meta file: n_layer is 3, and there are 2 blocks")
    write_original(tmp_path / "wider", encoding, n_embd=128)
    refused(convert, tmp_path / "wider", tmp_path, r"are not those of its meta file: .* \(\d+, 64\) and not")
    write_original(tmp_path / "odd", encoding, n_head=0)
    refused(convert, tmp_path / "odd", tmp_path, "does not describe a model of nanochat: a size is 0")
    write_original(tmp_path / "huge", encoding, n_layer=10**7)
    refused(convert, tmp_path / "huge", tmp_path, "n_layer is 10000000, and there are 2 blocks")


HEAD = "lm_head.weight"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda head: {HEAD: head.long()}, "holds something other than a model's weights"),
        (lambda head: {HEAD: head.to_sparse()}, "holds something other than a model's weights"),
        (lambda head: {HEAD: torch.tensor(1.0)}, r"lm_head.weight is \(\) and not \(609, 64\)"),
        (lambda head: {HEAD: torch.zeros(1).expand(2**22, 2**16)}, r"is \(4194304, 65536\) and not \(609, 64\)"),
        (lambda head: {f"_orig_mod.{HEAD}": head}, "holds parameters twice, with and without _orig_mod."),
        (lambda head: {f"{HEAD}\n": head}, r"architecture of 2025: it holds the unknown 'lm_head.weight\\n';"),
    ],
    ids=["integers", "sparse", "a number", "four terabytes in four bytes", "twice", "line break"],
)
def test_weights_that_are_none_are_refused_by_name(convert, encoding, tmp_path, change, match):
    weights = random_weights(encoding.n_vocab)
    write_original(tmp_path / "original", encoding, weights | change(weights[HEAD]))
    refused(convert, tmp_path / "original", tmp_path, match)


def test_weights_of_several_dtypes_keep_their_values(convert, encoding, tmp_path):
    weights = random_weights(encoding.n_vocab)
    for index, (narrow, wide) in enumerate([(torch.bfloat16, torch.float16), (torch.float32, torch.float64)]):
        mixed = {name: each.to(narrow if "wte" in name else wide) for name, each in weights.items()}
        write_original(tmp_path / f"{index}", encoding, mixed)
        stored = load_file(convert(tmp_path / f"{index}", tmp_path / f"to{index}", "ours") / "model.safetensors")
        assert {each.dtype for each in stored.values()} == {torch.promote_types(narrow, wide)}
        assert torch.equal(stored[HEAD].double(), mixed[HEAD].double())


def test_what_nanochat_lacks_is_refused_by_name(convert, ours, tmp_path):
    source = tmp_path / "modern"
    AutoModelForCausalLM.from_pretrained(ours).save_pretrained(source)
    AutoTokenizer.from_pretrained(ours).save_pretrained(source)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"window_pattern": "SSSL"}))
    refused(convert, source, tmp_path, "the model has window_pattern = 'SSSL', which transformers' NanoChat lacks")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"attention_bias": True}, "attention_bias = True, which NanochatGPT lacks|are not those of its config.json"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu', which NanochatGPT lacks"),
        (
            {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
            "linear.* NanochatGPT does not support",
        ),
    ],
    ids=["bias", "activation", "rotary"],
)
def test_what_ours_lacks_is_refused_by_name(convert, ours, tmp_path, changes, match):
    theirs = convert(ours, tmp_path / "theirs", "nanochat")
    config = json.loads((theirs / "config.json").read_text())
    (theirs / "config.json").write_text(json.dumps(config | changes))
    refused(convert, theirs, tmp_path, match, to="ours")


def test_a_wrong_source_is_one_clear_line(convert, ours, original, tmp_path):
    refused(convert, tmp_path / "nowhere", tmp_path, "nowhere: no such directory")
    (tmp_path / "empty").mkdir()
    refused(convert, tmp_path / "empty", tmp_path, "holds no config.json")
    gpt2 = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=32, vocab_size=512))
    gpt2.save_pretrained(tmp_path / "gpt2")
    refused(convert, tmp_path / "gpt2", tmp_path, "holds no tokenizer.json")
    AutoTokenizer.from_pretrained(ours).save_pretrained(tmp_path / "gpt2")
    refused(convert, tmp_path / "gpt2", tmp_path, "has the architecture gpt2")
    refused(convert, ours, tmp_path, "has that format already", to="ours")
    refused(convert, ours, tmp_path, "are for original files .* has none", step=3)
    refused(convert, original, tmp_path, "holds no weights of step 7: there are 300", step=7)
    refused(convert, original, tmp_path, "no tokenizer at .*elsewhere", tokenizer=tmp_path / "elsewhere")


def test_missing_and_truncated_weights_are_refused(convert, ours, tmp_path):
    source = tmp_path / "damaged"
    AutoModelForCausalLM.from_pretrained(ours).save_pretrained(source)
    AutoTokenizer.from_pretrained(ours).save_pretrained(source)
    weights = load_file(source / "model.safetensors")
    save_file({name: each for name, each in weights.items() if "fc1" not in name}, source / "model.safetensors")
    refused(
        convert, source, tmp_path, r"its config.json: model.layers.0.mlp.fc1.weight, model.layers.1.\S+ are missing"
    )
    whole = (ours / "model.safetensors").read_bytes()
    (source / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    refused(convert, source, tmp_path, "is damaged: model.safetensors is not whole")
    (source / "model.safetensors").unlink()
    refused(convert, source, tmp_path, "cannot be loaded: ")


def test_nothing_is_overwritten(convert, ours, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="exists and is not empty: choose another"):
        convert(ours, tmp_path / "there", "nanochat")
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("stage", [midtrain, sft])
def test_multiple_choice_is_trained_on_in_the_words_that_the_model_knows(
    stage, convert, ours, original, tmp_path, monkeypatch, fresh_accelerate
):
    def source(path, split, wording):
        raise InputError(f"asked for in the words {wording}")

    monkeypatch.setitem(SOURCES, "mmlu", source)
    for model, wording in ((convert(original, tmp_path / "from", "ours"), "nanochat"), (ours, "plain")):
        flags = ["--source", str(model), "--conversations", "mmlu", "--output_dir", str(tmp_path / "to")]
        flags += ["--total_batch_size", "512"] if stage is midtrain else []
        classes = [MidtrainArguments] if stage is midtrain else [SFTArguments, ModelArguments]
        arguments = parse_arguments(*classes, argv=flags)
        with pytest.raises(InputError, match=f"asked for in the words {wording}"):
            stage.main(*(arguments if stage is sft else [arguments]))
