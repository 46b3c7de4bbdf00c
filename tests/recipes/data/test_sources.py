import json
import re
import string
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recipes.data.conversations import open_conversations
from recipes.data.messages import assistant, calculator_call, check_messages, user
from recipes.data.sources import SOURCES
from recipes.data.sources.gsm8k import ANNOTATION, GSM8K, gsm8k_answer, gsm8k_problems, render_gsm8k
from recipes.utils.calculator import calculator
from recipes.utils.errors import InputError

SHARED = Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def write_parquet(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def write_jsonl(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def talks_of(spec, split="train"):
    return sorted((row["messages"] for row in open_conversations(spec, split)), key=str)


# Local files in the layout of the Hub


def test_mmlu_trains_on_its_auxiliary_set_and_is_answered_by_a_letter(tmp_path):
    row = {"question": "Which is red?", "subject": "", "choices": ["grass", "snow", "blood", "coal"], "answer": 2}
    write_parquet(tmp_path / "all/auxiliary_train-00000-of-00002.parquet", [row])
    write_parquet(tmp_path / "all/auxiliary_train-00001-of-00002.parquet", [row | {"question": "Red is?"}])
    write_parquet(tmp_path / "all/test-00000-of-00001.parquet", [row | {"answer": 0}])
    train, test = talks_of(f"mmlu:{tmp_path}"), talks_of(f"mmlu:{tmp_path}", "test")
    asked = "Which is red?\n- grass=A\n- snow=B\n- blood=C\n- coal=D\nRespond only with the letter."
    assert [user(asked), assistant("C")] in train and len(train) == 2
    assert test == [[user(asked), assistant("A")]]


def test_exams_to_train_on_are_put_in_the_words_of_the_models_chat_format(tmp_path):
    write_parquet(
        tmp_path / "train.parquet",
        [{"question": "?", "choices": {"text": ["a", "b"], "label": ["1", "2"]}, "answerKey": "2"}],
    )
    write_parquet(tmp_path / "auxiliary_train.parquet", [MMLU_ROW])
    (tmp_path / "mix.yaml").write_text(f"[{{source: 'mmlu:{tmp_path}'}}, {{source: 'arc_easy:{tmp_path}'}}]")
    asked = "Multiple Choice question: ?\n- a={}\n- b={}\n\nRespond only with the letter of the correct answer."
    for _ in range(2):  # neither is taken for the other out of the cache
        talks = [row["messages"] for row in open_conversations(str(tmp_path / "mix.yaml"), wording="nanochat")]
        assert sorted(talks, key=str) == [
            [user(asked.format(*letters)), assistant(letters[1])] for letters in ("12", "AB")
        ]
        talks = [row["messages"] for row in open_conversations(str(tmp_path / "mix.yaml"))]
        assert talks == [[user("?\n- a=A\n- b=B\nRespond only with the letter."), assistant("B")]] * 2


@pytest.mark.parametrize("labels", ["ABC", "123"])
def test_arc_is_answered_by_a_letter_however_its_choices_are_labelled(tmp_path, labels):
    choices = {"text": ["snow", "blood", "coal"], "label": list(labels)}
    row = {"id": "1", "question": "Which is red?", "choices": choices, "answerKey": labels[1]}
    write_parquet(tmp_path / "ARC-Easy/train-00000-of-00001.parquet", [row])
    write_parquet(tmp_path / "ARC-Challenge/validation-00000-of-00001.parquet", [row])
    (easy,), (challenge,) = talks_of(f"arc_easy:{tmp_path}"), talks_of(f"arc_challenge:{tmp_path}", "validation")
    assert easy == challenge
    assert easy[0]["content"].endswith("- snow=A\n- blood=B\n- coal=C\nRespond only with the letter.")
    assert easy[1]["content"] == "B"


@pytest.mark.parametrize("folder", ["", "data"])
def test_smoltalk_comes_as_it_is_with_its_test_split_held_out(tmp_path, folder):
    talk = [{"role": "system", "content": "Be brief."}, user("Hi"), assistant("Hello"), user("Bye"), assistant("Bye")]
    write_parquet(tmp_path / folder / "train-00000-of-00001.parquet", [{"messages": talk, "source": "x"}] * 3)
    write_parquet(tmp_path / folder / "test-00000-of-00001.parquet", [{"messages": talk[1:], "source": "x"}])
    assert talks_of(f"smoltalk:{tmp_path}") == [talk] * 3
    assert talks_of(f"smoltalk:{tmp_path}", "validation") == [talk[1:]]


def test_gsm8k_opens_in_the_layouts_of_the_hub_and_of_github(tmp_path):
    row = {"question": "1 + 1?", "answer": "1+1=<<1+1=2>>2\n#### 2"}
    write_parquet(tmp_path / "hub/main/train-00000-of-00001.parquet", [row])
    write_jsonl(tmp_path / "github/train.jsonl", [row])
    assert talks_of(f"gsm8k:{tmp_path}/hub") == talks_of(f"gsm8k:{tmp_path}/github") == [render_gsm8k(row)]


def test_a_file_that_was_rewritten_is_read_anew(tmp_path):
    for number in range(2):
        write_jsonl(tmp_path / "train.jsonl", [{"question": f"{number}?", "answer": "#### 1"}])
        assert talks_of(f"gsm8k:{tmp_path}")[0][0]["content"] == f"{number}?"


def test_rows_that_are_rendered_differently_are_not_taken_from_the_cache(tmp_path):
    def briefly(row):
        return [user("?"), assistant(row["answer"])]

    write_jsonl(tmp_path / "train.jsonl", [{"question": "1 + 1?", "answer": "2"}])
    first, second, again = (
        GSM8K.conversations(str(tmp_path), "train", render)[0]["messages"][0]["content"]
        for render in (render_gsm8k, briefly, render_gsm8k)
    )
    assert (first, second, again) == ("1 + 1?", "?", "1 + 1?")


def test_humaneval_is_completed_and_cannot_be_trained_on(tmp_path):
    row = {"task_id": "0", "prompt": "def one():\n", "canonical_solution": "    return 1\n", "test": ""}
    write_parquet(tmp_path / "openai_humaneval/test-00000-of-00001.parquet", [row])
    ((asked, answer),) = talks_of(f"humaneval:{tmp_path}", "test")
    assert asked["content"].endswith("def one():\n") and answer["content"] == "    return 1\n"
    with pytest.raises(InputError, match="humaneval has no split 'train'; its splits are test."):
        open_conversations(f"humaneval:{tmp_path}")


MMLU_ROW = {"question": "?", "choices": ["a", "b"], "answer": 1}


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([{"question": "?", "choices": ["a"]}], "no column 'answer'; the columns there are question, choices."),
        ([MMLU_ROW | {"question": 5}], "column 'question' holds integers, not text"),
        ([MMLU_ROW | {"choices": "ab"}], "column 'choices' holds text, not lists"),
        ([MMLU_ROW, MMLU_ROW | {"question": None}], "column 'question' is null in 1 of 2 rows"),
        ([MMLU_ROW, MMLU_ROW | {"answer": 2}], "train row 1: the answer 2 is none of the 2 choices"),
    ],
)
def test_rows_that_are_not_as_they_should_be_are_told(tmp_path, rows, complaint):
    write_parquet(tmp_path / "auxiliary_train.parquet", rows)
    with pytest.raises(InputError) as error:
        open_conversations(f"mmlu:{tmp_path}")
    assert str(error.value).startswith(str(tmp_path)) and complaint in str(error.value)


