"""The loss of DPO: equal to one by hand, on the tokens that the assistant writes, against the model as it was."""

import pytest
import torch
from torch.nn.functional import logsigmoid
from trl import DPOTrainer, ModelConfig

from modeling_nanochat import NanochatGPTForCausalLM
from recipes.data.preferences import COLUMNS, open_preferences
from recipes.dpo import TrainerConfig
from recipes.training.chat_model import load_trainable_chat_model
from recipes.training.posttraining_arguments import DPOArguments
from recipes.training.preference_trainer import build_dpo_trainer
from recipes.training.trainer_run import build_trainer_config
from recipes.utils.processes import join_processes
from tokenizer.chat import encode_conversation, encode_prompt

ROWS = 24


@pytest.fixture(params=[False, True], ids=["whole", "adapters"])
def trainer(request, student, pairs, tmp_path, fresh_accelerate) -> DPOTrainer:
    """A trainer whose first batch holds all of its pairs, and whose model has moved away from the reference."""
    arguments = DPOArguments(
        output_dir=str(tmp_path), per_device_train_batch_size=ROWS, max_length=None, beta=0.3, loss_type=["sigmoid"],
        use_cpu=True, bf16=False,
    )  # fmt: skip
    config = build_trainer_config(TrainerConfig, arguments, join_processes(use_cpu=True))
    model, tokenizer = load_trainable_chat_model(str(student), ModelConfig(use_peft=request.param), longest_row=96)
    rows = open_preferences(str(pairs)).select_columns(list(COLUMNS)).select(range(ROWS))
    trainer = build_dpo_trainer(model, config, tokenizer, rows, rows, torch.optim.SGD(model.parameters()))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return trainer


def log_probability(model: torch.nn.Module, tokenizer, prompt: list[dict], answer: list[dict]) -> float:
    """Of all that the assistant writes in an answer, one conversation at a time."""
    ids, mask = (torch.tensor(each) for each in encode_conversation(tokenizer, prompt + answer))
    mask[: len(encode_prompt(tokenizer, prompt))] = 0
    logps = model(ids[None]).logits[0, :-1].log_softmax(-1).gather(1, ids[1:, None])[:, 0]
    return (logps * mask[1:]).sum().item()


@torch.no_grad()
def test_the_loss_is_the_mean_of_minus_log_sigmoid_of_the_rewards_difference(trainer, student, pairs):
    model, tokenizer = trainer.model.eval(), trainer.processing_class
    reference = NanochatGPTForCausalLM.from_pretrained(student)
    losses = []
    for row in open_preferences(str(pairs)).select(range(ROWS)):
        rewards = {
            key: log_probability(model, tokenizer, row["prompt"], row[key])
            - log_probability(reference, tokenizer, row["prompt"], row[key])
            for key in ("chosen", "rejected")
        }
        losses.append(-logsigmoid(torch.tensor(0.3 * (rewards["chosen"] - rewards["rejected"]))))
    expected = torch.stack(losses).mean().item()
    batch = next(iter(trainer.get_train_dataloader()))
    assert trainer.compute_loss(trainer.model, batch).item() == pytest.approx(expected, rel=1e-4)
    assert abs(expected - 0.693) > 0.005, "the model is not the reference"


def test_results_of_tools_are_not_learnt_from(trainer):
    tokenizer = trainer.processing_class
    batch = next(iter(trainer.get_train_dataloader()))
    rows = zip(batch["input_ids"], batch["completion_mask"], strict=True)
    learnt = [tokenizer.decode(ids[mask == 1]) for ids, mask in rows]
    with_calls = [text for text in learnt if "<|python_start|>" in text]
    assert with_calls and len(learnt) == 2 * ROWS
    for text in with_calls:
        before, _, after = text.partition("<|python_end|>")
        assert before.startswith("It is <|python_start|>") and after.endswith(".<|assistant_end|>")
        assert "output_start" not in text and after.count("<|") == 1


def test_the_reference_is_frozen_or_the_model_without_adapters(trainer):
    if trainer.ref_model is None:
        assert list(trainer.model.peft_config) == ["default"]
    else:
        assert not any(parameter.requires_grad for parameter in trainer.ref_model.parameters())
        assert not trainer.ref_model.training and trainer.ref_model is not trainer.model
