"""generate() writes what whole forward passes would, whatever keeps the past."""

import copy

import pytest
import torch
from transformers import LogitsProcessor, StoppingCriteria, set_seed
from transformers.generation.streamers import BaseStreamer

from modeling_nanochat import NanochatGPTForCausalLM
from tests.modeling_nanochat.tiny import MODELS, random_ids, random_model, randomized

NEW_TOKENS = 12
CACHES = [{"use_cache": False}, {"cache_implementation": "dynamic"}, {"cache_implementation": "static"}]
if torch.accelerator.is_available():
    CACHES += [{"cache_implementation": "offloaded"}, {"cache_implementation": "offloaded_static"}]


@pytest.fixture(params=MODELS)
def model(request) -> NanochatGPTForCausalLM:
    model = random_model(**MODELS[request.param])
    model.generation_config.pad_token_id = 0
    return model


@torch.no_grad()
def greedy(model: NanochatGPTForCausalLM, ids: torch.Tensor, new_tokens: int = NEW_TOKENS) -> torch.Tensor:
    """The reference: the likeliest next token of a whole forward pass, again and again."""
    for _ in range(new_tokens):
        ids = torch.cat((ids, model(ids, use_cache=False).logits[:, -1:].argmax(-1)), dim=1)
    return ids


def generate(model: NanochatGPTForCausalLM, ids: torch.Tensor, **options) -> torch.Tensor:
    return model.generate(ids, **{"max_new_tokens": NEW_TOKENS, "do_sample": False, **options})


