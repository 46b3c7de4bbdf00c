"""Each token of a text is predicted once, from the tokens before it in its window, by whichever process."""

import pytest
import torch

from evals.bits_per_byte.windows import nats_of_tokens
from tests.evals.bits_per_byte.foreign import gpt2_model, llama_model, qwen_model
from tests.modeling_nanochat.tiny import assert_close, random_model

VOCAB_SIZE = 300
MODELS = {
    "gpt2": gpt2_model,
    "qwen": qwen_model,
    "llama": llama_model,
    "ours": lambda size: random_model(vocab_size=size),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return MODELS[request.param](VOCAB_SIZE)


def text(num_tokens: int) -> torch.Tensor:
    return torch.randint(VOCAB_SIZE, (num_tokens,), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def slow_nats(model, ids, length, stride):
    """Token by token: from its window alone, the first window that it is in."""
    nats = [0.0]
    for position in range(1, len(ids)):
        start = 0
        while position > start + length:
            start += stride
        logits = model(ids[None, start:position]).logits[0, -1].double()
        nats.append(-torch.log_softmax(logits, dim=-1)[ids[position]].item())
    return torch.tensor(nats, dtype=torch.float64)


@pytest.mark.parametrize(("num_tokens", "length", "stride"), [(70, 16, 8), (70, 16, 16), (64, 16, 5), (33, 32, 16)])
def test_it_equals_the_definition_token_by_token(model, num_tokens, length, stride):
    ids = text(num_tokens)
    assert_close(nats_of_tokens(model, ids, length, stride, batch_tokens=48), slow_nats(model, ids, length, stride))


@pytest.mark.parametrize("num_tokens", [2, 9, 17])
def test_a_text_shorter_than_a_window_is_one_window(model, num_tokens):
    ids = text(num_tokens)
    nats = nats_of_tokens(model, ids, 64, 32, 128)
    assert_close(nats, slow_nats(model, ids, 64, 64))
    assert (nats[1:] > 0).all()


@pytest.mark.parametrize("stride", [7, 16])
@pytest.mark.parametrize("world_size", [2, 3, 50])
def test_processes_share_the_windows_and_add_up_to_one_process(model, stride, world_size):
    ids = text(75)
    shares = [nats_of_tokens(model, ids, 16, stride, 32, rank, world_size) for rank in range(world_size)]
    assert sum((share > 0).int() for share in shares)[1:].eq(1).all(), "each token is one process's"
    assert_close(sum(shares), nats_of_tokens(model, ids, 16, stride, 32))


def test_more_context_is_what_sliding_windows_give():
    """A model that repeats what it has just read needs to have read it."""
    model = random_model(vocab_size=VOCAB_SIZE)
    seen = []
    model.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs["input_ids"].shape), with_kwargs=True)
    nats_of_tokens(model, text(81), 16, 8, 16)
    assert seen == [(1, 16)] * 9, "eight windows more than the first, of eight new tokens each"
