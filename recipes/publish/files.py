"""The files of a stage that are published: an allow-list, so that nothing else can leak.

Not checkpoints, optimizer states, data, adapters or logs; not arguments.json, which holds local paths. A text that
seems to hold an access token stops the upload.
"""

import json
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import get_token
from safetensors import SafetensorError, safe_open
from transformers.dynamic_module_utils import get_relative_import_files

from evals.report.card import build_model_card, is_ours, sign
from evals.report.gather import Run, Stage, gather, gather_stage
from recipes.utils.errors import InputError
from recipes.utils.json_lines import parse_json
from recipes.utils.provenance import SECRET, hide_secrets
from recipes.utils.run_directory import CONFIG, LAUNCHES, METRICS, SCRIPTS, STAGES, is_finished

WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json")
MODEL_FILES = re.compile(
    rf"{WEIGHTS.pattern}|{re.escape(CONFIG)}|generation_config\.json|{re.escape(METRICS)}"
    r"|tokenizer\.json|tokenizer_config\.json|special_tokens_map\.json|added_tokens\.json|chat_template\.jinja"
    r"|tokenizer\.model|vocab\.json|vocab\.txt|merges\.txt"  # of others' models
)
VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
TOKEN = re.compile(
    r"\b(hf_[A-Za-z0-9]{30,}|sk-[\w-]{20,}|gh[a-z]_[A-Za-z0-9]{30,}|github_pat_\w{40,}|AKIA[A-Z0-9]{16}\b)"
)
SECRET_VARIABLE = re.compile(r"\w*(TOKEN|API_KEY|SECRET|PASSWORD)")
SHORTEST_SECRET = 8  # characters; shorter ones occur by chance
STAGE_OF = {script: stage for stage, script in SCRIPTS.items()}
SCRIPT = re.compile(rf"\brecipes[./]({'|'.join(STAGE_OF)})\b")


@dataclass(frozen=True)
class Upload:
    """A file to publish: its path in the repository, and its local path or content."""

    path: str
    source: Path | bytes

    @property
    def size(self) -> int:
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size


def find_stage(run_dir: Path, name: str | None = None) -> tuple[Stage, Run]:
    """The stage `name` of a run, or the last finished one. Raises `InputError` if it is not finished."""
    if name is not None and name not in STAGES:
        return lone_stage(run_dir / name)
    run = gather(run_dir)
    finished = {stage.name: stage for stage in run.stages if stage.finished}
    if not finished:
        raise InputError(f"nothing to publish in {run_dir}: no stage of it is finished.")
    name = name or list(finished)[-1]
    if name not in finished:
        raise InputError(f"{run_dir / name} holds no finished model; finished are {', '.join(finished)}.")
    return finished[name], run


def lone_stage(directory: Path) -> tuple[Stage, Run]:
    """A stage in a directory of another name, identified by its launches."""
    if not is_finished(directory):
        raise InputError(f"{directory} holds no finished model.")
    stage = gather_stage(directory, notes=[])
    made_by = [SCRIPT.search(command) for command in stage.commands]
    if not any(made_by):
        raise InputError(f"{directory} does not say what made it: call it one of {', '.join(STAGES)}.")
    stage = replace(stage, name=STAGE_OF[next(match[1] for match in reversed(made_by) if match)])
    return stage, Run(directory.parent, [stage], None, [], [])


def model_files(stage: Stage, run: Run, repo: str) -> list[Upload]:
    """Model, tokenizer, code, model card and how it was trained, of a finished stage.

    Raises `InputError` for an incomplete model, and for a text that seems to hold an access token.
    """
    directory = stage.directory
    run = replace(
        run, stages=[clean(each) for each in run.stages], tokenizer_launches=clean_ones(run.tokenizer_launches)
    )
    names = [path.name for path in directory.iterdir() if path.is_file() and MODEL_FILES.fullmatch(path.name)]
    check_weights(directory, names)
    if "tokenizer_config.json" not in names or not any(name in names for name in VOCABULARIES):
        raise InputError(f"{directory} holds no complete tokenizer: nobody could use the model.")
    uploads = [Upload(name, directory / name) for name in sorted({*names, *code_files(directory)})]
    uploads.append(Upload("README.md", model_card(clean(stage), run, repo)))
    check_secrets(uploads)
    if stage.launches and clean(stage) == stage:
        uploads.append(Upload(LAUNCHES, directory / LAUNCHES))
    return uploads


