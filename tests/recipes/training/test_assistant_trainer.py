"""The loss of SFT: equal to TRL's, and to one by hand."""

import shutil

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer
from trl import ModelConfig, SFTTrainer

from modeling_nanochat import NanochatGPTConfig, NanochatGPTForCausalLM
from recipes.data.conversations import open_conversations
from recipes.sft import TrainerConfig
from recipes.training.assistant_trainer import AssistantTrainer
from recipes.training.chat_model import load_trainable_chat_model
from recipes.training.posttraining_arguments import SFTArguments
from recipes.training.trainer_run import build_trainer_config
from recipes.utils.processes import join_processes
from tokenizer.chat import encode_conversation

ROWS = 24


@pytest.fixture(params=[False, True], ids=["padded", "packed"])
def trainer(request, student, sums, tmp_path, fresh_accelerate) -> AssistantTrainer:
    """A trainer whose first batch holds all of its conversations."""
    return build_trainer(student, sums, tmp_path, packing=request.param)


def build_trainer(student, sums, tmp_path, packing: bool) -> AssistantTrainer:
    config = build_trainer_config(
        TrainerConfig,
        SFTArguments(
            output_dir=str(tmp_path),
            packing=packing,
            per_device_train_batch_size=ROWS,
            max_length=96,
            eval_strategy="no",
            use_cpu=True,
            bf16=False,
        ),
        join_processes(use_cpu=True),
    )
    model, tokenizer = load_trainable_chat_model(str(student), ModelConfig(), longest_row=96)
    conversations = open_conversations(str(sums)).select(range(ROWS))
    return AssistantTrainer(model=model, args=config, train_dataset=conversations, processing_class=tokenizer)


@pytest.fixture(scope="module")
def student_of_2026(student, tmp_path_factory):
    """The student's tokenizer, and a model of 2026 whose windows are shorter than its rows."""
    directory = tmp_path_factory.mktemp("student")
    shutil.copytree(student, directory, dirs_exist_ok=True)
    sizes = {"vocab_size": len(AutoTokenizer.from_pretrained(student)), "max_position_embeddings": 96}
    config = NanochatGPTConfig.from_depth(2, generation=2026, **sizes)
    config.sliding_window = 9
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = NanochatGPTForCausalLM(config)
        for parameter in model.parameters():  # none starts at a value that would hide it
            parameter.data += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(directory)
    return directory


def test_packed_conversations_do_not_see_each_other_in_a_model_of_2026(
    student_of_2026, sums, tmp_path, fresh_accelerate
):
    trainer = build_trainer(student_of_2026, sums, tmp_path, packing=True)
    assert {"full_attention", "sliding_attention"} == set(trainer.model.config.layer_types)
    check_loss_by_hand(trainer, student_of_2026, sums)


def loss_and_gradients(trainer: SFTTrainer, batch: dict, of: type, count: torch.Tensor | None = None) -> tuple:
    """What a class makes of a batch: its loss, and the gradient of each parameter."""
    trainer.model.zero_grad()
    loss = of.compute_loss(trainer, trainer.model, dict(batch), num_items_in_batch=count)
    loss.backward()
    return loss.item(), {name: parameter.grad.clone() for name, parameter in trainer.model.named_parameters()}


@pytest.mark.parametrize("share", [None, 1, 2], ids=["evaluation", "one batch", "half of an accumulated batch"])
def test_the_loss_and_its_gradients_are_trls(trainer, share):
    batch = next(iter(trainer.get_train_dataloader()))
    count = share and share * (batch["labels"][:, 1:] != -100).sum()
    mine, my_gradients = loss_and_gradients(trainer, batch, AssistantTrainer, count)
    theirs, their_gradients = loss_and_gradients(trainer, batch, SFTTrainer, count)
    assert mine == pytest.approx(theirs, rel=1e-5) and mine > 1
    torch.testing.assert_close(my_gradients, their_gradients, rtol=1e-4, atol=1e-6)


def test_the_loss_is_the_mean_over_what_the_assistant_says_each_conversation_alone(trainer, student, sums):
    check_loss_by_hand(trainer, student, sums)


def check_loss_by_hand(trainer, student, sums) -> None:
    """Its first batch, against each conversation by itself."""
    model = NanochatGPTForCausalLM.from_pretrained(student)
    total = count = 0
    for row in open_conversations(str(sums)).select(range(ROWS)):
        ids, mask = (torch.tensor(each) for each in encode_conversation(trainer.processing_class, row["messages"]))
        losses = cross_entropy(model(ids[None]).logits[0, :-1], ids[1:], reduction="none")
        total, count = total + losses[mask[1:] == 1].sum().item(), count + mask.sum().item()
    batch = next(iter(trainer.get_train_dataloader()))
    assert trainer.compute_loss(trainer.model, batch).item() == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize("trainer", [True], indirect=True, ids=["packed"])
def test_packed_rows_lie_side_by_side_padded_and_every_conversation_is_whole(trainer, sums):
    batch = next(iter(trainer.get_train_dataloader()))
    ids, labels, positions = (batch[name] for name in ("input_ids", "labels", "position_ids"))
    assert "attention_mask" not in batch and ids.size(0) > 1 and ids.size(1) <= 96
    tokenizer = trainer.processing_class
    found = []
    for row, learnt, places in zip(ids.tolist(), labels.tolist(), positions.tolist(), strict=True):
        starts = [index for index, place in enumerate(places) if place == 0 and row[index] == tokenizer.bos_token_id]
        ends = [*starts[1:], next((i for i in range(1, len(row)) if places[i] == places[i - 1] == 0), len(row))]
        for start, end in zip(starts, ends, strict=True):
            end -= places[end - 1] == 0  # the first of the padding, which has position 0 as well
            assert places[start:end] == list(range(end - start))
            found.append((row[start:end], [each != -100 for each in learnt[start:end]]))
        assert all(each == -100 for each, place in zip(learnt, places, strict=True) if place == 0)
    expected = [
        encode_conversation(tokenizer, row["messages"]) for row in open_conversations(str(sums)).select(range(ROWS))
    ]
    assert sorted(found) == sorted((ids, [bool(each) for each in mask]) for ids, mask in expected)


@pytest.mark.parametrize("count", [None, 0])
def test_a_batch_without_anything_to_learn_has_a_loss_of_0_and_no_nan(trainer, count):
    batch = next(iter(trainer.get_train_dataloader()))
    batch["labels"] = torch.full_like(batch["labels"], -100)
    loss, gradients = loss_and_gradients(trainer, batch, AssistantTrainer, count)
    assert loss == 0
    assert all(not gradient.any() for gradient in gradients.values())


@pytest.mark.parametrize("other", [{"loss_type": "dft"}, {"label_smoothing_factor": 0.2}])
def test_another_loss_of_trls_is_trls(trainer, other):
    batch = next(iter(trainer.get_train_dataloader()))
    plain = trainer.compute_loss(trainer.model, dict(batch)).item()
    for name, value in other.items():
        setattr(trainer.args, name, value)
    mine = trainer.compute_loss(trainer.model, dict(batch)).item()
    assert mine == SFTTrainer.compute_loss(trainer, trainer.model, dict(batch)).item()
    if "loss_type" in other:
        assert mine < plain * 0.5
