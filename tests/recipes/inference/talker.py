"""Models whose words are known beforehand: one that has learnt some conversations by heart, one of a single word."""

from functools import cache
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from modeling_nanochat import NanochatGPTConfig, NanochatGPTForCausalLM
from recipes.training.models import set_special_tokens
from recipes.utils.calculator import calculator
from tokenizer.chat import add_chat_template, encode_conversation

CONTEXT = 112
SCRIPTS = "Grüße, 你好 and 👩‍🚀!"


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def assistant(text: str, call: str | None = None) -> dict:
    message = {"role": "assistant", "content": text}
    if call is not None:
        function = {"name": "calculator", "arguments": {"expression": call}}
        message["tool_calls"] = [{"type": "function", "function": function}]
    return message


def result(text: str) -> dict:
    return {"role": "tool", "name": "calculator", "content": text}


def calling(text: str, call: str) -> list[dict]:
    """A message with a call, and its result."""
    return [assistant(text, call), result(calculator(call))]


# What is asked, and the new messages of the reply.
KNOWN = {
    "How much is 12*4?": [*calling("Let me see: ", "12*4"), assistant("It is 48.")],
    "Two sums, please.": [*calling("", "1+2"), *calling(" and ", "2**0.5"), assistant(" are they.")],
    "Divide by zero.": [*calling("", "1/0"), assistant("That cannot be.")],
    "Greet the world.": [assistant(SCRIPTS)],
    "Say nothing.": [assistant("")],
    "I am Bo.": [assistant("Hello, Bo.")],
    "Who am I?": [assistant("I do not know.")],
}
REMEMBERED = [user("I am Bo."), *KNOWN["I am Bo."], user("Who am I?"), assistant("You are Bo.")]


@cache
def train_talker(tokenizer_dir: Path) -> tuple[NanochatGPTForCausalLM, PreTrainedTokenizerFast]:
    """A model that knows `KNOWN` and `REMEMBERED`, and its tokenizer; trained in two seconds."""
    conversations = [*([user(question), *reply] for question, reply in KNOWN.items()), REMEMBERED]
    return learn_by_heart(tokenizer_dir, conversations)


def learn_by_heart(
    tokenizer_dir: Path, conversations: list[list[dict]], **changes
) -> tuple[NanochatGPTForCausalLM, PreTrainedTokenizerFast]:
    """A model that knows these conversations, and its tokenizer; `changes` override the fields of its config."""
    tokenizer = load_tokenizer(tokenizer_dir, CONTEXT)
    rows = [torch.tensor(encode_conversation(tokenizer, messages)[0]) for messages in conversations]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    labels = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-100)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = NanochatGPTForCausalLM(small_config(tokenizer, CONTEXT, **changes))
    set_special_tokens(model, tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.95))
    for _ in range(100):
        model(ids, labels=labels, skip_logits=True).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval(), tokenizer


def always(token: str | int, tokenizer: PreTrainedTokenizerFast, context: int = 10**6) -> NanochatGPTForCausalLM:
    """A model that writes one token for ever."""
    model = NanochatGPTForCausalLM(small_config(tokenizer, context))  # its blocks add nothing yet
    set_special_tokens(model, tokenizer)
    with torch.no_grad():
        model.model.embed_tokens.weight.fill_(1)
        model.lm_head.weight[token if isinstance(token, int) else tokenizer.convert_tokens_to_ids(token)] = 1
    return model.eval()


def load_tokenizer(tokenizer_dir: Path, context: int) -> PreTrainedTokenizerFast:
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    add_chat_template(tokenizer)
    tokenizer.model_max_length = context
    return tokenizer


def small_config(tokenizer: PreTrainedTokenizerFast, context: int, **changes) -> NanochatGPTConfig:
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "max_position_embeddings": context,
    }
    return NanochatGPTConfig(**sizes | changes)
