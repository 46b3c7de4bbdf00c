"""Problems, rewards and rollouts: what GRPO trains on, what it rewards, and what of a reply is in the loss."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trl import GRPOTrainer, ModelConfig

from recipes import grpo
from recipes.data.messages import assistant, calculator_call
from recipes.data.primer.problems import problems as primer_problems
from recipes.training.rollouts import called_calculator, final_text, open_problems, right_answer
from recipes.utils.errors import InputError
from recipes.utils.run_directory import read_metrics
from tests.recipes.conftest import GUESSED
from tokenizer.special_tokens import OUTPUT_END, OUTPUT_START

# Problems


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16, 100])
def test_the_primer_gives_as_many_problems_as_asked_for_two_fifths_of_each_longer_kind(count):
    problems = open_problems("primer", "train", count)
    assert len(problems) == len({row["prompt"][0]["content"] for row in problems}) == count
    if count == 100:
        steps = {each.question: n for n in (1, 2, 3) for each in primer_problems("train", n, 40)}
        assert Counter(steps[row["prompt"][0]["content"]] for row in problems) == {1: 20, 2: 40, 3: 40}


def test_problems_are_a_prompt_and_an_answer_the_same_for_the_same_seed_and_shuffled():
    problems = open_problems("primer", "train", 16, seed=3)
    assert problems.column_names == ["answer", "prompt"]
    (message,) = problems[0]["prompt"]
    assert message["role"] == "user" and message["content"].endswith(("?", "."))
    assert problems[:] == open_problems("primer", "train", 16, seed=3)[:] != open_problems("primer", "train", 16)[:]
    assert [len(row["prompt"][0]["content"]) for row in problems][:3] != sorted(
        len(row["prompt"][0]["content"]) for row in problems
    )[:3], "not the one-step ones first"


def test_held_out_problems_are_no_training_problems():
    train, held_out = (
        set(map(str, open_problems("primer", split, 200)["prompt"])) for split in ("train", "validation")
    )
    assert not train & held_out


def test_gsm8k_is_read_from_a_directory(guessed):
    problems = open_problems(guessed, "train", 3)
    assert problems[:] == {"answer": ["48"] * 3, "prompt": [[{"role": "user", "content": GUESSED}]] * 3}
    assert len(open_problems(guessed, "validation", 100)) == 1


@pytest.mark.parametrize("spec", ["gsm8", "primer:hard", ""])
def test_unknown_problems_are_named_with_the_known(spec):
    with pytest.raises(InputError, match=f"^no problems called '{spec}': choose primer, gsm8k, or gsm8k:PATH"):
        open_problems(spec, "train", 5)


# Rewards


def calling(expression: str, result: str, text: str = "") -> list[dict]:
    return [*calculator_call("", expression, result), assistant(text)]


@pytest.mark.parametrize(
    ("text", "answer", "right"),
    [
        ("The answer is 12.", "12", 1),
        ("12.0", "12", 1),
        ("It costs $1,200.", "1200", 1),
        ("1200", "1,200", 1),
        ("It is -3.", "-3", 1),
        ("First 12, then 13.", "12", 0),
        ("12 or so. #### 13", "13", 1),
        ("#### 13 as I said 12", "13", 1),
        ("3", "-3", 0),
        ("112", "12", 0),
        ("twelve", "12", 0),
        ("", "0", 0),
    ],
)
def test_a_reply_is_right_if_its_final_number_is_the_answer_as_a_number(text, answer, right):
    assert right_answer([[assistant(text)]], [answer]) == [right]
    assert right_answer([calling("6*2", "12", text)], [answer]) == [right], "also after a call"


def test_a_result_that_is_not_said_earns_nothing():
    unanswered = calculator_call("It is 12: ", "6*2", "12")
    assert right_answer([unanswered[:1], unanswered, [], [assistant("")]], ["12"] * 4) == [0, 0, 0, 0]
    assert final_text([{"role": "assistant"}]) == final_text([{"role": "assistant", "content": None}]) == ""


def test_the_reward_for_form_wants_a_call_and_no_failed_one():
    replies = [
        calling("6*2", "12", "Who knows."),
        [assistant("12")],
        calling("1/0", "error: division by zero", "12"),
        [*calculator_call("", "6*2", "12"), *calling("x", "error: x does not belong into arithmetic", "12")],
    ]
    assert called_calculator(replies) == [1, 0, 0, 0]


@given(st.integers(-(10**9), 10**9), st.text(alphabet="abc .,!?", max_size=20))
def test_any_words_before_the_right_number_earn_1_and_another_number_0(number, words):
    assert right_answer([[assistant(f"{words} {number:,}.")]], [str(number)]) == [1]
    assert right_answer([[assistant(f"{words} {number + 1}")]], [str(number)]) == [0]


# Rollouts


@pytest.fixture
def rollouts(guesser, guessed, tmp_path, monkeypatch, fresh_accelerate) -> tuple[GRPOTrainer, list[dict]]:
    """A trainer that has made two steps by the recipe, and what the loss was computed of."""
    seen = []

    class Watching(GRPOTrainer):
        def compute_loss(self, model, inputs, *args, **kwargs):
            seen.append({**inputs, "trainer": self})
            return super().compute_loss(model, inputs, *args, **kwargs)

    monkeypatch.setattr(grpo, "GRPOTrainer", Watching)
    args = grpo.GRPOArguments(
        source=str(guesser),
        problems=guessed,
        output_dir=str(tmp_path),
        max_completion_length=24,
        max_steps=2,
        pass_every=-1,
        format_reward=0.5,
    )
    grpo.grpo(args, ModelConfig())
    return seen[0]["trainer"], seen


def test_the_settings_of_the_design_reach_trl_and_hold(rollouts, tmp_path):
    trainer, seen = rollouts
    args = trainer.args
    assert (args.beta, args.num_iterations, args.temperature, args.top_k) == (0.0, 1, 1.0, 50)
    assert (args.loss_type, args.scale_rewards, args.lr_scheduler_type) == ("dapo", "none", "linear")
    assert (trainer.num_generations, trainer.generation_config.top_k) == (16, 50)
    assert trainer.ref_model is None
    assert len(seen) == 2, "each reply is trained on once"
    rewards = [record["train/reward"] for record in read_metrics(tmp_path / "metrics.jsonl")]
    for inputs, reward in zip(seen, rewards, strict=True):
        assert "old_per_token_logps" not in inputs and "ref_per_token_logps" not in inputs
        for advantage in inputs["advantages"].tolist():  # r - mean(r), r being 0 or 1, and half for the form
            assert min(abs(advantage + reward - r) for r in (0, 0.5, 1, 1.5)) < 1e-5
    assert not (tmp_path / "pass_at_k.png").exists()


def test_what_the_calculator_says_is_not_in_the_loss_and_all_that_the_model_wrote_is(rollouts):
    trainer, seen = rollouts
    start, end = trainer.processing_class.convert_tokens_to_ids([OUTPUT_START, OUTPUT_END])
    results = 0
    for inputs in seen:
        for ids, mask, written in zip(
            inputs["completion_ids"], inputs["completion_mask"], inputs["tool_mask"], strict=True
        ):
            ids, written = ids[mask.bool()].tolist(), written[mask.bool()].tolist()
            expected, within = [], False
            for token in ids:
                within = within or token == start
                expected.append(int(not within))
                within = within and token != end
            assert written == expected
            results += ids.count(start)
    assert results > 24, "most replies call"


def test_the_primers_problems_train_as_they_are(guesser, tmp_path, fresh_accelerate):
    sizes = {"per_device_train_batch_size": 2, "num_generations": 2, "max_completion_length": 8, "max_problems": 4}
    passes = {"pass_every": 0, "pass_problems": 3, "pass_samples": 2}
    args = grpo.GRPOArguments(source=str(guesser), output_dir=str(tmp_path), max_steps=1, **sizes, **passes)
    grpo.grpo(args, ModelConfig())
    measured = [record for record in read_metrics(tmp_path / "metrics.jsonl") if "val/pass@2" in record]
    assert [record["step"] for record in measured] == [0, 1]
