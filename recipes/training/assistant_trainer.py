"""TRL's SFTTrainer with the fast loss of our models, packed rows side by side, and pretraining's schedule."""

from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler
from trl import SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling


class PackedRows(DataCollatorForLanguageModeling):
    """A batch of packed rows (B, T), padded at the end, whose conversations do not see each other.

    TRL lays a batch's rows end to end in one, which suits flash attention: other kernels go over a (B T, B T) mask for
    what B masks of (T, T) hold.
    """

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """`input_ids`, `labels` and `position_ids`, which start from 0 at each conversation."""
        batch = super().torch_call(examples)
        del batch["attention_mask"]  # transformers looks for starts in position_ids only where there is no mask
        batch["labels"][batch["position_ids"] == 0] = -100  # not to be predicted from the conversation before
        return batch


class AssistantTrainer(SFTTrainer):
    """SFTTrainer with the loss that pretraining uses, for the models that have it: 1.7 x the speed on a CPU."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        flash = "flash" in (self.model.config._attn_implementation or "")
        if self.args.packing and self.args.packing_strategy != "wrapped" and not flash:
            self.data_collator = PackedRows(
                self.processing_class.pad_token_id,
                pad_to_multiple_of=self.args.pad_to_multiple_of,
                return_position_ids=True,
            )

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LRScheduler:
        """With `warmdown_ratio`, the shape of pretraining's: constant, then in a line to 0."""
        if self.args.warmdown_ratio is not None:
            self.args.lr_scheduler_type = "warmup_stable_decay"
            steps = round(self.args.warmdown_ratio * num_training_steps)
            self.args.lr_scheduler_kwargs = {"num_decay_steps": steps, "decay_type": "linear"}
        return super().create_scheduler(num_training_steps, optimizer)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        """Mean cross-entropy in nats over the assistant's tokens of the whole batch, all processes together.

        Labels are -100 where the loss is not taken. The batch may be split into micro-batches: the sum of each is
        divided by the tokens of all of them, so that a short conversation does not count more than a long one.
        """
        plain = self.args.loss_type == "nll" and not self.args.label_smoothing_factor and not return_outputs
        if not plain or not hasattr(self.accelerator.unwrap_model(model), "loss_without_logits"):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        count = (inputs["labels"][:, 1:] != -100).sum() if num_items_in_batch is None else num_items_in_batch
        count = torch.as_tensor(count).clamp(min=1)  # a batch without any: a loss of 0, not of 0 / 0
        loss = model(**inputs, skip_logits=True, use_cache=False, num_items_in_batch=count).loss
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            loss = loss * self.accelerator.num_processes  # DDP averages gradients, and the count is of all processes
        return loss
