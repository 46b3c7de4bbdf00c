"""What the model under test answers, and a good judge's scores."""

import json

from evals.judge.__main__ import JudgeArguments
from recipes.utils.arguments import parse_arguments
from tests.recipes.inference.talker import SCRIPTS

ANSWERS = {
    "How much is 12*4?": "Let me see: It is 48.",
    "Divide by zero.": "That cannot be.",
    "Greet the world.": SCRIPTS,
    "I am Bo.": "Hello, Bo.",
    "Who am I?": "I do not know.",
    "Say nothing.": "",
}
SCORES = {question: 90 - 10 * number for number, question in enumerate(ANSWERS)}
EXPECTED = SCORES | {"Say nothing.": 0}
ASKED = len(ANSWERS) - 1  # an empty answer is not shown to the judge


def arguments(**settings):
    words = [str(word) for name, value in settings.items() for word in (f"--{name}", value)]
    return parse_arguments(JudgeArguments, argv=words)


def material(prompt):
    """What is quoted in a prompt."""
    return json.loads(prompt[prompt.index("\n{\n") : prompt.index("\n}\n") + 2])


def grade(prompt, before=0):
    """A good judge's reply."""
    question = material(prompt)["instruction"]
    return json.dumps({"reason": f"Because of {question}", "score": SCORES[question]})


def scores(results):
    return {row["instruction"]: row["score"] for row in results["rows"]}
