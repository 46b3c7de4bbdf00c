"""Value embeddings and the padded vocabulary of models of 2026."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from modeling_nanochat import NanochatGPTForCausalLM
from tests.modeling_nanochat.tiny import (
    VOCAB_SIZE,
    assert_close,
    embeddings_for,
    random_ids,
    random_model,
    randomized,
    tiny_config,
)

PADDED = 192


@pytest.fixture
def model() -> NanochatGPTForCausalLM:
    return random_model(generation=2026)


# Value embeddings


@torch.no_grad()
def test_embeddings_alone_are_refused_in_one_line(model):
    embeddings = model.get_input_embeddings()(random_ids(1, 5))
    for call in (model, model.model, model.generate):
        with pytest.raises(
            ValueError, match="by token id: give input_ids, or beside inputs_embeds per_layer_inputs"
        ) as error:
            call(inputs_embeds=embeddings)
        assert "\n" not in str(error.value)


@torch.no_grad()
def test_per_layer_inputs_count(model):
    embeddings = embeddings_for(model, random_ids(2, 9))
    assert embeddings["per_layer_inputs"].shape == (2, 9, 2, 64)
    changed = {**embeddings, "per_layer_inputs": embeddings["per_layer_inputs"].roll(1, dims=2)}
    assert (model(**changed).logits - model(**embeddings).logits).abs().max() > 0.1


def test_each_feature_changes_the_logits(model):
    """The tests of this generation would prove little if one of them did not."""
    ids = random_ids(2, 12)
    logits = model(ids).logits
    off = {
        "smear": lambda: model.model.smear_lambda.zero_(),
        "backout": lambda: model.model.backout_lambda.zero_(),
        "x0": lambda: model.model.x0_lambdas.zero_(),
        "residual": lambda: model.model.resid_lambdas.fill_(1),
        "value embeddings": lambda: model.model.value_embeds["0"].weight.zero_(),
    }
    for name, change in off.items():
        with torch.no_grad():
            change()
            changed = model(ids).logits
        assert (changed - logits).abs().mean() > 0.05, name
        logits = changed


# The padded vocabulary


def test_rows_beyond_the_vocabulary_are_never_seen(model):
    ids = random_ids(2, 9)
    assert model.lm_head.weight.size(0) == model.get_input_embeddings().weight.size(0) == PADDED
    with torch.no_grad():
        model.lm_head.weight[VOCAB_SIZE:] = 100 * model.lm_head.weight[VOCAB_SIZE - 1]  # far likelier than the rest
    for skip_logits in (False, True):
        model.zero_grad()
        outputs = model(ids, labels=ids, skip_logits=skip_logits)
        outputs.loss.backward()
        tables = [model.model.embed_tokens, model.lm_head, *model.model.value_embeds.values()]
        assert not any(table.weight.grad[VOCAB_SIZE:].any() for table in tables)
    for options in ({}, {"do_sample": True, "top_k": 0}, {"num_beams": 3}, {"cache_implementation": "static"}):
        written = model.generate(ids, max_new_tokens=8, pad_token_id=0, **options)
        assert written.max() < VOCAB_SIZE


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("size", [VOCAB_SIZE + 7, PADDED + 20, 60])
def test_resizing_resizes_every_table(tmp_path, size, tied):
    model = random_model(generation=2026, tie_word_embeddings=tied)
    ids = random_ids(2, 9, vocab_size=min(size, VOCAB_SIZE))
    before = model(ids).logits.detach()
    assert model.resize_token_embeddings(size) is model.get_input_embeddings()
    rows = -(-size // 64) * 64
    tables = [model.model.embed_tokens, model.lm_head, *model.model.value_embeds.values()]
    assert [table.weight.size(0) for table in tables] == [rows] * 4
    assert (model.config.vocab_size, model.config.padded_vocab_size, model.vocab_size) == (size, rows, size)
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    common = min(size, VOCAB_SIZE)
    assert_close(model(ids).logits[..., :common], before[..., :common])
    model.save_pretrained(tmp_path)
    assert_close(AutoModelForCausalLM.from_pretrained(tmp_path)(ids).logits, model(ids).logits, 1e-4)


def test_new_tokens_are_like_the_known_ones_and_not_like_padding(model):
    with torch.no_grad():
        for table in (model.model.embed_tokens, model.lm_head, *model.model.value_embeds.values()):
            table.weight[VOCAB_SIZE:] = 1e4
    model.resize_token_embeddings(VOCAB_SIZE + 9)
    for table in (model.model.embed_tokens, model.lm_head, *model.model.value_embeds.values()):
        assert table.weight[VOCAB_SIZE:].abs().max() < 10


def test_resizing_to_the_same_size_changes_nothing(model):
    weights = {name: (parameter, parameter.clone()) for name, parameter in model.named_parameters()}
    model.resize_token_embeddings(VOCAB_SIZE)
    for name, parameter in model.named_parameters():
        assert parameter is weights[name][0] and torch.equal(parameter, weights[name][1])
    model.resize_token_embeddings(pad_to_multiple_of=8)
    assert model.config.vocab_size == 136


def test_embedding_and_head_may_be_tied():
    model = NanochatGPTForCausalLM(tiny_config(2026, tie_word_embeddings=True))
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.lm_head.weight.std() > 0.7  # the embedding's start, and not the head's
    assert randomized(model)(random_ids(1, 5)).logits.shape == (1, 5, VOCAB_SIZE)


# Adapters


def test_adapters_merge(model):
    ids = random_ids(2, 9)
    before = model(ids).logits
    targets = ["q_proj", "v_proj", "fc1", "ve_gate", "smear_gate", "lm_head"]
    adapted = randomized(get_peft_model(model, LoraConfig(target_modules=targets, r=4)), seed=3).eval()
    options = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    expected, written = adapted(ids).logits, adapted.generate(input_ids=ids, **options)
    assert expected.shape == before.shape and (expected - before).abs().max() > 0.1
    merged = adapted.merge_and_unload()
    assert_close(merged(ids).logits, expected, 1e-3)
    assert torch.equal(merged.generate(ids, **options), written)
    loss = merged(ids, labels=ids).loss
    assert_close(merged(ids, labels=ids, skip_logits=True).loss, loss)
