"""A model card holds the report's numbers as the Hub reads them, and never costs anybody their own words."""

import re

import pytest
from huggingface_hub import ModelCard, metadata_load
from huggingface_hub.repocard_data import model_index_to_eval_results

from evals.report.card import build_model_card, is_ours, write_model_card
from evals.report.gather import gather
from evals.report.page import escape_markdown
from modeling_nanochat import NanochatGPTConfig
from tests.evals.run_files import CORE_22, FEATURES, LAUNCH, NOTES, add_dpo, core, write, write_run


@pytest.fixture
def run_dir(tmp_path):
    return write_run(tmp_path / "small")


def card_of(run_dir, name):
    run = gather(run_dir)
    (stage,) = (stage for stage in run.stages if stage.name == name)
    return stage, write_model_card(stage, run)


def results(path):
    """What the Hub's own reader finds in the metadata: value by (dataset, metric)."""
    name, found = model_index_to_eval_results(metadata_load(path)["model-index"])
    return name, {(each.dataset_type, each.dataset_config, each.metric_type): each.metric_value for each in found}


def test_the_index_holds_the_reports_numbers_and_survives_the_hubs_reader(run_dir):
    stage, path = card_of(run_dir, "base")
    name, found = results(path)
    assert name == "small-base"
    assert found == {
        ("primer", None, "bits_per_byte"): stage.bpb,
        ("core", None, "core"): stage.core.core,
        ("allenai/ai2_arc", "ARC-Easy", "accuracy"): stage.chat.tasks["arc_easy"].accuracy,
        ("primer-facts", None, "accuracy"): stage.chat.tasks["facts"].accuracy,
    }
    assert found["primer", None, "bits_per_byte"] == 0.87654321, "not rounded"
    stage, path = card_of(run_dir, "sft")
    assert results(path)[1]["instructions", None, "judge_score"] == stage.judge.mean_score == 40.0


def test_the_metadata_is_what_the_hub_asks_for(run_dir):
    _, path = card_of(run_dir, "grpo")
    data = metadata_load(path)
    assert (data["license"], data["library_name"], data["pipeline_tag"]) == (
        "apache-2.0",
        "transformers",
        "text-generation",
    )
    assert "nanochat" in data["tags"] and "datasets" not in data, "the primer is no dataset of the Hub"
    loaded = ModelCard.load(path)
    assert loaded.data.eval_results and loaded.data.model_name == "small-grpo"
    write(run_dir / "base" / "arguments.json", {"total_batch_size": 64, "dataset": "HuggingFaceFW/fineweb-edu"})
    (run_dir / "base" / "launches.json").unlink()
    assert metadata_load(card_of(run_dir, "base")[1])["datasets"] == ["HuggingFaceFW/fineweb-edu"]


def test_a_part_of_core_is_not_in_the_index(run_dir):
    write(run_dir / "base" / "evals" / "core.json", core(dict(list(CORE_22.items())[:9]), whole=False))
    _, path = card_of(run_dir, "base")
    assert not any("core" in dataset for dataset, *_ in results(path)[1])
    assert "CORE" not in path.read_text()


def test_it_says_how_to_load_the_model_how_it_was_made_and_its_limits(run_dir):
    text = {name: card_of(run_dir, name)[1].read_text() for name in ("base", "grpo")}
    for card in text.values():
        assert "trust_remote_code=True" in card and "## Limits" in card and "163,840 parameters" in card
        assert "python -m tokenizer.train --seed 0\npython recipes/base.py --output_dir" in card
    assert "apply_chat_template" in text["grpo"] and "apply_chat_template" not in text["base"]
    assert "recipes/grpo.py" in text["grpo"] and "recipes/grpo.py" not in text["base"]
    assert "44.4% of 200 problems" in text["grpo"]
    assert "accuracy, GSM8K, flexible | 7.9% of 200 problems" in re.sub(" +", " ", text["grpo"])
    assert all(escape_markdown(note) in text["grpo"] for note in NOTES)


def test_it_tells_what_every_stage_was_trained_on_and_how_calls_are_answered(run_dir):
    write(run_dir / "grpo" / "chat_template.jinja", "{{ '<|python_start|>' }}")
    text = {name: card_of(run_dir, name)[1].read_text() for name in ("base", "sft", "grpo")}
    assert (
        all(f"| {stage} " in text["grpo"] for stage in ("base", "mid", "SFT", "GRPO")) and "| SFT" not in text["base"]
    )
    assert "<|python_start|>12*4<|python_end|>" in text["grpo"] and "python_start" not in text["sft"]
    assert "trained from scratch" in text["grpo"] and "code that loads it" not in text["grpo"]


