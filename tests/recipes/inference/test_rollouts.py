"""Replies written in one batch with their calls: token for token what the loop for people writes one by one."""

import pytest
import torch
from transformers import (
    GenerationConfig,
    NanoChatConfig,
    NanoChatForCausalLM,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
)

from recipes.inference.generate import Sampling, generate_replies
from recipes.inference.rollouts import DrawOfFew, Reply, Rules, write_replies
from recipes.utils.calculator import calculator
from tests.modeling_nanochat.tiny import SIZES
from tests.recipes.inference.talker import KNOWN, learn_by_heart, train_talker, user
from tokenizer.chat import encode_prompt, encode_tool_result, parse_conversation, stop_token_ids
from tokenizer.special_tokens import PYTHON_END, PYTHON_START

CONVERSATIONS = [[user(question), *reply] for question, reply in KNOWN.items()]
QUESTIONS = [question for question in KNOWN for _ in range(3)]


def rules(tokenizer, most=48, context=112) -> Rules:
    start, end = tokenizer.convert_tokens_to_ids([PYTHON_START, PYTHON_END])

    def answer(before: list[int], turn: list[int], calls: int) -> list[int] | None:
        if turn[-1] != end or start not in turn:
            return None
        return encode_tool_result(tokenizer, calculator(tokenizer.decode(turn[turn.index(start) + 1 : -1])))

    return Rules(frozenset(stop_token_ids(tokenizer)), answer, most, context)


def write(model, tokenizer, questions, most=48, **options) -> list[Reply]:
    prompts = [encode_prompt(tokenizer, [user(question)]) for question in questions]
    config = GenerationConfig(pad_token_id=tokenizer.pad_token_id, **{"do_sample": False} | options)
    return write_replies(model, prompts, config, rules(tokenizer, most))


def messages(tokenizer, reply: Reply) -> list[dict]:
    before = reply.ids(len(reply.answers))
    return parse_conversation(tokenizer, before[len(reply.prompt) - 1 :] + reply.turns[-1])


@pytest.mark.parametrize("generation", [2025, 2026])
def test_greedy_replies_are_those_of_the_loop_that_writes_one_turn_at_a_time(tokenizer_dir, generation):
    """Of 2026, too: a cache with windows and smear's layer is read once a prompt, repeated, and loses rows."""
    model, tokenizer = train_talker(tokenizer_dir)
    if generation == 2026:
        new = {name: value for name, value in SIZES[2026].items() if value != SIZES[2025].get(name)}
        model, tokenizer = learn_by_heart(tokenizer_dir, CONVERSATIONS, **new)
    known = generate_replies(model, tokenizer, [[user(question)] for question in QUESTIONS], Sampling(48))
    assert [messages(tokenizer, reply) for reply in write(model, tokenizer, QUESTIONS)] == known
    assert sum("tool_calls" in message for reply in known for message in reply) == 12


def test_a_reply_is_cut_at_the_limit_and_an_answer_that_would_pass_it_is_not_given(tokenizer_dir):
    model, tokenizer = train_talker(tokenizer_dir)
    (whole,) = write(model, tokenizer, ["Two sums, please."])
    turn, answer = len(whole.turns[0]), len(whole.answers[0])
    (cut,) = write(model, tokenizer, ["Two sums, please."], most=turn - 1)
    assert (cut.turns, cut.answers) == ([whole.turns[0][:-1]], [])
    (unanswered,) = write(model, tokenizer, ["Two sums, please."], most=turn + answer - 1)
    assert (unanswered.turns, unanswered.answers, unanswered.done) == ([whole.turns[0]], [], True)
    (answered,) = write(model, tokenizer, ["Two sums, please."], most=turn + answer)
    assert (answered.turns, answered.answers) == ([whole.turns[0], []], whole.answers[:1])


