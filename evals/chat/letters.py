"""Multiple choice in one forward pass: the logits of the letters on offer, compared where the answer begins."""

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
    """For each prompt the letter on offer with the highest logit after it; all prompts in one batch.

    Args:
        prompts: token ids that end where the assistant's answer begins.
        letters: the letters that each prompt offers, in their order; the earlier one wins a tie.
    """
    ids = letter_ids(tokenizer, sorted({letter for offered in letters for letter in offered}))
    # Padded behind: what comes later is not seen by causal attention, so it takes neither a mask nor other positions.
    padded = torch.nn.utils.rnn.pad_sequence([torch.tensor(prompt) for prompt in prompts], batch_first=True)
    ends = torch.tensor([len(prompt) - 1 for prompt in prompts])
    kept, place = ends.unique(return_inverse=True)  # a position once: the vocabulary may be large
    logits = model(padded.to(model.device), logits_to_keep=kept.to(model.device), use_cache=False).logits
    at_answer = logits[torch.arange(len(prompts)), place].float().cpu()  # (B, V)
    return [
        max(offered, key=lambda letter, row=row: row[ids[letter]].item())
        for row, offered in zip(at_answer, letters, strict=True)
    ]


def letter_ids(tokenizer: PreTrainedTokenizerBase, letters: Sequence[str]) -> dict[str, int]:
    """The first token that the assistant writes when its answer is a letter, by letter.

    Raises `InputError` where one token begins two of them.
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
