"""lm-evaluation-harness measures our checkpoints as they are: its figures are those computed by hand."""

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from evals.bits_per_byte import sum_nats_and_bytes
from evals.chat.evaluate import evaluate_task
from evals.chat.tasks import open_task
from evals.tokenizer.samples import DOMAINS
from recipes.data.messages import assistant, user
from recipes.data.primer.exams import exam
from recipes.training.models import set_special_tokens
from tests.modeling_nanochat.tiny import random_model
from tests.recipes.inference.talker import SCRIPTS, learn_by_heart
from tokenizer.bpe import train_tokenizer
from tokenizer.chat import encode_prompt
from tokenizer.encode import token_byte_lengths

OUR_TASKS = Path(__file__).parents[2] / "evals" / "harness"
WORDS = DOMAINS["prose"].split()
CONTEXT = 48
NEW_TOKENS = 8
STOP = "a"


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([text[:2000] for text in DOMAINS.values()], vocab_size=400)


@pytest.fixture(scope="module")
def model(tokenizer):
    """A model whose every weight is random."""
    model = random_model(vocab_size=len(tokenizer), max_position_embeddings=CONTEXT)
    set_special_tokens(model, tokenizer)
    return model


def draw_texts(count, seed=0):
    """Texts of one word and of many, some of them longer than the context."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.choice((1, 3, 8, 30)))) for _ in range(count)]


def tokens(tokenizer, text):
    return tokenizer(text)["input_ids"]


@torch.no_grad()
def loglikelihood(model, tokenizer, context, continuation):
    """Nats of the continuation: a single sequence, the document's start in front, cropped from the left."""
    ids = tokens(tokenizer, context + continuation)
    length = len(ids) - len(tokens(tokenizer, context))
    window = ids[-CONTEXT - 1 :]
    nats = model(torch.tensor([window[:-1]])).logits[0].log_softmax(-1)
    return sum(nats[position - 1, window[position]].item() for position in range(len(window) - length, len(window)))


def write_text(model, tokenizer, prompt):
    """The model's likeliest text up to the stop word, one prompt at a time."""
    ids = torch.tensor([tokens(tokenizer, prompt)[NEW_TOKENS - CONTEXT :]])
    written = model.generate(ids, max_new_tokens=NEW_TOKENS, do_sample=False)[0, ids.size(1) :]
    return tokenizer.decode(written, skip_special_tokens=True).split(STOP)[0]


def write_task(directory, name, rows, **settings):
    """A task as a user defines it: YAML, and examples in JSONL."""
    examples = directory / f"{name}.jsonl"
    examples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(examples)}},
        "test_split": "test",
        "doc_to_text": "{{question}}",
        **settings,
    }
    (directory / f"{name}.yaml").write_text(yaml.safe_dump(task))


@pytest.mark.slow
def test_the_command_gives_the_figures_computed_by_hand(model, tokenizer, tmp_path):
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    choices, texts = [], []
    for number, question in enumerate(draw_texts(12)):
        offered = random.Random(number).sample(WORDS, 3)
        nats = [loglikelihood(model, tokenizer, question, f" {choice}") for choice in offered]
        gold = nats.index(max(nats) if number < 8 else min(nats))  # it is right on the first eight
        choices.append({"question": question, "choices": offered, "gold": gold, "nats": nats})
        text = write_text(model, tokenizer, question)
        texts.append({"question": question, "text": text, "answer": text if number < 9 else f"not {text}"})
    assert any(len(tokens(tokenizer, row["question"])) > CONTEXT for row in choices)
    assert len({row["text"] for row in texts}) > 6
    choose = {"output_type": "multiple_choice", "doc_to_choice": "{{choices}}", "doc_to_target": "{{gold}}"}
    write = {
        "output_type": "generate_until",
        "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "exact_match"}],
    }
    write_task(tmp_path, "choose", choices, **choose)
    write_task(tmp_path, "write", texts, **write, generation_kwargs={"until": [STOP], "max_gen_toks": NEW_TOKENS})

    command = "-m lm_eval --model hf --model_args pretrained=model,trust_remote_code=True --tasks choose,write"
    options = "--include_path . --device cpu --batch_size 5 --output_path results --log_samples"
    done = subprocess.run(
        [sys.executable, *command.split(), *options.split()],
        cwd=tmp_path,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,  # it asks nothing
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(next(tmp_path.glob("results/*/results_*.json")).read_text())["results"]
    assert results["choose"]["acc,none"] == pytest.approx(8 / 12)
    assert results["write"]["exact_match,none"] == pytest.approx(9 / 12)
    logged = next(tmp_path.glob("results/*/samples_choose_*.jsonl")).read_text().splitlines()
    for line in map(json.loads, logged):
        measured = [float(nats) for nats, _ in line["filtered_resps"]]
        assert measured == pytest.approx(line["doc"]["nats"], abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 7, "auto"])
