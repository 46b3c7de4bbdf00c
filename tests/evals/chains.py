"""Models that write what they are told, and tasks to ask them."""

import itertools
import random

import torch

from evals.chat.tasks import Task, choice_problem, number_problem
from evals.tokenizer.samples import DOMAINS
from modeling_nanochat import NanochatGPTConfig, NanochatGPTForCausalLM
from recipes.data.messages import render_multiple_choice, user
from tokenizer.special_tokens import ASSISTANT_END, ASSISTANT_START, PYTHON_END

WORDS = " ".join(DOMAINS.values()).split()


def chain_model(tokenizer, *chains):
    """A model that writes what it is told: after each token of a chain the next; equally likely where two go on."""
    # One dimension a token, or more; the blocks, whose outputs start at zero, add nothing.
    width = max(512, -(-len(tokenizer) // 8) * 8)
    config = NanochatGPTConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=256,
        eos_token_id=tokenizer.convert_tokens_to_ids([ASSISTANT_END, PYTHON_END]),
        pad_token_id=tokenizer.pad_token_id,
    )
    model = NanochatGPTForCausalLM(config).eval()
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(width)[: len(tokenizer)])
        for chain in chains:
            for token, following in itertools.pairwise(tokenizer.convert_tokens_to_ids(list(chain))):
                model.lm_head.weight[following, token] = 5.0
    return model


def always(tokenizer, letter):
    """A model whose answer to everything is `letter`."""
    return chain_model(tokenizer, (ASSISTANT_START, letter, ASSISTANT_END))


def choice_task(count, letters="ABCD", answer=None, name="mmlu"):
    """Questions of very different lengths."""
    draw = random.Random(0)
    problems = []
    for _ in range(count):
        choices = [" ".join(draw.sample(WORDS, draw.randint(1, 4))) for _ in letters]
        question = user(render_multiple_choice("?" * draw.randint(1, 40), choices))
        problems.append(choice_problem([question], answer or draw.choice(letters), letters))
    return Task(name, "letters", 0.25, problems)


def number_task(*answers, name="gsm8k"):
    return Task(name, "generate", 0.0, [number_problem("?" * (1 + i), answer) for i, answer in enumerate(answers)])


def said(result):
    """The text of each reply to each problem."""
    return [[reply[-1]["content"] for reply in replies] for replies in result.replies]
