"""Every preset plans a run, without data and without weights."""

import json
import re
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
from accelerate import PartialState
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from modeling_nanochat import NanochatGPTConfig
from recipes.data.mixtures import read_mixture
from recipes.training import trainer_run
from recipes.training.arguments import MidtrainArguments, PretrainArguments
from recipes.training.dry_run import dry_run
from recipes.training.dry_run import facts_of as dry_run_facts
from recipes.training.memory import fits
from recipes.training.plan import plan_midtraining, plan_training
from recipes.training.posttraining_arguments import DPOArguments, GRPOArguments, ModelArguments, SFTArguments
from recipes.training.rules import RULES, with_rules
from recipes.training.source_run import inherit_settings, source_tokens
from recipes.training.trainer_run import accumulate_to
from recipes.utils.arguments import parse_arguments
from recipes.utils.model_facts import describe_config
from tokenizer.special_tokens import SMALLEST_VOCABULARY
from tokenizer.train import TokenizerArguments

CONFIGS = Path(__file__).parents[2] / "recipes" / "configs"
CPU, GPU = (str(CONFIGS / "pretrain" / f"{kind}.yaml") for kind in ("cpu", "gpu"))
H100_MEMORY = 80e9  # bytes
GPT2_SIZES = {"gpt2": (12, 768, 12), "gpt2-medium": (24, 1024, 16), "gpt2-large": (36, 1280, 20),
              "gpt2-xl": (48, 1600, 25)}  # layers, width, heads  # fmt: skip
DEPTHS = (8, 12, 16, 20, 24, 26, 32)
# A row of gpu.yaml's table: depth, parameters, steps, estimated hours.
TABLE_ROW = re.compile(r"^# +(\d+) +([\d.]+[MB]) +([\d,]+) +([\d.]+)$", re.MULTILINE)


def dry_run_lines(capsys, *argv: str) -> dict[str, str]:
    """What a dry run prints, by the words at the lines' beginnings."""
    dry_run(parse_arguments(PretrainArguments, argv=[*argv, "--dry_run"]))
    return {line[:13].strip(): line[13:] for line in capsys.readouterr().out.splitlines()}


@pytest.mark.parametrize(
    "preset",
    [["--config", CPU], *(["--config", GPU, "--depth", str(depth)] for depth in DEPTHS)],
    ids=["cpu", *DEPTHS],
)
def test_a_preset_dry_runs_says_what_it_needs_and_fits(preset, capsys):
    lines = dry_run_lines(capsys, *preset, "--price_per_gpu_hour", "3")
    assert {"parameters", "horizon", "batch", "steps", "memory", "time", "cost"} <= set(lines)
    assert "(fits)" in lines["memory"] and " h on " in lines["time"] and "$3 a GPU hour" in lines["cost"]


def test_evaluations_take_at_most_2_percent_of_the_time_of_training_a_d12():
    """By the count of tokens, if a forward pass takes a third of forward and backward."""
    args = parse_arguments(PretrainArguments, argv=["--config", GPU, "--depth", "12"])
    plan = plan_training(args, dry_run_facts(args), 8, H100_MEMORY)
    mid = parse_arguments(MidtrainArguments, argv=["--config", str(CONFIGS / "mid" / "gpu.yaml"), "--source", "base"])
    for stage in (args, mid):  # midtraining has the batch of the base run
        assert stage.eval_tokens / 3 <= 0.02 * stage.eval_every * plan.total_batch_size


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_a_preset_of_shakespeare_reads_a_whole_text_and_evaluates_all_that_is_held_out(kind, capsys):
    argv = ["--config", str(CONFIGS / "shakespeare_char" / f"{kind}.yaml")]
    lines = dry_run_lines(capsys, *argv)
    assert "(fits)" in lines["memory"] and " on 1 x " in lines["time"]
    args = parse_arguments(PretrainArguments, argv=argv)
    assert (args.document_separator, args.packing, args.num_workers) == ("whole", "concatenated", 0)
    assert args.eval_tokens > 111_540 and args.vocab_size == SMALLEST_VOCABULARY


