"""The primer's exams as tasks of lm-evaluation-harness; the YAML files beside this one name these functions."""

import datasets

from recipes.data.primer.exams import ExamItem, exam, grade

Row = dict[str, str | int | list[str]]


def open_exam(name: str, **model_args) -> dict[str, datasets.Dataset]:
    """One of the primer's exams, as a test split. The harness adds the model's arguments, of no use here."""
    return {"test": datasets.Dataset.from_list([item_row(item) for item in exam(name)])}


def item_row(item: ExamItem) -> Row:
    """An item as a row of a table; `choices` are in alphabetical order, so that a tie favours none."""
    choices = sorted([item.answer, *item.others])
    return {
        "kind": item.kind,
        "question": item.messages[-1]["content"],
        "answer": item.answer,
        "others": list(item.others),
        "choices": choices,
        "gold": choices.index(item.answer),
    }


def grade_reply(row: Row, replies: list[str]) -> dict[str, float]:
    """Accuracy on one item: 1 if the reply is right, as `evals.chat` judges it."""
    item = ExamItem(row["kind"], [], row["answer"], tuple(row["others"]))
    return {"acc": float(grade(item, replies[0]))}
