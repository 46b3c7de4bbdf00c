"""Chat models are examined fairly: the figures are those of a slow reference, in batches and by several processes."""

import dataclasses
import itertools
import os
import random
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from statistics import fmean, stdev

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from evals.chat.__main__ import core_line
from evals.chat.evaluate import TaskResult, chat_core, estimate_pass_at_k, evaluate_task
from evals.chat.letters import choose_letters, letter_ids
from evals.chat.tasks import CHAT_CORE, RIGHT, UNMARKED, WRONG, Task, grade_gsm8k, notes_on, number_problem
from recipes.data.messages import WORDINGS
from recipes.inference.generate import Sampling
from tests.evals.chains import always, chain_model, choice_task, number_task, said
from tests.modeling_nanochat.tiny import random_ids, random_model
from tests.recipes.processes import free_port
from tokenizer.chat import encode_prompt
from tokenizer.special_tokens import ASSISTANT_END, ASSISTANT_START, OUTPUT_END, PYTHON_END, PYTHON_START

ROOT = Path(__file__).parents[2]
CALCULATES = [(ASSISTANT_START, PYTHON_START, "6", "*", "7", PYTHON_END), (OUTPUT_END, "4", ASSISTANT_END)]


# Letters


@pytest.mark.parametrize("name", ["nanochat", "gpt2"])
def test_letters_in_a_batch_are_those_found_one_by_one(name, tokenizer):
    torch.manual_seed(0)
    if name == "nanochat":
        model = random_model(vocab_size=len(tokenizer))
    else:
        sizes = {"vocab_size": len(tokenizer), "n_embd": 32, "n_layer": 2, "n_head": 2}
        model = GPT2LMHeadModel(GPT2Config(**sizes, initializer_range=0.5, bos_token_id=0, eos_token_id=0)).eval()
    draw = random.Random(0)
    prompts = [random_ids(draw.randint(1, 60), seed=seed, vocab_size=290).tolist() for seed in range(40)]
    ids = letter_ids(tokenizer, "ABCD")
    expected = []
    for prompt in prompts:
        with torch.no_grad():
            logits = model(torch.tensor([prompt])).logits[0, -1]
        expected.append("ABCD"[logits[list(ids.values())].argmax()])
    assert set(expected) == set("ABCD")
    assert choose_letters(model, tokenizer, prompts, ["ABCD"] * len(prompts)) == expected


@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_each_problem_gets_its_own_letter_among_those_on_offer(batch_size, tokenizer):
    problems = choice_task(10).problems
    offered = list(itertools.combinations("ABCDE", 3))
    problems = [dataclasses.replace(problem, letters=each) for problem, each in zip(problems, offered, strict=True)]
    task = Task("t", "letters", 0.25, problems)
    result = evaluate_task(always(tokenizer, "C"), tokenizer, task, batch_size=batch_size)
    assert said(result) == [["C" if "C" in letters else letters[0]] for letters in offered]


def test_a_letter_is_the_token_that_the_assistant_would_write(tokenizer):
    assert letter_ids(tokenizer, "ABCDE") == {letter: tokenizer.convert_tokens_to_ids(letter) for letter in "ABCDE"}


def test_a_model_that_always_says_b_gets_all_right_or_all_wrong(tokenizer):
    model = always(tokenizer, "B")
    right, wrong = (evaluate_task(model, tokenizer, choice_task(9, answer=answer), batch_size=4) for answer in "BC")
    assert (right.accuracy, right.centered) == (1.0, 1.0)
    assert (wrong.accuracy, wrong.centered) == (0.0, pytest.approx(-1 / 3))
    assert said(wrong) == [["B"]] * 9


# Generated answers


def test_generated_answers_are_graded_by_their_number(tokenizer):
    model = chain_model(tokenizer, (ASSISTANT_START, "4", ".", ASSISTANT_END))
    result = evaluate_task(model, tokenizer, number_task("4", "5", "4.00", "44"), batch_size=3)
    assert result.verdicts == [[True], [False], [True], [False]]
    assert said(result) == [["4."]] * 4
    assert result.accuracy == 0.5
    assert result.standard_error() == pytest.approx((0.25 / 3) ** 0.5), "of two right and two wrong"


def test_the_calculator_is_called_and_the_answer_is_what_comes_after(tokenizer):
    model = chain_model(tokenizer, *CALCULATES)
    result = evaluate_task(model, tokenizer, number_task("4", "42"))
    call, output, last = result.replies[0][0]
    assert call["tool_calls"][0]["function"]["arguments"] == {"expression": "6*7"} and output["content"] == "42"
    assert last == {"role": "assistant", "content": "4"}
    assert result.verdicts == [[True], [False]]


