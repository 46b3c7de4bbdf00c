"""What a base model makes of a few prompts: nanochat's seven, six of which have an answer."""

import re

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

PROMPTS = {  # with the words that a right completion begins with; None where any will do
    "The capital of France is": "Paris",
    "The chemical symbol of gold is": "Au",
    "If yesterday was Friday, then tomorrow will be": "Sunday",
    "The opposite of hot is": "cold",
    "The planets of the solar system are:": "Mercury, Venus, Earth, Mars, Jupiter, Saturn, Uranus",
    "My favorite color is": None,
    "If 5*x + 3 = 13, then x is": "2",
}


@torch.no_grad()
def complete(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[str], max_new_tokens: int = 32
) -> list[str]:
    """Greedy completions of `prompts`, without the prompts themselves."""
    was_training = model.training
    model.eval()
    completions = []
    for prompt in prompts:  # one by one: the figures then do not depend on padding
        ids = torch.tensor([tokenizer(prompt)["input_ids"]], device=model.device)
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
        )
        completions.append(tokenizer.decode(output[0, ids.size(1) :], skip_special_tokens=True))
    model.train(was_training)
    return completions


def is_right(prompt: str, completion: str) -> bool | None:
    """Whether `completion` begins with the known answer, and not with a longer word or number; None without one."""
    answer = PROMPTS[prompt]
    if answer is None:
        return None
    rest = completion.lstrip()
    return rest.startswith(answer) and not re.match(r"\w|[.,]\d", rest[len(answer) :])
