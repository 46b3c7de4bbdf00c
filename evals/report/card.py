"""The model card of a stage: README.md with the Hub's metadata, the report's figures in its `model-index`.

A card of ours carries a digest of itself. One that was written or changed by hand has none that fits, and stays.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from evals.report.formats import count, duration, listed, percent, task_name
from evals.report.gather import Run, Stage, commands
from recipes import atomic
from recipes.page import Code, Heading, Table, Text, escape_markdown

MARK = re.compile(r"<!-- written by evals\.report: ([0-9a-f]{64}) -->\n")
WHAT = {
    "base": "a base language model: it continues text and does not chat",
    "mid": "a language model that has read conversations and knows the chat format; a step on the way to a chat model",
    "sft": "a chat model, finetuned on conversations",
    "grpo": "a chat model, finetuned on conversations and then on problems with a checkable answer",
}
DATASETS = {  # of a chat task: name for people, id, configuration and split
    "arc_easy": ("ARC-Easy", "allenai/ai2_arc", "ARC-Easy", "test"),
    "arc_challenge": ("ARC-Challenge", "allenai/ai2_arc", "ARC-Challenge", "test"),
    "mmlu": ("MMLU", "cais/mmlu", "all", "test"),
    "gsm8k": ("GSM8K", "openai/gsm8k", "main", "test"),
    "humaneval": ("HumanEval", "openai/openai_humaneval", None, "test"),
}
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
HERE = 'name = "."  # this directory, or the model\'s name on the Hub'
LOAD = f"""\
from transformers import AutoModelForCausalLM, AutoTokenizer

