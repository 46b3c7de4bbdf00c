"""Conversions as a user runs them, and an encoding of nanochat's."""

from collections.abc import Callable
from pathlib import Path

import pytest

from recipes.convert.__main__ import ConvertArguments, main
from recipes.data.corpora import open_corpus
from recipes.utils.errors import InputError
from tests.recipes.originals import make_encoding


@pytest.fixture(scope="session")
def encoding():
    """609 tokens, nine of them special."""
    return make_encoding([row["text"] for row in open_corpus("primer").validation.take(200)], 600)


@pytest.fixture
def convert() -> Callable[..., Path]:
    """`python -m recipes.convert`, with flags as keywords; returns the new directory."""

    def run(source: Path, output_dir: Path, to: str, **flags) -> Path:
        main(ConvertArguments(source=str(source), output_dir=str(output_dir), to=to, **flags))
        return output_dir

    return run


@pytest.fixture
def refused(convert, tmp_path) -> Callable[..., None]:
    """Checks that a conversion is refused in one line, and leaves nothing behind."""

    def check(source: Path, to: str, match: str) -> None:
        with pytest.raises(InputError, match=match) as caught:
            convert(source, tmp_path / "never", to)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 450
        assert not list(tmp_path.glob("*never*"))

    return check
