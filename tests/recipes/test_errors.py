"""A mistake in the input is one line and an exit code; a mistake of ours keeps its traceback."""

import pytest

from recipes.errors import InputError, exit_on_input_error


def test_an_input_error_is_one_line_on_stderr_and_exit_code_2(capsys):
    def main():
        raise InputError("no dataset: give --dataset.")

    with pytest.raises(SystemExit) as stopped:
        exit_on_input_error("pretrain", main)
    assert stopped.value.code == 2
    assert capsys.readouterr() == ("", "pretrain: no dataset: give --dataset.\n")


@pytest.mark.parametrize("error", [ValueError, RuntimeError, KeyboardInterrupt])
def test_any_other_error_goes_through(error):
    def main():
        raise error("ours")

    with pytest.raises(error, match="ours"):
        exit_on_input_error("pretrain", main)


def test_without_an_error_nothing_happens(capsys):
    exit_on_input_error("pretrain", lambda: print("done"))
    assert capsys.readouterr() == ("done\n", "")
