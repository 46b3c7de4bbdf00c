"""The tokenizer and documents of the tokenizer's own tests."""

from tests.tokenizer.conftest import documents, tokenizer  # noqa: F401
