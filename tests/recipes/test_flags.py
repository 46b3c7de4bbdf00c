"""What every flag of every program takes, whether the value comes from the command line, a file or Python."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from recipes.training.arguments import MidtrainArguments, PretrainArguments
from recipes.utils.arguments import REQUIRED, Arguments, Flag, flag, parse_arguments, resumable_flags
from recipes.utils.errors import InputError
from recipes.utils.provenance import ROOT
from tests.recipes.programs import PROGRAMS, classes_of, flags_of, needed

IMPOSSIBLE = ["nan", "inf", "-inf", "1e400", str(2**70), "", " ", "-1e30", "x", "1,5"]


def parse(program: str, *argv: str):
    return parse_arguments(*classes_of(program), argv=[*needed(program), *argv])


def refusal(program: str, *argv: str) -> str:
    with pytest.raises(InputError) as error:
        parse(program, *argv)
    assert "\n" not in str(error.value)
    return str(error.value)


def numbers(program: str) -> list[Flag]:
    return [each for each in flags_of(program).values() if each.kind in (int, float) and each.choices is None]


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_number_has_a_range_that_holds_its_default(program):
    for each in numbers(program):
        limits = each.limits
        assert limits.range, each.name
        defaults = each.default if isinstance(each.default, list) else [each.default]
        assert all(default in limits for default in defaults if default not in (None, REQUIRED)), each.name


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_no_number_is_out_of_range_nan_infinite_or_empty(program, tmp_path):
    for each in numbers(program):
        limits = each.limits
        outside = [None if limits.least is None else limits.least - 1, limits.above, limits.below]
        outside.append(None if limits.most is None else limits.most + 1)
        impossible = IMPOSSIBLE if each.kind is int else [value for value in IMPOSSIBLE if value != str(2**70)]
        for word in [*impossible, *(str(value) for value in outside if value is not None)]:
            assert each.name in refusal(program, f"--{each.name}={word}"), (each.name, word)
        (tmp_path / "run.yaml").write_text(f"\n{each.name}: .nan\n")
        message = refusal(program, "--config", str(tmp_path / "run.yaml"))
        assert message.startswith(f"{tmp_path / 'run.yaml'}, line 2: {each.name} must be "), message


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_no_text_is_empty(program):
    for each in flags_of(program).values():
        if each.kind is str:
            for word in ("", " ", "\t\n"):
                assert refusal(program, f"--{each.name}", word).startswith(f"{each.name} ")


@pytest.mark.parametrize("program", PROGRAMS)
def test_whatever_may_be_a_path_knows_the_home_directory(program, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    paths = {
        "accelerator_config", "base_model", "bundle", "chatcore_tasks", "continue_from", "conversations",
        "core_bundle", "dataset", "deepspeed", "fsdp_config", "instructions", "judge", "model", "model_config",
        "model_name_or_path", "output", "output_dir", "preferences", "problems", "recipe_config", "resume", "run",
        "run_dir", "source", "sources", "tasks", "tokenizer",
    }  # fmt: skip
    trackers = {"recipes.pretrain", "recipes.midtrain"}  # where `run` is a name for them
    labels = {"evals.core"}  # whose `tasks` have no paths
    for each in flags_of(program).values():
        names = {"run"} if program in trackers else {"tasks"} if program in labels else set()
        if program in ("recipes.sft", "recipes.dpo", "recipes.grpo"):
            names |= {"model_name_or_path"}  # --source there
        assert each.limits.path == (each.name in paths - names), each.name
        if each.limits.path:
            checked = (lambda word, each=each: each.check([word])[0]) if each.is_list else each.check
            assert checked("~/x") == str(tmp_path / "x")
            assert checked("gsm8k:~/x,mmlu:~/y") == f"gsm8k:{tmp_path}/x,mmlu:{tmp_path}/y"
            for other in ("user/name", "https://here/~user/x", "a~b", "primer:mid"):
                assert checked(other) == other
            for nothing in ("gsm8k:", "gsm8k: ", "gsm8k:,mmlu:x"):
                assert "names nothing after the colon" in refusal(program, f"--{each.name}={nothing}")


def test_the_home_directory_is_known_to_the_command_line_files_and_python(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run.yaml").write_text("output_dir: ~/runs/x\n")
    expected = str(tmp_path / "runs" / "x")
    assert parse("recipes.pretrain", "--output_dir", "~/runs/x").output_dir == expected
    assert parse("recipes.pretrain", "--config", "~/run.yaml").output_dir == expected
    assert PretrainArguments(output_dir=Path("~/runs/x")).output_dir == expected


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_must_be_given_is_asked_for_with_its_meaning(program):
    for word in needed(program):
        name = word.removeprefix("--").partition("=")[0]
        with pytest.raises(InputError, match=rf"^no {name}: give --{name} \(.+\)\.$"):
            parse_arguments(*classes_of(program), argv=[each for each in needed(program) if each != word])


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_says_what_there_is(program, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(program, "--help")
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"--{name} " in shown or f"--{name}," in shown for name in flags_of(program))


@pytest.mark.parametrize("program", ["evals.judge", "evals.bits_per_byte"])
def test_a_list_is_given_at_once_or_one_by_one_or_by_a_file(program, tmp_path):
    rest = [word for word in needed(program) if not word.startswith("--model")]
    for words in (["--model", "a", "b"], ["--model", "a", "--model=b"]):
        assert parse_arguments(*classes_of(program), argv=[*rest, *words]).model == ["a", "b"]
    (tmp_path / "one.yaml").write_text("model: a\n")
    (tmp_path / "two.yaml").write_text("model: [a, b]\n")
    for name, expected in (("one", ["a"]), ("two", ["a", "b"])):
        argv = ["--config", str(tmp_path / f"{name}.yaml"), *rest]
        assert parse_arguments(*classes_of(program), argv=argv).model == expected
        assert parse_arguments(*classes_of(program), argv=[*argv, "--model", "c"]).model == ["c"]


# From Python


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"matrix_lr": float("nan")},
            "matrix_lr must be at least 0 and at most 1,000, not nan: leave it out for the default.",
        ),
        ({"depth": 1.5}, "depth must be a whole number, not 1.5."),
        ({"depth": True}, "depth must be a whole number, not True."),
        ({"depth": None}, "depth must be a whole number, not None."),
        ({"matrix_lr": "0.1"}, "matrix_lr must be a number, not '0.1'."),
        ({"dataset": 3}, "dataset must be text, not 3."),
        ({"dataset": ["a", "b"]}, "dataset takes one value, not a list."),
        ({"dry_run": "yes"}, "dry_run must be true or false, not 'yes'."),
        ({"output_dir": ""}, "output_dir is empty (an unset variable?): give a value, or leave out --output_dir."),
        ({"output_dir": "a\0b"}, "output_dir must not contain a null character: 'a\\x00b'."),
        ({"seed": 2**32}, "seed must be at least 0 and below 4,294,967,296, not 4294967296."),
        ({"target_flops": 1e31}, "target_flops 1e+31 is too large."),
        ({"num_iterations": 10**40}, "num_iterations 10000000000000000000000000000000000000000 is too large."),
        ({"compile": "maybe"}, "compile must be one of auto, true, false, not 'maybe'."),
    ],
)
def test_python_is_checked_as_the_command_line_is(wrong, message):
    with pytest.raises(InputError) as error:
        PretrainArguments(**wrong)
    assert str(error.value) == message


def test_some_flags_may_change_when_a_run_is_resumed():
    assert {"log_every", "output_dir", "compile"} <= resumable_flags(MidtrainArguments)
    assert resumable_flags(PretrainArguments).isdisjoint({"depth", "seed", "dataset", "matrix_lr", "total_batch_size"})


def test_each_number_of_a_list_is_checked_and_the_default_is_nobody_elses():
    @dataclass
    class Several(Arguments):
        sizes: list[int] = flag([1, 2], "some", least=1)

    Several().sizes.append(3)
    assert Several().sizes == [1, 2]
    for wrong, message in (([4, 0], "at least 1, not 0"), ([], "an empty list"), ([0.5], "a whole number")):
        with pytest.raises(InputError, match=rf"^sizes .*{message}"):
            Several(sizes=wrong)


# The programs themselves


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["recipes/pretrain.py", "--output_dir", ""], "pretrain: output_dir is empty (an unset variable?): "),
        (
            ["recipes/sft.py", "--weight_decay", "-1"],
            "sft: weight_decay must be at least 0 and at most 1,000, not -1.0.",
        ),
        (["-m", "recipes.chat", "--model", "x", "--seed", str(2**70)], "chat: seed must be at least 0 and below "),
        (
            ["-m", "recipes.serve", "--model", "x", "--port", "99999"],
            "serve: port must be at least 1 and at most 65,535",
        ),
        (["space/app.py", "--model", "x", "--port", "99999"], "app: port must be at least 1 and at most 65,535"),
    ],
)
def test_a_program_says_it_in_one_line_and_leaves_nothing_behind(command, message, tmp_path):
    place = [str(ROOT / command[0]), *command[1:]] if command[0].endswith(".py") else command
    end = subprocess.run(
        [sys.executable, *place],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert end.returncode == 2 and end.stdout == ""
    (line,) = end.stderr.splitlines()
    assert line.startswith(message)
    assert list(tmp_path.iterdir()) == []
