"""Reinforcement as on GPUs: the gpu preset on GSM8K's own layout, resumed in the middle, then ChatCORE."""

import json
import signal
from pathlib import Path
from statistics import mean

import pytest

from evals.chat.__main__ import ChatEvalArguments, evaluate
from evals.chat.tasks import CHAT_CORE
from recipes.data.sources.gsm8k import render_gsm8k
from recipes.utils.arguments import parse_arguments
from recipes.utils.run_directory import read_metrics
from tests.evals.chat_files import chat_tasks, write_chat_files
from tests.recipes.inference.talker import learn_by_heart
from tests.recipes.processes import REPOSITORY, Running, flags, run

pytestmark = [pytest.mark.slow, pytest.mark.launch]

STORIES = (  # what is asked of two numbers, and how the answer begins
    ("Mia has {a} bags of {b} nuts. How many nuts?", "Mia has {a}*{b} = ", "nuts."),
    ("Each of {a} cats has {b} toys. How many toys?", "There are {a}*{b} = ", "toys."),
    ("Tom reads {b} pages a day. How many in {a} days?", "He reads {a}*{b} = ", "pages."),
)
NUMBERS = ((3, 4), (5, 6))
# In place of what suits eight GPUs and a large model. The steps are one pass over the problems, as in the preset.
SMALL = {"max_completion_length": 56, "pass_every": 5, "save_steps": 5, "bf16": "false"}


def row(story: tuple[str, str, str], a: int, b: int, operation: str = "*") -> dict[str, str]:
    """A problem in GSM8K's columns: `Mia has 3*4 = <<3*4=12>>12 nuts.`, and the mark; or wrongly with another sign."""
    question, begin, end = story
    value = a * b if operation == "*" else a + b
    begin = begin.replace("*", operation).format(a=a, b=b)
    answer = f"{begin}<<{a}{operation}{b}={value}>>{value} {end}\n#### {value}"
    return {"question": question.format(a=a, b=b), "answer": answer}


@pytest.fixture(scope="module")
def gsm8k(tmp_path_factory) -> Path:
    """Twenty problems to train on, six held out."""
    directory = tmp_path_factory.mktemp("gsm8k")
    rows = [row(story, a, b) for story in STORIES for a, b in NUMBERS]
    for split, count in (("train", 20), ("test", 6)):
        lines = [json.dumps(rows[number % len(rows)]) + "\n" for number in range(count)]
        (directory / f"{split}.jsonl").write_text("".join(lines))
    return directory


@pytest.fixture(scope="module")
def run_dir(tokenizer_dir, tmp_path_factory) -> Path:
    """A run whose SFT model answers these problems in GSM8K's form, half of the time with the wrong sign."""
    learnt = [render_gsm8k(row(story, a, b, sign)) for story in STORIES for a, b in NUMBERS for sign in "*+"]
    model, tokenizer = learn_by_heart(tokenizer_dir, learnt)
    directory = tmp_path_factory.mktemp("run")
    for part in (model, tokenizer):
        part.save_pretrained(directory / "sft")
    return directory


def records_with(key: str, output_dir: Path) -> list[dict]:
    return [record for record in read_metrics(output_dir / "metrics.jsonl") if key in record]


def test_the_gpu_preset_trains_on_gsm8k_resumes_and_its_model_gets_a_chat_core(run_dir, gsm8k, tmp_path):
    output_dir = run_dir / "grpo"  # beside which the preset's source, sft, is found
    argv = ["--config", str(REPOSITORY / "recipes/configs/grpo/gpu.yaml")]
    argv += flags({"problems": f"gsm8k:{gsm8k}", "output_dir": output_dir, **SMALL})
    attempt = Running(argv, script="grpo")
    attempt.wait_until(lambda: len(records_with("train/reward", output_dir)) >= 6)
    assert attempt.kill() == [-signal.SIGKILL]
    before = [record for record in records_with("train/reward", output_dir) if record["step"] <= 5]
    end = run(argv, script="grpo")
    assert end.code == 0, end.stderr

    steps = records_with("train/reward", output_dir)
    assert [record["step"] for record in steps] == [*range(1, 11)]
    assert steps[:5] == before, "with the same times: they were not made again"
    assert 0.2 < mean(record["train/reward"] for record in steps) < 1, "right by chance"
    assert mean(record["train/tools/call_frequency"] for record in steps) > 0.5
    measured = records_with("val/pass@8", output_dir)
    assert [record["step"] for record in measured] == [0, 5, 10]
    assert all(0 < record["val/pass@1"] < record["val/pass@8"] for record in measured)
    assert "6 held-out problems, 8 sampled replies each" in end.stdout and (output_dir / "pass_at_k.png").exists()

    tasks = chat_tasks(write_chat_files(tmp_path)) | {"gsm8k": f"gsm8k:{gsm8k}"}
    asked = flags({"model": output_dir, "tasks": ",".join(tasks.values())})
    evaluate(parse_arguments(ChatEvalArguments, argv=asked))
    results = json.loads((output_dir / "evals" / "chat.json").read_text())
    assert not results["failed"] and results["tasks"]["gsm8k"]["count"] == 6
    strict, flexible = (results["tasks"][name]["accuracy"] for name in ("gsm8k", "gsm8k_flexible"))
    assert 0 < strict <= flexible, "a reward for the number alone may cost marks"
    assert results["chat_core"] == pytest.approx(mean(results["tasks"][name]["centered"] for name in CHAT_CORE))
