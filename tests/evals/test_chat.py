"""Chat models are examined fairly: the figures are those of a slow reference, in batches and by several processes."""

import dataclasses
import itertools
import json
import os
import random
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from evals.chat.__main__ import ChatEvalArguments, core_line, evaluate
from evals.chat.evaluate import TaskResult, chat_core, estimate_pass_at_k, evaluate_task
from evals.chat.letters import choose_letters, letter_ids
from evals.chat.tasks import CHAT_CORE, PRIMER_TASKS, Task, number_problem, open_task
from recipes.arguments import parse_arguments
from recipes.data.messages import assistant, render_multiple_choice
from recipes.errors import InputError
from recipes.inference.generate import Sampling
from tests.evals.chains import always, chain_model, choice_task, number_task, said
from tests.modeling_nanochat.tiny import random_ids, random_model
from tests.recipes.processes import free_port
from tokenizer.chat import encode_prompt
from tokenizer.samples import DOMAINS
from tokenizer.special_tokens import ASSISTANT_END, ASSISTANT_START, OUTPUT_END, PYTHON_END, PYTHON_START
from tokenizer.train import train_tokenizer

ROOT = Path(__file__).parents[2]
CALCULATES = [(ASSISTANT_START, PYTHON_START, "6", "*", "7", PYTHON_END), (OUTPUT_END, "4", ASSISTANT_END)]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([text[:400] for text in DOMAINS.values()], vocab_size=300)


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


def test_the_calculator_is_called_and_the_answer_is_what_comes_after(tokenizer):
    model = chain_model(tokenizer, *CALCULATES)
    result = evaluate_task(model, tokenizer, number_task("4", "42"))
    call, output, last = result.replies[0][0]
    assert call["tool_calls"][0]["function"]["arguments"] == {"expression": "6*7"} and output["content"] == "42"
    assert last == {"role": "assistant", "content": "4"}
    assert result.verdicts == [[True], [False]]


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
from tokenizer.samples import DOMAINS
from tokenizer.train import train_tokenizer
state, task = PartialState(cpu=True), choice_task(9)
if state.process_index == 1:
    task = dataclasses.replace(task, problems=[dataclasses.replace(p, grade=None) for p in task.problems])
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
    assert said == ["mmlu: it failed on another process\n", "'NoneType' object is not callable\n"]


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


