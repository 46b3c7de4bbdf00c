"""The plan's numbers, by hand where they are known and by rule everywhere else."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Config

from modeling_nanochat import NanochatGPTConfig
from recipes.training.arguments import PretrainArguments
from recipes.training.dry_run import ASSUMED_MFU, dry_run
from recipes.training.horizon import check_batch
from recipes.training.memory import choose_device_batch, estimate_memory, fits
from recipes.training.plan import next_smaller, plan_training
from recipes.training.rules import LONG_RUN_TOKENS, MIN_STEPS, SHORT_RUN_TOKENS, RunLength
from recipes.utils.errors import InputError
from recipes.utils.hardware import gpu_figures
from recipes.utils.model_facts import describe_config

VOCAB_SIZE = 65_536


def facts_of(depth, sequence_length=2048):
    """Facts of a NanochatGPT, without building it."""
    return describe_config(NanochatGPTConfig.from_depth(depth, vocab_size=VOCAB_SIZE), sequence_length)


def plan_of(world_size=1, facts=None, **arguments):
    args = PretrainArguments(**arguments)
    return plan_training(args, facts or facts_of(args.depth), world_size)


# By hand


def test_a_d20_at_twenty_tokens_a_parameter():
    plan = plan_of(8, depth=20, target_param_data_ratio=20, total_batch_size=524_288)
    assert plan.facts.num_parameters == 560_988_160
    assert plan.facts.flops_per_token == 6 * (20 * 12 * 1280**2 + VOCAB_SIZE * 1280) + 20 * 12 * 1280 * 2048
    assert plan.num_steps == 21_400
    assert plan.num_tokens == 11_219_763_200
    assert plan.accumulation_steps == 1  # 8 processes x 32 rows x 2048 tokens
    assert plan.num_flops == pytest.approx(3.9177e19, rel=1e-4)


def test_a_d12_gets_half_a_million_tokens_a_step():
    plan = plan_of(depth=12, target_param_data_ratio=20)
    assert plan.facts.num_parameters == 185_597_952
    assert plan.total_batch_size == 2**19


def test_learning_rates_of_embedding_and_head_fall_with_the_width():
    given_batch = {"total_batch_size": 2**19, "target_param_data_ratio": 20.0}
    narrow, wide = plan_of(depth=12, **given_batch).optimizer, plan_of(depth=48, **given_batch).optimizer
    assert wide.embedding_lr == pytest.approx(narrow.embedding_lr / 2)  # width 768 to 3072
    assert wide.unembedding_lr == pytest.approx(narrow.unembedding_lr / 2)
    assert wide.matrix_lr == pytest.approx(narrow.matrix_lr)


# Horizon


def test_the_horizon_is_the_first_that_is_set():
    facts = facts_of(4)
    batch = {"depth": 4, "total_batch_size": 65_536, "facts": facts}
    by_flops = round(1e16 / facts.flops_per_token / 65_536)
    by_ratio = round(3 * facts.num_parameters / 65_536)
    assert len({77, by_flops, by_ratio}) == 3
    assert plan_of(num_iterations=77, target_flops=1e16, target_param_data_ratio=3, **batch).num_steps == 77
    assert plan_of(target_flops=1e16, target_param_data_ratio=3, **batch).num_steps == by_flops
    assert plan_of(target_param_data_ratio=3, **batch).num_steps == by_ratio


def test_the_ratio_that_was_not_given_counts_all_parameters_in_2025():
    plan = plan_of(depth=20, total_batch_size=2**19)
    assert plan.num_steps == 21_400
    assert plan.reasons["horizon"] == "20 a parameter, all counted (target_param_data_ratio)"


@given(flops=st.floats(1e15, 1e22), depth=st.integers(1, 40))
def test_the_plan_spends_the_flops_it_was_given(flops, depth):
    plan = plan_of(depth=depth, target_flops=flops)
    one_step = plan.total_batch_size * plan.facts.flops_per_token
    assert plan.num_flops == pytest.approx(flops, abs=max(one_step / 2, one_step - flops) * 1.001)


# Batch


horizons = st.one_of(
    st.builds(lambda n: {"num_iterations": n}, st.integers(1, 200_000)),
    st.builds(lambda f: {"target_flops": f}, st.floats(1e6, 1e24)),
    st.builds(lambda r: {"target_param_data_ratio": r}, st.floats(1e-6, 500)),
)


@given(
    depth=st.integers(1, 40),
    horizon=horizons,
    rows=st.integers(1, 200),
    max_seq_len=st.integers(1, 8192),
    world_size=st.integers(1, 64),
)
def test_a_planned_batch_always_divides_among_the_processes(depth, horizon, rows, max_seq_len, world_size):
    plan = plan_of(world_size, depth=depth, device_batch_size=rows, max_seq_len=max_seq_len, **horizon)
    micro = plan.device_batch_size * max_seq_len * world_size
    assert 1 <= plan.device_batch_size <= rows
    assert isinstance(plan.total_batch_size, int)
    assert plan.total_batch_size == plan.accumulation_steps * micro > 0
    assert isinstance(plan.num_steps, int) and plan.num_steps >= 1
    check_batch(plan.total_batch_size, plan.device_batch_size, max_seq_len, world_size)


@given(depth=st.integers(1, 26), ratio=st.floats(0.001, 100), world_size=st.integers(1, 8))
def test_a_short_run_takes_smaller_batches_rather_than_few_steps(depth, ratio, world_size):
    plan = plan_of(world_size, depth=depth, target_param_data_ratio=ratio, max_seq_len=256)
    smallest = 256 * world_size  # one row a process
    assert plan.total_batch_size == smallest or plan.num_steps >= MIN_STEPS


@given(depth=st.integers(1, 40), ratio=st.floats(1, 200))
def test_more_tokens_never_make_a_smaller_batch(depth, ratio):
    once, twice = (plan_of(depth=depth, target_param_data_ratio=factor * ratio) for factor in (1, 2))
    assert once.total_batch_size <= twice.total_batch_size


def test_a_total_batch_that_does_not_divide_names_the_nearest_that_do():
    with pytest.raises(InputError) as error:
        plan_of(total_batch_size=8000, device_batch_size=8, max_seq_len=512)
    assert str(error.value) == (
        "total_batch_size 8000 is not a multiple of 4096 (device_batch_size 8 x max_seq_len 512 x 1 process). "
        "Nearest that work: 4096, 8192."
    )


@given(
    total=st.integers(1, 10**6), rows=st.integers(1, 64), length=st.integers(1, 4096), world_size=st.integers(1, 16)
)
def test_the_nearest_that_are_named_work(total, rows, length, world_size):
    micro = rows * length * world_size
    if total % micro == 0:
        check_batch(total, rows, length, world_size)
        return
    with pytest.raises(InputError) as error:
        check_batch(total, rows, length, world_size)
    named = [int(number) for number in re.findall(r"\d+", str(error.value).split("work:")[1])]
    assert named == [number for number in (total - total % micro, total - total % micro + micro) if number]
    for number in named:
        check_batch(number, rows, length, world_size)


@given(rows=st.integers(1, 512), accumulated=st.integers(1, 12))
def test_halving_the_rows_keeps_the_batch_and_ends_at_one_row(rows, accumulated):
    plan = plan_of(device_batch_size=rows, max_seq_len=16, total_batch_size=rows * 16 * accumulated, num_iterations=10)
    while fewer := next_smaller(plan, rows):
        assert fewer <= rows / 2
        smaller = plan.with_device_batch_size(fewer)
        assert smaller.accumulation_steps * fewer * 16 == plan.total_batch_size
        rows = fewer
    assert rows == 1


# Schedule and lines


def test_short_runs_take_larger_steps_cool_down_for_longer_and_lag_less():
    batch = 2**15
    short, long = (
        plan_of(depth=12, num_iterations=tokens // batch, total_batch_size=batch, device_batch_size=16)
        for tokens in (SHORT_RUN_TOKENS, LONG_RUN_TOKENS + batch)
    )
    assert (short.optimizer.matrix_lr, long.optimizer.matrix_lr) == (0.04, 0.02)
    assert (short.optimizer.embedding_lr, long.optimizer.embedding_lr) == (0.4, 0.2)  # at width 768
    assert (short.optimizer.momentum_start, short.optimizer.momentum) == (0.7, 0.7)
    assert (long.optimizer.momentum_start, long.optimizer.momentum) == (0.85, 0.95)
    assert (short.schedule.warmdown_ratio, long.schedule.warmdown_ratio) == (0.75, 0.2)
    assert plan_of(num_iterations=50, warmup_ratio=0.6).schedule.warmdown_ratio == pytest.approx(0.4)
    with pytest.raises(InputError, match=r"^warmup_ratio 0\.6 and warmdown_ratio 0\.5 make more than all steps\.$"):
        PretrainArguments(warmup_ratio=0.6, warmdown_ratio=0.5)
    assert plan_of(num_iterations=50, warmdown_ratio=0.1, warmup_ratio=0.3, final_lr_frac=0.05).schedule(
        49
    ) == pytest.approx(0.05 + 0.95 / 5)


@given(tokens=st.integers(10**4, 10**10), factor=st.floats(1, 1.1))
def test_a_few_more_tokens_never_turn_the_settings_over(tokens, factor):
    def settings(run: RunLength) -> tuple[float, ...]:
        return run.between(2.0, 1.0), run.between(0.7, 0.95), run.between(0.75, 0.2)

    before, after = settings(RunLength(tokens)), settings(RunLength(round(tokens * factor)))
    for one, other, spread in zip(before, after, (1.0, 0.25, 0.55), strict=True):
        assert abs(one - other) <= 0.021 * spread  # two decades apart, a tenth more tokens is a fiftieth of the way


def test_a_stage_keeps_the_settings_of_the_run_it_goes_on_from():
    alone = {"depth": 20, "num_iterations": 765, "total_batch_size": 2**19}
    args = PretrainArguments(**alone)
    mid = plan_training(args, facts_of(20), 8, source_tokens=11_219_763_200)
    assert (mid.optimizer.matrix_lr, mid.optimizer.momentum_start, mid.optimizer.momentum) == (0.02, 0.85, 0.95)
    assert mid.optimizer.embedding_lr == pytest.approx(0.155, abs=1e-4)
    assert mid.schedule.warmdown_ratio == 0.2
    assert "(11,219,763,200 tokens, the source)" in mid.reasons["schedule"]
    short = plan_training(args, facts_of(20), 8, source_tokens=1_884_160)
    assert (short.optimizer.matrix_lr, short.optimizer.momentum, short.schedule.warmdown_ratio) == (0.04, 0.7, 0.75)


def test_one_learning_rate_is_that_of_all_weights_whatever_the_run():
    for run in ({"depth": 4, "num_iterations": 10}, {"depth": 32, "total_batch_size": 2**22}):
        plan = plan_of(learning_rate=3e-5, **run)
        rates = {plan.optimizer.matrix_lr, plan.optimizer.embedding_lr, plan.optimizer.unembedding_lr}
        assert rates == {3e-5}
        for name in ("matrix_lr", "embedding_lr", "unembedding_lr"):
            assert plan.reasons[name] == "learning_rate, the same for all weights, no rule applied"
    with pytest.raises(InputError, match="^give learning_rate, which is for all weights, or embedding_lr, not both"):
        PretrainArguments(learning_rate=3e-5, embedding_lr=0.1)


def test_a_share_of_the_learning_rates_is_printed_with_its_reason():
    whole = plan_of(num_iterations=50, total_batch_size=65_536)
    half = whole.with_learning_rates_times(0.5)
    for name in ("matrix_lr", "embedding_lr", "unembedding_lr"):
        assert getattr(half.optimizer, name) == pytest.approx(getattr(whole.optimizer, name) / 2)
        assert half.reasons[name] == f"{whole.reasons[name]} x init_lr_frac 0.5"
    assert (half.optimizer.momentum, half.num_steps) == (whole.optimizer.momentum, whole.num_steps)


def test_every_derived_number_is_printed_with_its_reason():
    lines = {line[:13].strip(): line[13:] for line in plan_of(depth=20, target_param_data_ratio=20).lines()}
    assert "560,988,160" in lines["parameters"]
    for label in ("horizon", "batch", "matrix lr", "embedding lr", "head lr"):
        number, _, reason = lines[label].partition(": ")
        assert re.match(r"[\d.,e+-]+", number) and reason, label


# Dry run


def dry_run_output(capsys, **arguments):
    dry_run(PretrainArguments(dry_run=True, **arguments))
    return capsys.readouterr().out


def test_a_dry_run_prints_hours_and_cost_by_hand(capsys):
    arguments = {"depth": 20, "target_param_data_ratio": 20, "total_batch_size": 524_288, "price_per_gpu_hour": 2.0}
    out = dry_run_output(capsys, **arguments)
    hours = 11_219_763_200 * 3_491_758_080 / (8 * gpu_figures("H100")[0] * ASSUMED_MFU) / 3600
    assert f"about {hours:.2f} h on 8 x H100" in out
    assert f"about ${hours * 16:,.2f} at $2 a GPU hour" in out
    assert "cost" not in dry_run_output(capsys, depth=20)


def test_twice_the_gpus_take_half_the_hours(capsys):
    arguments = {"depth": 20, "target_param_data_ratio": 20, "total_batch_size": 2**20}
    hours = [
        float(re.search(r"about ([\d.]+) h on", dry_run_output(capsys, gpus=gpus, **arguments))[1]) for gpus in (4, 8)
    ]
    assert hours[0] == pytest.approx(2 * hours[1], abs=0.02)


def shards_of_dry_run(capsys, **arguments):
    lines = [line for line in dry_run_output(capsys, **arguments).splitlines() if line.startswith("data ")]
    return lines[0] if lines else None


def test_a_dry_run_estimates_how_many_shards_of_a_known_dataset_to_fetch(capsys):
    """nanochat's speedrun of July 2026 fetches 150 shards, and 20 more for safety."""
    climbmix, fineweb = "karpathy/climbmix-400b-shuffle", "karpathy/fineweb-edu-100b-shuffle"
    speedrun = {"generation": 2026, "depth": 24, "target_param_data_ratio": 8.0}
    line = shards_of_dry_run(capsys, dataset=climbmix, **speedrun)
    count = int(re.search(r"about ([\d,]+) shards", line)[1])
    assert 150 <= count <= 180 and "estimated 52M tokens each, of which best fit keeps 65%" in line
    assert line.endswith(f"python -m recipes.data.fetch --dataset {climbmix} --shards {count}")
    all_of_them = shards_of_dry_run(capsys, dataset=climbmix, packing="concatenated", **speedrun)
    assert int(re.search(r"about (\d+) shards", all_of_them)[1]) == pytest.approx(0.65 * count, abs=1)
    assert "keeps" not in all_of_them
    assert "all 1,822 shards, more than once" in shards_of_dry_run(capsys, dataset=fineweb, target_flops=1e22)
    for unknown in ("primer", "ada/web"):
        assert shards_of_dry_run(capsys, dataset=unknown, **speedrun) is None


