"""Both answers and the judge's scores reach the file, and what is missing there is asked for once more."""

import itertools
import json
import shutil
import signal
import subprocess
import sys
import threading

import pytest
import torch

from evals.judge.__main__ import evaluate, main, score
from evals.judge.instructions import Row
from evals.judge.verdict import Verdict
from modeling_nanochat import NanochatGPTConfig, NanochatGPTForCausalLM
from recipes.utils.errors import InputError
from tests.evals.judge.known import ANSWERS, ASKED, EXPECTED, arguments, grade, material, scores
from tests.evals.judge.server import DROP, serve
from tokenizer.special_tokens import ASSISTANT_END, ASSISTANT_START, PYTHON_END


@pytest.mark.slow
def test_both_answers_the_scores_and_the_reasons_are_kept(judged, model_dir, capsys):
    with serve(grade) as server:
        missing, results = judged(server)
    assert (missing, results["count"], results["failed"]) == (0, len(ANSWERS), 0)
    assert results["mean_score"] == pytest.approx(sum(EXPECTED.values()) / len(EXPECTED))
    assert (results["model"], results["judge"]) == (str(model_dir), "grader")
    assert {row["instruction"] for row in results["rows"]} == set(ANSWERS)
    for row in results["rows"]:
        question = row["instruction"]
        assert row == {
            "instruction": question,
            "input": "",
            "reference": f"Reference to {question}",
            "answer": ANSWERS[question],
            "score": EXPECTED[question],
            "reason": f"Because of {question}" if ANSWERS[question] else "The model gave no answer.",
        }
    assert {body["model"] for body in server.requests} == {"grader"}, "the only model that is served"
    assert {material(prompt)["answer"] for prompt in server.prompts} == set(ANSWERS.values()) - {""}
    shown = capsys.readouterr().out
    assert f"mean score {results['mean_score']:.1f} of 100 over 6 answers, 0 failed (1 empty answers" in shown
    best, median, worst = (shown.index(each) for each in ("best: 90", "median: 60", "worst: 0"))
    assert best < shown.index("Let me see: It is 48.") < median < shown.index("Hello, Bo.") < worst


def test_a_second_run_elsewhere_gives_the_same_figures(judged, tmp_path):
    with serve(grade) as server:
        _, first = judged(server, temperature=1.0)
        (tmp_path / "judge.json").rename(tmp_path / "first.json")
        _, second = judged(server, temperature=1.0, concurrency=1)
    assert len(server.requests) == 2 * ASKED
    assert first.pop("arguments") != second.pop("arguments")
    assert first == second


def test_the_results_stand_beside_the_model_by_default(model_dir, instructions, tmp_path):
    copy = shutil.copytree(model_dir, tmp_path / "model")
    with serve(grade) as server:
        evaluate(arguments(model=copy, instructions=instructions, judge=server.url, max_problems=2))
    assert json.loads((copy / "evals/judge.json").read_text())["count"] == 2


# Running it again


def test_a_judge_that_dies_midway_is_gone_on_with(judged, model_dir, instructions, tmp_path, monkeypatch, capsys):
    copy = shutil.copytree(model_dir, tmp_path / "model")
    with serve(lambda prompt, before: grade(prompt) if len(server.requests) <= 2 else DROP) as server:
        flags = {"model": copy, "instructions": instructions, "judge": server.url, "output": tmp_path / "judge.json"}
        with pytest.raises(SystemExit) as ended:
            main(arguments(**flags, concurrency=1))
    assert ended.value.code == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("3 answers have no score: run the same command again")
    halfway = json.loads((tmp_path / "judge.json").read_text())
    assert (halfway["count"], halfway["scored"], halfway["failed"]) == (len(ANSWERS), len(ANSWERS) - 3, 3)
    assert {row["instruction"]: row["answer"] for row in halfway["rows"]} == ANSWERS

    (copy / "model.safetensors").unlink()  # the answers are there already
    with serve(grade) as second:
        missing, results = judged(second, model=f"{copy}/")
    assert missing == 0 and scores(results) == EXPECTED
    failed = {row["instruction"] for row in halfway["rows"] if row["score"] is None}
    assert sorted(material(prompt)["instruction"] for prompt in second.prompts) == sorted(failed)
    assert not any("error" in row for row in results["rows"])