# The tasks


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Five questions of each in the layout of the Hub."""
    root = tmp_path_factory.mktemp("hub")
    mmlu = [{"question": f"{n}?", "subject": "s", "choices": [*"wxyz"], "answer": n % 4} for n in range(5)]
    write_rows(root / "mmlu/all/test-00000-of-00001.parquet", mmlu)
    for config in ("ARC-Easy", "ARC-Challenge"):
        arc = [
            {"id": "a", "question": "1?", "choices": {"text": [*"wxyz"], "label": [*"ABCD"]}, "answerKey": "D"},
            {"id": "b", "question": "2?", "choices": {"text": [*"wxyz"], "label": [*"1234"]}, "answerKey": "2"},
            {"id": "c", "question": "3?", "choices": {"text": [*"wxy"], "label": [*"ABC"]}, "answerKey": "A"},
            {"id": "d", "question": "4?", "choices": {"text": [*"vwxyz"], "label": [*"ABCDE"]}, "answerKey": "E"},
        ]
        write_rows(root / f"arc/{config}/test-00000-of-00001.parquet", arc)
    gsm8k = [{"question": f"{n} * 2?", "answer": f"<<{n}*2={2 * n}>>\n#### {2 * n}"} for n in range(1, 8)]
    (root / "gsm8k").mkdir()
    (root / "gsm8k/test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in gsm8k))
    check = "def check(candidate):\n    assert candidate() is None\n"  # passed by the body 4, not by B
    head = {"canonical_solution": "    4\n", "test": check, "entry_point": "f"}
    programs = [head | {"prompt": f'def f():\n    """{n}"""\n'} for n in range(3)]
    (root / "HumanEval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in programs))
    return root


def test_arc_is_read_from_files_with_its_letters_and_answers(files):
    for name in ("arc_easy", "arc_challenge"):
        task = open_task(f"{name}:{files / 'arc'}")
        assert (task.name, task.kind, task.baseline) == (name, "letters", 0.25)
        found = {problem.messages[0]["content"][:2]: (problem.letters, problem.answer) for problem in task.problems}
        assert found == {"1?": ("ABCD", "D"), "2?": ("ABCD", "B"), "3?": ("ABC", "A"), "4?": ("ABCDE", "E")}


def test_mmlu_is_read_from_files_as_the_conversations_to_train_on_put_it(files):
    task = open_task(f"mmlu:{files / 'mmlu'}")
    found = {problem.messages[0]["content"]: problem.answer for problem in task.problems}
    assert found == {render_multiple_choice(f"{n}?", "wxyz"): "ABCD"[n % 4] for n in range(5)}
    for problem in task.problems:
        assert [letter for letter in "ABCD" if problem.is_right(letter)] == [problem.answer]


def test_gsm8k_is_read_from_files_with_its_final_number(files):
    task = open_task(f"gsm8k:{files / 'gsm8k'}")
    assert (task.kind, task.baseline) == ("generate", 0.0)
    assert {problem.messages[0]["content"]: problem.answer for problem in task.problems} == {
        f"{n} * 2?": str(2 * n) for n in range(1, 8)
    }


def test_a_row_without_an_answer_is_named(files, tmp_path):
    (tmp_path / "test.jsonl").write_text(json.dumps({"question": "?", "answer": "no number"}) + "\n")
    with pytest.raises(InputError, match="test row 0: the answer does not end with #### and a number"):
        open_task(f"gsm8k:{tmp_path}")
    choices = {"text": ["x", "y"], "label": ["A", "B"]}
    write_rows(tmp_path / "ARC-Easy/test.parquet", [{"question": "?", "choices": choices, "answerKey": "C"}])
    with pytest.raises(InputError, match="arc_easy, test row 0: the answer 'C'"):
        open_task(f"arc_easy:{tmp_path}")


def test_max_problems_takes_the_first_rows_of_a_fixed_shuffle(files):
    rows = [f"{n} * 2?" for n in range(1, 8)]
    random.Random(1337).shuffle(rows)
    task = open_task(f"gsm8k:{files / 'gsm8k'}", max_problems=3)
    assert [problem.messages[0]["content"] for problem in task.problems] == rows[:3]


@pytest.mark.parametrize("name", PRIMER_TASKS)
def test_an_exam_of_the_primer_accepts_its_own_answers_and_no_others(name):
    task = open_task(name, max_problems=20)
    assert len(task.problems) == 20
    asked, again = ([p.messages for p in open_task(name, max_problems=count).problems] for count in (20, 30))
    assert asked == again[:20], "always the same"
    assert (task.kind, task.baseline) == ("generate", 0.25 if name == "choice" else 0.0)
    for problem in task.problems:
        assert problem.messages[-1]["role"] == "user"
        assert problem.is_right(problem.answer)
        assert not problem.is_right("") and not problem.is_right("I do not know.")


# The command


@pytest.fixture(scope="module")
def chat_model(tokenizer, tmp_path_factory):
    """A model's directory: it answers B or 4, one as likely as the other."""
    directory = tmp_path_factory.mktemp("model")
    chains = [(ASSISTANT_START, letter, ASSISTANT_END) for letter in "B4"]
    chain_model(tokenizer, *chains).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def run(*flags):
    evaluate(parse_arguments(ChatEvalArguments, argv=[str(flag) for flag in flags]))