def left_padded(prompts: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """A batch of prompts (1, T) of several lengths, padded with 0."""
    length = max(prompt.size(1) for prompt in prompts)
    ids = torch.cat([torch.nn.functional.pad(prompt, (length - prompt.size(1), 0)) for prompt in prompts])
    return {"input_ids": ids, "attention_mask": (ids != 0).long()}


def test_the_reference_is_not_one_token_over_and_over(model):
    assert len(greedy(model, random_ids(1, 9))[0, 9:].unique()) > NEW_TOKENS // 2


@pytest.mark.parametrize("options", CACHES, ids=str)
def test_generate_is_the_greedy_loop(model, options):
    ids = random_ids(2, 9)
    assert torch.equal(generate(model, ids, **options), greedy(model, ids))


@pytest.mark.parametrize("options", CACHES, ids=str)
def test_left_padded_prompts_continue_as_each_alone(model, options):
    prompts = [random_ids(1, length, seed=length) for length in (3, 11, 6)]
    batch = model.generate(**left_padded(prompts), max_new_tokens=NEW_TOKENS, do_sample=False, **options)
    for row, prompt in zip(batch, prompts, strict=True):
        assert torch.equal(row[-NEW_TOKENS:], greedy(model, prompt)[0, -NEW_TOKENS:])


@pytest.mark.parametrize("options", CACHES, ids=str)
def test_cached_logits_are_those_of_the_whole_pass(model, options):
    ids = random_ids(2, 9)
    outputs = generate(model, ids, output_logits=True, return_dict_in_generate=True, **options)
    whole = model(outputs.sequences).logits[:, 8:-1]
    torch.testing.assert_close(torch.stack(outputs.logits, dim=1), whole, atol=1e-4, rtol=1e-4)


def test_beam_search_finds_the_same_with_every_cache(model):
    ids = random_ids(2, 9)
    expected, *others = (
        generate(model, ids, num_beams=4, output_scores=True, return_dict_in_generate=True, **options)
        for options in CACHES
    )
    for outputs in others:
        assert torch.equal(outputs.sequences, expected.sequences)
        torch.testing.assert_close(outputs.sequences_scores, expected.sequences_scores)
    assert not torch.equal(expected.sequences, greedy(model, ids))


def test_beam_scores_are_the_mean_log_probabilities_of_the_whole_pass(model):
    ids = random_ids(2, 9)
    outputs = generate(model, ids, num_beams=3, output_scores=True, return_dict_in_generate=True)
    log_probabilities = model(outputs.sequences).logits[:, 8:-1].log_softmax(-1)
    chosen = log_probabilities.gather(-1, outputs.sequences[:, 9:, None])[..., 0]
    torch.testing.assert_close(outputs.sequences_scores, chosen.mean(-1), atol=1e-4, rtol=1e-4)


def test_an_assistant_changes_no_token(model):
    ids = random_ids(1, 9)
    strangers = random_model(seed=1, num_hidden_layers=1, hidden_size=32, num_attention_heads=2)
    for assistant in (strangers, model):  # nearly every draft refused, and every draft taken
        assert torch.equal(generate(model, ids, assistant_model=assistant), greedy(model, ids))


def test_prompt_lookup_changes_no_token(model):
    whole = greedy(model, random_ids(1, 9))
    ids = torch.cat((whole, whole[:, :12]), dim=1)  # something to look up
    assert torch.equal(generate(model, ids, prompt_lookup_num_tokens=3), greedy(model, ids))


def test_generation_goes_on_from_a_cache(model):
    ids = random_ids(1, 9)
    first = generate(model, ids, return_dict_in_generate=True, max_new_tokens=5)
    longer = torch.cat((first.sequences, random_ids(1, 4, seed=1)), dim=1)
    again = generate(model, longer, past_key_values=first.past_key_values)
    assert torch.equal(again, greedy(model, longer))


def test_generation_stops_at_the_end_token_and_pads_after_it(model):
    ids = random_ids(2, 9)
    expected = greedy(model, ids)
    end = expected[0, 9 + 4].item()
    for row in expected:
        stop = 9 + row[9:].tolist().index(end) + 1 if end in row[9:] else row.numel()
        row[stop:] = 0
    stopped = generate(model, ids, eos_token_id=end)
    assert torch.equal(stopped, expected[:, : stopped.size(1)])
    assert expected[:, stopped.size(1) :].count_nonzero() == 0 < (expected == 0).sum()


def test_sampling_repeats_with_its_seed(model):
    ids = random_ids(2, 9)
    samples = []
    for seed in (0, 0, 1):
        set_seed(seed)
        samples.append(generate(model, ids, do_sample=True, temperature=1.0, top_k=50))
    assert torch.equal(samples[0], samples[1])
    assert not torch.equal(samples[0], samples[2])


def test_static_cache_works_under_autocast(model):
    ids = random_ids(2, 9, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        static, dynamic = (generate(model, ids, cache_implementation=kind) for kind in ("static", "dynamic"))
    assert torch.equal(static, dynamic)


def test_weights_changed_between_two_calls_count(model):
    ids = random_ids(2, 9)
    first = generate(model, ids)
    for parameter in randomized(model, seed=5).parameters():
        parameter.data.mul_(1.1)  # an update that no version counter sees
    second = generate(model, ids)
    assert torch.equal(second, greedy(model, ids)) and not torch.equal(first, second)


@pytest.mark.parametrize("batch", [1, 3])
def test_processors_criteria_and_streamers_see_every_step(model, batch):
    seen = {"lengths": [], "streamed": []}

    class NeverTheLikeliest(LogitsProcessor):
        def __call__(self, input_ids, scores):
            return scores.scatter(1, scores.argmax(-1, keepdim=True), -float("inf"))

    class After(StoppingCriteria):
        def __call__(self, input_ids, scores, **kwargs):
            seen["lengths"].append(input_ids.size(1))
            return torch.full((batch,), input_ids.size(1) == 15)

    class Collect(BaseStreamer):
        def put(self, value):
            seen["streamed"].append(value.flatten().tolist())

        def end(self):
            seen["streamed"].append("end")

    ids = random_ids(batch, 9)
    options = {"logits_processor": [NeverTheLikeliest()], "stopping_criteria": [After()]}
    written = generate(model, ids, **options, streamer=Collect() if batch == 1 else None)
    expected = ids
    for _ in range(6):
        expected = torch.cat((expected, model(expected).logits[:, -1].topk(2).indices[:, 1:]), dim=1)
    assert torch.equal(written, expected)
    assert seen["lengths"] == [10, 11, 12, 13, 14, 15]
    if batch == 1:
        assert seen["streamed"] == [ids[0].tolist(), *([token] for token in written[0, 9:].tolist()), "end"]


def test_attentions_and_hidden_states_of_every_step_come_on_request(model):
    outputs = generate(model, random_ids(2, 9), output_hidden_states=True, return_dict_in_generate=True)
    assert len(outputs.hidden_states) == NEW_TOKENS
    assert all(step[-1].shape == (2, 1, 64) for step in outputs.hidden_states[1:])


def test_a_copied_cache_goes_on_alone(model):
    ids = random_ids(2, 9)
    first = generate(model, ids, return_dict_in_generate=True, max_new_tokens=5)
    twin = copy.deepcopy(first.past_key_values)
    for cache, seed in ((first.past_key_values, 1), (twin, 2)):
        longer = torch.cat((first.sequences, random_ids(2, 4, seed=seed)), dim=1)
        assert torch.equal(generate(model, longer, past_key_values=cache), greedy(model, longer))


def test_gradients_flow_through_a_cache_that_generate_made(model):
    ids = random_ids(1, 9)
    first = generate(model, ids, return_dict_in_generate=True, max_new_tokens=2)
    longer = torch.cat((first.sequences, random_ids(1, 4, seed=1)), dim=1)
    logits = model(longer[:, 10:], past_key_values=first.past_key_values).logits
    logits.square().sum().backward()
    assert all(parameter.grad.any() for parameter in model.parameters())