def test_samples_go_by_temperature_and_top_k_and_by_the_seed(tokenizer_dir, monkeypatch):
    model, tokenizer = train_talker(tokenizer_dir)
    before = model.generation_config
    greedy = [reply.turns for reply in write(model, tokenizer, QUESTIONS)]
    sampled = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        hot = write(model, tokenizer, QUESTIONS, do_sample=True, temperature=3.0, top_k=0)
        sampled.append([reply.turns for reply in hot])
    assert sampled[0] == sampled[1] and sampled[0] != sampled[2] and sampled[0] != greedy
    drawn, draw = [], DrawOfFew.__call__
    monkeypatch.setattr(DrawOfFew, "__call__", lambda self, *given: (drawn.append(self.top_k), draw(self, *given))[1])
    only = write(model, tokenizer, QUESTIONS, do_sample=True, temperature=3.0, top_k=1)
    assert set(drawn) == {1}
    assert [reply.turns for reply in only] == greedy
    assert model.generation_config is before


@pytest.mark.parametrize(("top_k", "temperature"), [(3, 2.0), (5, 0.7), (100, 1.0)])
def test_a_token_of_few_is_drawn_as_transformers_draws_it(top_k, temperature):
    config = GenerationConfig(do_sample=True, top_k=top_k, temperature=temperature)
    assert DrawOfFew.suits(config)
    draw = DrawOfFew.instead_of(config)
    assert not config.do_sample, "`generate` takes the only token that is left"
    torch.manual_seed(0)
    scores, draws = torch.randn(12), 40_000
    warped = TemperatureLogitsWarper(temperature)(None, scores[None])
    expected = TopKLogitsWarper(min(top_k, 12))(None, warped).softmax(-1)[0]
    drawn = draw(None, scores.expand(draws, -1))
    assert ((drawn > -torch.inf).sum(1) == 1).all()
    shares = drawn.exp().mean(0)
    assert ((shares - expected).abs() <= 5 * (expected * (1 - expected) / draws).sqrt()).all()


@pytest.mark.parametrize(
    "otherwise", [{"top_p": 0.9}, {"min_p": 0.1}, {"typical_p": 0.5}, {"epsilon_cutoff": 0.1}, {"top_k": 0}]
)
def test_other_ways_to_sample_stay_those_of_transformers(otherwise):
    neutral = {"do_sample": True, "top_k": 5, "top_p": 1.0, "typical_p": 1.0}
    assert DrawOfFew.suits(GenerationConfig(**neutral))
    assert not DrawOfFew.suits(GenerationConfig(**neutral | otherwise))
    assert not DrawOfFew.suits(GenerationConfig(top_k=5, do_sample=False))


def test_transformers_own_nanochat_writes_as_its_generate_does(tokenizer_dir):
    """Any causal LM: here with random weights, where replies end at all lengths."""
    _, tokenizer = train_talker(tokenizer_dir)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "max_position_embeddings": 112}
    config = NanoChatConfig(vocab_size=len(tokenizer), num_attention_heads=2, num_key_value_heads=2, **sizes)
    model = NanoChatForCausalLM(config).eval()
    torch.nn.init.normal_(model.lm_head.weight)
    ends = stop_token_ids(tokenizer)
    for reply in write(model, tokenizer, QUESTIONS[::3], most=24):
        ids = torch.tensor([reply.prompt])
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=24,
            eos_token_id=ends,
            pad_token_id=0,
        )
        assert reply.turns[0] == out[0, ids.size(1) :].tolist()


def test_attention_that_trains_faster_gives_way_to_one_that_decodes_faster_and_comes_back(tokenizer_dir):
    model, tokenizer = train_talker(tokenizer_dir)
    decoded, decode = [], model.model.decode
    replies = [reply.turns for reply in write(model, tokenizer, QUESTIONS)]
    model.set_attn_implementation("eager")
    try:
        model.model.decode = lambda *inputs: (decoded.append(1), decode(*inputs))[1]
        assert [reply.turns for reply in write(model, tokenizer, QUESTIONS)] == replies
        assert decoded and model.config._attn_implementation == "eager"
    finally:
        del model.model.decode
        model.set_attn_implementation("sdpa")