def test_the_command_prints_a_table_and_writes_json(chat_model, files, capsys):
    run("--model", chat_model, "--tasks", f"mmlu:{files}/mmlu, gsm8k:{files}/gsm8k", "--save_replies", "true")
    lines = capsys.readouterr().out.splitlines()
    results = json.loads((chat_model / "evals/chat.json").read_text())
    mmlu, gsm8k = results["tasks"]["mmlu"], results["tasks"]["gsm8k"]
    assert (mmlu["count"], mmlu["accuracy"], mmlu["baseline"]) == (5, 0.2, 0.25)  # one answer is B
    assert mmlu["centered"] == pytest.approx(-0.05 / 0.75)
    assert [gsm8k[key] for key in ("count", "baseline", "too_long")] == [7, 0.0, 0]
    assert results["chat_core_partial"] == pytest.approx((mmlu["centered"] + gsm8k["centered"]) / 2)
    assert mmlu["outcomes"] == {"wrong": 4, "right": 1}
    row = next(row for row in mmlu["rows"] if row["messages"][0]["content"].startswith("1?"))
    assert (row["answer"], row["replies"], row["outcomes"]) == ("B", [[assistant("B")]], ["right"])
    assert any(line.split()[:4] == ["mmlu", "letters", "5", "20.0"] for line in lines)
    assert any(line.startswith(f"partial ChatCORE {results['chat_core_partial']:.4f} (2 of its 5") for line in lines)


def test_replies_are_kept_only_where_asked_for(chat_model, files, tmp_path):
    run("--model", chat_model, "--tasks", f"gsm8k:{files}/gsm8k", "--output", tmp_path / "new/here.json")
    results = json.loads((tmp_path / "new/here.json").read_text())
    assert "rows" not in results["tasks"]["gsm8k"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["here.json"]


@pytest.mark.slow
def test_two_processes_give_the_figures_of_one(chat_model, files, tmp_path):
    tasks = f"mmlu:{files}/mmlu,gsm8k:{files}/gsm8k,humaneval:{files}/HumanEval.jsonl"
    flags = ["--model", chat_model, "--tasks", tasks, "--batch_size", 3, "--save_replies", "true"]
    flags += ["--num_samples", 4, "--temperature", 1.0, "--max_new_tokens", 4, "--output"]
    run(*flags, tmp_path / "one.json")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", 2, "--main_process_port", 0]
    launch += ["--config_file", ROOT / "accelerate_configs/cpu.yaml", "-m", "evals.chat"]
    command = [str(word) for word in (*launch, *flags, tmp_path / "two.json")]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    end = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert end.returncode == 0, end.stderr
    assert end.stdout.count("partial ChatCORE") == 1, "only the main process speaks"
    one, two = (json.loads((tmp_path / name).read_text()) for name in ("one.json", "two.json"))
    for results in (one, two):
        del results["arguments"]["output"], results["command"]
        for figures in results["tasks"].values():
            del figures["seconds"]
    assert one == two
    for task in ("gsm8k", "humaneval"):
        assert 0 < one["tasks"][task]["pass@1"] < one["tasks"][task]["pass@4"]
    assert set(one["tasks"]["humaneval"]["outcomes"]) == {"right", "failed"}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--tasks", "gsm8"], "unknown task 'gsm8': did you mean gsm8k?"),
        (["--tasks", "poetry"], f"unknown task 'poetry': known are {', '.join(PRIMER_TASKS)}"),
        (["--tasks", f"{PRIMER_TASKS[0]}:somewhere"], "read from no file"),
        (["--tasks", "mmlu:nowhere"], "nowhere"),
        (["--tasks", "mmlu"], "the Hub is switched off"),
        (["--num_samples", "4"], "num_samples 4 at temperature 0"),
        (["--temperature", "-1"], "temperature must be 0 (greedy) or more"),
        (["--batch_size", "0"], "batch_size must be at least 1, not 0"),
        (["--model", "no/such/model"], "no/such/model: no such directory"),
        (["--output", "/dev/null/chat.json"], "cannot write to /dev/null/chat.json"),
    ],
)
def test_mistakes_are_told_in_one_line(chat_model, flags, expected):
    with pytest.raises(InputError) as complaint:
        run("--model", chat_model, *flags)
    assert expected in str(complaint.value) and "\n" not in str(complaint.value)


def test_a_model_without_a_chat_template_is_told_as_such(tokenizer, chat_model, tmp_path):
    random_model(vocab_size=len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match="has no chat template"):
        run("--model", tmp_path)
