"""GRPO's trainer against TRL's own: the same replies, masks, metrics, losses and gradients."""

from copy import deepcopy
from itertools import chain

import pytest
import torch
from datasets import Dataset
from transformers import PreTrainedModel
from trl import GRPOConfig, GRPOTrainer
from trl.chat_template_utils import parse_response

from recipes.inference.generate import Sampling, generate_replies
from recipes.training import rollouts
from recipes.training.curriculum import Curriculum
from recipes.training.rewards import right_answer
from recipes.training.rollouts import RolloutTrainer, bf16_copy, gains_from_bf16_copy, refresh
from recipes.utils.calculator import calculator
from tests.recipes.inference.talker import KNOWN, always, train_talker, user
from tokenizer.special_tokens import ASSISTANT_END, PYTHON_END, PYTHON_START

ROWS = [{"prompt": [user(question)], "answer": "48"} for question in KNOWN for _ in range(2)]


def build(kind: type[GRPOTrainer], model: PreTrainedModel, tokenizer, tmp_path, **options) -> GRPOTrainer:
    """A trainer of that kind, of two replies to each of seven questions; greedy, so that both kinds say the same."""
    defaults = {"max_completion_length": 48, "generation_kwargs": {"do_sample": False}, "num_generations": 2}
    sizes = {"per_device_train_batch_size": len(ROWS), "report_to": "none", "loss_type": "dapo"}
    plain = {"bf16": False, "use_cpu": True, "gradient_checkpointing": False, "scale_rewards": "none", "beta": 0.0}
    args = GRPOConfig(str(tmp_path), **(defaults | sizes | plain | options))
    dataset = Dataset.from_list(ROWS)
    trainer = kind(model, [right_answer], args, dataset, tools=[calculator], processing_class=tokenizer)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    return trainer


@pytest.fixture
def talker(tokenizer_dir, fresh_accelerate):
    """A function that returns a model that knows when to call, fresh, and its tokenizer."""
    model, tokenizer = train_talker(tokenizer_dir)
    return lambda: (deepcopy(model), tokenizer)


def generated_alike(talker, tmp_path, **options) -> dict[str, torch.Tensor]:
    """What our trainer generates, after checking that TRL's generates the same by more passes."""
    theirs, ours = (build(kind, *talker(), tmp_path, **options) for kind in (GRPOTrainer, RolloutTrainer))
    writes, write = [], ours.write
    ours.write = lambda prompts: (writes.append(len(prompts)), write(prompts))
    expected, got = (
        trainer._generate_and_score_completions([dict(row) for row in ROWS]) for trainer in (theirs, ours)
    )
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        assert torch.equal(value, got[name]), name
    assert ours._metrics["train"] == theirs._metrics["train"]
    assert list(ours._logs["completion"]) == list(theirs._logs["completion"])
    assert writes == [len(ROWS)], "one loop wrote all turns"
    return got


@pytest.mark.parametrize(
    "options", [{}, {"max_completion_length": 14}, {"max_completion_length": 9}, {"max_tool_calling_iterations": 1}]
)
def test_replies_masks_rewards_and_metrics_are_those_of_trls_loop(talker, tmp_path, options):
    """Also where replies are cut, where an answer has no room, and where no further call is allowed."""
    got = generated_alike(talker, tmp_path, **options)
    assert options or (got["tool_mask"] == 0).sum() > 20, "answers are not trained on"