@pytest.fixture(scope="module")
def openai(tmp_path_factory) -> Path:
    """GPT-2 in its four sizes, without weights, and with a tokenizer of as many tokens."""
    directory = tmp_path_factory.mktemp("openai-community")
    vocabulary = {"<|endoftext|>": 50_256} | {str(number): number for number in range(50_256)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(vocabulary)), bos_token="<|endoftext|>", eos_token="<|endoftext|>"
    )
    small = json.loads((CONFIGS / "gpt2" / "gpt2_124m.json").read_text())
    for name, (layers, width, heads) in GPT2_SIZES.items():
        tokenizer.save_pretrained(directory / name)
        sizes = {"n_layer": layers, "n_embd": width, "n_head": heads}
        (directory / name / "config.json").write_text(json.dumps(small | sizes))
    return directory


@pytest.mark.parametrize("name", GPT2_SIZES)
def test_gpt2_of_every_size_is_finetuned_on_one_card_with_nanogpts_settings(name, openai, capsys):
    argv = ["--config", str(CONFIGS / "gpt2" / "finetune.yaml"), "--model_name_or_path", str(openai / name)]
    recompute = ["--gradient_checkpointing", "true"] if name == "gpt2-xl" else []
    lines = dry_run_lines(capsys, *argv, *recompute)
    assert "of 80 a device (fits)" in lines["memory"] and " on 1 x H100" in lines["time"]
    assert (lines["steps"], first_number(lines["batch"])) == ("20", 32 * 1024)
    assert "0% warmup, constant, the last 0%" in lines["schedule"]
    for label in ("matrix lr", "embedding lr", "head lr"):
        assert lines[label].startswith("3e-05: learning_rate, the same for all weights")
    args = parse_arguments(PretrainArguments, argv=argv)
    assert (args.optimizer, args.weight_decay, args.grad_clip) == ("adamw", 0.1, 1.0)


def test_the_largest_gpt2_is_finetuned_on_24_gigabytes_by_lora(openai, capsys):
    argv = ["--config", str(CONFIGS / "gpt2" / "finetune_lora.yaml"), "--model_name_or_path"]
    lines = dry_run_lines(capsys, *argv, str(openai / "gpt2-xl"))
    assert first_number(lines["parameters"]) == 1_557_611_200
    # Rank 16 for four layers of inputs and outputs (1, 3), (1, 1), (1, 4) and (4, 1) times 1,600, in 48 blocks.
    assert first_number(lines["trained"]) == 16 * 1600 * (4 + 2 + 5 + 5) * 48
    assert "of 24 a device (fits)" in lines["memory"] and " on 1 x RTX 4090" in lines["time"]


def test_gpt2_from_scratch_is_nanogpts_run(openai, capsys, monkeypatch):
    monkeypatch.chdir(CONFIGS.parents[1])  # from where the preset names its model
    argv = ["--config", str(CONFIGS / "gpt2" / "from_scratch.yaml"), "--tokenizer", str(openai / "gpt2")]
    lines = dry_run_lines(capsys, *argv)
    assert first_number(lines["parameters"]) == 124_439_808
    assert "= 12 rows x 1,024 tokens x 8 processes x 5 accumulated" in lines[""]
    assert (first_number(lines["batch"]), lines["steps"]) == (491_520, "600,000")
    assert "(fits)" in lines["memory"] and lines["matrix lr"].startswith("0.0006: ")
    args = parse_arguments(PretrainArguments, argv=argv)
    facts = dry_run_facts(args)
    schedule = plan_training(args, facts, 8, H100_MEMORY).schedule
    assert [schedule(step) * 6e-4 for step in (0, 999, 2000)] == pytest.approx([3e-7, 3e-4, 6e-4], rel=0.02)
    assert schedule(599_999) * 6e-4 == pytest.approx(6e-5, rel=1e-3)


