"""A checkpoint of karpathy/nanochat's of July 2026 chats on the page, once it is converted."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from recipes.convert.__main__ import ConvertArguments
from recipes.convert.__main__ import main as convert_main
from recipes.convert.original_format import CONSTANTS_2026
from tests.recipes.inference.talker import KNOWN, REMEMBERED, learn_by_heart, user
from tests.space.browser import Visitor
from tests.space.conftest import loaded, save, served

pytestmark = [pytest.mark.slow, pytest.mark.browser]


@pytest.fixture
def karpathys(tokenizer_dir, tmp_path) -> Path:
    """A model that has learnt to talk, in karpathy's files and with his kind of tokenizer."""
    conversations = [*([user(question), *reply] for question, reply in KNOWN.items()), REMEMBERED]
    model, tokenizer = learn_by_heart(tokenizer_dir, conversations, num_hidden_layers=2, **CONSTANTS_2026)
    return convert(save(model, tokenizer, tmp_path / "trained"), tmp_path / "karpathys", "karpathy")


def convert(source: Path, output_dir: Path, to: str) -> Path:
    convert_main(ConvertArguments(source=str(source), output_dir=str(output_dir), to=to))
    return output_dir


def test_a_checkpoint_of_karpathys_chats(karpathys, browser, tmp_path):
    assert {path.suffix for path in karpathys.iterdir()} == {".pt", ".json", ".pkl"}
    with served(loaded(convert(karpathys, tmp_path / "ours", "ours"))) as url:
        visitor = Visitor(browser, url)
        visitor.converse("I am Bo.")
        visitor.converse("Who am I?")
        expect(visitor.answers).to_have_text(["Hello, Bo.", "You are Bo."])
        visitor.converse("How much is 12*4?")
        expect(visitor.answers.last).to_contain_text("It is 48.")
        expect(visitor.calls).to_have_text(["Calculator"])
        visitor.leave()
