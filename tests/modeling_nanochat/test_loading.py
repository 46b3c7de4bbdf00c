"""A saved directory is all that anybody needs: another process without our package, other dtypes, other devices."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    pipeline,
)

import modeling_nanochat
from modeling_nanochat import (
    NanochatGPTConfig,
    NanochatGPTForCausalLM,
    NanochatGPTForSequenceClassification,
    NanochatGPTModel,
)
from modeling_nanochat.modeling_nanochat import AUTO_MAP
from tests.modeling_nanochat.tiny import (
    GENERATIONS,
    VOCAB_SIZE,
    assert_close,
    random_ids,
    random_model,
    tiny_config,
)

ROOT = Path(__file__).parents[2]
PROMPT = "w5 w7 w11"

# What somebody runs who has only the directory. Importing any package of this repository fails there.
STRANGER = """
import json, sys
for name in ("modeling_nanochat", "tokenizer", "recipes", "evals"):
    sys.modules[name] = None
import torch
from safetensors.torch import save_file
import transformers
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, pipeline

directory, prompt = sys.argv[1:]
ids = torch.arange(1, 21).view(2, 10)
heads = {}
for task in ("SequenceClassification", "TokenClassification", "QuestionAnswering"):
    auto_class = getattr(transformers, f"AutoModelFor{task}")
    head = auto_class.from_pretrained(directory, trust_remote_code=True, pad_token_id=0)
    head.save_pretrained(task)
    again = auto_class.from_pretrained(task, trust_remote_code=True)
    heads[task] = all(map(torch.equal, head(ids).to_tuple()[:1], again(ids).to_tuple()[:1]))

model = AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=True)
results = {"logits": model(ids).logits}
results["static"] = model.generate(ids, max_new_tokens=8, do_sample=False, cache_implementation="static")

model.save_pretrained("again")
results["logits again"] = AutoModelForCausalLM.from_pretrained("again", trust_remote_code=True)(ids).logits

decoder = AutoModel.from_pretrained("again", trust_remote_code=True)
results["states"] = decoder(ids).last_hidden_state
extract = pipeline("feature-extraction", directory, trust_remote_code=True)
results["features"] = torch.tensor(extract(prompt))
save_file(results, "results.safetensors")

generator = pipeline("text-generation", directory, trust_remote_code=True)
text = generator(prompt, max_new_tokens=8, do_sample=False)[0]["generated_text"]
json.dump({"module": type(model).__module__, "text": text, "heads": heads}, open("results.json", "w"))
"""


def word_tokenizer() -> PreTrainedTokenizerFast:
    """The words w0, w1, ... as tokens 0, 1, ..."""
    backend = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCAB_SIZE)}, unk_token="w0"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="w0", pad_token="w0")


def words(text: str) -> list[str]:
    return re.findall(r"w\d+", text)


@pytest.fixture(scope="module", params=GENERATIONS)
def directory(tmp_path_factory, request):
    """A model directory with code and tokenizer."""
    path = tmp_path_factory.mktemp("checkpoint")
    random_model(generation=request.param, num_key_value_heads=2).save_pretrained(path)
    word_tokenizer().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def original(directory) -> NanochatGPTForCausalLM:
    """The model of the directory, by our own class."""
    return NanochatGPTForCausalLM.from_pretrained(directory)


@pytest.fixture(scope="module")
def strangers_results(directory, tmp_path_factory):
    """Tensors and facts from a fresh process without our package and without a network."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(elsewhere / "hf"), "OMP_NUM_THREADS": "1"}
    environment.pop("HF_MODULES_CACHE", None)
    command = [sys.executable, "-I", "-c", STRANGER, str(directory), PROMPT]
    run = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    facts = json.loads((elsewhere / "results.json").read_text())
    return load_file(elsewhere / "results.safetensors"), facts | {"stderr": run.stderr}


@pytest.mark.launch
def test_a_stranger_gets_the_same_logits(strangers_results, original):
    tensors, facts = strangers_results
    assert facts["module"].startswith("transformers_modules.")
    assert_close(tensors["logits"], original(torch.arange(1, 21).view(2, 10)).logits.detach())