def test_an_unknown_gpu_is_one_clear_line():
    with pytest.raises(InputError, match=r"^unknown gpu_name 'Abacus'"):
        dry_run(PretrainArguments(depth=2, gpu_name="Abacus"))


def test_memory_counts_what_another_optimizer_and_another_loss_keep():
    facts = facts_of(20)
    muon, adamw = (estimate_memory(facts, 8, 2048, True, name) for name in ("muon", "adamw"))
    assert adamw["optimizer"] == 8 * facts.num_parameters > muon["optimizer"]
    whole = estimate_memory(replace(facts, logits_at_once=True), 32, 2048, True)
    assert whole["loss"] - 8 * VOCAB_SIZE * facts.hidden_size == 16 * 32 * 2048 * VOCAB_SIZE


def test_memory_grows_with_rows_and_shrinks_by_recomputing():
    facts = facts_of(20)
    totals = [sum(estimate_memory(facts, rows, 2048, False).values()) for rows in (16, 32)]
    assert totals[0] < totals[1]
    assert sum(estimate_memory(facts, 32, 2048, True).values()) < totals[1]
    assert estimate_memory(facts, 32, 2048, False)["gradients"] == 4 * 560_988_160


@given(depth=st.integers(1, 40), length=st.integers(1, 8192), gigabytes=st.floats(1, 300), recompute=st.booleans())
def test_the_device_batch_is_the_largest_power_of_two_that_fits(depth, length, gigabytes, recompute):
    facts, capacity = facts_of(depth, length), gigabytes * 1e9
    rows = choose_device_batch(facts, length, recompute, capacity)
    assert rows in (1, 2, 4, 8, 16, 32, 64)
    assert rows == 1 or fits(facts, rows, length, recompute, capacity)
    assert rows == 64 or not fits(facts, 2 * rows, length, recompute, capacity)
    assert choose_device_batch(facts, length, recompute, None) == 32


