"""`python -m benchmarks.scaling` from end to end, on models of a few steps."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib import image

from benchmarks.pretraining_runs import is_done
from benchmarks.scaling.arguments import ScalingArguments
from benchmarks.scaling.runs import plan_runs
from recipes.data.corpora import open_corpus
from recipes.training.rules import RULES, with_rules
from recipes.utils.errors import InputError
from tests.evals.core_bundle import write_bundle
from tokenizer.bpe import train_tokenizer

GRID = {"depths": "1,2,3", "budgets": "2e9,4e9", "vocab_size": 300, "max_seq_len": 32}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """A file to train on and one to validate on."""
    directory = tmp_path_factory.mktemp("corpus")
    texts = [row["text"] for row in open_corpus("primer").validation.take(120)]
    for name, part in (("0", texts[:100]), ("1", texts[100:])):
        (directory / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in part))
    return directory


def scaling(output_dir: Path, **flags) -> subprocess.CompletedProcess:
    words = [f"--{name}={value}" for name, value in (flags | {"output_dir": output_dir}).items()]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "benchmarks.scaling", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)


def rows(output: str) -> list[str]:
    """The rows of the table of runs, without the time that they took."""
    return [line[: line.rindex(" ")] for line in re.findall(r"^ *[\d.]+e\+\d+ +d\d.*$", output, re.M)]


@pytest.mark.slow
@pytest.mark.launch
def test_a_grid_is_trained_once_and_drawn_as_often_as_asked(corpus, tmp_path):
    first = scaling(tmp_path / "out", dataset=corpus, **GRID)
    assert first.returncode == 0, first.stderr
    assert len(rows(first.stdout)) == 6 and "by all parameters" in first.stdout
    found = json.loads((tmp_path / "out/scaling.json").read_text())
    assert [(run["budget"], run["depth"]) for run in found["runs"]] == [(b, d) for b in (2e9, 4e9) for d in (1, 2, 3)]
    for run in found["runs"]:
        assert run["flops"] == pytest.approx(run["budget"], rel=0.05)
        assert run["parameters"] == run["matrices_and_head"] + 300 * (128 if run["depth"] < 3 else 256)
        assert 1 < run["bpb"] < 9 and run["seconds"] > 0 and run["core"] is None
    assert set(found["laws"]) == {"all parameters", "matrices + head"}
    assert image.imread(tmp_path / "out/scaling.png").shape[2] == 4

    logs = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.log")}
    assert len(logs) == 6
    (tmp_path / "out/scaling.png").unlink()
    again = scaling(tmp_path / "out", dataset=corpus, **GRID)
    assert again.returncode == 0 and again.stdout == first.stdout
    assert (tmp_path / "out/scaling.png").exists()
    assert {path: path.stat().st_mtime_ns for path in logs} == logs, "nothing was trained again"

    single = scaling(tmp_path / "out", dataset=corpus, **GRID | {"budgets": "4e9"})
    assert single.returncode == 0 and rows(single.stdout) == rows(first.stdout)[3:]
    assert "no power law: " in single.stdout


@pytest.mark.slow
@pytest.mark.launch
def test_a_miniseries_trains_whole_models_and_says_what_they_cost(corpus, tmp_path):
    (tmp_path / "recipe.yaml").write_text(
        f"dataset: {corpus}\nmax_seq_len: 32\ntotal_batch_size: 128\nnum_iterations: 3\ncore_metric_max_per_task: 12\n"
    )
    flags = {
        "miniseries": "d1..d3",
        "recipe_config": tmp_path / "recipe.yaml",
        "vocab_size": 300,
        "core_bundle": write_bundle(tmp_path / "bundle"),
        "dollars_an_hour": 24,
    }
    end = scaling(tmp_path / "out", **flags)
    assert end.returncode == 0, end.stderr
    assert len(re.findall(r"^ +d[13] .* -?\d\.\d{4} \(7 tasks\) .* \$\d+\.\d\d$", end.stdout, re.M)) == 2
    found = json.loads((tmp_path / "out/scaling.json").read_text())
    assert [(run["depth"], run["tokens"], run["core_tasks"]) for run in found["runs"]] == [(1, 384, 7), (3, 384, 7)]
    assert [run["dollars"] for run in found["runs"]] == [run["seconds"] / 3600 * 24 for run in found["runs"]]
    assert "laws" not in found and image.imread(tmp_path / "out/scaling.png").shape[2] == 4


@pytest.mark.slow
@pytest.mark.launch
def test_a_run_that_fails_is_named_with_its_reason(corpus, tmp_path):
    (tmp_path / "recipe.yaml").write_text("text_column: words\n")
    end = scaling(tmp_path / "out", dataset=corpus, tokenizer=tmp_path / "none", **GRID)
    assert end.returncode == 2 and len(end.stderr.splitlines()) == 1 and "none" in end.stderr
    tokenizer = tmp_path / "tokenizer"
    train_tokenizer([row["text"] for row in open_corpus(str(corpus)).train], 300).save_pretrained(tokenizer)
    flags = GRID | {"recipe_config": tmp_path / "recipe.yaml", "tokenizer": tokenizer}
    end = scaling(tmp_path / "out", dataset=corpus, **flags)
    assert end.returncode == 2 and len(end.stderr.splitlines()) == 1
    place = tmp_path / "out" / "2e+09_d1"
    assert end.stderr.startswith(f"benchmarks.scaling: {place} failed, see {place}.log: pretrain: ")
    assert "words" in end.stderr


# Without training


def plan(corpus: Path, directory: Path, **flags):
    return plan_runs(ScalingArguments(dataset=str(corpus), output_dir=str(directory), **GRID | flags))


def test_runs_of_a_budget_spend_it_and_differ_in_size_alone(corpus, tmp_path):
    runs = plan(corpus, tmp_path)
    assert [run.budget for run in runs] == [2e9] * 3 + [4e9] * 3
    for run in runs:
        assert run.plan.num_flops == pytest.approx(run.budget, rel=0.05)
        assert run.args.packing == "best_fit_split" and run.args.eval_every == 0
        assert run.args.eval_tokens > 10**12, "the whole split"


def test_a_recipe_may_set_what_is_not_of_the_grid(corpus, tmp_path):
    (tmp_path / "recipe.yaml").write_text("num_iterations: 460\npacking: concatenated\nseed: 3\nmax_seq_len: 16\n")
    runs = plan(corpus, tmp_path, recipe_config=str(tmp_path / "recipe.yaml"), max_seq_len=None)
    assert {(run.args.seed, run.args.packing, run.args.max_seq_len) for run in runs} == {(3, "concatenated", 16)}
    assert all(run.plan.num_flops == pytest.approx(run.budget, rel=0.1) for run in runs), "the budget, not 460 steps"


def test_a_recipe_of_another_model_is_refused(corpus, tmp_path):
    (tmp_path / "recipe.yaml").write_text("model_config: gpt2.json\n")
    with pytest.raises(InputError, match=r"recipe.yaml names a model, but here depths give the models: remove"):
        plan(corpus, tmp_path, recipe_config=str(tmp_path / "recipe.yaml"))


def test_a_budget_that_pays_for_no_step_is_refused_before_anything_is_trained(corpus, tmp_path):
    with pytest.raises(InputError, match=r"^budgets: 1e\+06 FLOPs are too few for depth 1, of which one step of 32 "):
        plan(corpus, tmp_path, budgets="1e6,1e10")


def test_a_bundle_without_tasks_is_refused_before_anything_is_trained(corpus, tmp_path):
    args = ScalingArguments(dataset=str(corpus), output_dir=str(tmp_path / "out"), core_bundle=str(tmp_path), **GRID)
    with pytest.raises(InputError, match="holds no file of any task"):
        plan_runs(args)
    assert not (tmp_path / "out").exists()


def test_a_finished_run_of_other_settings_is_not_taken_for_this_one(corpus, tmp_path):
    run = plan(corpus, tmp_path)[0]
    assert not is_done(run)
    run.directory.mkdir()
    (run.directory / "config.json").write_text("{}")
    planned = {"total_batch_size": run.plan.total_batch_size, "num_iterations": run.plan.num_steps}
    (run.directory / "arguments.json").write_text(json.dumps(vars(with_rules(run.args, RULES[2025])) | planned))
    assert is_done(run)
    with pytest.raises(InputError, match=r"2e\+09_d1 is another run \(max_seq_len 32 there, 16 now; "):
        is_done(plan(corpus, tmp_path, max_seq_len=16)[0])


def test_a_tokenizer_of_another_size_is_not_taken_for_this_one(corpus, tmp_path):
    plan(corpus, tmp_path)
    with pytest.raises(InputError, match=r"^vocab_size 320: .* has 300 tokens already; choose another output_dir, or"):
        plan(corpus, tmp_path, vocab_size=320)
