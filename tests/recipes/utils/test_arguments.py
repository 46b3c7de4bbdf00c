"""Flags and YAML make the same arguments; what does not exist is named together with what does."""

from pathlib import Path

import pytest

from recipes.training.arguments import PretrainArguments
from recipes.training.posttraining_arguments import DPOArguments, GRPOArguments, ModelArguments, SFTArguments
from recipes.utils.arguments import parse_arguments
from recipes.utils.errors import InputError
from recipes.utils.provenance import ROOT
from tests.recipes.programs import classes_of

CONFIGS = ROOT / "recipes" / "configs"


@pytest.fixture
def preset(tmp_path):
    """Writes a YAML file and gives the flags that name it."""

    def write(text: str) -> list[str]:
        path = tmp_path / "preset.yaml"
        path.write_text(text)
        return ["--config", str(path)]

    return write


@pytest.fixture
def on_cpu() -> list[str]:
    """What an SFT is started with at least."""
    return ["--use_cpu", "true", "--output_dir", "runs/a/sft"]


def parse(*argv: str) -> PretrainArguments:
    return parse_arguments(PretrainArguments, argv=list(argv))


def one_line(error) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_without_flags_the_defaults_hold():
    assert parse() == PretrainArguments()


def test_flags_are_typed():
    args = parse("--depth", "6", "--matrix_lr", "0.5", "--dry_run", "--target_flops", "1e18", "--dataset", "a.txt")
    assert args == PretrainArguments(depth=6, matrix_lr=0.5, dry_run=True, target_flops=1e18, dataset="a.txt")


def test_a_file_sets_what_flags_would(preset):
    file = preset("depth: 6\nmatrix_lr: 0.5\ndry_run: true\ntarget_flops: 1e18\neval_tokens: 65_536\n")
    expected = PretrainArguments(depth=6, matrix_lr=0.5, dry_run=True, target_flops=1e18, eval_tokens=65_536)
    assert parse(*file) == expected


def test_flags_override_the_file_wherever_they_stand(preset):
    file = preset("depth: 6\nseed: 3\n")
    for argv in ([*file, "--depth", "7"], ["--depth", "7", *file]):
        assert (parse(*argv).depth, parse(*argv).seed) == (7, 3)


@pytest.mark.parametrize("value", ["true", "false", "auto"])
def test_compile_is_understood_as_yaml_and_as_a_flag(preset, value):
    for argv in (preset(f"compile: {value}\n"), ["--compile", value]):
        assert str(parse(*argv).compile).lower() == value


@pytest.mark.parametrize(
    ("wrong", "closest"),
    [("num_iteration_s", "num_iterations"), ("totalbatchsize", "total_batch_size"), ("matrix-lrr", "matrix_lr")],
)
def test_an_unknown_name_is_answered_by_the_closest_known(preset, wrong, closest):
    for argv in (
        [f"--{wrong}", "5"],
        [f"--{wrong}=5"],
        preset(f"{wrong}: 5\n"),
        preset(f"depth: 2\n{wrong}: [1, 2]\n"),
    ):
        with pytest.raises(InputError) as error:
            parse(*argv)
        message = f"unknown argument {wrong}: did you mean {closest}?"
        line = 2 if argv[0] == "--config" and "depth" in Path(argv[1]).read_text() else 1
        assert one_line(error) == (f"{argv[1]}, line {line}: {message}" if argv[0] == "--config" else message)


def test_a_name_like_no_other_is_answered_by_all_there_are():
    with pytest.raises(InputError, match=r"^unknown argument zzzzzz: known are .*dataset, text_column, .*\.$"):
        parse("--zzzzzz", "1")


def test_a_stray_word_is_named():
    with pytest.raises(InputError, match=r"^unknown argument stray: "):
        parse("--depth", "2", "stray")


def test_a_file_may_be_joined_to_its_flag_and_must_be_there(preset):
    flag, file = preset("depth: 6\n")
    assert parse(f"{flag}={file}").depth == 6
    with pytest.raises(InputError, match=r"^--config names no file: "):
        parse("--depth", "2", "--config")


def test_a_missing_file_is_named():
    with pytest.raises(InputError, match=r"^/nowhere/preset\.yaml cannot be read: No such file or directory\.$"):
        parse("--config", "/nowhere/preset.yaml")