def test_an_unsound_row_is_told_by_dataset_and_number(tmp_path):
    good = [user("a"), assistant("b")]
    write_parquet(tmp_path / "train.parquet", [{"messages": talk} for talk in (good, good, [*good, *good[1:]])])
    with pytest.raises(InputError, match="train row 2: message 3 has role 'assistant' where 'user' is expected"):
        open_conversations(f"smoltalk:{tmp_path}")


def test_damaged_and_missing_files_are_told(tmp_path):
    with pytest.raises(InputError, match="gsm8k: no file of split train in .*: looked for train-"):
        open_conversations(f"gsm8k:{tmp_path}")
    (tmp_path / "train.parquet").write_bytes(b"PAR1 this is none")
    with pytest.raises(InputError, match="gsm8k: .* cannot be read: ") as error:
        open_conversations(f"gsm8k:{tmp_path}")
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="gsm8k: no such directory: "):
        open_conversations(f"gsm8k:{tmp_path}/nowhere")


def test_without_the_hub_the_remedy_is_a_directory(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="Connect, or give a directory as gsm8k:PATH"):
        open_conversations("gsm8k")


# GSM8K's annotations


def test_an_annotation_becomes_a_call_and_the_text_goes_on():
    answer = "She sold 48/2 = <<48/2=24>>24 clips, 48+24=<<48+24=72>>72 in all.\n#### 72"
    assert render_gsm8k({"question": "How many?", "answer": answer}) == [
        user("How many?"),
        *calculator_call("She sold 48/2 = ", "48/2", "24"),
        *calculator_call("24 clips, 48+24=", "48+24", "72"),
        assistant("72 in all.\n#### 72"),
    ]


