"""The rules of 2026 are nanochat's for a long run, and turn gradually into those of a short one."""

import math
from dataclasses import asdict, dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeling_nanochat import NanochatGPTConfig, NanochatGPTForCausalLM
from recipes.training.arguments import PretrainArguments
from recipes.training.dry_run import dry_run, facts_of
from recipes.training.memory import estimate_memory
from recipes.training.muon import MUON_2025, MUON_2026
from recipes.training.optimizers import build_optimizer
from recipes.training.plan import plan_training
from recipes.training.rates import posttraining_settings
from recipes.training.rules import LONG_RUN_TOKENS, RULES, SHORT_RUN_TOKENS, with_rules
from recipes.utils.errors import InputError
from recipes.utils.model_facts import describe_config, generation_of

# By nanochat's own lines of scripts/base_train.py (July 2026), executed for each depth with its defaults and a
# vocabulary of 32,768: steps, tokens a step, learning rates of matrices, embedding, head and x0_lambdas, weight decay.
NANOCHAT = {
    8: (1920, 2**18, 0.014142135623730952, 0.2598076211353316, 0.00692820323027551, 0.3535533905932738,
        0.5197231443014819),
    12: (2520, 2**19, 0.02, 0.3, 0.008, 0.5, 0.28),
    16: (5376, 2**19, 0.02, 0.2598076211353316, 0.0069282032302755096, 0.5, 0.13125008583040784),
    20: (4980, 2**20, 0.028284271247461905, 0.3286335345030997, 0.00876356092008266, 0.7071067811865476,
         0.1001877764255601),
    24: (8352, 2**20, 0.028284271247461905, 0.30000000000000004, 0.008000000000000002, 0.7071067811865476,
         0.05973842446340308),
    26: (10510, 2**20, 0.028284271247461905, 0.2882306768491568, 0.007686151382644183, 0.7071067811865476,
         0.04747018702740847),
    32: (9600, 2**21, 0.04, 0.3674234614174767, 0.009797958971132713, 1.0, 0.03675007690415606),
}  # fmt: skip
# Betas and weight decay of AdamW's groups there (nanochat/gpt.py, setup_optimizer).
ADAMW = {
    "head": {"betas": (0.8, 0.96), "weight_decay": 0.01},
    "embedding": {"betas": (0.8, 0.995), "weight_decay": 0.001},
    "value_embeddings": {"betas": (0.8, 0.995), "weight_decay": 0.01},
    "resid_lambdas": {"betas": (0.8, 0.95), "weight_decay": 0.05},
    "x0_lambdas": {"betas": (0.96, 0.95), "weight_decay": 0.0},
    "smear_and_backout": {"betas": (0.8, 0.95), "weight_decay": 0.0},
}
STEPS_AT_RATIO_8 = {8: 1280, 12: 1680, 16: 3584, 20: 3320, 24: 5568, 26: 7007, 32: 6400}


def plan_of(generation=2026, world_size=8, **arguments):
    args = PretrainArguments(generation=generation, **arguments)
    return plan_training(args, facts_of(args), world_size)


# Long runs


@pytest.mark.parametrize("depth", NANOCHAT)
def test_every_number_of_a_compute_optimal_run_is_nanochats(depth):
    plan = plan_of(depth=depth)
    optimizer = plan.optimizer
    rates = (optimizer.matrix_lr, optimizer.embedding_lr, optimizer.unembedding_lr, optimizer.x0_lr)
    found = (plan.num_steps, plan.total_batch_size, *rates, optimizer.weight_decay)
    assert found == pytest.approx(NANOCHAT[depth], rel=1e-12)
    assert (optimizer.smear_lr, optimizer.muon, optimizer.adamw) == (0.2, MUON_2026, ADAMW)


@pytest.mark.parametrize("depth", NANOCHAT)
def test_with_eight_tokens_a_parameter_only_the_horizon_changes(depth):
    plan = plan_of(depth=depth, target_param_data_ratio=8)
    assert (plan.num_steps, plan.total_batch_size) == (STEPS_AT_RATIO_8[depth], NANOCHAT[depth][1])
    assert plan.optimizer == plan_of(depth=depth).optimizer


