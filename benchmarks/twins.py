"""Our model and transformers' own, with the same random weights: what the benchmarks of generation compare."""

import torch
from transformers import NanoChatConfig, NanoChatForCausalLM, PreTrainedTokenizerFast

from modeling_nanochat import NanochatGPTConfig, NanochatGPTForCausalLM
from tokenizer.special_tokens import SPECIAL_TOKENS

DEPTH, VOCABULARY, CONTEXT = 4, 4096, 256  # the cpu preset's model


def build_twins(
    tokenizer: PreTrainedTokenizerFast, depth: int = DEPTH, context: int = CONTEXT
) -> tuple[NanochatGPTForCausalLM, NanoChatForCausalLM]:
    """Both models. The head's rows of special tokens are zero: no turn ends early, and no tool is called."""
    ours = build_ours(tokenizer, depth, context)
    theirs = NanoChatForCausalLM(NanoChatConfig(**ours.config.to_dict()))
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs.eval()


def build_ours(
    tokenizer: PreTrainedTokenizerFast, depth: int = DEPTH, context: int = CONTEXT, generation: int = 2025
) -> NanochatGPTForCausalLM:
    """Ours alone, of either generation. The head's rows of special tokens are zero as above."""
    config = NanochatGPTConfig.from_depth(
        depth, vocab_size=len(tokenizer), generation=generation, max_position_embeddings=context
    )
    torch.manual_seed(0)
    model = NanochatGPTForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():  # fresh output projections are zero
            parameter.normal_(std=0.05)
        model.lm_head.weight[tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS))] = 0
    return model.eval()
