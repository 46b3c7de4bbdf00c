"""Samples are the model's greedy completions, and right answers are told from near misses."""

import copy
import json

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from evals.samples import (
    PROMPTS,
    QUESTIONS,
    SamplesArguments,
    complete,
    is_right,
    main,
    print_conversation,
    turns,
    write_samples,
)
from evals.tokenizer.samples import DOMAINS
from recipes.utils.errors import InputError
from recipes.utils.plain_text import plain_text
from tests.modeling_nanochat.tiny import random_model
from tokenizer.bpe import train_tokenizer

FRANCE, GOLD, TOMORROW, HOT, PLANETS, COLOR, EQUATION = PROMPTS


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([text[:400] for text in DOMAINS.values()], vocab_size=300)


def make_model(name, vocab_size):
    if name == "nanochat":
        return random_model(vocab_size=vocab_size)
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=vocab_size, n_embd=32, n_layer=2, n_head=2, initializer_range=0.5))


@torch.no_grad()
def slow_greedy(model, tokenizer, prompt, steps):
    """The likeliest token, again and again, each time from the whole text."""
    model.eval()
    start = tokenizer(prompt)["input_ids"]
    ids = list(start)
    while len(ids) < len(start) + steps:
        ids.append(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax().item())
        if ids[-1] == model.generation_config.eos_token_id:
            break
    return tokenizer.decode(ids[len(start) :], skip_special_tokens=True)


@pytest.mark.parametrize("name", ["nanochat", "gpt2"])
def test_completions_are_greedy_and_without_the_prompt(name, tokenizer):
    model = make_model(name, len(tokenizer))
    prompts = [FRANCE, COLOR, EQUATION]
    completions = complete(model, tokenizer, prompts, max_new_tokens=8)
    assert completions == [slow_greedy(model, tokenizer, prompt, 8) for prompt in prompts]
    assert len(set(completions)) > 1


def test_a_completion_ends_where_the_model_ends_it(tokenizer):
    model = make_model("nanochat", len(tokenizer))
    free = complete(model, tokenizer, [FRANCE], max_new_tokens=12)[0]
    ids = torch.tensor([tokenizer(FRANCE)["input_ids"]])
    with torch.no_grad():
        second = model.generate(ids, max_new_tokens=2, do_sample=False)[0, -1].item()
    model.generation_config.eos_token_id = second
    ended = complete(model, tokenizer, [FRANCE], max_new_tokens=12)[0]
    assert free.startswith(ended) and len(ended) < len(free)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_keeps_its_mode(training, tokenizer):
    model = make_model("gpt2", len(tokenizer)).train(training)  # GPT-2 has dropout
    first, second = (complete(model, tokenizer, [FRANCE], max_new_tokens=4) for _ in range(2))
    assert first == second
    assert model.training == training


@pytest.mark.parametrize(
    ("prompt", "completion", "right"),
    [
        (FRANCE, " Paris", True),
        (FRANCE, " Paris.", True),
        (FRANCE, "\n Paris, of course", True),
        (FRANCE, " Parisian", False),
        (FRANCE, " paris", False),
        (FRANCE, " Lyon, not Paris", False),
        (FRANCE, "", False),
        (GOLD, " Au", True),
        (GOLD, " Aurum", False),
        (TOMORROW, " Sunday.", True),
        (TOMORROW, " Sundays", False),
        (TOMORROW, " Saturday", False),
        (HOT, " cold.", True),
        (HOT, " colder", False),
        (PLANETS, " Mercury, Venus, Earth, Mars, Jupiter, Saturn, Uranus and Neptune", True),
        (PLANETS, " Mercury, Venus, Earth, Mars, Jupiter", False),
        (EQUATION, " 2", True),
        (EQUATION, " 2.", True),
        (EQUATION, " 2. Then", True),
        (EQUATION, " 2, because", True),
        (EQUATION, " 25", False),
        (EQUATION, " 2.5", False),
        (EQUATION, " 2,000", False),
        (EQUATION, " 12", False),
        (COLOR, " blue", None),
    ],
)
def test_an_answer_counts_when_it_begins_the_completion_and_ends_there(prompt, completion, right):
    assert is_right(prompt, completion) is right