@pytest.mark.launch
def test_a_stranger_generates_the_same(strangers_results, original):
    tensors, _ = strangers_results
    ids = torch.arange(1, 21).view(2, 10)
    assert torch.equal(tensors["static"], original.generate(ids, max_new_tokens=8, do_sample=False))


@pytest.mark.launch
def test_what_a_stranger_saves_loads_again(strangers_results):
    tensors, _ = strangers_results
    assert torch.equal(tensors["logits again"], tensors["logits"])


@pytest.mark.launch
def test_a_stranger_runs_the_pipeline(strangers_results, original):
    _, facts = strangers_results
    ids = original.generate(torch.tensor([[5, 7, 11]]), max_new_tokens=8, do_sample=False)
    assert words(facts["text"]) == [f"w{i}" for i in ids[0]]


@pytest.mark.launch
def test_a_stranger_extracts_features(strangers_results, original):
    tensors, _ = strangers_results
    assert_close(tensors["states"], original.model(torch.arange(1, 21).view(2, 10)).last_hidden_state.detach())
    assert_close(tensors["features"], original.model(torch.tensor([[5, 7, 11]])).last_hidden_state.detach())


@pytest.mark.launch
def test_a_stranger_saves_and_loads_classifiers(strangers_results):
    _, facts = strangers_results
    assert "score.weight" in facts["stderr"]  # which are new
    assert "lm_head" not in facts["stderr"]  # which are there and not needed
    assert facts["heads"] == dict.fromkeys(
        ["SequenceClassification", "TokenClassification", "QuestionAnswering"], True
    )


@pytest.mark.parametrize("saved", [NanochatGPTForCausalLM, NanochatGPTModel, NanochatGPTForSequenceClassification])
def test_every_directory_names_all_classes_of_its_code(tmp_path, saved):
    saved(tiny_config()).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["auto_map"] == AUTO_MAP
    assert all((tmp_path / f"{name.split('.')[0]}.py").exists() for name in AUTO_MAP.values())


@pytest.mark.parametrize("auto_class", [AutoModel, AutoModelForSequenceClassification])
def test_auto_classes_know_the_package(directory, original, auto_class):
    model = auto_class.from_pretrained(directory)
    assert type(model).__module__ == "modeling_nanochat.modeling_nanochat"
    assert torch.equal(model.get_input_embeddings().weight, original.get_input_embeddings().weight)


# What somebody runs who imports the package and nothing of it.
PACKAGE = """
import sys
import modeling_nanochat
from transformers import AutoConfig, AutoModelForCausalLM

directory, auto = sys.argv[1:]
config = AutoConfig.from_pretrained(directory)
assert type(config) is modeling_nanochat.NanochatGPTConfig
assert config.parameter_counts()["total"] > 0
assert "torch._dynamo" not in sys.modules and "modeling_nanochat.modeling_nanochat" not in sys.modules
if auto == "from_config":
    model = AutoModelForCausalLM.from_config(config)
else:
    from transformers import pipeline
    generator = pipeline("text-generation", directory)
    assert type(generator).__name__ == "NanochatGPTTextPipeline"
    model = generator.model
assert type(model) is modeling_nanochat.NanochatGPTForCausalLM
model.save_pretrained("again")
"""


@pytest.mark.launch
@pytest.mark.parametrize("auto", ["from_config", "pipeline"])
def test_the_models_file_is_imported_when_it_is_needed(directory, tmp_path, auto):
    command = [sys.executable, "-c", PACKAGE, str(directory), auto]
    end = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert end.returncode == 0, end.stderr
    assert json.loads((tmp_path / "again" / "config.json").read_text())["auto_map"] == AUTO_MAP
    assert (tmp_path / "again" / "modeling_nanochat.py").exists()


def test_the_auto_classes_hold_the_model_itself_once_it_is_there():
    assert MODEL_FOR_CAUSAL_LM_MAPPING[NanochatGPTConfig] is NanochatGPTForCausalLM
    with pytest.raises(AttributeError, match="has no attribute 'NanochatGPT'"):
        _ = modeling_nanochat.NanochatGPT