def test_gpt2_small_on_one_card_is_the_books_model_and_run(openai, capsys, monkeypatch):
    monkeypatch.chdir(CONFIGS.parents[1])
    argv = ["--config", str(CONFIGS / "gpt2_small_24gb.yaml"), "--tokenizer", str(openai / "gpt2")]
    lines = dry_run_lines(capsys, *argv)
    assert first_number(lines["parameters"]) == 163_037_184 and "163,009,536 are trained" in lines["frozen"]
    assert (lines["steps"], first_number(lines["horizon"])) == ("534,000", 3_280_896_000)
    assert "= 6 rows x 1,024 tokens x 1 processes x 1 accumulated" in lines[""]
    assert "of 24 a device (fits)" in lines["memory"] and " on 1 x RTX 4090" in lines["time"]
    assert all(lines[label].startswith("0.0005: ") for label in ("matrix lr", "embedding lr", "head lr"))
    args = parse_arguments(PretrainArguments, argv=argv)
    assert args.keep_best and args.save_every == args.eval_every and args.weight_decay == 0.1
    config = json.loads((CONFIGS / "gpt2_small_24gb.json").read_text())
    assert {config[name] for name in ("embd_pdrop", "attn_pdrop", "resid_pdrop")} == {0.1}
    assert config["tie_word_embeddings"] is False


def test_the_tokenizer_of_gpus_has_the_vocabulary_of_2026():
    output = ["--output_dir", "runs/x/tokenizer"]
    args = parse_arguments(TokenizerArguments, argv=["--config", str(CONFIGS / "tokenizer" / "gpu.yaml"), *output])
    assert args.vocab_size == NanochatGPTConfig.from_depth(12, generation=2026).vocab_size == 32_768
    assert args.dataset == parse_arguments(PretrainArguments, argv=["--config", GPU]).dataset


@pytest.mark.parametrize("gpus", [1, 2, 4, 8, 64])
def test_sft_in_one_stage_has_the_same_batch_on_any_number_of_gpus(gpus):
    args = sft_2026()
    config = SimpleNamespace(
        per_device_train_batch_size=args.per_device_train_batch_size, max_length=2048, world_size=gpus
    )
    accumulated = accumulate_to(args.total_batch_size, config)
    assert accumulated * args.per_device_train_batch_size * 2048 * gpus == 2**19
    assert accumulated * gpus == 64


@pytest.mark.parametrize("gigabytes", [24, 40, 80, 141])
@pytest.mark.parametrize(
    ("stage", "kind", "length"), [("sft", "gpu", 2048), ("sft", "gpu_2026", 2048), ("grpo", "gpu", 512)]
)
def test_a_later_stage_takes_as_many_rows_as_fit_a_card_and_keeps_its_batch(
    stage, kind, length, gigabytes, monkeypatch
):
    monkeypatch.setattr(trainer_run, "smallest_memory", lambda processes: gigabytes * 1e9)
    args = parse_arguments(*STAGES[stage], argv=["--config", str(CONFIGS / stage / f"{kind}.yaml")])[0]
    said: list[str] = []
    processes = SimpleNamespace(num_processes=8, print=said.append)
    for depth, generation in product(DEPTHS, (2025, 2026)):
        vocab_size = {2025: 65_536, 2026: 32_768}[generation]
        config = NanochatGPTConfig.from_depth(depth, vocab_size, generation=generation, max_position_embeddings=2048)
        facts, before = describe_config(config, 2048), args.per_device_train_batch_size
        chosen = SimpleNamespace(
            per_device_train_batch_size=before, gradient_accumulation_steps=2, gradient_checkpointing=None
        )
        capacity = gigabytes * 1e9
        if stage == "grpo":
            chosen.steps_per_generation, chosen.temperature, chosen.top_k = 2, args.temperature, args.top_k
            capacity -= 2 * facts.num_parameters  # the copy in bf16 that writes replies
        said.clear()
        trainer_run.fit_rows(chosen, facts, length, processes)
        rows, accumulated = chosen.per_device_train_batch_size, chosen.gradient_accumulation_steps
        assert rows * accumulated == 2 * before
        assert getattr(chosen, "steps_per_generation", accumulated) == accumulated
        enough = fits(facts, rows, length, False, capacity, ranks=8, trainer=True)
        assert enough or (rows == 1 and "gradient_checkpointing" in said[-1])
        assert rows == before or not fits(facts, 2 * rows, length, False, capacity, ranks=8, trainer=True)
        assert enough or gigabytes < 80