def test_a_finished_judgment_asks_nothing_and_stays_as_it_is(judged, tmp_path):
    with serve(grade) as server:
        judged(server)
        before = (tmp_path / "judge.json").read_bytes()
        judged(server)
    assert len(server.requests) == ASKED
    assert (tmp_path / "judge.json").read_bytes() == before


def test_more_problems_go_on_from_fewer(judged):
    with serve(grade) as server:
        _, few = judged(server, max_problems=3)
        asked = len(server.requests)
        _, whole = judged(server)
    assert len(few["rows"]) == 3 and whole["rows"][:3] == few["rows"]
    assert 0 < asked < len(server.requests) == ASKED, "none is asked twice"


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"temperature": 0.5}, "temperature 0.0, not 0.5"),
        ({"max_new_tokens": 7}, "max_new_tokens 256, not 7"),
        ({"judge_model": "other"}, "judge grader, not other"),
        ({"model": "no/such/model"}, "not no/such/model"),
        ({"max_problems": 2}, "results of more or other instructions"),
    ],
)
def test_results_of_other_arguments_are_not_mixed(judged, tmp_path, changed, told):
    with serve(grade) as server:
        judged(server)
        before = (tmp_path / "judge.json").read_bytes()
        with pytest.raises(
            InputError, match=f"judge.json holds .*{told}: choose another --output, or remove the file"
        ):
            judged(server, **changed)
    assert (tmp_path / "judge.json").read_bytes() == before


def test_results_of_other_instructions_are_not_mixed(judged, tmp_path):
    other = tmp_path / "other.json"
    other.write_text(json.dumps([{"instruction": question, "output": "Another."} for question in ANSWERS]))
    with serve(grade) as server:
        judged(server)
        with pytest.raises(InputError, match="other instructions"):
            judged(server, instructions=other)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"rows": [1]}', '{"rows": [], "model": "a"}', "\xff"])
def test_a_file_of_something_else_is_not_overwritten(judged, tmp_path, content):
    (tmp_path / "judge.json").write_text(content, encoding="latin-1")
    with serve(grade) as server, pytest.raises(InputError, match="is not a result of evals.judge"):
        judged(server)
    assert (tmp_path / "judge.json").read_text(encoding="latin-1") == content


def test_what_was_judged_before_an_interruption_is_written():
    class Interrupted:
        name = "interrupted"

        def score(self, prompts, take):
            take(1, Verdict(80, "Good."))
            raise KeyboardInterrupt

    rows = [Row("a", "", "", "1"), Row("b", "", "", "2", error="no connection")]
    written = []
    with pytest.raises(KeyboardInterrupt):
        score(rows, Interrupted(), lambda: written.append([(row.score, row.error) for row in rows]))
    assert written[-1] == [(None, None), (80, None)]