@pytest.mark.parametrize("text", ["just words\n", "- a\n- list\n", "", "depth: [2\n", "depth: 2\n depth: 3\n"])
def test_a_file_that_is_not_yaml_of_names_and_values_is_one_clear_line(preset, text):
    with pytest.raises(InputError) as error:
        parse(*preset(text))
    assert "preset.yaml" in one_line(error)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ('depth: "20"', "depth", 20),
        ("matrix_lr: 1e-3", "matrix_lr", 0.001),  # in YAML a text, for want of a point
        ("eval_tokens: 65_536", "eval_tokens", 65_536),
        ("dry_run: yes", "dry_run", True),
        ("mixed_precision: no", "mixed_precision", "no"),  # in YAML a truth value
        ("compile: True", "compile", "true"),
        ("run: 2026-11-20", "run", "2026-11-20"),  # in YAML a date
        ("run: 007", "run", "007"),  # in YAML a number
        ("total_batch_size:", "total_batch_size", None),
        ("target_param_data_ratio: null", "target_param_data_ratio", None),
    ],
)
def test_a_value_in_a_file_is_what_it_would_be_on_the_command_line(preset, text, name, value):
    assert getattr(parse(*preset(text + "\n")), name) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("depth:", "depth is left blank: give a value, or remove the line."),
        ("depth: ~", "depth is left blank: give a value, or remove the line."),
        ("depth: 1.5", "depth must be a whole number, not '1.5'."),
        ('depth: "deep"', "depth must be a whole number, not 'deep'."),
        ("depth: true", "depth must be a whole number, not 'true'."),
        ("depth: 2026-11-20", "depth must be a whole number, not '2026-11-20'."),
        ("depth: [20]", "depth takes one value, not a list."),
        ("depth: {a: 20}", "depth must be a whole number, not {'a': 20}."),
        ("dataset: [a, b]", "dataset takes one value, not a list."),
        ('dataset: ""', "dataset is empty (an unset variable?): give a value, or leave out --dataset."),
        ("dry_run: perhaps", "dry_run must be true or false, not 'perhaps'."),
        ("matrix_lr: .inf", "matrix_lr must be a number, not '.inf'."),
        ("depth: 0", "depth must be at least 1 and at most 1,000, not 0."),
        ("packing: worst", "packing must be one of auto, best_fit, best_fit_split, concatenated, not 'worst'."),
        ("seed: 1\n  # a comment\nseed: 2", "seed is given twice: remove one of the two."),
    ],
)
def test_a_wrong_value_in_a_file_is_named_with_its_line(preset, text, message):
    flag, file = preset(f"# a preset\neval_every: 1\n{text}\n")
    line = 5 if "comment" in text else 3
    with pytest.raises(InputError) as error:
        parse(flag, file)
    assert one_line(error) == f"{file}, line {line}: {message}"


def test_a_flag_may_be_given_once_more_but_a_file_not(preset):
    assert parse("--depth", "2", "--depth", "3").depth == 3
    with pytest.raises(InputError, match=r"^--config is given twice: "):
        parse(*preset("depth: 2\n"), *preset("depth: 2\n"))
    for empty in (["--config", ""], ["--config= "], ["--config"]):
        with pytest.raises(InputError, match=r"^--config names no file: "):
            parse("--depth", "2", *empty)


def test_a_name_is_written_out():
    with pytest.raises(InputError, match=r"^unknown argument max_seq: did you mean max_seq_len\?$"):
        parse("--max_seq", "128")


@pytest.mark.parametrize(
    ("program", "name", "hint"),
    [
        ("evals.core", "max_examples", "max_problems"),
        ("evals.core", "source", "model"),
        ("evals.core", "core_bundle", "bundle"),
        ("evals.chat", "output_dir", "output"),
        ("evals.judge", "max_examples", "max_problems"),
        ("evals.report", "run_dir", "run"),
        ("recipes.convert", "model", "source"),
        ("recipes.pretrain", "run_dir", "output_dir"),
        ("recipes.pretrain", "batch-size", "device_batch_size"),
        ("recipes.midtrain", "dataset", "conversations"),
        ("recipes.midtrain", "model", "source"),
        ("recipes.sft", "device_batch_size", "per_device_train_batch_size"),
        ("recipes.sft", "num_iterations", "max_steps"),
        ("recipes.sft", "max_seq_len", "max_length"),
        ("recipes.grpo", "max_new_tokens", "max_completion_length"),
        ("recipes.chat", "max_tokens", "max_new_tokens"),
        ("recipes.speedrun", "output_dir", "run_dir"),
        ("recipes.speedrun", "price_per_gpu_hour", "price_per_hour"),
        ("tokenizer.train", "max_seq_len", "model_max_length"),
        ("recipes.serve", "prot", "port"),
    ],
)
def test_the_name_that_another_program_has_for_it_leads_to_the_one_here(on_cpu, program, name, hint):
    with pytest.raises(InputError) as error:
        parse_arguments(*classes_of(program), argv=[f"--{name}", "1"])
    assert one_line(error) == f"unknown argument {name}: did you mean {hint}?"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--depth", "six"], "depth must be a whole number, not 'six'."),
        (["--dataset"], "argument --dataset: expected one argument."),
        (["--depth", "0"], "depth must be at least 1 and at most 1,000, not 0."),
        (["--num_iterations", "-5"], "num_iterations must be at least 1, not -5: leave it out for the default."),
        (["--target_flops", "0"], "target_flops must be above 0, not 0.0: leave it out for the default."),
        (["--packing", "worst"], "packing must be one of auto, best_fit, best_fit_split, concatenated, not 'worst'."),
        (["--compile", "maybe"], "compile must be one of auto, true, false, not 'maybe'."),
        (["--mixed_precision", "int8"], "mixed_precision must be one of auto, bf16, fp8, fp16, no, not 'int8'."),
        (["--model_config", "a", "--model_name_or_path", "b"], "give model_config or model_name_or_path, not both."),
    ],
)
def test_an_impossible_value_is_one_clear_line_and_no_usage(argv, message, capsys):
    with pytest.raises(InputError) as error:
        parse(*argv)
    assert one_line(error) == message
    assert capsys.readouterr() == ("", "")


