"""What GRPO's trainer does in a step of the recipe: its settings, and what of a reply is in the loss."""

import pytest
from trl import ModelConfig

from evals.chat.before_after import read_problems
from recipes import grpo
from recipes.training.problems import open_problems
from recipes.training.rollouts import RolloutTrainer
from recipes.utils.processes import join_processes
from recipes.utils.run_directory import BEFORE_AFTER, read_metrics
from tokenizer.special_tokens import OUTPUT_END, OUTPUT_START


@pytest.fixture
def rollouts(guesser, guessed, tmp_path, monkeypatch, fresh_accelerate) -> tuple[RolloutTrainer, list[dict]]:
    """A trainer that has made two steps by the recipe, and what the loss was computed of."""
    seen = []

    class Watching(RolloutTrainer):
        def compute_loss(self, model, inputs, *args, **kwargs):
            seen.append({**inputs, "trainer": self})
            return super().compute_loss(model, inputs, *args, **kwargs)

    monkeypatch.setattr(grpo, "RolloutTrainer", Watching)
    args = grpo.GRPOArguments(
        source=str(guesser),
        problems=guessed,
        output_dir=str(tmp_path),
        max_completion_length=24,
        max_steps=2,
        pass_every=-1,
        format_reward=0.5,
    )
    grpo.grpo(args, ModelConfig(), join_processes())
    return seen[0]["trainer"], seen


@pytest.mark.slow
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
    assert not (tmp_path / "pass_at_k.png").exists() and not (tmp_path / BEFORE_AFTER).exists()


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_primers_problems_train_as_they_are(guesser, tmp_path, fresh_accelerate, capsys):
    sizes = {"per_device_train_batch_size": 2, "num_generations": 2, "max_completion_length": 8, "max_problems": 4}
    passes = {"pass_every": 0, "pass_problems": 3, "pass_samples": 2}
    args = grpo.GRPOArguments(source=str(guesser), output_dir=str(tmp_path), max_steps=1, **sizes, **passes)
    grpo.grpo(args, ModelConfig(), join_processes())
    measured = [record for record in read_metrics(tmp_path / "metrics.jsonl") if "val/pass@2" in record]
    assert [record["step"] for record in measured] == [0, 1]
    for record in measured:  # the guesser solves none
        assert {record[f"val/{name}_clustered_se"] for name in ("greedy", "pass@1", "pass@2")} == {0}
    assert "step 000001 | val/greedy 0.0 ± 0.0% | val/pass@1 0.0 ± 0.0% | " in capsys.readouterr().out
    problems, held_out = read_problems(tmp_path / BEFORE_AFTER), open_problems("primer", "validation", 3, seed=1)
    assert [each.question for each in problems] == [row["prompt"][0]["content"] for row in held_out]
    assert [each.answer for each in problems] == held_out["answer"][:]
