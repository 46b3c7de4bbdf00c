"""Multiple choice in one forward pass: compare the logits of the letters where the answer begins."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from recipes.utils.errors import InputError
from tokenizer.chat import encode_conversation, encode_prompt


@torch.no_grad()
def choose_letters(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    letters: Sequence[Sequence[str]],
) -> list[str]:
    """For each prompt, the letter with the highest logit after it. All prompts are one batch.

    Args:
        prompts: token ids that end where the assistant's answer begins.
        letters: the letters to choose from for each prompt; the first of equals wins.
    """
    ids = letter_ids(tokenizer, sorted({letter for offered in letters for letter in offered}))
    # Padded on the right: causal attention does not see later tokens, so neither a mask nor positions are needed.
    padded = torch.nn.utils.rnn.pad_sequence([torch.tensor(prompt) for prompt in prompts], batch_first=True)  # (B, T)
    ends = torch.tensor([len(prompt) - 1 for prompt in prompts])  # (B,)
    kept, place = ends.unique(return_inverse=True)  # each position once, as logits over a large vocabulary are costly
    logits = model(padded.to(model.device), logits_to_keep=kept.to(model.device), use_cache=False).logits
    at_answer = logits[torch.arange(len(prompts)), place].float().cpu()  # (B, V)
    return [
        max(offered, key=lambda letter, row=row: row[ids[letter]].item())
        for row, offered in zip(at_answer, letters, strict=True)
    ]


def letter_ids(tokenizer: PreTrainedTokenizerBase, letters: Sequence[str]) -> dict[str, int]:
    """For each letter, the first token of an answer that is this letter.

    Raises `InputError` if two letters begin with the same token.
    """
    question = [{"role": "user", "content": "?"}]
    start = len(encode_prompt(tokenizer, question))
    ids = {}
    for letter in letters:
        answered, _ = encode_conversation(tokenizer, [*question, {"role": "assistant", "content": letter}])
        ids[letter] = answered[start]
    if len(set(ids.values())) < len(ids):
        raise InputError(
            f"{tokenizer.name_or_path or 'the tokenizer'} writes two of the letters {', '.join(ids)} with the same "
            "first token: they cannot be compared by it."
        )
    return ids
