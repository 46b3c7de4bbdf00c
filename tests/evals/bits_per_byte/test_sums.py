"""Bits per byte of a model equal the formula followed token by token, for any model and any tokenizer."""

import math

import evaluate
import pytest
import torch

from evals.bits_per_byte import bits_per_byte, sum_nats_and_bytes
from tests.evals.bits_per_byte.foreign import TEXTS, gpt2_model, gpt2_tokenizer
from tests.evals.metrics.test_bits_per_byte import METRIC
from tests.modeling_nanochat.tiny import random_model
from tokenizer.bpe import train_tokenizer
from tokenizer.encode import encode_documents, token_byte_lengths

ROW = 33  # tokens


@pytest.fixture(scope="module", params=["nanochat", "gpt2"])
def setting(request):
    """A model, its tokenizer, and rows of tokens (R, 33) with special tokens among them."""
    if request.param == "gpt2":
        tokenizer = gpt2_tokenizer()
        model = gpt2_model(len(tokenizer))
    else:
        tokenizer = train_tokenizer(TEXTS, vocab_size=300)
        model = random_model(vocab_size=len(tokenizer))
    tokens = [token for ids in encode_documents(tokenizer, TEXTS) for token in ids]
    return model, tokenizer, torch.tensor(tokens[: len(tokens) // ROW * ROW]).view(-1, ROW)[:12]


@torch.no_grad()
def slow_nats(model, rows):
    """-ln p of each predicted token, (R * 32,), token by token from the logits, in fp64."""
    nats = []
    for row in rows:
        logits = model(row[None]).logits[0].double()
        for position in range(1, len(row)):
            nats.append(-torch.log_softmax(logits[position - 1], dim=-1)[row[position]].item())
    return nats


def total_bits_per_byte(setting, batches):
    model, tokenizer, _ = setting
    nats, num_bytes = sum_nats_and_bytes(model, batches, token_byte_lengths(tokenizer)).tolist()
    return bits_per_byte(nats, num_bytes)


def test_it_equals_the_formula_token_by_token_and_the_evaluate_module(setting, tmp_path):
    model, tokenizer, rows = setting
    targets = rows[:, 1:].flatten().tolist()
    # An ordinary token is written in an alphabet of one character for each byte.
    characters = tokenizer.convert_ids_to_tokens(targets)
    lengths = [0 if token in tokenizer.all_special_tokens else len(token) for token in characters]
    nats = slow_nats(model, rows)
    assert 0 in lengths  # special tokens are there, and none of their nats is counted
    expected = sum(n for n, length in zip(nats, lengths, strict=True) if length) / (math.log(2) * sum(lengths))
    assert total_bits_per_byte(setting, [rows]) == pytest.approx(expected, rel=1e-5)
    metric = evaluate.load(METRIC, cache_dir=str(tmp_path), keep_in_memory=True)
    by_module = metric.compute(predictions=nats, references=lengths)["bits_per_byte"]
    assert total_bits_per_byte(setting, [rows]) == pytest.approx(by_module, rel=1e-5)


@pytest.mark.parametrize("size", [1, 5, 12])
def test_batches_add_up_to_the_whole(setting, size):
    model, tokenizer, rows = setting
    lengths = token_byte_lengths(tokenizer)
    whole = sum_nats_and_bytes(model, [rows], lengths)
    in_batches = sum_nats_and_bytes(model, rows.split(size), lengths)
    by_process = sum(sum_nats_and_bytes(model, part.split(size), lengths) for part in (rows[:7], rows[7:]))
    for sums in (in_batches, by_process):
        assert sums.dtype == torch.float64
        torch.testing.assert_close(sums, whole, rtol=1e-6, atol=0)
        assert sums[1] == whole[1]


def test_special_tokens_weigh_nothing_however_unlikely(setting):
    model, tokenizer, rows = setting
    special = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    row = rows[:1].clone()
    row[0, -1] = special  # the last token is predicted, and nothing is predicted from it
    sums = sum_nats_and_bytes(model, [row], token_byte_lengths(tokenizer))
    shorter = sum_nats_and_bytes(model, [row[:, :-1]], token_byte_lengths(tokenizer))
    torch.testing.assert_close(sums, shorter, rtol=1e-6, atol=0)


def test_a_batch_of_special_tokens_alone_changes_nothing(setting):
    model, tokenizer, rows = setting
    special = torch.full((2, ROW), tokenizer.eos_token_id)
    lengths = token_byte_lengths(tokenizer)
    assert sum_nats_and_bytes(model, [special], lengths).tolist() == [0, 0]
    assert torch.equal(sum_nats_and_bytes(model, [rows, special], lengths), sum_nats_and_bytes(model, [rows], lengths))


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_and_the_model_keeps_its_mode(training):
    tokenizer = gpt2_tokenizer()
    model = gpt2_model(len(tokenizer)).train(training)  # GPT-2 has dropout
    rows = torch.randint(256, (2, ROW), generator=torch.Generator().manual_seed(0))
    first, second = (sum_nats_and_bytes(model, [rows], token_byte_lengths(tokenizer)) for _ in range(2))
    assert torch.equal(first, second)
    assert model.training == training
    assert all(p.grad is None for p in model.parameters())


def test_equally_good_models_of_different_tokenizers_get_the_same_figure():
    """A guess of 1 in 256 for each byte costs 8 bits a byte, whether the tokens are of one byte or of three."""
    one_byte_tokens = bits_per_byte(nats=6 * math.log(256), num_bytes=6)
    three_byte_tokens = bits_per_byte(nats=2 * math.log(256**3), num_bytes=6)
    assert one_byte_tokens == pytest.approx(three_byte_tokens) == pytest.approx(8.0)


def test_a_model_that_knows_nothing_pays_for_its_vocabulary_by_hand():
    tokenizer = train_tokenizer(TEXTS, vocab_size=300)
    model = random_model(vocab_size=300)
    torch.nn.init.zeros_(model.lm_head.weight)  # every token equally likely
    ids = torch.tensor([encode_documents(tokenizer, ["The quick brown fox."])[0]])
    nats, num_bytes = sum_nats_and_bytes(model, [ids], token_byte_lengths(tokenizer)).tolist()
    assert num_bytes == len("The quick brown fox.")
    assert nats == pytest.approx((ids.size(1) - 1) * math.log(300))


def test_no_text_is_no_number():
    assert math.isnan(bits_per_byte(0.0, 0.0))