@given(depth=st.integers(6, 40), ratio=st.floats(8, 40))
def test_horizon_batch_rates_and_decay_follow_their_formulas(depth, ratio):
    plan = plan_of(depth=depth, target_param_data_ratio=ratio)
    width = 64 * depth + depth % 2 * 64
    gates = 12 * (depth + 1) // 2 * (width // 128) if depth % 2 else 12 * depth // 2 * (width // 128)
    counted = 12 * depth * width**2 + gates + 32_768 * width
    of_a_d12 = 12 * 12 * 768**2 + 12 * 6 * 6 + 32_768 * 768
    if ratio * counted < LONG_RUN_TOKENS:
        return
    assert plan.total_batch_size == 2 ** round(math.log2(2**19 * (counted / of_a_d12) ** 0.383))
    assert plan.num_steps == int(ratio * counted / plan.total_batch_size)
    by_batch = (plan.total_batch_size / 2**19) ** 0.5
    assert plan.optimizer.matrix_lr == pytest.approx(0.02 * by_batch)
    assert plan.optimizer.unembedding_lr == pytest.approx(0.008 * by_batch * (width / 768) ** -0.5)
    assert plan.optimizer.weight_decay == pytest.approx(0.28 * by_batch * of_a_d12 / counted)


def test_the_schedules_of_a_long_run_are_nanochats():
    schedule = plan_of(depth=12).schedule
    steps, warmdown = 2520, round(0.65 * 2520)
    assert [schedule(step) for step in (0, 39, 40, steps - warmdown)] == [1 / 40, 1, 1, 1]
    assert schedule(steps - 1) == pytest.approx(1 / warmdown + 0.05 * (1 - 1 / warmdown))
    assert [schedule.momentum_at(step) for step in (0, 200, 400)] == pytest.approx([0.85, 0.91, 0.97])
    assert schedule.momentum_at(steps - 1) == pytest.approx(0.90, abs=1e-4)
    assert schedule.weight_decay_at(steps // 2) == pytest.approx(0.5)


def test_flops_that_are_given_are_spent_on_the_windowed_model():
    flops = 1e18
    windows, whole = (plan_of(depth=12, target_flops=flops, window_pattern=each) for each in ("SSSL", "L"))
    for plan in (windows, whole):
        assert plan.num_flops == pytest.approx(flops, rel=1e-3)
    assert windows.num_tokens / whole.num_tokens == pytest.approx(887_098_032 / 759_696_048, rel=1e-3)


# Short runs


def test_a_short_run_of_2026_takes_the_short_numbers_of_its_table():
    plan = plan_of(depth=4, num_iterations=100, total_batch_size=8192, max_seq_len=512, world_size=1)
    optimizer, schedule = plan.optimizer, plan.schedule
    rules, width = RULES[2026], (256 / 768) ** -0.5
    assert optimizer.matrix_lr == pytest.approx(rules.matrix_lr[0])
    assert optimizer.embedding_lr == pytest.approx(rules.embedding_lr[0] * width)
    assert optimizer.unembedding_lr == pytest.approx(rules.unembedding_lr[0] * width)
    assert optimizer.value_lr == pytest.approx(rules.value_share[0] * optimizer.embedding_lr)
    scalars = (optimizer.x0_lr, optimizer.resid_lr, optimizer.smear_lr)
    assert scalars == (rules.x0_lr[0], rules.resid_lr[0], rules.smear_lr[0])
    assert optimizer.weight_decay == rules.weight_decay[0]
    assert schedule.momentum == (rules.momentum_start[0], rules.momentum[0], rules.momentum_end[0])
    assert (schedule.warmup_steps, schedule.warmdown_ratio) == (rules.warmup_steps[0], rules.warmdown_ratio[0])
    assert schedule.final_fraction == rules.final_lr_frac[0]
    for role, group in optimizer.adamw.items():
        assert (*group["betas"], group["weight_decay"]) == rules.adamw[role][0]


@given(tokens=st.integers(SHORT_RUN_TOKENS // 2, 2 * LONG_RUN_TOKENS), factor=st.floats(1, 1.1))
def test_a_few_more_tokens_never_turn_the_settings_over(tokens, factor):
    facts = facts_of(PretrainArguments(generation=2026, depth=4))
    batch = 2**15
    plans = [
        plan_training(
            PretrainArguments(generation=2026, num_iterations=max(1, round(each / batch)), total_batch_size=batch),
            facts,
            1,
        )
        for each in (tokens, tokens * factor)
    ]
    ratios = [
        getattr(plans[0].optimizer, name) / getattr(plans[1].optimizer, name)
        for name in ("matrix_lr", "embedding_lr", "unembedding_lr", "value_lr", "x0_lr")
    ]
    assert ratios == pytest.approx([1] * 5, abs=0.2)  # x0_lr grows tenfold from a short run to a long one
    assert plans[0].schedule.momentum == pytest.approx(plans[1].schedule.momentum, abs=0.01)
    assert plans[0].schedule.warmdown_ratio == pytest.approx(plans[1].schedule.warmdown_ratio, abs=0.02)


def test_what_is_given_goes_before_the_rule():
    given = {"weight_decay": 0.1, "warmdown_ratio": 0.3, "final_lr_frac": 0.2, "warmup_ratio": 0.5, "matrix_lr": 0.03}
    for run in ({"num_iterations": 20, "total_batch_size": 2**15}, {"depth": 12}):
        plan = plan_of(**({"depth": 4} | run), **given)
        schedule = plan.schedule
        assert plan.optimizer.weight_decay == 0.1
        assert (schedule.warmdown_ratio, schedule.warmup_ratio, schedule.final_fraction) == (0.3, 0.5, 0.2)
        assert plan.optimizer.matrix_lr == pytest.approx(0.12 if "num_iterations" in run else 0.03)


def test_the_rule_of_weight_decay_is_for_muon_at_its_own_learning_rates():
    assert plan_of(depth=12, optimizer="adamw").optimizer.weight_decay == 0
    one_rate = plan_of(depth=12, learning_rate=1e-3).optimizer
    assert one_rate.weight_decay == 0


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_learning_rate_is_the_rate_of_every_weight_of_a_model_of_2026(name, capsys):
    args = {"depth": 2, "learning_rate": 1e-3, "total_batch_size": 2**15, "num_iterations": 20, "optimizer": name}
    settings = plan_of(**args, world_size=1).optimizer
    model = NanochatGPTForCausalLM(NanochatGPTConfig.from_depth(2, vocab_size=300, generation=2026))
    assert {group["lr"] for group in build_optimizer(name, model, settings).param_groups} == {1e-3}
    dry_run(PretrainArguments(generation=2026, vocab_size=300, dry_run=True, **args))
    lines = {line[:13].strip(): line[13:] for line in capsys.readouterr().out.splitlines()}
    assert lines["scalar lr"].startswith(
        "0.001 (x0), 0.001 (residual), 0.001 (smear): learning_rate, the same for all"
    )
    assert lines["value lr"].startswith("0.001: ")
    assert ("momentum" in lines, "adamw" in lines) == (name == "muon", name == "muon")


def test_a_long_run_of_2025_has_nanochats_batch_at_every_depth():
    plan = plan_of(generation=2025, depth=20, vocab_size=65_536)
    assert (plan.total_batch_size, plan.num_steps) == (524_288, 21_400)
    assert {plan_of(generation=2025, depth=depth).total_batch_size for depth in (12, 26, 32)} == {524_288}


# Generations


@dataclass(frozen=True)
class Stage:
    """Arguments of SFT, as far as they matter here."""

    matrix_lr: float | None = None
    embedding_lr: float | None = None
    unembedding_lr: float | None = None
    init_lr_frac: float = 0.5
    weight_decay: float = 0.01


def test_a_model_without_a_year_is_planned_as_ever():
    plans = [plan_of(generation, depth=20, total_batch_size=2**19) for generation in (None, 2025)]
    assert plans[0] == plans[1]
    assert plans[0].num_steps == 21_400
    assert plans[0].optimizer.muon == MUON_2025 and not plans[0].optimizer.adamw
    assert (plans[0].schedule.momentum, plans[0].schedule.warmup_steps) == (None, None)


def test_the_generation_is_that_of_the_models_features_and_windows_are_none():
    config = NanochatGPTConfig.from_depth(4, window_pattern="SSSL")
    assert generation_of(config) == 2025
    assert describe_config(config, 2048).windows == "3 of 4 layers see 513 tokens"
    assert generation_of(NanochatGPTConfig.from_depth(4, generation=2026, window_pattern="L")) == 2026
    assert generation_of(NanochatGPTConfig.from_depth(4, value_embeddings=True)) == 2026


def test_the_flags_that_were_not_given_become_their_generations_numbers():
    filled = {year: with_rules(PretrainArguments(), RULES[year]) for year in RULES}
    classic = filled[2025]
    # As runs of before there were generations recorded them: a run of then resumes by the same command.
    assert (classic.matrix_lr, classic.embedding_lr, classic.unembedding_lr) == (0.02, 0.2, 0.004)
    assert (classic.weight_decay, classic.grad_clip, classic.final_lr_frac) == (0.0, 1.0, 0.0)
    assert (classic.target_param_data_ratio, classic.generation, classic.window_pattern) == (20.0, 2025, "L")
    new = filled[2026]
    assert (new.matrix_lr, new.embedding_lr, new.unembedding_lr) == (0.02, 0.3, 0.008)
    assert (new.weight_decay, new.grad_clip, new.final_lr_frac) == (None, 0.0, 0.05)  # None: by rule
    assert (new.target_param_data_ratio, new.generation, new.window_pattern) == (12.0, 2026, "SSSL")
    other = with_rules(PretrainArguments(model_config="config.json"), RULES[2025])
    assert (other.generation, other.window_pattern, other.embedding_lr) == (None, None, 0.2)
    assert with_rules(replace(new, embedding_lr=0.1), RULES[2025]).embedding_lr == 0.1


@pytest.mark.parametrize("generation", RULES)
def test_windows_without_a_pattern_are_those_that_the_configuration_makes(generation):
    by_default, by_rule = (
        NanochatGPTConfig.from_depth(8, generation=generation, window_pattern=each)
        for each in (None, RULES[generation].window_pattern)
    )
    assert by_default.to_dict() == by_rule.to_dict()


@pytest.mark.parametrize("generation", RULES)
def test_later_stages_take_the_rates_of_the_models_generation(generation):
    facts = describe_config(NanochatGPTConfig.from_depth(12, generation=generation), 2048)
    stage = with_rules(Stage(), RULES[generation])
    settings = posttraining_settings(stage, facts)
    head = {2025: 0.004, 2026: 0.008}[generation]
    assert (settings.matrix_lr, settings.unembedding_lr) == pytest.approx((0.02 * 0.5, head * 0.5))
    assert settings.weight_decay == 0.01 and (settings.momentum_start, settings.momentum) == (0.85, 0.95)
    assert settings.muon == {2025: MUON_2025, 2026: MUON_2026}[generation]
    assert settings.adamw == {2025: {}, 2026: ADAMW}[generation]
    if generation == 2026:
        assert settings.value_lr == settings.embedding_lr / 2
        assert (settings.x0_lr, settings.resid_lr, settings.smear_lr) == (0.25, 0.0025, 0.1)


# Memory


@pytest.mark.parametrize("depth", NANOCHAT)
def test_memory_counts_value_tables_and_what_the_features_keep(depth):
    old, new = (facts_of(PretrainArguments(generation=year, depth=depth, vocab_size=32_768)) for year in RULES)
    tables = new.parameter_counts["value_embeddings"]
    before, after = (estimate_memory(facts, 4, 2048, False) for facts in (old, new))
    small = 6 * (new.num_parameters - old.num_parameters - tables)  # gates and scalars
    assert after["weights"] - before["weights"] == pytest.approx(4 * tables + small)
    assert after["gradients"] - before["gradients"] == pytest.approx(4 * tables, rel=1e-3)
    assert after["optimizer"] - before["optimizer"] == pytest.approx(8 * tables, rel=1e-3)
    assert before["activations"] < after["activations"] < 1.2 * before["activations"]
    assert before["loss"] == after["loss"]


# Lines


def test_what_2026_has_beside_2025_is_printed_with_its_reason(capsys):
    dry_run(PretrainArguments(generation=2026, depth=24, dry_run=True))
    lines = {line[:13].strip(): line[13:] for line in capsys.readouterr().out.splitlines()}
    assert lines["windows"] == "18 of 24 layers see 513 tokens"
    assert lines["horizon"].endswith(": 12 a parameter of the 729,810,624 in the blocks and the head "
                                     "(target_param_data_ratio)")  # fmt: skip
    assert lines["batch"].startswith("1,048,576 tokens a step: 2^19 x (tokens / a d12's 1.3B)^0.383")
    assert lines["matrix lr"] == "0.0282843: nanochat's 0.02 x (batch / 2^19)^0.5 = 1.41"
    assert lines["weight decay"].startswith("0.0597384, by a cosine to 0: 0.28 for a long run")
    assert "(a d12's 1.3B tokens / 8.76B) (arXiv 2405.13698)" in lines["weight decay"]
    assert lines["momentum"].startswith("0.85 to 0.97 in 400 steps, to 0.9 in the warmdown: Muon's")
    assert lines["scalar lr"].startswith("0.707107 (x0), 0.00707107 (residual), 0.2 (smear): 0.5 and 0.005 x (batch")
    assert lines["schedule"].startswith("40 steps of warmup, constant, the last 65% linear to 5%: for a long run")
    assert "value embeddings 603,979,776, gates 1,728, scalars 74" in lines["parameters"]
    assert "x0 lambdas 0.96, 0.95, 0;" in lines["adamw"]


# Bad input


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"window_pattern": "SXL"}, "window_pattern 'SXL' must be made of the letters S (short) and L (long)"),
        ({"generation": 2027}, "generation must be one of 2025, 2026, not 2027."),
        (
            {"generation": 2026, "model_config": "a.json"},
            "generation belongs to the model that depth makes, and a.json is one already: leave it out "
            "(after a preset that sets it: --generation none).",
        ),
        (
            {"window_pattern": "L", "model_name_or_path": "user/model"},
            "window_pattern belongs to the model that depth makes, and user/model is one already: leave it out.",
        ),
        ({"target_param_data_ratio": 0.0}, "target_param_data_ratio must be above 0, not 0.0: leave it out"),
        (
            {"learning_rate": 1e-3, "embedding_lr": 0.25},
            "give learning_rate, which is for all weights, or embedding_lr",
        ),
    ],
)
def test_a_wrong_generation_or_pattern_is_one_clear_line(wrong, message):
    with pytest.raises(InputError) as error:
        PretrainArguments(**wrong)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_small_letters_are_letters_too():
    args = PretrainArguments(window_pattern="sssl")
    assert args.window_pattern == "SSSL" == asdict(args)["window_pattern"]


