"""Tokenizers that are loaded to be saved again with what is trained on them."""

from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

# What transformers notes in a tokenizer of how it was loaded, and would save in its tokenizer_config.json.
ABOUT_THIS_MACHINE = ("is_local", "local_files_only")


def load_pretrained(name: str, **options: Any) -> PreTrainedTokenizerBase:
    """`AutoTokenizer.from_pretrained`, of which nothing about this machine stays in the tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(name, **options)
    for key in ABOUT_THIS_MACHINE:
        tokenizer.init_kwargs.pop(key, None)
    return tokenizer