# Several dataclasses, those of TRL among them


def test_flags_go_to_the_dataclass_that_knows_them(on_cpu, preset):
    file = preset("source: base\nuse_peft: true\nlora_r: 4\npacking: true\n")
    sft, model = parse_arguments(
        SFTArguments, ModelArguments, argv=[*on_cpu, *file, "--source", "mid", "--lora_r", "8"]
    )
    assert (type(sft), type(model)) == (SFTArguments, ModelArguments)
    assert (sft.source, sft.packing, model.use_peft, model.lora_r) == ("mid", True, True, 8)


@pytest.mark.parametrize("wrong", ["early_stoping", "lora_rr", "sauce"])
def test_an_unknown_name_is_answered_by_the_closest_of_all_dataclasses(on_cpu, wrong):
    with pytest.raises(InputError) as error:
        parse_arguments(SFTArguments, ModelArguments, argv=[*on_cpu, f"--{wrong}", "1"])
    closest = {"early_stoping": "early_stopping", "lora_rr": "lora_r", "sauce": "source"}[wrong]
    assert one_line(error) == f"unknown argument {wrong}: did you mean {closest}?"


def test_among_hundreds_of_names_a_strange_one_is_not_answered_by_all(on_cpu):
    with pytest.raises(InputError, match=r"^unknown argument qqqq: --help lists the known ones\.$"):
        parse_arguments(SFTArguments, ModelArguments, argv=[*on_cpu, "--qqqq", "1"])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--load_in_4bit", "true", "--load_in_8bit", "true"], "can't use 8 bit and 4 bit precision at the same time"),
        (["--lora_r", "many"], "lora_r must be a whole number, not 'many'."),
        (["--packing_strategy", "tight"], "packing_strategy must be one of bfd, "),
        (["--eval_strategy", "sometimes"], "sometimes"),
        (["--eval_steps", "30"], "save_steps 100 must equal eval_steps 30"),
    ],
)
def test_an_impossible_value_of_trls_is_one_clear_line(on_cpu, argv, message):
    with pytest.raises(InputError) as error:
        parse_arguments(SFTArguments, ModelArguments, argv=[*on_cpu, *argv])
    assert message in one_line(error)


def test_without_evaluation_the_last_model_is_the_result(on_cpu):
    sft, _ = parse_arguments(SFTArguments, ModelArguments, argv=[*on_cpu, "--eval_strategy", "no"])
    assert not sft.load_best_model_at_end


@pytest.mark.parametrize(
    ("stage", "arguments_class"), [("sft", SFTArguments), ("dpo", DPOArguments), ("grpo", GRPOArguments)]
)
@pytest.mark.parametrize("hardware", ["cpu", "gpu"])
def test_presets_of_the_later_stages_are_complete(on_cpu, stage, arguments_class, hardware):
    config = ["--config", str(CONFIGS / stage / f"{hardware}.yaml")]
    args, _ = parse_arguments(arguments_class, ModelArguments, argv=[*on_cpu, *config])
    assert args.source == {"sft": "mid", "dpo": "sft", "grpo": "sft"}[stage]
    assert args.lr_scheduler_type == "linear" and 0 < args.init_lr_frac < 1


@pytest.mark.parametrize("arguments_class", [SFTArguments, GRPOArguments])
def test_help_is_printed_with_what_is_ours(arguments_class, capsys):
    with pytest.raises(SystemExit) as ended:
        parse_arguments(arguments_class, ModelArguments, argv=["--help"])
    assert ended.value.code == 0
    assert "--init_lr_frac" in capsys.readouterr().out
