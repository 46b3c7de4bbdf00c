"""The comparison of GRPO's settings: runs are made once, and a gain is that over the same problems."""

import json
import shutil
from pathlib import Path

import pytest
from transformers.utils import logging

from benchmarks import reinforcement
from recipes.data.corpora import open_corpus
from recipes.data.messages import assistant, user
from recipes.launch.stages import check_flags
from recipes.utils.errors import InputError
from tests.recipes.inference.talker import calling, learn_by_heart
from tokenizer.bpe import train_tokenizer

QUESTION = "Twelve times four?"


def arguments(**changes) -> reinforcement.BenchmarkArguments:
    return reinforcement.BenchmarkArguments(**{"sources": "nowhere", "output_dir": "unused", **changes})


@pytest.mark.parametrize("name", [name for name in reinforcement.SETTINGS if name != "preset"])
def test_a_setting_changes_what_the_recipe_takes(name):
    (run,) = reinforcement.plan_runs(arguments(settings=name, seeds=1))
    (preset,) = reinforcement.plan_runs(arguments(settings="preset", seeds=1))
    chosen, usual = (vars(check_flags("grpo", each.words)[0]) for each in (run, preset))
    changed = {flag for flag in chosen if chosen[flag] != usual[flag]} - {"output_dir"}
    assert changed <= reinforcement.SETTINGS[name].keys(), changed


def test_seeds_take_the_sources_in_turn():
    runs = reinforcement.plan_runs(arguments(sources="a/x, a/y", settings="preset,lr_0.2"))
    assert [(run.setting, run.seed, run.source) for run in runs] == [
        (name, seed, source) for name in ("preset", "lr_0.2") for seed, source in enumerate(["a/x", "a/y", "a/x"])
    ]
    assert len({run.directory for run in runs}) == 6


def test_a_gain_counts_only_problems_on_which_the_models_differ():
    def rows(right: str, kinds: str = "abcdef") -> list[dict]:
        return [
            {"messages": [user(str(n))], "alike": kind, "outcomes": ["right" if each == "1" else "wrong"]}
            for n, (each, kind) in enumerate(zip(right, kinds, strict=False))
        ]

    assert reinforcement.paired_gain(rows("110010"), rows("110010")) == (0, 0)
    gain, error = reinforcement.paired_gain(rows("1100"), rows("1011"))  # differences 0, -1, 1, 1
    assert gain == pytest.approx(1 / 4)
    assert error == pytest.approx((((1 / 16 + 25 / 16 + 9 / 16 + 9 / 16) / 3) / 4) ** 0.5)
    _, by_kind = reinforcement.paired_gain(rows("000000", "aaabbb"), rows("111000", "aaabbb"))
    assert by_kind == pytest.approx(0.5), "as of two problems, one of which was learned"
    with pytest.raises(InputError, match="asked different problems"):
        reinforcement.paired_gain(rows("11"), rows("11")[::-1])


def test_wrong_flags_are_one_line():
    with pytest.raises(InputError, match=r"unknown setting 'lr_0\.3'; .*lr_0\.2"):
        arguments(settings="preset,lr_0.3")
    with pytest.raises(InputError, match="seeds must be at least 1"):
        arguments(seeds=0)


@pytest.fixture
def sources(tmp_path) -> list[Path]:
    """Two models that call the calculator for one question, rightly in half of their replies."""
    tokenizer_dir = tmp_path / "tokenizer"
    documents = [row["text"] for row in open_corpus("primer").validation.take(400)]
    train_tokenizer(documents, vocab_size=512).save_pretrained(tokenizer_dir)
    calls = [calling("", expression) for expression in ("12*4", "12+4")]
    model, tokenizer = learn_by_heart(
        tokenizer_dir, [[user(QUESTION), *call, assistant(f"#### {call[-1]['content']}")] for call in calls]
    )
    for name in "ab":
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    return [tmp_path / name for name in "ab"]


@pytest.mark.slow
@pytest.mark.launch
def test_runs_and_exams_are_made_once_and_compared(sources, tmp_path, capsys):
    logging.disable_progress_bar()
    gsm8k, config, output_dir = tmp_path / "gsm8k", tmp_path / "tiny.yaml", tmp_path / "runs"
    gsm8k.mkdir()
    line = json.dumps({"question": QUESTION, "answer": "<<12*4=48>>\n#### 48"}) + "\n"
    for split in ("train", "test"):
        (gsm8k / f"{split}.jsonl").write_text(4 * line)
    small = {"problems": f"gsm8k:{gsm8k}", "max_steps": 2, "per_device_train_batch_size": 16, "num_generations": 16}
    small |= {"max_completion_length": 24, "bf16": False, "matrix_lr": 0.01, "embedding_lr": 0.005}
    config.write_text(json.dumps(small))  # JSON is YAML
    args = arguments(
        sources=",".join(map(str, sources)),
        output_dir=str(output_dir),
        recipe_config=str(config),
        settings="preset",
        tasks=f"gsm8k:{gsm8k},facts:3",
        seeds=2,
    )
    reinforcement.main(args)
    printed = capsys.readouterr().out
    content = json.loads((output_dir / "reinforcement.json").read_text())
    assert [(each["seed"], each["source"]) for each in content["results"]] == list(enumerate(map(str, sources)))
    for each in content["results"]:
        assert each["before"] in (0, 1) and each["gain"] == each["after"] - each["before"]
        assert each["error"] == 0, "one problem, four times"
        assert each["others"] == {"gsm8k_flexible": each["gain"], "facts": 0} and each["minutes"] > 0
    assert sum(line.startswith("preset ") for line in printed.splitlines()) == 3, "two runs, and their summary"

    # Only what is missing is made anew: here an exam, and no model.
    exam = output_dir / "preset" / "seed_1" / "evals" / "chat.json"
    exam.unlink()
    made = {path: path.stat().st_mtime_ns for path in output_dir.rglob("*.safetensors")}
    made |= {path: path.stat().st_mtime_ns for path in output_dir.rglob("before_*.json")}
    assert len(made) > 2
    reinforcement.main(args)
    assert exam.exists() and capsys.readouterr().out == printed
    assert made == {path: path.stat().st_mtime_ns for path in made}

    config.write_text(json.dumps(small | {"max_steps": 3}))
    with pytest.raises(InputError, match=r"seed_0 is another run \(max_steps 2 there, 3 now\)"):
        reinforcement.main(args)
    config.write_text(json.dumps(small | {"pass_samples": 3}))  # which changes nothing of a run
    shutil.rmtree(sources[1])
    reinforcement.main(args)