@pytest.mark.slow
def test_sampled_answers_give_pass_at_k(tokenizer):
    model = chain_model(tokenizer, (ASSISTANT_START, "4", ASSISTANT_END), (ASSISTANT_START, "5", ASSISTANT_END))
    sampling = Sampling(max_new_tokens=4, temperature=1.0, top_k=2)
    result = evaluate_task(model, tokenizer, number_task(*"4545"), sampling, num_samples=50, batch_size=16)
    assert all(set(each) == {"4", "5"} and len(each) == 50 for each in said(result))
    assert result.accuracy == pytest.approx(result.pass_at(1))
    assert 0.3 < result.pass_at(1) < 0.7 and result.pass_at(8) > 0.95
    again = evaluate_task(model, tokenizer, number_task(*"4545"), sampling, num_samples=50, batch_size=16)
    assert again.replies == result.replies


@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_pass_at_k_is_the_share_of_k_samples_with_a_right_one(n):
    for c, k in itertools.product(range(n + 1), range(1, n + 1)):
        subsets = list(itertools.combinations([True] * c + [False] * (n - c), k))
        expected = Fraction(sum(map(any, subsets)), len(subsets))
        assert estimate_pass_at_k(n, c, k) == pytest.approx(float(expected))


def test_the_standard_error_of_pass_at_k_is_that_of_the_problems_estimates():
    outcomes = [[RIGHT] * right + [WRONG] * (4 - right) for right in (0, 1, 2, 4)]
    problems = [number_problem("?", "4")] * 4
    result = TaskResult("t", "generate", 0.0, outcomes, 0, 1.0, problems=problems, replies=[])
    for k, estimates in ((1, [0, 1 / 4, 1 / 2, 1]), (2, [0, 1 / 2, 5 / 6, 1]), (4, [0, 1, 1, 1])):
        assert result.pass_at(k) == pytest.approx(fmean(estimates))
        assert result.standard_error(k) == pytest.approx(stdev(estimates) / 2)
    assert dataclasses.replace(result, outcomes=outcomes[:1], problems=problems[:1]).standard_error(2) is None


def test_problems_that_are_told_in_the_same_words_are_a_cluster_of_the_standard_error():
    kinds = ["one"] * 3 + ["another"] * 3
    outcomes = [[RIGHT]] * 3 + [[WRONG]] * 3
    problems = [number_problem("?", "4", alike=kind) for kind in kinds]
    result = TaskResult("t", "generate", 0.0, outcomes, 0, 1.0, problems=problems, replies=[])
    assert result.standard_error() == pytest.approx(0.5), "of a kind that is solved and one that is not"
    by_itself = [dataclasses.replace(problem, alike="") for problem in problems]
    assert dataclasses.replace(result, problems=by_itself).standard_error() == pytest.approx((0.3 / 6) ** 0.5)
    assert result.flexible().standard_error() == result.standard_error()


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("20-5=15, so there are 1500 / 15 pens.\n#### 1,500", True),
        ("#### $1500.00", True),
        ("Each gets 1500 dollars.", True),
        ("1500 - 0 = 1500. The answer is 1500.", True),
        ("#### 1500, not 15", True),
        ("#### 15\nno, #### 1500", True),
        ("1500 #### 15", False),
        ("#### -1500", False),
        ("The answer is 15.", False),
        ("fifteen hundred", False),
        ("", False),
    ],
)
def test_the_final_number_of_a_reply_counts_and_is_compared_as_a_number(reply, right):
    assert number_problem("?", "1500").is_right(reply) is right


def nanochat_counts(reply, answer):
    """As tasks/gsm8k.py of karpathy/nanochat does."""
    found = re.search(r"#### (\-?[0-9\.\,]+)", reply)
    return found is not None and found.group(1).strip().replace(",", "") == answer


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        ("So 1500.\n#### 1500", RIGHT),
        ("#### 1,500 dollars", RIGHT),
        ("#### 1500\n#### 15", RIGHT),  # the first
        ("#### 15\n#### 1500", UNMARKED),
        ("#### 1500.00", UNMARKED),
        ("#### 1500.", UNMARKED),
        ("#### $1500", UNMARKED),
        ("####1500", UNMARKED),
        ("Each gets 1500.", UNMARKED),
        ("#### -1500", WRONG),
        ("1500 #### 15", WRONG),
        ("", WRONG),
    ],
)
def test_gsm8k_counts_strictly_as_nanochat_does_and_flexibly_by_the_last_number(reply, outcome):
    assert grade_gsm8k("1500", reply) == outcome
    assert nanochat_counts(reply, "1500") is (outcome == RIGHT)
    assert number_problem("?", "1500").is_right(reply) or outcome != UNMARKED