{HERE}
model = AutoModelForCausalLM.from_pretrained(name, trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=True)
"""
COMPLETE = """\
inputs = tokenizer("The capital of France is", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=16)[0]))
"""
CHAT = """\
messages = [{"role": "user", "content": "What is the capital of France?"}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
reply = model.generate(**inputs, max_new_tokens=64)[0, inputs["input_ids"].size(1) :]
print(tokenizer.decode(reply, skip_special_tokens=True))
"""


@dataclass(frozen=True)
class Result:
    """A figure of the report: as the card's table shows it, and as the `model-index` holds it."""

    name: str
    text: str
    value: float
    metric: str
    dataset: tuple[str, str, str | None, str | None]  # name, id, configuration, split

    def as_eval_result(self) -> EvalResult:
        """For huggingface_hub."""
        name, identifier, config, split = self.dataset
        return EvalResult(
            task_type="text-generation",
            task_name="Text generation",
            dataset_name=name,
            dataset_type=identifier,
            dataset_config=config,
            dataset_split=split,
            metric_type=self.metric,
            metric_name=self.name,
            metric_value=self.value,
        )


def write_model_card(stage: Stage, run: Run) -> Path | None:
    """Write README.md into the directory of a finished stage; None if one is there that is not ours any more."""
    path = stage.directory / "README.md"
    if path.exists() and not is_ours(path.read_text(encoding="utf-8", errors="replace")):
        return None
    atomic.write_text(path, sign(str(build_model_card(stage, run))))
    return path


def build_model_card(stage: Stage, run: Run, repo: str | None = None) -> ModelCard:
    """The card: what the model is, how it was made, what it can do, how to load it (from `repo`), what to expect."""
    title = f"{run.name}-{stage.name}"
    results = stage_results(stage)
    hub_data = [stage.data] if stage.data and HUB_ID.fullmatch(stage.data) and not Path(stage.data).exists() else None
    data = ModelCardData(
        language="en",
        license="apache-2.0",
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["nanochat", "trained-from-scratch", *(["trl"] if stage.name in ("sft", "grpo") else [])],
        datasets=hub_data,
        model_name=title,
        eval_results=[result.as_eval_result() for result in results] or None,
    )
    blocks = [Heading(title, 1), Text(describe(stage)), Heading("Use")]
    parts = [block.markdown("") for block in blocks]
    load = LOAD if repo is None else LOAD.replace(HERE, f'name = "{repo}"')
    parts.append(f"```python\n{load}\n{COMPLETE if stage.name == 'base' else CHAT}```")
    if results:
        rows = [[result.name, result.text] for result in results]
        parts += [block.markdown("") for block in (Heading("Figures"), Table(["measured", "value"], rows))]
    parts += [block.markdown("") for block in (Heading("Training"), Table(["", ""], training_rows(stage), left=2))]
    if given := commands(
        [*run.tokenizer_launches, *(each for one in stages_up_to(stage, run) for each in one.launches)]
    ):
        parts += [Text("The commands, from the tokenizer on:").markdown(""), Code("\n".join(given)).markdown("")]
    parts += [Heading("Limits").markdown(""), escape_markdown(limits(stage))]
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n")


def describe(stage: Stage) -> str:
    """The first sentences."""
    size = f" It has {stage.parameters.total:,} parameters." if stage.parameters is not None else ""
    return f"This is {WHAT[stage.name]}.{size} It was trained from scratch; its code is in this directory."


def limits(stage: Stage) -> str:
    """What not to expect."""
    small = stage.parameters is not None and stage.parameters.total < 1e9
    size = "It is small: it knows little and says wrong things fluently. " if small else ""
    return (
        f"{size}It was trained on English, its answers were not made safe, and nothing it writes should be relied on "
        "unchecked. Do not use it where a mistake matters."
    )


def stages_up_to(stage: Stage, run: Run) -> list[Stage]:
    """The stages that led to this one, and itself."""
    return run.stages[: run.stages.index(stage) + 1]


def training_rows(stage: Stage) -> list[list[str]]:
    """The stage in numbers."""
    model, precision = stage.parameters, stage.launched("precision")
    rows = [
        ["data", stage.data or ""],
        ["steps", count(stage.steps)],
        ["tokens", count(stage.tokens)],
        ["training time", duration(stage.seconds)],
        ["processes", count(stage.processes)],
        ["precision", str(precision or "")],
        ["model", f"{model.name}, context {model.context:,}, vocabulary {model.vocab_size:,}" if model else ""],
    ]
    return [row for row in rows if row[1]]


def stage_results(stage: Stage) -> list[Result]:
    """The stage's figures. CORE is one of them only whole: the index has no name for less that would not mislead."""
    results = []
    if stage.bpb is not None:
        data = stage.data or "its corpus"
        source = data if HUB_ID.fullmatch(data) else re.sub(r"[^\w.-]+", "-", data).strip("-") or "corpus"
        dataset = (f"{data}, held out", source, None, "validation")
        results.append(Result("bits per byte", f"{stage.bpb:.4f}", stage.bpb, "bits_per_byte", dataset))
    if stage.core is not None and stage.core.core is not None and stage.core.max_examples is None:
        dataset = ("CORE, the 22 tasks of DCLM", "core", None, None)
        results.append(Result("CORE", f"{stage.core.core:.4f}", stage.core.core, "core", dataset))
    for name, score in stage.chat.tasks.items() if stage.chat is not None else ():
        dataset = DATASETS.get(name, (f"primer, {task_name(name)}", f"primer-{name}", None, "validation"))
        text = f"{percent(score.accuracy)} of {score.count:,} problems"
        results.append(Result(f"accuracy, {task_name(name)}", text, score.accuracy, "accuracy", dataset))
    if stage.chat is not None and stage.chat.chat_core is not None:
        core = stage.chat.chat_core
        dataset = (f"ChatCORE: {listed([task_name(name) for name in DATASETS])}", "chat_core", None, None)
        results.append(Result("ChatCORE", f"{core:.4f}", core, "chat_core", dataset))
    if stage.judge is not None:
        score, judge = stage.judge.mean_score, stage.judge.judge
        name = f"mean score of 0 to 100, judged by {judge}"
        dataset = (f"{stage.judge.count:,} instructions", "instructions", None, None)
        results.append(Result(name, f"{score:.1f}", score, "judge_score", dataset))
    return results


# Whose card it is


def sign(text: str) -> str:
    """The card with the mark of ours, after its metadata."""
    mark = f"<!-- written by evals.report: {hashlib.sha256(text.encode()).hexdigest()} -->\n"
    end = text.index("\n---\n", 3) + len("\n---\n")
    return text[:end] + mark + text[end:]


def is_ours(text: str) -> bool:
    """Whether a card is one that we wrote and nobody has changed since."""
    mark = MARK.search(text)
    if mark is None:
        return False
    rest = text[: mark.start()] + text[mark.end() :]
    return hashlib.sha256(rest.encode()).hexdigest() == mark[1]
