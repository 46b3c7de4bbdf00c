"""Models that cannot be had or used are named in one line; nobody stops another's answer."""

import json
import pickle
import shutil
import threading

import pytest
import torch
from safetensors.torch import load_file, save_file

from recipes.inference.generate import Reply, Result, Sampling
from recipes.utils.errors import InputError
from space.chat_page.engine import Engine
from space.chat_page.handlers import sampling_of
from space.chat_page.limits import SESSIONS
from space.chat_page.turns import Turns
from tests.recipes.inference.talker import user


def spoiled(talker, tmp_path, name: str):
    """A copy of the talker with something wrong."""
    directory = tmp_path / "model"
    shutil.copytree(talker, directory)
    config = json.loads((directory / "config.json").read_text())
    if name == "no weights":
        (directory / "model.safetensors").unlink()
    elif name == "another vocabulary":
        weights = load_file(directory / "model.safetensors")
        config["vocab_size"] = 100
        cut = {key: value[:100].clone() if value.shape[0] > 590 else value for key, value in weights.items()}
        save_file(cut, directory / "model.safetensors", {"format": "pt"})
    elif name == "another architecture":
        config["model_type"] = "unheard_of"
    elif name == "no template":
        (directory / "chat_template.jinja").unlink()
    elif name == "a pickle":
        (directory / "model.safetensors").unlink()
        torch.save({"weight": Evil()}, directory / "pytorch_model.bin")
    (directory / "config.json").write_text(json.dumps(config))
    return directory


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('run')",)


@pytest.mark.parametrize(
    "name", ["no weights", "another vocabulary", "another architecture", "no template", "a pickle"]
)
def test_a_spoiled_model_is_refused_in_one_line(talker, tmp_path, name):
    assert pickle.dumps(Evil())  # would run where it is loaded
    with pytest.raises(InputError) as refusal:
        Engine(str(spoiled(talker, tmp_path, name))).start()
    assert "\n" not in str(refusal.value) and "model" in str(refusal.value)


@pytest.mark.parametrize("name", ["runs/here/grpo", "/nowhere/grpo", "./model"])
def test_a_missing_directory_is_named(name):
    with pytest.raises(InputError, match=f"model {name}: no such directory"):
        Engine(name).start()


def test_where_a_gpu_lives_in_another_process_answers_are_the_same_and_stop(talker):
    """As on ZeroGPU, where nothing goes to that process but what can be pickled."""
    engine, prompt, sampling = Engine(str(talker)), [user("How much is 12*4?")], Sampling(max_new_tokens=80)
    engine.start()
    here = list(engine.stream(prompt, sampling, threading.Event()))
    write = engine.write
    engine.zero = True
    engine.write = lambda *args: (
        pickle.loads(pickle.dumps(event)) for event in write(*pickle.loads(pickle.dumps(args)))
    )
    assert list(engine.stream(prompt, sampling, threading.Event())) == here
    stop, seen = threading.Event(), []
    for event in engine.stream(prompt, sampling, stop):
        seen.append(event)
        stop.set()
    assert len(seen) == 1 and not any(thread.name == "reply" for thread in threading.enumerate())
    assert isinstance(here[-1], Reply) and any(isinstance(event, Result) for event in here)


def test_nobody_stops_anothers_answer():
    turns = Turns()
    ada, bo = turns.begin("ada"), turns.begin("bo")
    turns.stop("bo")
    assert turns.current("bo", bo).stop.is_set() and not turns.current("ada", ada).stop.is_set()
    assert turns.current("bo", ada) is None
    turns.stop("nobody")
    turns.forget("ada")
    assert turns.current("ada", ada) is None


def test_a_new_question_ends_the_answer_before_it():
    turns = Turns()
    first = turns.begin("ada")
    stop = turns.current("ada", first).stop
    second = turns.begin("ada")
    assert stop.is_set() and turns.current("ada", first) is None
    assert not turns.current("ada", second).stop.is_set()


def test_the_server_remembers_only_so_many():
    turns = Turns()
    first = turns.begin("first")
    for number in range(SESSIONS):
        turns.begin(str(number))
    assert turns.current("first", first) is None


def test_the_controls_draw_what_they_say():
    assert sampling_of(0, 50, 0.5, 10, "").temperature == 0
    assert sampling_of(0.5, 0, 1, 10, " 3 ") == Sampling(10, 0.5, None, 1, 3)
    assert sampling_of(0.5, 5, 0.9, 10**9, "3").max_new_tokens <= 1024
    assert len({sampling_of(0.5, 5, 1, 10, "").seed for _ in range(5)}) > 1
    for wrong in [
        (0.5, 5, 1, 10, "x"),
        (0.5, 5, 0, 10, ""),
        (-1, 5, 1, 10, ""),
        (None, 5, 1, 10, ""),
        (1, 5, 1, 0, ""),
    ]:
        with pytest.raises(InputError):
            sampling_of(*wrong)
