"""`python -m tokenizer.evaluate`, which lives in evals/tokenizer/ with the other evaluations."""

from evals.tokenizer.arguments import EvaluateArguments
from recipes.utils.arguments import read_command_line
from recipes.utils.errors import exit_on_input_error

if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("tokenizer.evaluate", EvaluateArguments)

from evals.tokenizer.evaluate import main

if __name__ == "__main__":
    exit_on_input_error("tokenizer.evaluate", lambda: main(ARGS))
