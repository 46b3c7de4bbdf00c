"""TRL's DPOTrainer, told which tokens of an answer are the assistant's, and which model is the reference."""

import copy
from dataclasses import dataclass
from typing import Any

import datasets
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference  # documented by TRL, but not exported at its top

from tokenizer.chat import assistant_mask, has_chat_format


@dataclass
class AnswerCollator(DataCollatorForPreference):
    """TRL's batches of pairs, without the results of tools: given to the model when it chats, never its to predict.

    Applies to our chat format. TRL counts everything after the prompt as the answer.
    """

    tokenizer: PreTrainedTokenizerBase | None = None

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Pairs as a batch of 2 x B rows, chosen answers first; `completion_mask` is 1 on the assistant's tokens."""
        batch = super().torch_call(examples)
        if has_chat_format(self.tokenizer):
            written = [assistant_mask(self.tokenizer, ids) for ids in batch["input_ids"].tolist()]
            batch["completion_mask"] *= torch.tensor(written)
        return batch


def build_dpo_trainer(
    model: PreTrainedModel,
    config: DPOConfig,
    tokenizer: PreTrainedTokenizerBase,
    train: datasets.Dataset,
    validation: datasets.Dataset,
    optimizer: torch.optim.Optimizer,
) -> DPOTrainer:
    """A DPOTrainer whose reference model is `model` as it is now: a frozen copy, or the model without its adapters.

    Rows are not cut off: `fit_preferences` has dropped what is too long.

    Raises `ValueError` where TRL refuses the configuration.
    """
    adapted = hasattr(model, "peft_config")
    trainer = DPOTrainer(
        model=model,
        # A copy in memory: TRL would load one by its name, which misses embeddings that were added for our tokens.
        ref_model=None if adapted else copy.deepcopy(model).eval().requires_grad_(False),
        args=config,
        train_dataset=train,
        eval_dataset=validation,
        processing_class=tokenizer,
        data_collator=AnswerCollator(tokenizer.pad_token_id, tokenizer=tokenizer),
        optimizers=(optimizer, None),
    )
    if adapted and "ref" in model.peft_config:
        # TRL takes given adapters for trained ones, and keeps a copy of them as the reference. Ours are new: without
        # the copy it switches the adapters off, which is the same model, and checkpoints are half as large.
        model.delete_adapter("ref")
    return trainer
