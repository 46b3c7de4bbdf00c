"""Whatever an endpoint does, every answer ends with a score or a counted failure, and the key stays secret."""

import json
import threading

import pytest
from huggingface_hub import constants, get_session
from huggingface_hub.errors import OfflineModeIsEnabled

from evals.judge import endpoint
from recipes.utils.errors import InputError
from tests.evals.judge.known import ANSWERS, ASKED, EXPECTED, grade, scores
from tests.evals.judge.server import DROP, serve


@pytest.mark.slow
def test_nonsense_is_asked_again_in_another_way(judged):
    with serve(lambda prompt, before: grade(prompt) if before else "Lovely!") as server:
        missing, results = judged(server)
    assert missing == 0 and scores(results) == EXPECTED
    ways = [(body["temperature"], body["seed"]) for body in server.requests]
    assert sorted(ways) == [(0.0, 0)] * ASKED + [(0.7, 1)] * ASKED


def test_nonsense_twice_is_a_counted_failure(judged):
    def reply(prompt, before):
        return "Score: 1000!" if "12*4" in prompt else grade(prompt)

    with serve(reply) as server:
        missing, results = judged(server)
    assert (missing, results["failed"], results["count"]) == (1, 1, len(ANSWERS))
    row = next(row for row in results["rows"] if "12*4" in row["instruction"])
    assert (row["score"], row["error"]) == (None, "no single score from 0 to 100 in 'Score: 1000!'")
    scored = [score for question, score in EXPECTED.items() if "12*4" not in question]
    assert results["mean_score"] == pytest.approx(sum(scored) / len(scored))
    assert len(server.requests) == ASKED + 1


# What the server does


@pytest.mark.parametrize(
    "trouble",
    [
        (500, {}, "no JSON"),
        (503, {"retry-after": "0"}, '{"error": "overloaded"}'),
        (429, {"retry-after": "0"}, '{"error": {"message": "slowly, please"}}'),
        (500, {}, "[1]"),
        (200, {}, "<html>starting up</html>"),
        DROP,
        {"choices": []},
    ],
    ids=str,
)
def test_what_may_pass_is_tried_again(judged, trouble):
    with serve(lambda prompt, before: trouble if before < 2 else grade(prompt)) as server:
        missing, results = judged(server)
    assert missing == 0 and scores(results) == EXPECTED
    assert len(server.requests) == 3 * ASKED


@pytest.mark.parametrize(("header", "waited"), [("0", 0), ("3", 3), ("3600", endpoint.LONGEST_WAIT), (None, 0.01)])
def test_the_endpoint_says_how_long_to_wait(header, waited):
    headers = {} if header is None else {"retry-after": header}
    with serve(lambda prompt, before: (429, headers, "{}")) as server:
        judge = endpoint.EndpointJudge(server.url)
        waits = []
        judge._stopped.wait = waits.append
        judge.score(["?"], lambda place, verdict: None)
    assert waits == [waited] * 3 and len(server.requests) == 4


def test_a_server_that_is_too_slow_is_asked_again(judged):
    released = threading.Event()

    def reply(prompt, before):
        if not before:
            released.wait(30)
        return grade(prompt)

    with serve(reply) as server:
        missing, results = judged(server, timeout=0.5)
        released.set()
    assert missing == 0 and scores(results) == EXPECTED
    assert len(server.requests) >= 2 * ASKED, "more only where this machine is as slow"


def test_a_request_that_is_refused_for_itself_fails_alone(judged):
    def reply(prompt, before):
        return grade(prompt) if "12*4" in prompt else (400, {}, '{"detail": "too long for me"}')

    with serve(reply) as server:
        missing, results = judged(server, concurrency=1)
    assert missing == ASKED - 1 and len(server.requests) == ASKED, "each was asked, and once"
    assert scores(results)["How much is 12*4?"] == 90
    errors = {row["error"] for row in results["rows"] if "error" in row}
    assert len(errors) == 1 and "too long for me" in errors.pop()


def test_a_model_that_takes_no_temperature_is_asked_without(judged):
    def reply(prompt, before):
        refused = "temperature" in server.requests[-1]
        return (400, {}, '{"error": "Unsupported parameter: temperature"}') if refused else grade(prompt)

    with serve(reply) as server:
        missing, results = judged(server, concurrency=1)
    assert missing == 0 and scores(results) == EXPECTED
    assert len(server.requests) == ASKED + 1, "it is remembered"


@pytest.mark.parametrize(
    ("reply", "tries", "error"),
    [((500, {}, ""), 4, "HTTP 500"), (DROP, 4, "no connection"), ((401, {}, ""), 1, "HTTP 401")],
)
def test_after_failures_in_a_row_the_rest_is_not_asked(judged, reply, tries, error):
    with serve(lambda prompt, before: reply) as server:
        missing, results = judged(server, concurrency=1)
    assert missing == results["failed"] == ASKED
    assert len(server.requests) == endpoint.FAILURES_IN_A_ROW * tries
    errors = [row["error"] for row in results["rows"] if "error" in row]
    assert sum(error in each for each in errors) == endpoint.FAILURES_IN_A_ROW
    assert sum("not asked" in each for each in errors) == ASKED - endpoint.FAILURES_IN_A_ROW


