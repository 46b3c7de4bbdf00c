"""Models whose words are known, behind a page that is really served."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from evals.tokenizer.samples import DOMAINS
from space.chat_page.engine import Engine
from space.chat_page.page import serve
from tests.recipes.inference.talker import KNOWN, REMEMBERED, always, assistant, learn_by_heart, load_tokenizer, user
from tests.space.browser import open_browser
from tokenizer.bpe import train_tokenizer

HTML = "<img src=x onerror=alert(1)><b>&lt;</b> **c**"
TALK = KNOWN | {"Write HTML.": [assistant(HTML)]}


@pytest.fixture(scope="session")
def tokenizer_dir(tmp_path_factory) -> Path:
    """Ours, of 600 tokens."""
    directory = tmp_path_factory.mktemp("tokenizer")
    words = "\n".join([*TALK, *(message["content"] for reply in TALK.values() for message in reply)])
    train_tokenizer([*(text[:400] for text in DOMAINS.values()), *[words] * 20], 600).save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def talker(tokenizer_dir, tmp_path_factory) -> Path:
    """A model that has learnt TALK by heart."""
    conversations = [*([user(question), *reply] for question, reply in TALK.items()), REMEMBERED]
    return save(*learn_by_heart(tokenizer_dir, conversations), tmp_path_factory.mktemp("models") / "talker")


@pytest.fixture(scope="session")
def babbler(tokenizer_dir, tmp_path_factory) -> Path:
    """A model that writes one letter for ever."""
    tokenizer = load_tokenizer(tokenizer_dir, 10_000)
    model = always("a", tokenizer, context=10_000)
    return save(model, tokenizer, tmp_path_factory.mktemp("models") / "babbler")


def save(model, tokenizer, directory: Path) -> Path:
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def browser():
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="session")
def page_url(talker, browser) -> Iterator[str]:
    """Address of the talker's page."""
    with served(loaded(talker)) as url:
        yield url


@pytest.fixture(scope="session")
def slow_url(babbler, browser) -> Iterator[str]:
    """Address of the babbler's page, who takes 20 ms for a letter: there is time to stop it."""
    engine = loaded(babbler)
    engine.model.register_forward_pre_hook(lambda *_: time.sleep(0.02))
    with served(engine) as url:
        yield url


def loaded(directory: Path) -> Engine:
    engine = Engine(str(directory))
    engine.start()
    return engine


@contextmanager
def served(engine: Engine) -> Iterator[str]:
    page = serve(engine, engine, block=False)
    try:
        yield page.local_url
    finally:
        page.close()