def test_a_call_is_parsed_once_and_answered_alike_whatever_was_said_before(talker, tmp_path, monkeypatch):
    model, tokenizer = talker()
    trainer = build(RolloutTrainer, model, tokenizer, tmp_path)
    calls = ("12*4", "7+", "12*4", "100/7")
    texts = [f"{before}{PYTHON_START}{call}{PYTHON_END}" for before in ("", "Let me see. ", "Then ") for call in calls]
    prompt, written = [5, 6, 7], [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    alone = []
    for turn in written:
        trainer.answers.clear()
        alone.append(trainer.answer(prompt, turn, 0))
    trainer.answers.clear()
    parsed = []

    def parse(*args, **more):
        parsed.append(args)
        return parse_response(*args, **more)

    monkeypatch.setattr(rollouts, "parse_response", parse)
    assert [trainer.answer(prompt, turn, 0) for turn in written] == alone
    assert len(parsed) == len(set(calls)) and len({tuple(each) for each in alone}) == 3


def test_a_turn_that_ends_within_a_call_is_answered_as_trl_does(tokenizer_dir, tmp_path, fresh_accelerate):
    _, tokenizer = train_talker(tokenizer_dir)
    model = always(PYTHON_START, tokenizer, context=112)
    start, end = tokenizer.convert_tokens_to_ids([PYTHON_START, ASSISTANT_END])
    with torch.no_grad():  # the end of the turn after the start of a call, and that after everything else
        model.model.embed_tokens.weight[start, ::2] = -1
        model.lm_head.weight[end] = model.model.embed_tokens.weight[start]
    got = generated_alike(lambda: (deepcopy(model), tokenizer), tmp_path)
    assert got["completion_ids"][0, :2].tolist() == [start, end] and not got["tool_mask"][0, 2]


@pytest.mark.parametrize("options", [{"temperature": 0.7}, {"temperature": 1.0, "top_k": 3}])
def test_losses_and_gradients_are_trls_and_groups_without_spread_need_none(talker, tmp_path, options):
    theirs, ours = (build(kind, *talker(), tmp_path, **options) for kind in (GRPOTrainer, RolloutTrainer))
    inputs = theirs._generate_and_score_completions([dict(row) for row in ROWS])
    inputs["advantages"] = torch.tensor([0.5, -0.5, 0.0, 0.0, -1.0, 1.0] + 8 * [0.0])
    gradients = []
    for trainer in (theirs, ours):
        trainer.compute_loss(trainer.model, dict(inputs)).backward()
        gradients.append({name: weight.grad for name, weight in trainer.model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-4, msg=name)
    measured = [trainer._metrics["train"]["entropy"][-1] for trainer in (theirs, ours)]
    assert measured[0] == pytest.approx(measured[1], abs=1e-5)


@pytest.mark.parametrize("rows", [None, 4])
def test_a_cut_is_kept_where_prompts_are_read_once_and_where_rows_are_scored_alone(talker, tmp_path, rows):
    """The second is how GPUs and several processes score them."""
    trainer = build(RolloutTrainer, *talker(), tmp_path, temperature=2.0, top_k=3)
    inputs = trainer._generate_and_score_completions([dict(row) for row in ROWS])
    ids, mask = (
        torch.cat((inputs[f"prompt_{name}"], inputs[f"completion_{name}"]), dim=1) for name in ("ids", "mask")
    )
    asked = trainer.model, ids, mask, inputs["completion_ids"].size(1)
    real = inputs["completion_mask"].bool()

    def score() -> list[torch.Tensor]:
        """Log-probabilities, entropies, and the gradient of each weight."""
        trainer.model.zero_grad()
        logps, entropies, _ = trainer._get_per_token_logps_and_entropies(*asked, rows, compute_entropy=True)
        logps[real].sum().backward()
        gradients = [weight.grad.clone() for weight in trainer.model.parameters()]
        return [logps[real].detach(), entropies[real], *gradients]

    once = score()
    trainer.reads_prompts_once = lambda model: False
    for ours, alone in zip(once, score(), strict=True):
        torch.testing.assert_close(alone, ours, atol=1e-3, rtol=1e-3)
    trainer.cut = 0
    logps, entropies, *_ = score()
    assert (once[0] >= logps - 1e-5).all() and (once[0] - logps).max() > 0.01, "of all tokens each is less likely"
    assert once[1].max() < 1.1 < entropies.max()


def test_a_batch_of_groups_without_spread_still_has_a_gradient_which_is_zero(talker, tmp_path):
    trainer = build(RolloutTrainer, *talker(), tmp_path)
    inputs = trainer._generate_and_score_completions([dict(row) for row in ROWS])
    inputs["advantages"] = torch.zeros(len(ROWS))
    trainer.compute_loss(trainer.model, inputs).backward()
    assert all(weight.grad is not None and not weight.grad.any() for weight in trainer.model.parameters())


def test_a_bf16_copy_is_as_new_as_the_weights_and_leaves_them_alone(talker, tmp_path):
    model, tokenizer = talker()
    trainer = build(RolloutTrainer, model, tokenizer, tmp_path)
    trainer.args.bf16 = True  # as on a card: the copy does not depend on it being one
    weights = {name: weight.clone() for name, weight in model.named_parameters()}
    rows = [dict(row) for row in ROWS]
    first = trainer._generate_and_score_completions(rows)
    assert {weight.dtype for weight in trainer.half.parameters()} == {torch.bfloat16}
    assert all(torch.equal(weight, weights[name]) for name, weight in model.named_parameters())
    with torch.no_grad():
        model.lm_head.weight.zero_()  # now it writes token 0 for ever
    second = trainer._generate_and_score_completions(rows)
    assert not second["completion_ids"].any() and first["completion_ids"].any()


def test_a_bf16_copy_says_what_the_model_says_and_is_made_only_where_it_is_faster(talker):
    model, tokenizer = talker()
    copied = bf16_copy(model)
    refresh(copied, model)
    asked = [[user(question)] for question in KNOWN]
    assert generate_replies(copied, tokenizer, asked, Sampling(48)) == generate_replies(
        model, tokenizer, asked, Sampling(48)
    )
    assert gains_from_bf16_copy(model, bf16=True)
    assert not gains_from_bf16_copy(model, bf16=False) and not gains_from_bf16_copy(copied, bf16=True)


def test_problems_are_tried_until_enough_have_a_spread_and_trl_is_given_the_replies_that_were_tried(talker, tmp_path):
    model, tokenizer = talker()
    dataset = Dataset.from_list([{**row, "kind": str(i)} for i, row in enumerate(ROWS[::2])])
    trainer = build(RolloutTrainer, model, tokenizer, tmp_path, generation_kwargs={}, per_device_train_batch_size=4)
    trainer.train_dataset = dataset
    trainer.curriculum, trainer.sampling_rounds = Curriculum(dataset, seed=0), 3
    trainer.curriculum.spread = 0.6  # so that four of six problems should do at first
    outcomes = iter([(1, 1, 1, 0, 0, 0, 1, 1), (0, 1, 0, 0)])  # one of the first four has a spread, and one at last
    tried, writes, write = [], [], trainer.write

    def check(rows: list[dict]) -> list[float]:
        tried.append([row["kind"] for row in rows])
        trainer.write(trainer._tokenize_prompts([row["prompt"] for row in rows])[0])
        return list(map(float, next(outcomes)))

    trainer.write_and_check = check
    trainer.write = lambda prompts: (writes.append(len(prompts)), write(prompts))[1]
    trainer._generate_and_score_completions([dict(row) for row in dataset.select(range(4))])
    assert writes == [8, 4], "TRL wrote nothing anew"
    first, last = tried
    questions, asked = list(KNOWN), [prompt[0]["content"] for prompt in trainer._logs["prompt"]]
    expected = [questions[int(kind)] for kind in (first[2], first[2], last[0], last[0])]
    assert asked == expected, "those with a spread"
    metrics = {name: values for name, values in trainer._metrics["train"].items() if name.startswith("tried/")}
    assert metrics == {"tried/right": [0.5], "tried/with_spread": [2 / 6], "tried/replies": [12]}
    assert trainer.curriculum.tried == dict.fromkeys(chain(*(kinds[::2] for kinds in tried)), 1)
    assert sorted(trainer.curriculum.variances.values()) == [0, 0, 0, 0, 0.25, 0.25]


@pytest.mark.parametrize(
    ("spread", "rounds", "problems", "expected"),
    [  # eight problems are wanted, and none of those that are tried has a spread
        (0.5, 1, 200, [8]),
        (1.0, 3, 200, [8, 8, 8]),
        (0.75, 3, 200, [11, 13]),  # not 11, 11 and 2
        (1 / 3, 3, 200, [24]),
        (1e-9, 3, 200, [24]),
        (0.1, 20, 200, [80, 80]),
        (1 / 3, 3, 10, [10, 10, 4]),  # there are no more at a time
    ],
)
def test_as_many_problems_are_tried_at_once_as_should_bring_enough(
    talker, tmp_path, spread, rounds, problems, expected
):
    model, tokenizer = talker()
    dataset = Dataset.from_list([{**ROWS[0], "kind": "one"}] * problems)
    trainer = build(RolloutTrainer, model, tokenizer, tmp_path, generation_kwargs={})
    trainer.train_dataset = dataset
    trainer.curriculum, trainer.sampling_rounds = Curriculum(dataset, seed=0), rounds
    tried = []
    trainer.write_and_check = lambda rows: (tried.append(len(rows) // trainer.num_generations), [0.0] * len(rows))[1]

    def keep(groups):
        trainer.curriculum.spread = spread

    trainer.curriculum.count = keep
    keep([])
    chosen = trainer.try_problems(8 * trainer.num_generations)
    assert tried == expected and len(chosen) == 8 * trainer.num_generations
