"""What a run leaves can be read by whom the umask lets, and says nothing of the machine that wrote it."""

import json
import os
import stat
from functools import partial
from pathlib import Path

import pytest

from recipes.utils import atomic
from tests.recipes.processes import flags, run

pytestmark = pytest.mark.launch

# What a user asked for, and how: paths belong there.
RECORDS = {"arguments.json", "launches.json", "adapter_config.json"}


OTHERS = [pytest.param(umask, marks=pytest.mark.slow) for umask in (0o002, 0o077)]


@pytest.fixture(scope="module", params=[0o022, *OTHERS], ids=oct)
def stages(request, tiny, sums, corpus, tmp_path_factory) -> tuple[int, Path]:
    """A umask, and under it all that the stages of a run write, from the tokenizer to adapters and a conversion."""
    root = tmp_path_factory.mktemp("runs")
    os.chmod(root, 0o777 & ~request.param)
    tuned = {"source": root / "base", "conversations": sums, "per_device_train_batch_size": 16, "max_steps": 2}
    tuned |= {"save_steps": 1, "logging_steps": 1, "eval_strategy": "no"}
    base = tiny | {"tokenizer": root / "tokenizer", "max_seq_len": 128, "total_batch_size": 256, "num_iterations": 2}
    for script, arguments in (
        ("../tokenizer/train", {"dataset": corpus, "vocab_size": 512, "output_dir": root / "tokenizer"}),
        ("pretrain", base | {"save_every": 1, "eval_every": 1, "output_dir": root / "base"}),
        ("sft", tuned | {"output_dir": root / "sft"}),
        ("sft", tuned | {"output_dir": root / "lora", "use_peft": True}),
        ("convert/__main__", {"source": root / "sft", "output_dir": root / "nanochat", "to": "nanochat"}),
        ("../evals/report/__main__", {"run": root}),
    ):
        end = run(flags(arguments), before=partial(os.umask, request.param), script=script)
        assert end.code == 0, end.stderr
    return request.param, root


def test_files_and_directories_have_the_modes_of_the_umask(stages):
    umask, root = stages
    wrong = {}
    for path in root.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode != (0o777 if path.is_dir() else 0o666) & ~umask:
            wrong[str(path.relative_to(root))] = oct(mode)
    assert not wrong
    weights = [path.parent for path in root.rglob("*.safetensors")]
    assert {root / "base", root / "sft", root / "lora" / "adapter", root / "nanochat"} <= set(weights)
    assert len(weights) >= 4 + 2 * 3  # checkpoints, two a stage


def strings(value) -> list[str]:
    """All keys and texts in a JSON value."""
    if isinstance(value, dict):
        return [text for key, each in value.items() for text in (key, *strings(each))]
    if isinstance(value, list):
        return [text for each in value for text in strings(each)]
    return [value] if isinstance(value, str) else []


def test_no_file_speaks_of_the_machine(stages):
    _, root = stages
    found = [path for path in root.rglob("*.json") if path.name not in RECORDS]
    assert {"config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json"} <= {
        p.name for p in found
    }
    told = {
        "is_local",
        "local_files_only",
        "name_or_path",
        "_name_or_path",
        "tokenizer_file",
        "vocab_file",
        "cache_dir",
    }
    for path in found:
        texts = strings(json.loads(path.read_text()))
        assert not told & set(texts), path
        assert not any(str(root) in text or os.uname().nodename in text.split() for text in texts), path
        if path.name == "config.json":
            assert not any("--" in text for text in texts), path


def test_directories_inherit_what_a_shared_parent_passes_on(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2775)
    if not shared.stat().st_mode & stat.S_ISGID:
        pytest.skip("no setgid here")
    with atomic.new_directory(shared / "final") as directory:
        (directory / "sub").mkdir()
        (directory / "sub" / "file").touch(mode=0o600)
        (directory / "link").symlink_to("/etc/passwd")
    assert (shared / "final" / "sub").stat().st_mode & stat.S_ISGID
    assert stat.S_IMODE((shared / "final" / "sub" / "file").stat().st_mode) == 0o666 & ~current_umask()
    assert os.readlink(shared / "final" / "link") == "/etc/passwd"


def current_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
