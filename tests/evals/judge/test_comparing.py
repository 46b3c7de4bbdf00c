"""`python -m evals.judge` with several models: one request an instruction, and a file that is gone on with."""

import json
import shutil

import pytest

from evals.judge.__main__ import evaluate, main
from recipes.utils.arguments import parse_arguments
from recipes.utils.errors import InputError
from tests.evals.judge.known import ANSWERS, JudgeArguments, material
from tests.evals.judge.server import DROP, serve
from tests.recipes.inference.talker import learn_by_heart, user

OTHER = {question: "" if "Bo" in question else f"No {len(question)}." for question in ANSWERS}
SHOWN = [question for question in ANSWERS if ANSWERS[question] or OTHER[question]]


@pytest.fixture(scope="module")
def other_dir(model_dir, tmp_path_factory):
    """A model that gives the answers of OTHER."""
    conversations = [[user(question), {"role": "assistant", "content": text}] for question, text in OTHER.items()]
    model, tokenizer = learn_by_heart(model_dir, conversations)
    directory = tmp_path_factory.mktemp("other")
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def score_of(answer):
    return min(100, 3 * len(answer))


def grade(prompt, before=0):
    """A good judge's reply: the longer, the better."""
    answers = material(prompt)["answers"]
    return json.dumps({label: {"reason": f"On {text}", "score": score_of(text)} for label, text in answers.items()})


@pytest.fixture
def compared(model_dir, other_dir, instructions, tmp_path):
    """Runs the command with a server as its judge; gives how many instructions have no scores, and the file."""

    def run(server, *words, models=None, function=evaluate):
        output = tmp_path / "compared.json"
        flags = [word for model in models or (model_dir, other_dir) for word in ("--model", model)]
        flags += ["--instructions", instructions, "--judge", server.url, "--output", output, *words]
        missing = function(parse_arguments(JudgeArguments, argv=list(map(str, flags))))
        return missing, json.loads(output.read_text())

    return run


def test_each_instruction_is_asked_once_with_all_answers(compared, model_dir, other_dir, capsys):
    with serve(grade) as server:
        missing, results = compared(server)
    assert missing == 0 and (results["count"], results["scored"], results["failed"]) == (len(ANSWERS), len(ANSWERS), 0)
    assert results["models"] == [str(model_dir), str(other_dir)]
    assert len(server.requests) == len(SHOWN), "but where all answers are empty"
    assert not any(str(directory) in prompt for prompt in server.prompts for directory in (model_dir, other_dir))
    for row in results["rows"]:
        for directory, own in ((model_dir, ANSWERS), (other_dir, OTHER)):
            answer, text = row["answers"][str(directory)], own[row["instruction"]]
            reason = f"On {text}" if text else "The model gave no answer."
            assert answer == {"answer": text, "score": score_of(text), "reason": reason}
        prompt = next((p for p in server.prompts if material(p)["instruction"] == row["instruction"]), None)
        shown = list(material(prompt)["answers"].values()) if prompt else []
        assert shown == [row["answers"][model]["answer"] for model in row["shown"]]
    assert len({tuple(row["shown"]) for row in results["rows"]}) > 1, "in random order"
    said = capsys.readouterr().out
    ranking = [each["model"] for each in results["ranking"]]
    assert said.index(f"{ranking[0]} - {ranking[1]}: ") > 0 and "where they differ most:" in said
    assert "empty answers count as 0" in said


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda verdict: verdict | {"C": {"reason": "", "score": 1}}, "the judge answered for 'C', which it was not"),
        (lambda verdict: {"A": verdict["A"]}, "the judge left out B"),
        (lambda verdict: {}, "no scores in '{}'"),
    ],
)
def test_an_unusable_verdict_is_asked_once_more_and_then_one_clear_failure(compared, spoil, told, tmp_path, capsys):
    def reply(prompt, before):
        good = grade(prompt)
        return json.dumps(spoil(json.loads(good))) if "12*4" in prompt else good

    with serve(reply) as server:
        with pytest.raises(SystemExit) as ended:
            compared(server, function=main)
        results = json.loads((tmp_path / "compared.json").read_text())
        assert ended.value.code == 1 and (results["scored"], results["failed"]) == (len(ANSWERS) - 1, 1)
        (row,) = (row for row in results["rows"] if "error" in row)
        assert row["error"].startswith(told) and len(server.requests) == len(SHOWN) + 1
        said = capsys.readouterr().out
        assert said.splitlines()[-1].startswith("1 instructions have no scores: run the same command again")
        assert f"commonest failure (1 times): {row['error']}" in said
    with serve(grade) as second:
        missing, results = compared(second)
    assert missing == 0 and len(second.requests) == 1, "only the one that failed"
    assert not any("error" in row for row in results["rows"])


def test_a_verdict_that_is_repaired_the_second_time_counts(compared):
    with serve(lambda prompt, before: grade(prompt) if before else "Lovely!") as server:
        missing, _ = compared(server)
    assert missing == 0 and len(server.requests) == 2 * len(SHOWN)


def test_a_judge_that_dies_midway_loses_nothing(compared, model_dir, other_dir, tmp_path):
    copy = shutil.copytree(model_dir, tmp_path / "model")
    with serve(lambda prompt, before: grade(prompt) if len(server.requests) <= 2 else DROP) as server:
        missing, halfway = compared(server, "--concurrency", 1, models=(copy, other_dir))
    assert missing == len(SHOWN) - 2 == halfway["failed"]
    (copy / "model.safetensors").unlink()  # the answers are there already
    with serve(grade) as second:
        missing, results = compared(second, models=(other_dir, f"{copy}/"))
    assert missing == 0 and len(second.requests) == len(SHOWN) - 2
    assert [row["shown"] for row in results["rows"]] != [] and results["scored"] == len(ANSWERS)


def test_a_finished_comparison_asks_nothing(compared, tmp_path):
    with serve(grade) as server:
        compared(server)
        before = (tmp_path / "compared.json").read_bytes()
        compared(server)
    assert len(server.requests) == len(SHOWN) and (tmp_path / "compared.json").read_bytes() == before


def test_results_of_one_model_and_of_several_are_not_mixed(compared, model_dir):
    with serve(grade) as server:
        compared(server)
        with pytest.raises(
            InputError, match="compared.json exists and is not a result of evals.judge with these models"
        ):
            compared(server, models=(model_dir,))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--model", "{model}", "{model}/"], "is given twice: give each --model once."),
        (["--model", "{model}", "{other}"], "belong to none of their directories: give an --output."),
        (["--model", *(f"user/{n}" for n in range(27))], "27 models are more than the 26"),
        (["--model", "{model}", "/no/such", "--output", "{out}"], "model /no/such: no such directory"),
    ],
)
def test_mistakes_are_told_in_one_line(model_dir, other_dir, instructions, tmp_path, words, told):
    places = {"model": model_dir, "other": other_dir, "out": tmp_path / "out.json"}
    with serve(grade) as server:
        argv = [word.format(**places) for word in words]
        argv += ["--instructions", str(instructions), "--judge", server.url]
        with pytest.raises(InputError) as complaint:
            evaluate(parse_arguments(JudgeArguments, argv=argv))
    assert told in str(complaint.value) and "\n" not in str(complaint.value)
    assert server.requests == []
