"""Flags and YAML make the same arguments; what does not exist is named together with what does."""

from pathlib import Path

import pytest
from trl import ModelConfig

from recipes.arguments import parse_arguments
from recipes.errors import InputError
from recipes.grpo import GRPOArguments
from recipes.sft import SFTArguments
from recipes.training.arguments import PretrainArguments

CONFIGS = Path(__file__).parents[2] / "recipes" / "configs"


@pytest.fixture
def preset(tmp_path):
    """Writes a YAML file and gives the flags that name it."""

    def write(text: str) -> list[str]:
        path = tmp_path / "preset.yaml"
        path.write_text(text)
        return ["--config", str(path)]

    return write


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
        assert one_line(error) == f"unknown argument {wrong}: did you mean {closest}?"


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
    with pytest.raises(InputError, match=r"No such file or directory: '/nowhere/preset\.yaml'"):
        parse("--config", "/nowhere/preset.yaml")


@pytest.mark.parametrize("text", ["just words\n", "- a\n- list\n", "", "depth: [2\n", "depth: 2\n depth: 3\n"])
def test_a_file_that_is_not_yaml_of_names_and_values_is_one_clear_line(preset, text):
    with pytest.raises(InputError) as error:
        parse(*preset(text))
    assert "preset.yaml" in one_line(error)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--depth", "six"], "argument --depth: invalid int value: 'six'."),
        (["--dataset"], "argument --dataset: expected one argument."),
        (["--depth", "0"], "depth must be at least 1, not 0."),
        (["--num_iterations", "-5"], "num_iterations must be positive, not -5: leave it out for the default."),
        (["--target_flops", "0"], "target_flops must be positive, not 0.0: leave it out for the default."),
        (["--packing", "worst"], "packing must be one of auto, best_fit, best_fit_split, concatenated, not 'worst'."),
        (["--compile", "maybe"], "compile must be one of auto, true, false, not 'maybe'."),
        (["--mixed_precision", "fp8"], "mixed_precision must be one of auto, bf16, fp16, no, not 'fp8'."),
        (["--model_config", "a", "--model_name_or_path", "b"], "give model_config or model_name_or_path, not both."),
    ],
)
def test_an_impossible_value_is_one_clear_line_and_no_usage(argv, message, capsys):
    with pytest.raises(InputError) as error:
        parse(*argv)
    assert one_line(error) == message
    assert capsys.readouterr() == ("", "")


# Several dataclasses, those of TRL among them


@pytest.fixture
def on_cpu(fresh_accelerate) -> list[str]:
    """What an SFT is started with at least: TRL's configurations look at the hardware as they are made."""
    return ["--use_cpu", "true", "--output_dir", "runs/a/sft"]


def test_flags_go_to_the_dataclass_that_knows_them(on_cpu, preset):
    file = preset("source: base\nuse_peft: true\nlora_r: 4\npacking: true\n")
    sft, model = parse_arguments(SFTArguments, ModelConfig, argv=[*on_cpu, *file, "--source", "mid", "--lora_r", "8"])
    assert (type(sft), type(model)) == (SFTArguments, ModelConfig)
    assert (sft.source, sft.packing, model.use_peft, model.lora_r) == ("mid", True, True, 8)


@pytest.mark.parametrize("wrong", ["early_stoping", "lora_rr", "sauce"])
def test_an_unknown_name_is_answered_by_the_closest_of_all_dataclasses(on_cpu, wrong):
    with pytest.raises(InputError) as error:
        parse_arguments(SFTArguments, ModelConfig, argv=[*on_cpu, f"--{wrong}", "1"])
    closest = {"early_stoping": "early_stopping", "lora_rr": "lora_r", "sauce": "source"}[wrong]
    assert one_line(error) == f"unknown argument {wrong}: did you mean {closest}?"


def test_among_hundreds_of_names_a_strange_one_is_not_answered_by_all(on_cpu):
    with pytest.raises(InputError, match=r"^unknown argument qqqq: --help lists the known ones\.$"):
        parse_arguments(SFTArguments, ModelConfig, argv=[*on_cpu, "--qqqq", "1"])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--load_in_4bit", "true", "--load_in_8bit", "true"], "can't use 8 bit and 4 bit precision at the same time"),
        (["--lora_r", "many"], "--lora-r: invalid int value: 'many'."),
        (["--packing_strategy", "tight"], "--packing-strategy: invalid choice: 'tight' (choose from 'bfd'"),
        (["--eval_strategy", "sometimes"], "sometimes"),
        (["--eval_steps", "30"], "save_steps 100 must equal eval_steps 30"),
    ],
)
def test_an_impossible_value_of_trls_is_one_clear_line(on_cpu, argv, message):
    with pytest.raises(InputError) as error:
        parse_arguments(SFTArguments, ModelConfig, argv=[*on_cpu, *argv])
    assert message in one_line(error)


def test_without_evaluation_the_last_model_is_the_result(on_cpu):
    sft, _ = parse_arguments(SFTArguments, ModelConfig, argv=[*on_cpu, "--eval_strategy", "no"])
    assert not sft.load_best_model_at_end


@pytest.mark.parametrize(("stage", "arguments_class"), [("sft", SFTArguments), ("grpo", GRPOArguments)])
@pytest.mark.parametrize("hardware", ["cpu", "gpu"])
def test_presets_of_the_later_stages_are_complete(on_cpu, stage, arguments_class, hardware):
    config = ["--config", str(CONFIGS / stage / f"{hardware}.yaml")]
    args, _ = parse_arguments(arguments_class, ModelConfig, argv=[*on_cpu, *config])
    assert args.source == {"sft": "mid", "grpo": "sft"}[stage]
    assert args.lr_scheduler_type == "linear" and 0 < args.init_lr_frac < 1


@pytest.mark.parametrize("arguments_class", [SFTArguments, GRPOArguments])
def test_help_is_printed_with_what_is_ours(arguments_class, capsys):
    with pytest.raises(SystemExit) as ended:
        parse_arguments(arguments_class, ModelConfig, argv=["--help"])
    assert ended.value.code == 0
    assert "--init_lr_frac" in capsys.readouterr().out
