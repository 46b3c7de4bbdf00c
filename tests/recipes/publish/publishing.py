"""Publishing as a user would, and what is to come of it."""

from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from recipes.publish.__main__ import PublishArguments, publish_run
from recipes.utils.errors import InputError

MODEL = {
    "README.md", "cache_nanochat.py", "chat_template.jinja", "config.json", "configuration_nanochat.py",
    "generation_config.json", "generation_nanochat.py", "launches.json", "layers_nanochat.py", "loss_nanochat.py",
    "metrics.jsonl", "model.safetensors", "modeling_nanochat.py", "tokenizer.json", "tokenizer_config.json",
}  # fmt: skip
TOKEN = "hf_" + "abcdefghijklmnopqrstuvwxyz01234567"  # of the shape of a real one
SCRIPT = "publish/__main__"


def publish(run_dir, repo="ada/model", **more):
    publish_run(PublishArguments(**{"run": str(run_dir), "repo": repo, "yes": True} | more))


def complaint(run_dir, repo="ada/model", **more) -> str:
    """The one line that publishing ends with."""
    with pytest.raises(InputError) as refusal:
        publish(run_dir, repo, **more)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def reshard(stage: Path) -> int:
    """Write the weights in small files; how many these are."""
    model = AutoModelForCausalLM.from_pretrained(stage)
    (stage / "model.safetensors").unlink()
    model.save_pretrained(stage, max_shard_size="150KB")
    return len(list(stage.glob("model-*.safetensors")))
