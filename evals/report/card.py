"""The model card of a stage: README.md with the Hub's metadata, the report's figures in its `model-index`.

A card of ours carries a digest of itself. One that was written or changed by hand has none that fits, and stays.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from evals.chat.tasks import CHAT_CORE
from evals.report.formats import count, duration, listed, percent, task_name
from evals.report.gather import Run, Stage, commands
from evals.report.page import Block, Code, Heading, Table, Text, escape_markdown
from recipes.utils import atomic
from recipes.utils.run_directory import STAGES

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
    "gsm8k_flexible": ("GSM8K", "openai/gsm8k", "main", "test"),
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
CALLS = """\
To calculate, it calls a tool: a reply that ends in `<|python_start|>12*4<|python_end|>` waits for the result. Append \
the call and its result to the messages, and generate again:

```python
call = {"type": "function", "function": {"name": "calculator", "arguments": {"expression": "12*4"}}}
messages += [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "content": "48"}]
```"""


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
    title, source = f"{run.name}-{stage.name}", base_model(stage, run)
    results = stage_results(stage)
    data = ModelCardData(
        language="en",
        license=None if source else "apache-2.0",  # that of another's model is theirs to say
        base_model=source,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=[
            "nanochat",
            *(["trained-from-scratch"] if from_scratch(stage, run) else []),
            *(["trl"] if stage.name in ("sft", "grpo") else []),
        ],
        datasets=list(dict.fromkeys(each.data for each in stages_up_to(stage, run) if is_on_hub(each.data))) or None,
        model_name=title,
        eval_results=[result.as_eval_result() for result in results] or None,
    )
    blocks = [Heading(title, 1), Text(describe(stage, run)), Heading("Use")]
    parts = [block.markdown("") for block in blocks]
    load = LOAD if repo is None else LOAD.replace(HERE, f'name = "{repo}"')
    parts.append(f"```python\n{load}\n{COMPLETE if stage.name == 'base' else CHAT}```")
    if stage.name != "base" and calls_tools(stage):
        parts.append(CALLS)
    if results:
        rows = [[result.name, result.text] for result in results]
        parts += [block.markdown("") for block in (Heading("Figures"), Table(["measured", "value"], rows))]
        parts += [Text(note).markdown("") for note in stage.chat.notes] if stage.chat is not None else []
    parts += [block.markdown("") for block in (Heading("Training"), *training(stage, run))]
    if given := commands(
        [*run.tokenizer_launches, *(each for one in stages_up_to(stage, run) for each in one.launches)]
    ):
        parts += [
            Text("The commands, from the tokenizer on, in a checkout of nanochat-transformers:").markdown(""),
            Code("\n".join(given)).markdown(""),
        ]
    parts += [Heading("Limits").markdown(""), escape_markdown(limits(stage))]
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n")


def describe(stage: Stage, run: Run) -> str:
    """The first sentences."""
    sentences = [f"This is {WHAT[stage.name]}."]
    if stage.parameters is not None:
        sentences.append(f"It has {stage.parameters.total:,} parameters.")
    if (source := base_model(stage, run)) is not None:
        sentences.append(f"It was trained from {source}, whose licence holds for it as well.")
    elif from_scratch(stage, run):
        sentences.append("It was trained from scratch.")
    if any(stage.directory.glob("modeling_*.py")):
        sentences.append("The code that loads it is in this directory.")
    return " ".join(sentences)


def base_model(stage: Stage, run: Run) -> str | None:
    """The model on the Hub that the run, as far as this stage, began with; None if it began with none."""
    sources = [each.launched("source") for each in stages_up_to(stage, run)]
    return next((each for each in reversed(sources) if is_on_hub(each) and Path(each).name not in STAGES), None)


def from_scratch(stage: Stage, run: Run) -> bool:
    """Whether all of its training is this run's, its pretraining included."""
    stages = stages_up_to(stage, run)
    sources = [Path(str(source)).name for each in stages if (source := each.launched("source")) is not None]
    return stages[0].name == "base" and base_model(stage, run) is None and set(sources) <= set(STAGES)


def is_on_hub(name: Any) -> bool:
    """Whether what a stage was trained on, or from, is a name on the Hub and no path here."""
    return isinstance(name, str) and HUB_ID.fullmatch(name) is not None and not Path(name).exists()


def calls_tools(stage: Stage) -> bool:
    """Whether its chat format is ours, which knows calls."""
    template = stage.directory / "chat_template.jinja"
    return template.exists() and "<|python_start|>" in template.read_text(encoding="utf-8", errors="replace")


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


def training(stage: Stage, run: Run) -> Iterator[Block]:
    """The model's size, and the stages that led to it in numbers."""
    if (model := stage.parameters) is not None:
        yield Text(f"{model.name}, context {model.context:,}, vocabulary {model.vocab_size:,}.")
    columns = ["stage", "data", "steps", "tokens", "training time", "processes", "precision"]
    rows = [
        [
            each.title,
            each.data or "",
            count(each.steps),
            count(each.tokens),
            duration(each.seconds),
            count(each.processes),
            each.precision,
        ]
        for each in stages_up_to(stage, run)
    ]
    known = [index for index in range(len(columns)) if any(row[index] for row in rows)]
    yield Table([columns[index] for index in known], [[row[index] for index in known] for row in rows], left=2)
    if any((each.data or "").startswith("primer") for each in stages_up_to(stage, run)):
        yield Text("The primer is a small corpus of simple English that the project's own code generates.")


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
        dataset = (f"ChatCORE: {listed([task_name(name) for name in CHAT_CORE])}", "chat_core", None, None)
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