@pytest.mark.parametrize("batch", [8_192, 65_536, 524_288])
def test_learning_rates_of_2026_go_from_a_short_runs_to_a_long_ones_without_a_dip(batch):
    rates = []
    for tokens in (2e6, 5e6, 2e7, 8e7, 2e8, 4e8):
        steps = round(tokens / batch)
        plan = plan_of(depth=4, total_batch_size=batch, device_batch_size=1, num_iterations=steps, world_size=1)
        rates.append(plan.optimizer.matrix_lr)
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == pytest.approx(RULES[2026].matrix_lr[0], rel=0.02)
    assert rates[-1] == pytest.approx(RULES[2026].matrix_lr[1] * (batch / 2**19) ** 0.5)


@given(batch=st.sampled_from([8_192, 65_536, 524_288]), tokens=st.integers(10**6, 10**9), factor=st.floats(1, 2))
def test_a_longer_run_never_forgets_less_and_none_more_than_a_long_one(batch, tokens, factor):
    def forgotten(tokens: float) -> float:
        """Learning rate times weight decay, over all steps of a run without a schedule."""
        steps = max(1, round(tokens / batch))
        plan = plan_of(depth=4, total_batch_size=batch, device_batch_size=1, num_iterations=steps, world_size=1)
        return steps * plan.optimizer.matrix_lr * plan.optimizer.weight_decay

    shorter, longer, long = forgotten(tokens), forgotten(tokens * factor), forgotten(2 * LONG_RUN_TOKENS)
    assert shorter <= longer * (1 + 1e-9) <= long * (1 + 1e-6)