def test_nobody_there_is_told_before_the_model_is_loaded(judged, tmp_path):
    with serve(grade) as server:
        pass
    with pytest.raises(InputError, match=rf"^judge {server.url} does not answer .*: start its server"):
        judged(server, model="no/such/model")
    assert not (tmp_path / "judge.json").exists()


def test_a_server_need_not_list_its_models(judged):
    with serve(grade, models=None) as server:
        missing, results = judged(server)
    assert missing == 0 and results["judge"] == server.url


def test_a_server_that_wants_a_name_is_told_apart(judged):
    with serve(lambda prompt, before: (404, {}, '{"error": "no model dummy"}'), models=None) as server:
        _, results = judged(server)
    assert results["rows"][0]["error"] == "HTTP 404 (asked without a --judge_model): no model dummy"


def test_of_several_models_one_must_be_chosen(judged):
    with serve(grade, models=["small", "large"]) as server:
        with pytest.raises(InputError, match="choose one by --judge_model: small, large"):
            judged(server)
        _, results = judged(server, judge_model="large")
    assert results["judge"] == "large" and {body["model"] for body in server.requests} == {"large"}


def test_offline_the_judge_is_reached_and_the_hub_is_not(judged, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with serve(grade) as server:
        missing, _ = judged(server)
        with pytest.raises(OfflineModeIsEnabled):
            get_session().get(server.url)
    assert missing == 0 and len(server.requests) == ASKED


# The key

KEY = "sk-very-secret"


def test_the_key_is_sent_and_never_written_or_printed(judged, monkeypatch, tmp_path, capsys):
    def echo(prompt, before):
        if "12*4" in prompt:
            return (400, {}, json.dumps({"error": f"bad key {KEY}"}))
        if "Who am I" in prompt:
            return f"nonsense {KEY}"
        return json.dumps({"reason": f"Your key is {KEY}.", "score": 50})

    monkeypatch.setenv("JUDGE_KEY", KEY + "\n")
    with serve(echo) as server:
        missing, results = judged(server, api_key_env="JUDGE_KEY")
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert missing == 2 and results["arguments"]["api_key_env"] == "JUDGE_KEY"
    everything = (tmp_path / "judge.json").read_text()
    assert "Your key is ***." in everything and "bad key ***" in everything and "nonsense ***" in everything
    assert KEY not in everything + "".join(capsys.readouterr())


def test_without_a_key_the_login_to_the_hub_is_not_sent(judged, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with serve(grade) as server:
        judged(server)
    assert len(server.keys) == ASKED + 1 and not any("hf_secret" in (key or "") for key in server.keys)


@pytest.mark.parametrize("key", [None, " ", "schlüssel"])
def test_a_missing_or_impossible_key_is_told(judged, monkeypatch, key):
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("JUDGE_KEY", key)
    with serve(grade) as server, pytest.raises(InputError, match="^environment variable JUDGE_KEY holds no key: "):
        judged(server, api_key_env="JUDGE_KEY")
    assert server.keys == []


@pytest.mark.parametrize("models", [None, ["grader"]])
def test_a_key_in_the_url_is_used_and_never_written_or_printed(judged, monkeypatch, tmp_path, capsys, models):
    def echo(prompt, before):
        return (400, {}, json.dumps({"error": f"bad {KEY}"})) if "12*4" in prompt else f"score: 5, at ?api_key={KEY}"

    with serve(echo, models, query=f"?api_key={KEY}") as server:
        monkeypatch.setattr("sys.argv", ["judge", "--judge", server.url, f"--judge={server.url}"])
        missing, results = judged(server)
    plain = server.url.partition("?")[0]
    assert missing == 1 and len(server.requests) == ASKED, "the query was sent: the server refuses others"
    assert results["arguments"]["judge"] == plain and results["judge"] == (plain if models is None else "grader")
    assert results["command"].endswith(f"--judge {plain} --judge={plain}")
    assert KEY not in (tmp_path / "judge.json").read_text() + "".join(capsys.readouterr())


def test_a_url_that_is_none_does_not_print_its_password():
    with pytest.raises(InputError) as complaint:
        endpoint.EndpointJudge(f"me:{KEY}/x@localhost:8000/v1")
    assert KEY not in str(complaint.value)


def test_the_reason_why_every_answer_failed_is_printed(judged, capsys):
    with serve(lambda prompt, before: (401, {}, '{"error": "who are you?"}')) as server:
        judged(server, concurrency=1)
    assert "commonest failure (3 times): HTTP 401: who are you?" in capsys.readouterr().out.splitlines()[-2]