def test_the_flexible_figure_counts_what_the_strict_one_does_and_the_unmarked():
    outcomes = [[RIGHT, WRONG], [UNMARKED, WRONG], [WRONG, WRONG], [RIGHT, UNMARKED]]
    strict = TaskResult("gsm8k", "generate", 0.0, outcomes, 0, 1.0, [], [])
    assert (strict.accuracy, strict.flexible().accuracy) == (2 / 8, 4 / 8)
    assert (strict.pass_at(2), strict.flexible().pass_at(2)) == (0.5, 0.75)
    assert chat_core([strict, strict.flexible()]) == {"chat_core_partial": strict.centered}


@pytest.mark.parametrize(
    ("tasks", "told"),
    [
        (CHAT_CORE, ["ARC and MMLU", "GSM8K counts", "HumanEval also", "ChatCORE is the mean over these five"]),
        (["mmlu"], ["ARC and MMLU"]),
        (["gsm8k", "gsm8k_flexible", "facts"], ["GSM8K counts"]),
        (["facts"], []),
    ],
)
def test_how_figures_compare_is_said_of_those_there_are(tasks, told):
    for wording in WORDINGS:
        notes = notes_on(tasks, wording)
        assert len(notes) == len(told) and all(map(str.startswith, notes, told))


# What surrounds the answers


@pytest.mark.parametrize("kind", ["generate", "letters"])
def test_what_exceeds_the_context_is_wrong_and_told_once(kind, tokenizer, caplog):
    model = always(tokenizer, "B")
    task = dataclasses.replace(choice_task(6, answer="B"), kind=kind)
    lengths = sorted(len(encode_prompt(tokenizer, problem.messages)) for problem in task.problems)
    model.config.max_position_embeddings = lengths[3]  # a letter needs no room, a reply does
    result = evaluate_task(model, tokenizer, task)
    fitting = sum(length <= lengths[3] - (kind == "generate") for length in lengths)
    assert (result.count, result.too_long, result.accuracy) == (6, 6 - fitting, fitting / 6)
    assert sum(f"{6 - fitting} of 6 problems exceed" in message for message in caplog.messages) == 1


@pytest.mark.parametrize("training", [True, False])
def test_the_model_keeps_its_mode(training, tokenizer):
    model = always(tokenizer, "B").train(training)
    for task in (choice_task(2), number_task("4")):
        assert evaluate_task(model, tokenizer, task).task == task.name
        assert model.training == training


BROKEN = """
import dataclasses, os, sys
from accelerate import PartialState
from evals.chat.evaluate import evaluate_task
from tests.evals.chains import always, choice_task
from evals.tokenizer.samples import DOMAINS
from tokenizer.bpe import train_tokenizer
state, task = PartialState(cpu=True), choice_task(9)
if state.process_index == 1:
    task = dataclasses.replace(task, problems=[dataclasses.replace(p, letters=None) for p in task.problems])
tokenizer = train_tokenizer([text[:400] for text in DOMAINS.values()], vocab_size=300)
try:
    evaluate_task(always(tokenizer, "B"), tokenizer, task, batch_size=2)
except Exception as error:
    print(error)
state.destroy_process_group()
"""


@pytest.mark.slow
def test_a_failure_on_one_process_ends_the_task_on_all():
    together = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    environments = [os.environ | together | {"RANK": rank, "LOCAL_RANK": rank} for rank in "01"]
    options = {"cwd": ROOT, "text": True, "stdout": subprocess.PIPE}
    processes = [subprocess.Popen([sys.executable, "-c", BROKEN], env=each, **options) for each in environments]
    try:
        said = [process.communicate(timeout=200)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert said == ["mmlu: it failed on another process\n", "'NoneType' object is not iterable\n"]


def test_chat_core_is_the_mean_of_centered_accuracies_and_partial_where_tasks_are_missing():
    def result(task, baseline, right, count=4):
        outcomes = [["right" if index < right else "wrong"] for index in range(count)]
        return TaskResult(task, "generate", baseline, outcomes, 0, 1.0, [], [])

    baselines = dict(zip(CHAT_CORE, (0.25, 0.25, 0.25, 0.0, 0.0), strict=True))
    results = [result("facts", 0.0, 4), *(result(name, base, 2) for name, base in baselines.items())]
    assert chat_core(results) == {"chat_core": pytest.approx((3 * (1 / 3) + 2 * 0.5) / 5)}
    assert core_line(results) == "ChatCORE 0.4000"
    assert chat_core(results[3:5]) == {"chat_core_partial": pytest.approx((1 / 3 + 1 / 2) / 2)}
    without = "arc_easy, arc_challenge, humaneval"
    assert core_line(results[3:5]) == f"partial ChatCORE 0.4167 (2 of its 5 tasks, without {without})"
    assert (chat_core(results[:1]), core_line(results[:1])) == ({}, "")