def test_a_model_of_2026_is_described_by_its_features_and_says_what_users_meet(run_dir):
    NanochatGPTConfig.from_depth(12, generation=2026).save_pretrained(run_dir / "grpo")
    text = card_of(run_dir, "grpo")[1].read_text()
    sizes = "12 layers, 768 wide, context 2,048, vocabulary 32,768"
    assert f"\nNanochatGPTForCausalLM, {sizes}; {FEATURES}.\n" in text
    assert "does not convert to transformers' NanoChat, which lacks its features. `inputs_embeds` need" in text
    assert "`per_layer_inputs=model.get_per_layer_inputs(input_ids)` beside them. Continuous batching" in text


def test_a_model_of_2025_is_described_by_its_sizes_alone(run_dir):
    text = card_of(run_dir, "grpo")[1].read_text()
    assert "\nNanochatGPTForCausalLM, 2 layers, 64 wide, context 96, vocabulary 512.\n" in text
    assert not any(word in text for word in ("2025", "NanoChat", "per_layer_inputs", "vLLM"))


@pytest.mark.parametrize(
    "given, described, met, not_met",
    [
        ({"smear": True}, "; generation 2026: smear.", "Continuous batching", "per_layer_inputs"),
        (
            {"value_embeddings": True},
            "; generation 2026: value embeddings.",
            "per_layer_inputs",
            "Continuous batching",
        ),
        ({"window_pattern": "SL"}, "; windows of 513 tokens in 1 layer.", "does not convert", "generation 2026"),
    ],
)
def test_a_model_with_some_of_the_features_names_those_and_what_they_mean(run_dir, given, described, met, not_met):
    NanochatGPTConfig.from_depth(2, **given).save_pretrained(run_dir / "base")
    text = card_of(run_dir, "base")[1].read_text()
    assert described in text and met in text
    assert not_met not in text


def test_another_models_licence_and_origin_are_not_ours_to_claim(run_dir):
    launch = LAUNCH | {"command": "python recipes/sft.py", "source": "openai-community/gpt2"}
    write(run_dir / "sft" / "launches.json", [launch])
    data = metadata_load(card_of(run_dir, "sft")[1])
    assert data["base_model"] == "openai-community/gpt2"
    assert "license" not in data and "trained-from-scratch" not in data["tags"]
    text = card_of(run_dir, "grpo")[1].read_text()
    assert "was trained from openai-community/gpt2" in text and "from scratch" not in text
    assert metadata_load(card_of(run_dir, "mid")[1])["license"] == "apache-2.0"
    write(run_dir / "sft" / "launches.json", [launch | {"source": "/models/llama"}])
    assert "from scratch" not in card_of(run_dir, "grpo")[1].read_text()
    write(run_dir / "sft" / "launches.json", [launch | {"source": "small/mid"}])  # a path, though not from here
    assert "from scratch" in card_of(run_dir, "grpo")[1].read_text()


def test_a_card_of_ours_is_renewed_and_one_that_was_edited_stays(run_dir):
    _, path = card_of(run_dir, "base")
    first = path.read_bytes()
    assert card_of(run_dir, "base")[1] == path and path.read_bytes() == first, "the same run gives the same card"
    write(run_dir / "base" / "metrics.jsonl", '{"step": 1, "train/loss": 2.0}\n{"step": 1, "val/bpb": 0.75}\n')
    assert card_of(run_dir, "base")[1] == path and results(path)[1]["primer", None, "bits_per_byte"] == 0.75

    for edited in (path.read_text() + "\nMine.\n", path.read_text().replace("apache-2.0", "mit"), "# My model\n"):
        path.write_text(edited)
        assert not is_ours(edited)
        assert card_of(run_dir, "base")[1] is None and path.read_text() == edited


def test_a_stage_of_which_little_is_known_has_a_card_without_index(tmp_path, run_dir):
    for path in [
        *run_dir.glob("mid/*.jsonl"),
        *run_dir.glob("mid/launches.json"),
        *run_dir.glob("mid/arguments.json"),
    ]:
        path.unlink()
    run = gather(run_dir)
    (mid,) = (stage for stage in run.stages if stage.name == "mid")
    card = build_model_card(mid, run)
    assert card.data.eval_results is None and "## Figures" not in str(card) and "None" not in card.text


def test_dpo_has_a_card_and_is_part_of_grpos_if_that_began_with_it(run_dir):
    add_dpo(run_dir, next_source="dpo")
    text = {name: card_of(run_dir, name)[1].read_text() for name in ("dpo", "grpo")}
    assert "finetuned on conversations and then on preferences between two answers" in text["dpo"]
    assert "on preferences between two answers and then on problems" in text["grpo"]
    assert "accuracy, honesty" in text["dpo"] and "- trl" in text["dpo"]
    assert all("recipes/dpo.py" in each and "| DPO " in each for each in text.values())
    add_dpo(run_dir, next_source="sft")
    text = card_of(run_dir, "grpo")[1].read_text()
    assert "preferences" not in text and "recipes/dpo.py" not in text and "| DPO " not in text and "| SFT " in text