def check_weights(directory: Path, names: list[str]) -> None:
    """Raise `InputError` unless all weight files are there and complete."""
    index = read_json(directory / "model.safetensors.index.json") if "model.safetensors" not in names else {}
    wanted = set(index.get("weight_map", {}).values()) or {"model.safetensors"}
    if missing := sorted(wanted - set(names)):
        raise InputError(f"{directory} lacks {', '.join(missing)}: there is no whole model to publish.")
    for name in sorted(wanted):
        try:
            with safe_open(directory / name, framework="pt"):
                pass  # its header was read, and compared with its length
        except (OSError, SafetensorError) as error:
            raise InputError(f"{directory / name} is damaged ({error}): there is no whole model to publish.") from None


def code_files(directory: Path) -> Iterator[str]:
    """Names of the modules that `trust_remote_code` loads: those in `auto_map`, and what these import beside them."""
    for config in (CONFIG, "tokenizer_config.json"):
        for classes in read_json(directory / config).get("auto_map", {}).values():
            for reference in classes if isinstance(classes, list) else [classes]:
                if reference is None or "--" in reference:  # none, or code in another repository
                    continue
                module = directory / f"{reference.partition('.')[0]}.py"
                try:
                    imported = get_relative_import_files(module)
                except OSError as error:
                    raise InputError(f"{error.filename} is missing: nobody could load the model without.") from None
                for path in (module, *map(Path, imported)):
                    yield path.name


def model_card(stage: Stage, run: Run, repo: str) -> bytes:
    """The stage's README.md if it was written by hand; else a new model card for `repo`."""
    path = stage.directory / "README.md"
    written = path.read_bytes() if path.is_file() else None
    if written is not None and not is_ours(text := written.decode(errors="replace")):
        if text.encode() != written:
            raise InputError(f"{path} is not UTF-8 text, as the Hub requires.")
        return written
    return sign(str(build_model_card(stage, run, repo))).encode()


# Secrets


def check_secrets(uploads: list[Upload]) -> None:
    """Raise `InputError` if a text seems to hold an access token; vocabularies and weights are not searched."""
    for upload in uploads:
        if upload.path in (*VOCABULARIES, "merges.txt") or upload.path.endswith((".safetensors", ".png")):
            continue
        source = upload.source if isinstance(upload.source, bytes) else upload.source.read_bytes()
        if holds_token(source.decode(errors="replace")):
            raise InputError(f"{upload.path} seems to hold an access token: take it out before it is published.")


def holds_token(text: str) -> bool:
    """Whether a text holds what looks like an access token, or one of this machine's own secrets."""
    own = [value for name, value in os.environ.items() if SECRET_VARIABLE.fullmatch(name)]
    own = [value for value in (get_token() or "", *own) if len(value) >= SHORTEST_SECRET]
    return TOKEN.search(text) is not None or any(secret in text for secret in own)


def clean(stage: Stage) -> Stage:
    """The stage without those of its launches that hold a secret."""
    return replace(stage, launches=clean_ones(stage.launches))


def clean_ones(launches: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The launches without secrets. (Recording a launch masks flags of passwords and tokens.)"""

    def is_clean(launch: dict[str, Any]) -> bool:
        text = json.dumps(launch)
        try:
            words = shlex.split(str(launch.get("command") or ""))
        except ValueError:
            return False
        return hide_secrets(words) == words and not SECRET.search(text) and not holds_token(text)

    return [launch for launch in launches if is_clean(launch)]


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if there is no file. Raises `InputError` if it is damaged."""
    try:
        content = parse_json(path.read_bytes()) if path.exists() else {}
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}.") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged: it holds no JSON object.")
    return content
