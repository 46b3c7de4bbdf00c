"""Tasks read from files, and `python -m evals.chat` as a command: table, file, processes, mistakes."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from evals.chat.__main__ import ChatEvalArguments, evaluate
from evals.chat.tasks import PRIMER_TASKS, open_task
from evals.tokenizer.samples import DOMAINS
from recipes.convert.__main__ import ConvertArguments, convert, save
from recipes.data.messages import assistant, render_multiple_choice
from recipes.utils.arguments import parse_arguments
from recipes.utils.errors import InputError
from tests.evals.chains import chain_model
from tests.evals.chat_files import write_chat_files, write_rows
from tests.modeling_nanochat.tiny import random_model
from tests.recipes.originals import make_encoding, write_original
from tokenizer.special_tokens import ASSISTANT_END, ASSISTANT_START

ROOT = Path(__file__).parents[2]


# The tasks


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Five questions of each in the layout of the Hub."""
    return write_chat_files(tmp_path_factory.mktemp("hub"))


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


NANOCHAT_ASKS = """\
Multiple Choice question: {question}
- w={0}
- x={1}
- y={2}
- z={3}

Respond only with the letter of the correct answer."""


def test_nanochats_words_are_its_own_and_keep_the_labels_of_the_data(files):
    mmlu = {p.messages[0]["content"]: p for p in open_task(f"mmlu:{files / 'mmlu'}", wording="nanochat").problems}
    assert mmlu.keys() == {NANOCHAT_ASKS.format(*"ABCD", question=f"{n}?") for n in range(5)}
    arc = {p.messages[0]["content"]: p for p in open_task(f"arc_easy:{files / 'arc'}", wording="nanochat").problems}
    numbered = arc[NANOCHAT_ASKS.format(*"1234", question="2?")]
    assert (list(numbered.letters), numbered.answer) == ([*"1234"], "2")


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
        assert not problem.is_right("") and problem.is_right("I do not know.") == (name == "honesty")


@pytest.mark.parametrize("name", PRIMER_TASKS)
def test_an_exam_of_the_primer_has_as_many_questions_as_asked_for_the_usual_ones_among_them(name):
    usual, more, most = (
        {problem.messages[-1]["content"] for problem in open_task(spec).problems}
        for spec in (name, f"{name}:250", f"{name}:1000")
    )
    assert [len(usual), len(more), len(most)] == [200, 250, 1000] and usual < more < most
    assert len(open_task(f"{name}:250", max_problems=7).problems) == 7


@pytest.mark.parametrize("count", ["0", "1001", "-5", "many", "²"])
def test_a_number_of_questions_that_cannot_be_is_told(count):
    with pytest.raises(InputError, match=f"task facts:{count}: facts is generated.* say how many .*from 1 to 1,000"):
        open_task(f"facts:{count}")


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
    flexible = results["tasks"]["gsm8k_flexible"]
    assert (gsm8k["accuracy"], flexible["accuracy"]) == (0.0, 1 / 7), "a 4 without its mark"
    assert gsm8k["outcomes"] == {"wrong": 6, "right but unmarked": 1}
    assert "rows" in gsm8k and "rows" not in flexible
    assert any(line.split()[:4] == ["gsm8k_flexible", "generate", "7", "14.3"] for line in lines)
    assert len(results["notes"]) == 2 and set(results["notes"]) <= set(lines)
    assert "differs from nanochat's" in results["notes"][0] and "enters ChatCORE" in results["notes"][1]
    assert results["chat_core_partial"] == pytest.approx((mmlu["centered"] + gsm8k["centered"]) / 2)
    assert mmlu["outcomes"] == {"wrong": 4, "right": 1}
    row = next(row for row in mmlu["rows"] if row["messages"][0]["content"].startswith("1?"))
    assert (row["answer"], row["replies"], row["outcomes"]) == ("B", [[assistant("B")]], ["right"])
    assert any(line.split()[:4] == ["mmlu", "letters", "5", "20.0"] for line in lines)
    assert any(line.startswith(f"partial ChatCORE {results['chat_core_partial']:.4f} (2 of its 5") for line in lines)


WORDY = """{% for message in messages %}{{ message.role }}: {% if message.role == "assistant" %}It is {% endif %}\
{{ message.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"""


def test_a_task_that_fails_is_named_and_the_others_are_measured(tokenizer, chat_model, files, tmp_path, capsys):
    """With a chat template that begins every answer alike, letters cannot be compared."""
    shutil.copytree(chat_model, tmp_path / "model")
    (tmp_path / "model/chat_template.jinja").write_text(WORDY)
    flags = ["--model", tmp_path / "model", "--max_new_tokens", 4]
    run(*flags, "--tasks", f"mmlu:{files}/mmlu,gsm8k:{files}/gsm8k")
    said = capsys.readouterr().out
    assert "mmlu failed: " in said and "cannot be compared" in said
    results = json.loads((tmp_path / "model/evals/chat.json").read_text())
    assert list(results["failed"]) == ["mmlu"] and list(results["tasks"]) == ["gsm8k", "gsm8k_flexible"]
    with pytest.raises(InputError, match="no task could be measured"):
        run(*flags, "--tasks", f"mmlu:{files}/mmlu")


@pytest.mark.parametrize("to", ["ours", "nanochat"])
def test_a_converted_checkpoint_of_nanochats_is_asked_as_it_was_trained(to, files, tmp_path, capsys):
    write_original(tmp_path / "original", make_encoding([*DOMAINS.values()], 400), sequence_len=256)
    args = ConvertArguments(source=str(tmp_path / "original"), output_dir=str(tmp_path / "model"), to=to)
    save(*convert(args), tmp_path / "model", to)
    run("--model", tmp_path / "model", "--tasks", f"mmlu:{files}/mmlu,arc_easy:{files}/arc", "--save_replies", "true")
    results = json.loads((tmp_path / "model/evals/chat.json").read_text())
    asked = {row["messages"][0]["content"] for row in results["tasks"]["mmlu"]["rows"]}
    assert asked == {NANOCHAT_ASKS.format(*"ABCD", question=f"{n}?") for n in range(5)}
    assert "in nanochat's wording" in results["notes"][0] and results["notes"][0] in capsys.readouterr().out
    numbered = next(row for row in results["tasks"]["arc_easy"]["rows"] if row["answer"] == "2")
    assert numbered["replies"][0][0]["content"] in "1234"
    other = {"ours": "nanochat", "nanochat": "ours"}[to]
    _, tokenizer = convert(ConvertArguments(str(tmp_path / "model"), str(tmp_path / "other"), other))
    assert tokenizer.init_kwargs["multiple_choice"] == "nanochat"


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
    for task in ("gsm8k_flexible", "humaneval"):
        assert 0 < one["tasks"][task]["pass@1"] < one["tasks"][task]["pass@4"]
    assert set(one["tasks"]["humaneval"]["outcomes"]) == {"right", "failed"}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--tasks", "gsm8"], "unknown task 'gsm8': did you mean gsm8k?"),
        (["--tasks", "verse"], f"unknown task 'verse': known are {', '.join(PRIMER_TASKS)}"),
        (["--tasks", f"{PRIMER_TASKS[0]}:somewhere"], "not read from a file"),
        (["--tasks", "mmlu:nowhere"], "nowhere"),
        (["--tasks", "mmlu"], "the Hub is switched off"),
        (["--num_samples", "4"], "num_samples 4 at temperature 0"),
        (["--temperature", "-1"], "temperature must be at least 0, not -1.0"),
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
