"""`python -m tokenizer.evaluate`, which lives in evals/tokenizer/ with the other evaluations."""

from evals.tokenizer.evaluate import main
from recipes.utils.errors import exit_on_input_error

if __name__ == "__main__":
    exit_on_input_error("tokenizer.evaluate", main)
