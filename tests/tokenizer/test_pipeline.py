"""`pipeline("text-generation")` shows people clean text, and programs the parsed message."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    pipeline,
)

from modeling_nanochat.generation_nanochat import END_OF_TURN
from tests.evals.chains import chain_model
from tokenizer.special_tokens import ASSISTANT_END, ASSISTANT_START, PYTHON_END, PYTHON_START

TALK = [{"role": "user", "content": "What is 6*7?"}]
SHORT = (ASSISTANT_START, "4", "2", ".", ASSISTANT_END)
CALL = (ASSISTANT_START, PYTHON_START, "6", "*", "7", PYTHON_END)
PROSE = ("A", "B", ASSISTANT_END), ("C", "D", "E", "F", ASSISTANT_END)

# What somebody runs who has only the directory: by its path, and with a model loaded before.
STRANGER = """
import json, sys
for name in ("modeling_nanochat", "tokenizer", "recipes", "evals"):
    sys.modules[name] = None
directory, talk = sys.argv[1], json.loads(sys.argv[2])
if sys.argv[3] == "path":
    from transformers import pipeline
    generate = pipeline("text-generation", directory, trust_remote_code=True)
else:
    import transformers
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory, trust_remote_code=True)
    generate = transformers.pipeline("text-generation", model=model, tokenizer=tokenizer)
options = {"do_sample": False, "max_new_tokens": 8}
print(json.dumps([generate(talk, return_full_text=full, **options)[0]["generated_text"] for full in (False, True)]))
"""


def save(tokenizer, directory: Path, *chains) -> Path:
    chain_model(tokenizer, *chains).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture
def talk(tokenizer, tmp_path):
    """The text that the pipeline of a model with these chains generates from a prompt."""

    def run(*chains, prompt, **options):
        generate = pipeline("text-generation", str(save(tokenizer, tmp_path / "model", *chains)))
        found = generate(prompt, do_sample=False, max_new_tokens=8, **options)
        is_batch = isinstance(found[0], list)
        return [each[0]["generated_text"] for each in found] if is_batch else found[0]["generated_text"]

    return run


def test_new_text_of_a_conversation_is_clean(talk):
    assert talk(SHORT, prompt=TALK, return_full_text=False) == "42."


def test_a_whole_conversation_ends_with_the_parsed_message(talk):
    assert talk(SHORT, prompt=TALK) == [*TALK, {"role": "assistant", "content": "42."}]


def test_a_call_is_parsed_in_a_whole_conversation_and_its_expression_is_text(talk):
    *_, message = talk(CALL, prompt=TALK)
    call = {"type": "function", "function": {"name": "calculator", "arguments": {"expression": "6*7"}}}
    assert message["role"] == "assistant" and message["tool_calls"] == [call] and not message.get("content")
    assert talk(CALL, prompt=TALK, return_full_text=False) == "6*7"


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("full", [False, True])
def test_texts_are_clean_in_batches_too(talk, batch_size, full):
    """The shorter reply is padded with the token that ends a turn."""
    texts = talk(*PROSE, prompt=["A", "C"], batch_size=batch_size, return_full_text=full)
    assert texts == (["AB", "CDEF"] if full else ["B", "DEF"])
    assert talk(SHORT, prompt=[TALK, TALK], batch_size=batch_size, return_full_text=False) == ["42.", "42."]


def test_a_reply_that_was_begun_is_continued_in_clean_text(talk):
    begun = [*TALK, {"role": "assistant", "content": "C"}]
    assert talk(*PROSE, prompt=begun)[-1] == {"role": "assistant", "content": "CDEF"}
    assert talk(*PROSE, prompt=begun, return_full_text=False) == "DEF"


def test_special_tokens_come_on_request(talk):
    assert talk(SHORT, prompt=TALK, return_full_text=False, skip_special_tokens=False) == "42.<|assistant_end|>"


def test_the_tokenizer_still_parses_responses(tokenizer, tmp_path):
    loaded = AutoTokenizer.from_pretrained(save(tokenizer, tmp_path / "model", CALL))
    generate = pipeline("text-generation", str(tmp_path / "model"), tokenizer=loaded)
    generate(TALK, return_full_text=False, do_sample=False, max_new_tokens=8)
    ids = loaded.convert_tokens_to_ids(list(CALL[1:]))
    message = loaded.parse_response(ids, prefix="")
    assert message["tool_calls"][0]["function"]["arguments"] == {"expression": "6*7"}
    assert loaded.decode(ids) == "<|python_start|>6*7<|python_end|>"


def test_other_formats_are_left_to_transformers(tokenizer, tmp_path):
    """Another family's template keeps its tokens, as transformers decides."""
    assert END_OF_TURN == ASSISTANT_END
    backend = Tokenizer(models.WordLevel({"a": 0, "b": 1, "<end>": 2}, unk_token="a"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    other = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="a", pad_token="<end>", eos_token="<end>")
    other.response_template = tokenizer.response_template
    model = GPT2LMHeadModel(GPT2Config(vocab_size=3, n_embd=8, n_head=1, n_layer=1, eos_token_id=2, bos_token_id=0))
    generate = pipeline("text-generation", model=model, tokenizer=other)
    written = generate("b", bad_words_ids=[[0], [1]], max_new_tokens=1, do_sample=False)[0]["generated_text"]
    assert "<end>" in written


@pytest.mark.launch
@pytest.mark.parametrize("by", ["path", "model"])
def test_a_stranger_sees_clean_text(tokenizer, tmp_path, by):
    directory = save(tokenizer, tmp_path / "model", SHORT)
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1"}
    environment.pop("HF_MODULES_CACHE", None)
    command = [sys.executable, "-I", "-c", STRANGER, str(directory), json.dumps(TALK), by]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    text, conversation = json.loads(run.stdout.splitlines()[-1])
    assert text == "42." and conversation[-1] == {"role": "assistant", "content": "42."}


def test_what_a_model_of_ours_saves_carries_no_pipeline_of_its_own(tokenizer, tmp_path):
    generate = pipeline("text-generation", str(save(tokenizer, tmp_path / "model", SHORT)))
    generate.save_pretrained(tmp_path / "again")
    assert "custom_pipelines" not in json.loads((tmp_path / "again" / "config.json").read_text())
    assert type(AutoModelForCausalLM.from_pretrained(tmp_path / "again")) is type(generate.model)
