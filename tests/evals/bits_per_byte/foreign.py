"""Tiny models of other makers, and tokenizers of every kind."""

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    ByT5Tokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from evals.tokenizer.samples import DOMAINS
from tokenizer.bpe import train_tokenizer

TEXTS = [text[:400] for text in DOMAINS.values()]
CONTEXT = 64
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
SIZES |= {"intermediate_size": 64, "max_position_embeddings": CONTEXT, "initializer_range": 0.5}


def gpt2_tokenizer(**options) -> PreTrainedTokenizerFast:
    """Built like GPT-2's, of 280 tokens."""
    backend = Tokenizer(models.BPE())
    backend.normalizer = options.get("normalizer")
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=279, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator(TEXTS, trainer)
    backend.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>")


def llama_tokenizer() -> PreTrainedTokenizerFast:
    """Built like Llama 2's: SentencePiece's spaces, a space before every text, bytes for what it does not know."""
    bytes_of = [f"<0x{byte:02X}>" for byte in range(256)]
    backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<unk>", "<s>", "</s>", *bytes_of], limit_alphabet=60, show_progress=False
    )
    backend.train_from_iterator(TEXTS[:3], trainer)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(steps)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def word_tokenizer() -> PreTrainedTokenizerFast:
    """Built like BERT's: lower case, no line ends, and one token for every word that it does not know."""
    backend = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.train_from_iterator(TEXTS, trainers.WordLevelTrainer(vocab_size=100, special_tokens=["[UNK]", "[SEP]"]))
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="[SEP]", unk_token="[UNK]")


TOKENIZERS = {
    "ours": lambda: train_tokenizer(TEXTS, vocab_size=300),
    "gpt2": gpt2_tokenizer,
    "llama": llama_tokenizer,
    "byt5": ByT5Tokenizer,  # of bytes, and not a fast one
}


def gpt2_model(vocab_size: int) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=vocab_size, n_embd=32, n_layer=2, n_head=2, n_positions=CONTEXT, initializer_range=0.5,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


def qwen_model(vocab_size: int) -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    return Qwen2ForCausalLM(Qwen2Config(vocab_size=vocab_size, **SIZES)).eval()


def llama_model(vocab_size: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(vocab_size=vocab_size, **SIZES)).eval()


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, directory) -> str:
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return str(directory)