def test_six_of_the_seven_prompts_have_an_answer():
    assert len(PROMPTS) == 7
    assert [prompt for prompt in PROMPTS if is_right(prompt, "") is None] == [COLOR]


# The command


def saved(tokenizer, directory, template=True):
    """A tiny model in a directory, as a stage leaves it."""
    random_model(vocab_size=len(tokenizer)).save_pretrained(directory)
    tokenizer = copy.deepcopy(tokenizer)
    if not template:
        tokenizer.chat_template = None
    tokenizer.save_pretrained(directory)
    return directory


def samples_of(directory, **flags):
    write_samples(SamplesArguments(str(directory), **flags))
    return json.loads((directory / "evals" / "samples.json").read_text())


def test_the_samples_are_written_and_printed_and_the_same_again(tokenizer, tmp_path, capsys):
    directory = saved(tokenizer, tmp_path / "sft")
    first = samples_of(directory)
    printed = capsys.readouterr().out
    assert samples_of(directory) == first
    assert [each["prompt"] for each in first["completions"]] == list(PROMPTS)
    assert all(each["right"] is is_right(each["prompt"], each["completion"]) for each in first["completions"])
    asked = [message["content"] for message in first["conversation"] if message["role"] == "user"]
    assert asked == list(QUESTIONS) and len(first["conversation"]) >= 2 * len(QUESTIONS)
    assert "of 6 prompts completed right" in printed and f"  you    {QUESTIONS[0]}\n" in printed


@pytest.mark.slow
def test_what_has_not_learnt_to_chat_is_not_talked_to(tokenizer, tmp_path):
    bare = saved(tokenizer, tmp_path / "bare", template=False)
    assert "conversation" not in samples_of(bare)
    base = saved(tokenizer, tmp_path / "base")
    (base / "arguments.json").write_text('{"dataset": "primer"}')
    assert "conversation" not in samples_of(base)
    assert "conversation" in samples_of(base, kind="both")
    assert "completions" not in samples_of(base, kind="conversation")
    (base / "arguments.json").write_text('{"dataset": null, "conversations": "primer:mid"}')
    assert "conversation" in samples_of(base)


def test_a_call_of_the_calculator_is_told_from_text(capsys):
    function = {"name": "calculator", "arguments": {"expression": "12*4"}}
    calls = {"tool_calls": [{"type": "function", "function": function}]}
    messages = [
        {"role": "user", "content": "12*4?"},
        {"role": "assistant", "content": "Let me see: ", **calls},
        {"role": "tool", "name": "calculator", "content": "48"},
        {"role": "assistant", "content": "It is 48."},
    ]
    said = [("user", "12*4?"), ("model", "Let me see: "), ("call", "12*4"), ("result", "48"), ("model", "It is 48.")]
    assert turns(messages) == said
    print_conversation(messages)
    printed = (
        "\n  you    12*4?\n  model  Let me see: \n  model  [calculator] 12*4\n         = 48\n  model  It is 48.\n"
    )
    assert capsys.readouterr().out == printed


def test_a_prompt_is_continued_instead_and_nothing_is_written(tokenizer, tmp_path, capsys):
    directory = saved(tokenizer, tmp_path / "base")
    greedy = SamplesArguments(str(directory), prompt=FRANCE, temperature=0.0, max_new_tokens=8)
    main(greedy)
    model = random_model(vocab_size=len(tokenizer))
    assert capsys.readouterr().out == plain_text(FRANCE + slow_greedy(model, tokenizer, FRANCE, 8)) + "\n"
    assert not (directory / "evals").exists()
    texts = []
    for seed in (0, 0, 1):
        main(SamplesArguments(str(directory), prompt="ROMEO:\n", temperature=1.0, max_new_tokens=20, seed=seed))
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2] and texts[0].startswith("ROMEO:\n")


def test_a_model_that_is_not_there_and_an_unknown_kind_are_one_clear_line(tmp_path):
    with pytest.raises(InputError, match="no such directory"):
        write_samples(SamplesArguments(str(tmp_path / "nothing")))
    with pytest.raises(InputError, match="kind must be one of auto, completions"):
        SamplesArguments("x", kind="chat")