@pytest.mark.parametrize("temperature, expected", [(1.0, 16), (2.0, 8)])
def test_a_loss_that_keeps_a_cut_has_room_for_all_logits(temperature, expected, monkeypatch):
    """12 layers of 2025 and replies of 2,048 tokens: all logits of a row take 2.1 GB."""
    monkeypatch.setattr(trainer_run, "smallest_memory", lambda processes: 40e9)
    facts = describe_config(NanochatGPTConfig.from_depth(12, 65_536, max_position_embeddings=2048), 2048)
    chosen = SimpleNamespace(
        **{"per_device_train_batch_size": 16, "gradient_accumulation_steps": 1, "gradient_checkpointing": None},
        **{"steps_per_generation": 1, "max_completion_length": 2048, "temperature": temperature, "top_k": 3},
    )
    trainer_run.fit_rows(chosen, facts, 2048, SimpleNamespace(num_processes=1, print=str))
    assert chosen.per_device_train_batch_size == expected


def test_rows_of_any_number_are_divided_until_they_fit(monkeypatch):
    """24 layers of 2025 on 40 GB, which hold three rows and not four."""
    monkeypatch.setattr(trainer_run, "smallest_memory", lambda processes: 40e9)
    facts = describe_config(NanochatGPTConfig.from_depth(24, 65_536, max_position_embeddings=2048), 2048)
    for asked, expected in ((6, 3), (10, 2), (5, 1)):
        chosen = SimpleNamespace(
            per_device_train_batch_size=asked, gradient_accumulation_steps=1, gradient_checkpointing=None
        )
        said: list[str] = []
        trainer_run.fit_rows(chosen, facts, 2048, SimpleNamespace(num_processes=8, print=said.append))
        assert chosen.per_device_train_batch_size == expected
        assert chosen.gradient_accumulation_steps == asked // expected
        assert len(said) == 1 and f"{expected} in place of {asked}" in said[0]


def test_sft_in_one_stage_goes_on_where_the_base_run_ended():
    args = sft_2026()
    assert (args.source, args.warm_start, args.init_lr_frac, args.warmdown_ratio) == ("base", True, 0.8, 0.5)
    assert args.packing and args.assistant_only_loss and args.chatcore_every == 200
    assert read_mixture(str(CONFIGS.parents[1] / args.conversations))


def sft_2026() -> SFTArguments:
    """Its preset."""
    return parse_arguments(*STAGES["sft"], argv=["--config", str(CONFIGS / "sft" / "gpu_2026.yaml")])[0]


def test_every_preset_is_one_of_those_tested_here():
    assert {path.name for path in CONFIGS.glob("*.*")} == {"gpt2_small_24gb.yaml", "gpt2_small_24gb.json"}
    tested = {*STAGES, "pretrain", "shakespeare_char", "gpt2", "mixtures", "tokenizer"}
    assert {path.name for path in CONFIGS.iterdir() if path.is_dir()} == tested
    assert {path.name for path in (CONFIGS / "gpt2").glob("*.yaml")} == {
        "finetune.yaml", "finetune_lora.yaml", "from_scratch.yaml",
    }  # fmt: skip
    for stage in STAGES:
        beside = {"gpu_2026.yaml"} if stage == "sft" else set()
        assert {path.name for path in (CONFIGS / stage).iterdir()} == {"cpu.yaml", "gpu.yaml"} | beside