def test_the_directory_carries_the_code(directory):
    code = {path.name for path in Path(modeling_nanochat.__file__).parent.glob("*_nanochat.py")}
    assert "cache_nanochat.py" in code and code <= {path.name for path in directory.iterdir()}
    config = json.loads((directory / "config.json").read_text())
    assert config["model_type"] == "nanochat_gpt"
    assert config["architectures"] == ["NanochatGPTForCausalLM"]
    assert config["auto_map"] == {
        "AutoConfig": "configuration_nanochat.NanochatGPTConfig",
        "AutoModel": "modeling_nanochat.NanochatGPTModel",
        "AutoModelForCausalLM": "modeling_nanochat.NanochatGPTForCausalLM",
        "AutoModelForSequenceClassification": "modeling_nanochat.NanochatGPTForSequenceClassification",
        "AutoModelForTokenClassification": "modeling_nanochat.NanochatGPTForTokenClassification",
        "AutoModelForQuestionAnswering": "modeling_nanochat.NanochatGPTForQuestionAnswering",
    }


def test_with_the_package_no_trust_is_needed(directory, original):
    model = AutoModelForCausalLM.from_pretrained(directory)
    assert type(model) is NanochatGPTForCausalLM
    ids = random_ids(2, 10)
    assert torch.equal(model(ids).logits, original(ids).logits)
    generator = pipeline("text-generation", model=model, tokenizer=AutoTokenizer.from_pretrained(directory))
    texts = generator([PROMPT, "w3"], batch_size=2, max_new_tokens=4, do_sample=False)
    assert [len(words(text[0]["generated_text"])) for text in texts] == [3 + 4, 1 + 4]


def test_weights_saved_in_half_load_in_half(tmp_path, original):
    ids = random_ids(2, 10)
    half = NanochatGPTForCausalLM.from_pretrained(original.name_or_path, dtype=torch.bfloat16)
    half.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    assert torch.equal(loaded(ids).logits, half(ids).logits)
    exact = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert_close(exact(ids).logits, original(ids).logits, 0.25)


@pytest.mark.parametrize("device_map", ["cpu", "auto", {"": "cpu"}], ids=str)
def test_device_map_places_the_model(directory, original, device_map):
    model = AutoModelForCausalLM.from_pretrained(directory, device_map=device_map)
    ids = random_ids(2, 10)
    assert_close(model(ids.to(model.device)).logits.cpu(), original(ids).logits, 1e-4)


def test_layers_offloaded_to_disk_give_the_same_logits(directory, original, tmp_path):
    parts = [f"model.{name}" for name, _ in original.model.named_children() if name != "layers"]
    parts += [f"model.{name}" for name, _ in original.model.named_parameters(recurse=False)]
    parts += [f"model.layers.{i}" for i in range(len(original.model.layers))]
    device_map = dict.fromkeys([*parts, "lm_head"], "cpu") | {"model.layers.1": "disk"}
    if original.config.value_embeddings:
        device_map["model.value_embeds"] = "disk"
    model = AutoModelForCausalLM.from_pretrained(directory, device_map=device_map, offload_folder=tmp_path)
    ids = random_ids(2, 10)
    assert_close(model(ids).logits, original(ids).logits)
    options = {"max_new_tokens": 4, "do_sample": False}
    assert torch.equal(model.generate(ids, **options), original.generate(ids, **options))


def test_a_model_too_large_for_memory_gives_the_same_logits(directory, original, tmp_path):
    """Scalars, too, which are parameters of the model and of no module within it, may have no place in memory."""
    options = {"device_map": "auto", "max_memory": {"cpu": 60_000}, "offload_folder": tmp_path}
    model = AutoModelForCausalLM.from_pretrained(directory, **options)
    assert "disk" in model.hf_device_map.values()
    ids = random_ids(2, 10)
    assert_close(model(ids).logits, original(ids).logits)


def test_embedding_and_head_are_saved_apart(tmp_path):
    random_model().save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    assert not torch.equal(weights["lm_head.weight"], weights["model.embed_tokens.weight"])
    assert len(weights) == 2 + 2 * 6