def test_loglikelihoods_are_those_of_single_sequences(model, tokenizer, batch_size):
    continuations = [f" {' '.join(text.split()[:8])}" for text in draw_texts(20, seed=1)]
    pairs = [*zip(draw_texts(20), continuations, strict=True), ("", "Hello")]
    lengths = [len(tokens(tokenizer, context + continuation)) for context, continuation in pairs]
    assert min(lengths) < CONTEXT / 4 and max(lengths) > 2 * CONTEXT
    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, max_batch_size=8)
    measured = harness.loglikelihood([Instance("loglikelihood", {}, pair, 0) for pair in pairs], disable_tqdm=True)
    expected = [loglikelihood(model, tokenizer, *pair) for pair in pairs]
    assert [nats for nats, _ in measured] == pytest.approx(expected, abs=1e-3)


def test_perplexity_is_that_of_our_bits_per_byte(model, tokenizer):
    texts = [text for text in draw_texts(12) if len(tokens(tokenizer, text)) <= CONTEXT]
    # Perplexity tasks put a document's start in front themselves.
    harness = HFLM(pretrained=model, tokenizer=tokenizer, add_bos_token=False)
    requests = [Instance("loglikelihood_rolling", {}, (text,), 0) for text in texts]
    measured = harness.loglikelihood_rolling(requests, disable_tqdm=True)
    for text, nats in zip(texts, measured, strict=True):
        row = torch.tensor([tokens(tokenizer, text)])
        expected, num_bytes = sum_nats_and_bytes(model, [row], token_byte_lengths(tokenizer))
        assert num_bytes == len(text.encode())
        assert -nats == pytest.approx(expected.item(), abs=1e-3)


@pytest.mark.parametrize("text", ["Hello!", "<|bos|>Hi", "Bye<|user_end|><|assistant_start|>Yes", f" {SCRIPTS}"])
def test_conversations_are_encoded_as_in_training(model, tokenizer, text):
    messages = [{"role": "system", "content": "Be brief."}, user("Hi."), assistant("Hi."), user(text)]
    harness = HFLM(pretrained=model, tokenizer=tokenizer)
    assert harness.tok_encode(harness.apply_chat_template(messages)) == encode_prompt(tokenizer, messages)


@pytest.mark.slow
def test_a_chat_model_gets_the_accuracy_of_our_own_evaluation(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    items = exam("facts", 6)
    replies = [assistant(item.answer if number < 4 else "I forgot.") for number, item in enumerate(items)]
    taught = [[*item.messages, reply] for item, reply in zip(items, replies, strict=True)]
    model, tokenizer = learn_by_heart(tmp_path, taught)
    task = open_task("facts")
    problems = [problem for problem in task.problems if problem.messages in [item.messages for item in items]]
    ours = evaluate_task(model, tokenizer, replace(task, problems=problems))
    assert ours.count == len(items)
    results = simple_evaluate(
        HFLM(pretrained=model, tokenizer=tokenizer, batch_size=6),
        tasks=["primer_facts"],
        task_manager=TaskManager(include_path=str(OUR_TASKS), include_defaults=False),
        apply_chat_template=True,
        limit=len(items),
        gen_kwargs={"max_gen_toks": 16},
        bootstrap_iters=0,
    )
    assert results["results"]["primer_facts"]["acc,none"] == ours.accuracy == pytest.approx(4 / 6)


@pytest.mark.slow
def test_a_base_model_is_asked_for_the_likeliest_choice(model, tokenizer):
    items = exam("choice", 20)
    right = 0
    for item in items:
        prompt = item.messages[0]["content"]
        nats = [loglikelihood(model, tokenizer, prompt, f" {each}") for each in (item.answer, *item.others)]
        right += nats[0] == max(nats)
    results = simple_evaluate(
        HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8),
        tasks=["primer_choice"],
        task_manager=TaskManager(include_path=str(OUR_TASKS), include_defaults=False),
        limit=len(items),
        bootstrap_iters=0,
    )
    assert 0 < right < len(items)
    assert results["results"]["primer_choice"]["acc,none"] == pytest.approx(right / len(items))