# A shell in the background starts its programs without Ctrl-C.
PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from evals.judge.__main__ import JudgeArguments, main
from recipes.utils.arguments import read_command_line
main(read_command_line("evals.judge", JudgeArguments))
"""


@pytest.mark.launch
def test_ctrl_c_waits_for_no_request(model_dir, instructions, tmp_path):
    second, released = threading.Event(), threading.Event()

    def reply(prompt, before):
        if len(server.requests) > 1:
            second.set()
            released.wait(120)
        return grade(prompt)

    output = tmp_path / "judge.json"
    with serve(reply) as server:
        flags = {"model": model_dir, "instructions": instructions, "judge": server.url, "output": output}
        words = [str(word) for name, value in flags.items() for word in (f"--{name}", value)]
        command = [sys.executable, "-c", PROGRAM, *words, "--concurrency", "1"]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
            try:
                assert second.wait(120)
                process.send_signal(signal.SIGINT)
                shown, complaints = process.communicate(timeout=60)  # while the request is still unanswered
            finally:
                process.kill()
                released.set()
    assert process.returncode == 130 and "Traceback" not in complaints
    assert shown.splitlines()[-1] == "interrupted; run the same command again to continue"
    results = json.loads(output.read_text())
    assert results["scored"] == 2 and results["failed"] == 0, "the empty answer, and the one that was judged"


# A judge that runs here


def local_judge(tokenizer, directory, *texts, context=8192):
    """A model that writes one of `texts`, each as likely as the other; in each, a letter stands once."""
    width = 512  # one dimension a token; the blocks, whose outputs start at zero, add nothing
    config = NanochatGPTConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=context,
        eos_token_id=tokenizer.convert_tokens_to_ids([ASSISTANT_END, PYTHON_END]),
        pad_token_id=tokenizer.pad_token_id,
    )
    model = NanochatGPTForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(width)[: len(tokenizer)])
        for text in texts:
            ids = tokenizer.convert_tokens_to_ids([ASSISTANT_START, *text, ASSISTANT_END])
            for token, following in itertools.pairwise(ids):
                model.lm_head.weight[following, token] = 5.0
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def run_local(model_dir, instructions, judge, output):
    settings = {"model": model_dir, "instructions": instructions, "judge": judge, "output": output}
    missing = evaluate(arguments(**settings, judge_max_new_tokens=12, batch_size=2))
    return missing, json.loads(output.read_text())


def test_a_chat_model_of_transformers_judges(tokenizer, model_dir, instructions, tmp_path):
    judge = local_judge(tokenizer, tmp_path / "judge", "score:70")
    missing, results = run_local(model_dir, instructions, judge, tmp_path / "judge.json")
    assert missing == 0 and results["judge"] == str(judge)
    assert scores(results) == dict.fromkeys(ANSWERS, 70) | {"Say nothing.": 0}


@pytest.mark.slow
def test_a_local_judge_that_talks_nonsense_is_asked_once_more(tokenizer, model_dir, instructions, tmp_path):
    judge = local_judge(tokenizer, tmp_path / "judge", "score:70", "Aha")  # equally likely; greedily it says Aha
    missing, results = run_local(model_dir, instructions, judge, tmp_path / "judge.json")
    outcomes = [row.get("error", row["score"]) for row in results["rows"] if row["answer"]]
    assert 70 in outcomes and set(outcomes) <= {70, "no single score from 0 to 100 in 'Aha'"}
    assert missing == results["failed"] == sum(outcome != 70 for outcome in outcomes)


def test_what_exceeds_a_local_judges_context_is_told(tokenizer, model_dir, instructions, tmp_path):
    judge = local_judge(tokenizer, tmp_path / "judge", "score:70", context=200)
    missing, results = run_local(model_dir, instructions, judge, tmp_path / "judge.json")
    assert missing == results["failed"] == ASKED
    assert all("tokens and the judge's context only 200" in row["error"] for row in results["rows"] if row["answer"])


# Bad input


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"instructions": "nowhere.json"}, "nowhere.json cannot be read: No such file or directory."),
        ({"judge": "localhost:8000/v1"}, "is not a URL: give one like http://localhost:8000/v1."),
        ({"judge": "ftp://somewhere"}, "judge ftp://somewhere is not a URL"),
        ({"judge": "http://me:secret@localhost/v1"}, "holds a password"),
        ({"judge": "no/such/judge"}, "no/such/judge: no such directory"),
        ({"judge": "a/b", "judge_model": "c"}, "judge_model and api_key_env are for an endpoint"),
        ({"output": "/dev/null/judge.json"}, "cannot write to /dev/null/judge.json"),
        ({"concurrency": 0}, "concurrency must be at least 1 and at most 1,024, not 0"),
        ({"timeout": 0}, "timeout must be above 0 and at most 86,400, not 0"),
        ({"temperature": -1}, "temperature must be at least 0, not -1"),
    ],
)
def test_mistakes_are_told_in_one_line(model_dir, instructions, tmp_path, changed, told):
    settings = {"model": model_dir, "instructions": instructions, "judge": "http://127.0.0.1:1/v1"}
    with pytest.raises(InputError) as complaint:
        evaluate(arguments(**settings | {"output": tmp_path / "judge.json"} | changed))
    assert told in str(complaint.value) and "\n" not in str(complaint.value)
    assert "secret" not in str(complaint.value)


def test_a_model_of_the_hub_needs_an_output(instructions):
    with pytest.raises(InputError, match="model user/model is not a directory here .*: give an --output"):
        evaluate(arguments(model="user/model", instructions=instructions, judge="http://127.0.0.1:1/v1"))
