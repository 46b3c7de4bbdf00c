"""CORE in batches, with prefixes shared, against one example at a time by the obvious way."""

import json
import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    BartConfig,
    BartForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    Lfm2Config,
    Lfm2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    RobertaConfig,
    RobertaForCausalLM,
)

from benchmarks.core_reference import answer_one
from evals.core.bundle import core_tasks, read_examples, read_tasks
from evals.core.evaluate import CoreResult, TaskResult, evaluate_core, evaluate_task
from evals.core.questions import Question, Row, draw_shots, order_examples, score_what_differs
from evals.core.scoring import (
    Group,
    answer_questions,
    batch_size,
    can_share_prefixes,
    group_rows,
    make_batches,
)
from evals.tokenizer.samples import DOMAINS
from tests.evals.core_bundle import write_bundle
from tests.modeling_nanochat.tiny import random_model, randomized
from tokenizer.bpe import train_tokenizer

ENOUGH = 4096  # a context that every question fits into
SIZES = {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([text[:400] for text in DOMAINS.values()], vocab_size=320)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundle"))


def gpt2(context):
    return GPT2LMHeadModel(GPT2Config(vocab_size=320, n_embd=32, n_layer=2, n_head=2, n_positions=context))


def llama(context):
    return LlamaForCausalLM(LlamaConfig(**SIZES, intermediate_size=64, max_position_embeddings=context))


def sliding(context):
    config = MistralConfig(**SIZES, intermediate_size=64, max_position_embeddings=context, sliding_window=24)
    config.num_key_value_heads = 2
    return MistralForCausalLM(config)


def mamba(context):
    config = MambaConfig(vocab_size=320, hidden_size=32, num_hidden_layers=2)
    config.max_position_embeddings = context
    return MambaForCausalLM(config)


def ours(context):
    return random_model(vocab_size=320, max_position_embeddings=context)


def one_by_one(model, tokenizer, task, bundle, count):
    examples = order_examples(read_examples(task, bundle), count)
    context = model.config.max_position_embeddings
    return [answer_one(model, tokenizer, task, examples, index, context) for index in range(len(examples))]


@pytest.mark.slow
@pytest.mark.parametrize("context", [ENOUGH, 96])
@pytest.mark.parametrize("build", [ours, gpt2, llama, sliding])
def test_every_decision_is_that_of_one_example_at_a_time(build, context, tokenizer, bundle):
    model = randomized(build(context)).eval()
    decided = set()
    for task in read_tasks(bundle):
        result = evaluate_task(model, tokenizer, task, bundle, 30, batch_tokens=700)
        assert result.answers == one_by_one(model, tokenizer, task, bundle, 30), task.label
        if context == ENOUGH or task.shots == 10:
            assert result.cropped == (0 if context == ENOUGH else 30)
        decided |= {(task.type, answer) for answer in result.answers}
    assert len(decided) > 6, "the model never decides otherwise: nothing is compared"


def lfm2(context):
    """Attention in one layer, a convolution with a state in the other."""
    config = Lfm2Config(**SIZES, num_key_value_heads=2, max_position_embeddings=context)
    config.layer_types = ["conv", "full_attention"]
    return Lfm2ForCausalLM(config)


def roberta(context):
    """Positions that begin at 2."""
    return RobertaForCausalLM(RobertaConfig(**SIZES, max_position_embeddings=context + 2, is_decoder=True))


def bart(context):
    """Positions that do not follow the attention mask."""
    config = BartConfig(vocab_size=320, d_model=32, decoder_layers=2, decoder_attention_heads=2)
    config.decoder_ffn_dim, config.max_position_embeddings = 64, context
    return BartForCausalLM(config)


@pytest.mark.slow
@pytest.mark.parametrize("build", [mamba, lfm2, roberta, bart])
def test_a_model_whose_prefixes_cannot_be_shared_decides_the_same(build, tokenizer, bundle):
    model = randomized(build(ENOUGH)).eval()
    assert not can_share_prefixes(model)
    model.config.max_position_embeddings = ENOUGH
    for task in read_tasks(bundle)[:4]:
        result = evaluate_task(model, tokenizer, task, bundle, 12)
        assert result.answers == one_by_one(model, tokenizer, task, bundle, 12)


@pytest.mark.parametrize("build", [ours, gpt2, llama, sliding])
def test_prefixes_are_shared_wherever_they_can_be(build):
    model = randomized(build(ENOUGH)).eval()
    assert can_share_prefixes(model) and can_share_prefixes(model.to(torch.bfloat16))


def test_a_model_that_computes_no_numbers_gets_no_figure(tokenizer, bundle):
    model = ours(ENOUGH)
    torch.nn.init.constant_(model.lm_head.weight, float("nan"))
    with pytest.raises(ValueError, match="not numbers"):
        evaluate_task(model, tokenizer, read_tasks(bundle)[0], bundle, 12)


def test_of_equal_answers_the_first_is_chosen_whatever_batches_they_fall_into():
    model = randomized(gpt2(512)).eval()
    rng = random.Random(0)
    for _ in range(30):
        front, one, other = ([rng.randrange(1, 320) for _ in range(rng.randint(2, 8))] for _ in range(3))
        rows = [Row((*front, *end), len(end)) for end in (one, other, one)]
        (answer,) = answer_questions(model, [Question(rows, 0, False, True)], batch_tokens=1)
        assert answer in (0, 1)


@pytest.mark.parametrize("build", [ours, gpt2, llama, sliding])
def test_what_the_model_expects_counts_as_right(build, tokenizer, tmp_path):
    """Continuations that the model itself would write are predicted, others are not."""
    model = randomized(build(ENOUGH)).eval()
    rng = random.Random(1)
    lines = []
    for _ in range(60):
        context = " ".join(rng.choices(["red", "blue", "cat", "12"], k=6))
        ids = tokenizer(f"{context}\nAnswer:", return_tensors="pt")["input_ids"]
        written = model.generate(ids, max_new_tokens=2, do_sample=False, eos_token_id=None)[0, ids.size(1) :]
        text = tokenizer.decode(written)
        if (
            tokenizer(f"{context}\nAnswer:{text}")["input_ids"] == [*ids[0].tolist(), *written.tolist()]
            and text.strip()
        ):
            lines.append({"context": context, "continuation": text})
    wrong = [{"context": line["context"], "continuation": " cat"} for line in lines]
    (tmp_path / "task.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines + wrong))
    task = replace(core_tasks()[1], file="task.jsonl", shots=0, delimiter="\nAnswer:")
    result = evaluate_task(model, tokenizer, task, tmp_path)
    assert len(lines) > 5 and result.right.count(True) == len(lines) == result.right.count(False)
    assert result.answers == one_by_one(model, tokenizer, task, tmp_path, None)


@pytest.mark.slow
def test_prefixes_go_through_the_model_once(tokenizer, bundle):
    """Tokens that the model reads for ten solved examples and four answers: not much more than for one answer."""
    model = ours(ENOUGH)
    read = []
    hook = model.model.embed_tokens.register_forward_hook(
        lambda module, inputs, output: read.append(inputs[0].numel())
    )
    task = read_tasks(bundle)[0]
    result = evaluate_task(model, tokenizer, task, bundle, 30, batch_tokens=ENOUGH)
    shared = sum(read)
    read.clear()
    assert result.answers == one_by_one(model, tokenizer, task, bundle, 30)
    hook.remove()
    assert sum(read) / shared > 3


def test_answers_of_one_token_need_one_row(tokenizer, bundle):
    rows = [Row((*range(1, 40), last), 1) for last in (50, 51, 52)]
    (group,) = group_rows(rows, share=True)
    assert group.prefix == () and group.tails == [tuple(range(1, 40))] and group.tail_of_row == [0, 0, 0]


def test_rows_cropped_at_different_places_share_nothing():
    rows = [Row((*range(start, start + 30), 99), 1) for start in (1, 3)]
    assert [group.prefix for group in group_rows(rows, share=True)] == [(), ()]


def test_what_is_scored_of_answers_that_begin_alike(bundle):
    choice, schema, text = (next(t for t in core_tasks() if t.type == kind) for kind in TYPES)
    differ = score_what_differs(choice, [(0, 1, 2, 3), (0, 1, 2, 4, 5)])
    assert differ == [Row((0, 1, 2, 3), 1), Row((0, 1, 2, 4, 5), 2)]
    begins = score_what_differs(choice, [[0, 1, 2], [0, 1, 2, 3]])
    assert [row.scored for row in begins] == [1, 2], "of the answer that another one begins with, its last token"
    assert [row.scored for row in score_what_differs(schema, [[0, 1, 7, 8], [0, 2, 2, 7, 8]])] == [2, 2]
    assert [row.scored for row in score_what_differs(schema, [[0, 7, 8], [0, 7, 8]])] == [2, 2]
    assert score_what_differs(text, [(0, 1, 2), (0, 1, 2, 3, 4)]) == [Row((0, 1, 2, 3, 4), 2)]
    assert score_what_differs(text, [(0, 1, 2), (0, 1, 9, 4)]) == [Row((0, 1, 9, 4), 2)], "merged over the border"


TYPES = ("multiple_choice", "schema", "language_modeling")


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(st.data())
def test_answers_do_not_depend_on_what_else_is_in_the_batch(data):
    model = random_model(max_position_embeddings=64)
    ids = st.lists(st.integers(1, 130), min_size=2, max_size=24)
    questions = []
    for _ in range(data.draw(st.integers(1, 6))):
        front = data.draw(st.lists(st.integers(1, 130), min_size=0, max_size=36))
        ends = data.draw(st.lists(ids, min_size=1, max_size=4))
        rows = [Row((7, *front, *end), data.draw(st.integers(1, len(end)))) for end in ends]
        questions.append(Question(rows, None if len(rows) == 1 else 0, cropped=False, fits=True))
    together = answer_questions(model, questions, data.draw(st.integers(1, 400)))
    assert together == [answer_questions(model, [question], 10_000)[0] for question in questions]


def test_batches_stay_within_their_tokens():
    groups = [Group((), [Row(tuple(range(length)), 1)]) for length in range(2, 60)]
    prefix = tuple(range(20))
    groups += [Group(prefix, [Row((*prefix, 1, 2, 3), 2), Row((*prefix, 4, 5, 6), 2)]) for _ in range(10)]
    batches = list(make_batches(groups, 128))
    assert sum(map(len, batches)) == len(groups)
    assert all(batch_size(batch) <= 128 for batch in batches)
    assert [len(batch) for batch in batches[:2]] == [2, 2], "each with two rows of 22 tokens"
    assert all(len({bool(group.prefix) for group in batch}) == 1 for batch in batches)


def test_order_and_shots_are_those_of_the_design():
    examples = [{"n": n} for n in range(20)]
    expected = list(examples)
    random.Random(1337).shuffle(expected)
    assert order_examples(examples, 12) == expected[:12]
    others = [index for index in range(12) if index != 4]
    assert draw_shots(expected[:12], 4, 3) == [expected[i] for i in random.Random(1238).sample(others, 3)]


def test_a_question_longer_than_the_context_is_cropped_or_counted_as_wrong(tokenizer, bundle):
    tiny = ours(16)
    results = {task.label: evaluate_task(tiny, tokenizer, task, bundle, 20) for task in read_tasks(bundle)}
    assert results["jeopardy"].cropped == 20 and not any(results["jeopardy"].right)
    long = results["arc_easy"]
    assert 0 < long.too_long == long.answers.count(-1) < 20
    assert not any(right for right, answer in zip(long.right, long.answers, strict=True) if answer == -1)


@pytest.mark.slow
def test_core_is_the_mean_over_all_22_tasks_and_partial_without_one():
    results = [TaskResult(task, [], [True, False], 0, 0, 0.0) for task in core_tasks()]
    assert len(results) == 22
    expected = sum((0.5 - task.baseline) / (1 - task.baseline) for task in core_tasks()) / 22
    whole = CoreResult(results, {})
    assert whole.core == pytest.approx(expected) and whole.metrics() == {"core_metric": whole.core}
    partial = CoreResult(results[1:], {})
    assert partial.core is None and partial.missing == ["hellaswag_zeroshot"]
    assert partial.metrics() == {"core_partial": partial.mean_centered, "core_tasks": 21}
    other = CoreResult([*results[1:], replace(results[0], task=replace(results[0].task, shots=5))], {})
    assert other.core is None, "a task posed otherwise is not CORE's"
    assert CoreResult([], {"x": "damaged"}).metrics() == {}


def test_a_task_that_fails_is_named_and_the_others_are_measured(tokenizer, bundle, tmp_path):
    directory = write_bundle(tmp_path)
    path = directory / "b/copa.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:4], '{"query": "Why", "choices": ["a", "b"], "gold": 2}', *lines[5:]]))
    told = []
    model = ours(ENOUGH).train()
    result = evaluate_core(model, tokenizer, read_tasks(directory), directory, 12, tell=told.append)
    assert list(result.failed) == ["copa"] and f"{path}, line 5: gold must be" in result.failed["copa"]
    assert [each.task.label for each in result.results] == [t.label for t in read_tasks(bundle) if t.label != "copa"]
    assert len(told) == 7 and "copa failed" in told[2]
    assert model.training, "the model keeps its mode"


@pytest.mark.slow
def test_memory_that_runs_out_means_fewer_tokens_at_a_time(tokenizer, bundle):
    model = ours(ENOUGH)
    sizes = []

    def full(module, inputs):
        sizes.append(inputs[0].numel())
        if inputs[0].numel() > 1500:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more.")

    task = read_tasks(bundle)[0]
    expected = evaluate_task(model, tokenizer, task, bundle, 20).answers
    hook = model.model.embed_tokens.register_forward_pre_hook(full)
    assert evaluate_task(model, tokenizer, task, bundle, 20, batch_tokens=8192).answers == expected
    assert max(sizes) > 1500
    hook.remove()
