"""A GPT-2 as OpenAI's and a tokenizer as its own, of any size, made on the spot."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

END = "<|endoftext|>"  # begins, ends and pads; GPT-2 has no token of its own for any of them


def save_tokenizer(directory: Path, texts: list[str], vocab_size: int = 400, context: int = 64) -> int:
    """Byte-level BPE with GPT-2's one special token, trained on `texts`; returns its number of tokens."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    options = {"initial_alphabet": alphabet, "special_tokens": [END], "show_progress": False}
    backend.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=vocab_size, **options))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=END, eos_token=END, unk_token=END, model_max_length=context
    )
    tokenizer.save_pretrained(directory)
    return len(tokenizer)


def save_gpt2(directory: Path, texts: list[str], vocab_size: int = 400, context: int = 64, **sizes: int) -> Path:
    """A GPT-2 that knows nothing yet, with its tokenizer."""
    size = save_tokenizer(directory, texts, vocab_size, context)
    config = GPT2Config(
        vocab_size=size, n_positions=context, bos_token_id=0, eos_token_id=0,
        **{"n_layer": 1, "n_head": 2, "n_embd": 32} | sizes,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        GPT2LMHeadModel(config).save_pretrained(directory)
    return directory