@given(
    depth=st.integers(1, 32),
    world_size=st.integers(1, 64),
    small=st.floats(16, 300),
    large=st.floats(16, 300),
    steps=st.integers(1, 10**5),
)
def test_the_card_changes_how_much_is_accumulated_and_never_the_batch(depth, world_size, small, large, steps):
    facts, args = facts_of(depth), PretrainArguments(depth=depth, num_iterations=steps)
    plans = [plan_training(args, facts, world_size, gigabytes * 1e9) for gigabytes in (small, large)]
    assert plans[0].total_batch_size == plans[1].total_batch_size
    for plan in plans:
        micro = plan.device_batch_size * plan.max_seq_len * world_size
        assert plan.accumulation_steps * micro == plan.total_batch_size > 0


def test_a_batch_that_is_given_is_shared_out_among_the_processes_without_being_told_how():
    plan = plan_of(world_size=6, depth=4, total_batch_size=6 * 2048 * 50, num_iterations=10)
    assert (plan.device_batch_size, plan.accumulation_steps) == (25, 2)
    with pytest.raises(InputError, match=r"^total_batch_size 8000 is not a multiple of 512 \(device_batch_size 1 x"):
        plan_of(total_batch_size=8000, max_seq_len=512)


@pytest.mark.parametrize("as_file", [False, True])
def test_another_architecture_is_planned_too(as_file, tmp_path, capsys):
    GPT2Config(n_layer=3, n_embd=64, n_head=2, n_positions=256).save_pretrained(tmp_path)
    source = str(tmp_path / "config.json") if as_file else str(tmp_path)
    arguments = {"model_config": source, "max_seq_len": 256, "gpus": 1, "device_batch_size": 4, "vocab_size": 1000}
    out = dry_run_output(capsys, **arguments, target_param_data_ratio=20, price_per_gpu_hour=1.0)
    assert "GPT2LMHeadModel, 3 layers, 64 wide" in out
    in_block = 12 * 64 * 64
    biases_and_norms = 3 * (9 + 4) * 64 + 2 * 64
    assert f"{3 * in_block + (1000 + 256) * 64 + biases_and_norms:,}: " in out
    assert f"{6 * (3 * in_block + 1000 * 64) + 12 * 3 * 64 * 256:,} FLOPs a token" in out
    assert "cost" in out