@pytest.mark.parametrize(
    "annotation", ["2+2=5", "5*$x=10", "2+2", "=4", "", "7/2=3", "3/4=3/4", "2/3=0.7000", "9=nan"]
)
def test_an_annotation_that_the_calculator_does_not_bear_out_is_left_out(annotation):
    rendered = render_gsm8k({"question": "?", "answer": f"It is <<{annotation}>>5.\n#### 5"})
    assert rendered == [user("?"), assistant("It is 5.\n#### 5")]


@pytest.mark.parametrize(
    ("annotation", "expression", "result"),
    [
        ("48/2=24.00", "48/2", "24"),
        (" 2+2 = 4 ", "2+2", "4"),
        ("2/3=0.67", "2/3", "0.6666666667"),
        ("2/3=.66", "2/3", "0.6666666667"),
    ],
)
def test_the_result_is_what_the_model_will_see_of_the_calculator(annotation, expression, result):
    rendered = render_gsm8k({"question": "?", "answer": f"So <<{annotation}>>it is."})
    assert rendered[1:] == [*calculator_call("So ", expression, result), assistant("it is.")]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("So it is 5.\n#### 72", "72"),
        ("#### 1,200", "1200"),
        ("#### $-3.50.", "-3.50"),
        ("#### 1\n#### 2 apples", "2"),
        ("72", None),
        ("#### none", None),
    ],
)
def test_the_final_answer_is_the_number_after_the_last_mark(text, answer):
    assert gsm8k_answer(text) == answer


def test_problems_have_the_final_number_as_their_answer(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", [{"question": "How many?", "answer": "Many.\n#### 1,200"}])
    assert gsm8k_problems(str(tmp_path))[:] == {"question": ["How many?"], "answer": ["1200"]}
    write_jsonl(tmp_path / "test.jsonl", [{"question": "How many?", "answer": "Many."}])
    with pytest.raises(InputError, match="test row 0: the answer does not end with #### and a number"):
        gsm8k_problems(str(tmp_path), "test")


@pytest.mark.skipif(not (SHARED / "gsm8k").is_dir(), reason="needs GSM8K's files beside the project")
def test_all_of_gsm8k_is_sound_and_nearly_all_its_annotations_are_calls():
    with (SHARED / "gsm8k" / "train.jsonl").open() as lines:
        rows = [json.loads(line) for line in lines]
    talks = [check_messages(render_gsm8k(row)) for row in rows]
    assert len(talks) == 7473
    annotations = sum(len(ANNOTATION.findall(row["answer"])) for row in rows)
    calls = sum("tool_calls" in message for talk in talks for message in talk)
    assert calls / annotations > 0.999
    for row, talk in zip(rows, talks, strict=True):
        said = "".join(message["content"] for message in talk[1:] if message["role"] == "assistant")
        assert said == ANNOTATION.sub("", row["answer"]), "nothing of the text is lost"
        assert gsm8k_answer(talk[-1]["content"]) == gsm8k_answer(row["answer"]) is not None


# Made by code


@pytest.mark.parametrize("name", ["spelling", "identity"])
def test_what_is_made_by_code_is_sound_and_the_same_every_time_and_held_out_questions_are_new(name):
    train, held_out = (talks_of(name, split) for split in ("train", "validation"))
    assert train == talks_of(name)
    for messages in train + held_out:
        assert check_messages(messages) == messages
    asked, new = ({talk[0]["content"] for talk in talks} for talks in (train, held_out))
    assert len(asked) >= 50 and len(new) >= 10 and not asked & new
    with pytest.raises(InputError, match=f"{name} is generated by code and has no files to read from x"):
        SOURCES[name]("x", "train")


def test_words_are_spelled_and_their_letters_counted_right():
    counted = 0
    for talk in talks_of("spelling"):
        word = re.search(r"The word ([a-z]+) is spelled ([a-z-]+)\.", talk[1]["content"])
        assert word[2].replace("-", "") == word[1]
        assert word[1] in talk[0]["content"]
        if len(talk) > 2:
            letter, times = re.search(r"The letter (.) occurs (\d+) time", talk[3]["content"]).groups()
            expression = talk[1]["tool_calls"][0]["function"]["arguments"]["expression"]
            assert talk[2]["content"] == calculator(expression) == times == str(word[1].count(letter))
            counted += 1
    assert counted > 100


def test_it_knows_its_name_in_every_phrasing():
    answers = {talk[0]["content"]: talk[1]["content"] for talk in talks_of("identity")}
    for question in ("Who are you?", "What is your name?", "What are you?"):
        assert "nanochat" in answers[question] or "language model" in answers[question]
    assert all(character in string.printable for answer in answers.values() for character in answer)
