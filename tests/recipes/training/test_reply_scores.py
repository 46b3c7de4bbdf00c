"""Scores of replies that share their prompt are those of each row by itself, gradients included."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from recipes.training.reply_scores import score_replies
from tests.modeling_nanochat.tiny import GENERATIONS, VOCAB_SIZE, random_model

PROMPTS = [[5, 6, 7, 8, 9, 10, 11, 12, 13], [20, 21], [5, 6, 7, 8, 9, 10, 11, 12, 13], [20, 21], [20, 21]]
REPLIES = [[30, 31, 32, 33, 34, 35, 36, 37], [40], [38, 39, 40], [41, 42, 43, 44, 45, 46], [47, 48]]


def one_by_one(model, temperature) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Log-probabilities and entropies of each reply, from a pass over prompt and reply alone."""
    logps, entropies = [], []
    for prompt, reply in zip(PROMPTS, REPLIES, strict=True):
        logits = model(torch.tensor([prompt + reply])).logits[0, len(prompt) - 1 : -1] / temperature
        all_logps = logits.log_softmax(-1)
        logps.append(all_logps.gather(1, torch.tensor(reply)[:, None])[:, 0])
        entropies.append(-(all_logps.exp() * all_logps).sum(-1))
    return logps, entropies


def gpt2() -> GPT2LMHeadModel:
    """One with positions in a table, where it matters that a prompt starts at the first."""
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCAB_SIZE, "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2}
    return GPT2LMHeadModel(GPT2Config(**sizes, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0))


MODELS = {str(year): lambda year=year: random_model(generation=year) for year in GENERATIONS} | {"gpt2": gpt2}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_scores_and_gradients_are_those_of_the_rows_alone(kind, attention):
    """With windows, smear and value embeddings, through which the prompt's part of the gradient has to pass."""
    model = MODELS[kind]().train()
    model.set_attn_implementation(attention)
    learns = [True, False, False, False, False]
    logps, entropies = one_by_one(model, 0.7)
    (logps[0].square().sum() + logps[2].sum()).backward()
    expected = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()

    replies = [torch.tensor(reply) for reply in REPLIES]
    ours, uncertain = score_replies(model, PROMPTS, replies, 0.7, learns)
    assert ours.shape == uncertain.shape == (5, 8) and not uncertain.requires_grad
    for row, reply in enumerate(REPLIES):
        torch.testing.assert_close(ours[row, : len(reply)], logps[row], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(uncertain[row, : len(reply)], entropies[row], atol=1e-4, rtol=1e-4)
        assert not ours[row, len(reply) :].any()
    (ours[0].square().sum() + ours[2].sum() + ours[3].sum()).backward()  # the last has no gradient: it does not learn
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.grad, expected[name], atol=1e-3, rtol=1e-3, msg=name)


def test_tokens_that_sampling_cut_off_have_no_part_in_the_probabilities():
    model = random_model(generation=2026).eval()
    with torch.no_grad():
        likeliest = [model(torch.tensor([prompt])).logits[0, -1].topk(3).indices for prompt in PROMPTS]
        replies = [tokens[row % 3].reshape(1) for row, tokens in enumerate(likeliest)]
        scores, uncertain = score_replies(model, PROMPTS, replies, 2.0, top_k=3)
        logits = torch.stack([model(torch.tensor([prompt])).logits[0, -1].topk(3).values for prompt in PROMPTS])
    expected = (logits / 2).log_softmax(-1)  # (5, 3)
    torch.testing.assert_close(scores[:, 0], expected[range(5), [row % 3 for row in range(5)]], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(uncertain[:, 0], -(expected.exp() * expected).sum(-1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("top_k", [VOCAB_SIZE, VOCAB_SIZE + 9])
def test_a_cut_that_leaves_all_tokens_changes_nothing(top_k):
    model, replies = random_model(generation=2025).eval(), [torch.tensor(reply) for reply in REPLIES]
    with torch.no_grad():
        cut, whole = (score_replies(model, PROMPTS, replies, 2.0, top_k=each) for each in (top_k, 0))
    for ours, theirs in zip(cut, whole, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_a_token_that_rounding_has_cut_off_still_has_a_finite_score():
    model = random_model(generation=2026).eval()
    with torch.no_grad():
        last = [model(torch.tensor([prompt])).logits[0, -1].argmin().reshape(1) for prompt in PROMPTS]
        scores, _ = score_replies(model, PROMPTS, last, 2.0, top_k=3)
    assert torch.isfinite(scores).all() and (scores[:, 0] < -1.09).all(), "less likely than the others of three"