@pytest.mark.parametrize("preset", [CPU, GPU])
def test_the_presets_of_the_speedrun_train_the_model_of_2026(preset, capsys):
    assert "value embeddings" in dry_run_lines(capsys, "--config", preset)["parameters"]


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_plan_for_gpus_is_plausible(depth, capsys):
    lines = dry_run_lines(capsys, "--config", GPU, "--depth", str(depth))
    parameters, tokens, batch = (first_number(lines[name]) for name in ("parameters", "horizon", "batch"))
    width, tables = 64 * depth + depth % 2 * 64, depth // 2
    counted = 12 * depth * width**2 + 12 * tables * width // 128 + 32_768 * width  # blocks, gates and head
    assert parameters == counted + (1 + tables) * 32_768 * width + 2 * depth + 26
    assert tokens == pytest.approx(12 * counted, rel=1e-3)
    assert batch in (2**18, 2**19, 2**20, 2**21) and first_number(lines["steps"]) == tokens // batch
    rows, accumulated = re.search(r"= (\d+) rows x 2,048 tokens x 8 processes x (\d+) accumulated", lines[""]).groups()
    assert int(rows) * 2048 * 8 * int(accumulated) == batch
    assert int(rows) in (4, 8, 16, 32)


def test_a_deeper_model_gets_no_more_rows_at_a_time(capsys):
    large = [depth for depth in DEPTHS if depth > 8]  # of a d8's batch, a process has 16 rows alone
    rows = [first_number(dry_run_lines(capsys, "--config", GPU, "--depth", str(depth))[""]) for depth in large]
    assert rows == sorted(rows, reverse=True) and rows[0] > rows[-1]


def test_what_the_gpu_preset_says_of_each_depth_is_what_its_plan_says(capsys):
    table = TABLE_ROW.findall(Path(GPU).read_text())
    assert [int(depth) for depth, *_ in table] == list(DEPTHS)
    for depth, size, steps, hours in table:
        lines = dry_run_lines(capsys, "--config", GPU, "--depth", depth)
        parameters = first_number(lines["parameters"])
        assert size == (f"{parameters / 1e6:.0f}M" if parameters < 1e9 else f"{parameters / 1e9:.1f}B")
        assert steps == lines["steps"]
        planned = float(re.match(r"about ([\d.]+) h on 8 x H100", lines["time"])[1])
        assert float(hours) == float(f"{planned:.2g}")


def test_nanochats_speedrun_is_the_flag_that_the_gpu_preset_names(capsys):
    said = re.search(r"`(--generation 2025 --depth 20)`, 21,400 steps", Path(GPU).read_text())[1]
    lines = dry_run_lines(capsys, "--config", GPU, *said.split())
    assert (lines["steps"], first_number(lines["batch"])) == ("21,400", 2**19)
    assert first_number(lines["parameters"]) == 560_988_160


def test_nanochats_speedrun_of_2026_is_the_flag_that_the_gpu_preset_names(capsys):
    text = Path(GPU).read_text()
    said, hours = re.search(r"`(--depth 24 --target_param_data_ratio 8)`, an estimated ([\d.]+) hours", text).groups()
    lines = dry_run_lines(capsys, "--config", GPU, *said.split())
    assert (lines["steps"], first_number(lines["batch"])) == ("5,568", 2**20)
    assert lines["horizon"].endswith(
        "8 a parameter of the 729,810,624 in the blocks and the head (target_param_data_ratio)"
    )
    assert float(hours) == pytest.approx(float(re.match(r"about ([\d.]+) h", lines["time"])[1]), abs=0.05)


def first_number(text: str) -> int:
    """The first number of a line."""
    return int(re.search(r"[\d,]+", text)[0].replace(",", ""))


@pytest.mark.parametrize(
    ("generation", "depth", "matrix_lr", "embedding_lr"),
    [
        (2025, 12, 0.02, 0.2),
        (2025, 20, 0.02, 0.1549),
        (2025, 32, 0.02, 0.1225),
        (2026, 12, 0.02, 0.3),
        (2026, 20, 0.02828, 0.3286),
    ],
)
def test_midtraining_on_gpus_keeps_the_settings_of_its_base_run(
    generation, depth, matrix_lr, embedding_lr, tmp_path, fresh_accelerate
):
    flags = ["--config", GPU, "--depth", str(depth), "--generation", str(generation)]
    base = with_rules(parse_arguments(PretrainArguments, argv=flags), RULES[generation])
    config = NanochatGPTConfig.from_depth(depth, generation=generation, max_position_embeddings=2048)
    facts = describe_config(config, 2048)
    planned = plan_training(base, facts, 8, H100_MEMORY)
    as_planned = {"total_batch_size": planned.total_batch_size, "num_iterations": planned.num_steps}
    (tmp_path / "arguments.json").write_text(json.dumps(asdict(base) | as_planned))
    config.save_pretrained(tmp_path)

    preset = str(CONFIGS / "mid" / "gpu.yaml")
    args = parse_arguments(MidtrainArguments, argv=["--config", preset, "--source", str(tmp_path)])
    args = inherit_settings(args, PartialState(cpu=True))
    one_pass = 400_000_000 // args.total_batch_size
    mid = plan_midtraining(args, facts, 8, [700] * 570, one_pass, source_tokens(args.source), H100_MEMORY)
    assert fits(facts, mid.device_batch_size, 2048, False, H100_MEMORY, ranks=8)
    assert 100 < mid.num_steps < 1000
    # The weight decay of a base run of 2026 has fallen to 0 by its end.
    assert mid.optimizer == replace(planned.optimizer, weight_decay=0.0)
    assert mid.optimizer.matrix_lr == pytest.approx(matrix_lr, abs=1e-4)
    assert mid.optimizer.embedding_lr == pytest.approx(embedding_lr, abs=1e-4)
    momentum, warmdown = {2025: (0.95, 0.2), 2026: (0.97, 0.65)}[generation]
    assert (mid.optimizer.momentum_start, mid.optimizer.momentum) == (0.85, momentum)
    assert mid.schedule.warmdown_ratio == warmdown
    assert mid.schedule.momentum == planned.schedule.momentum
    assert args.grad_clip == {2025: 1.0, 2026: 0.0}[generation]


@pytest.mark.parametrize(
    ("stage", "kind", "processes", "said"),
    [
        ("sft", "gpu", 8, "32 conversations a step on 8 GPUs"),
        ("dpo", "gpu", 8, "32 pairs a step on 8 GPUs"),
        ("dpo", "cpu", 1, "16 pairs a step"),
        ("grpo", "gpu", 8, "on 8 GPUs: 16 problems x 16 replies a step"),
        ("grpo", "cpu", 1, "8 problems x 8 replies a step"),
    ],
)
def test_what_a_later_stages_preset_says_of_its_batch_is_so(stage, kind, processes, said):
    path = CONFIGS / stage / f"{kind}.yaml"
    assert said in path.read_text().splitlines()[0]
    args = parse_arguments(*STAGES[stage], argv=["--config", str(path)])[0]
    rows = args.per_device_train_batch_size * args.gradient_accumulation_steps * processes
    replies = args.num_generations if stage == "grpo" else 1
    expected = {"32": rows, "16": rows // replies, "8": rows // replies}
    counts = re.findall(r"\d+(?= conversations| pairs| problems| replies)", said)
    assert [int(each) for each in counts] == [expected[counts[0]], replies][: len(counts)]


STAGES = {
    "mid": (MidtrainArguments,),
    "sft": (SFTArguments, ModelArguments),
    "dpo": (DPOArguments, ModelArguments),
    "grpo": (GRPOArguments, ModelArguments),
}


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_preset_of_a_later_stage_names_flags_that_exist(stage, kind):
    argv = ["--config", str(CONFIGS / stage / f"{kind}.yaml")]
    source = ["--source", "runs/x/base"] if stage == "mid" else []
    arguments = parse_arguments(*STAGES[stage], argv=argv + source)
    args = arguments if stage == "mid" else arguments[0]
    conversations = getattr(args, "conversations", "primer:mid")
    assert conversations.startswith("primer:") or read_mixture(str(CONFIGS.parents[1] / conversations))
