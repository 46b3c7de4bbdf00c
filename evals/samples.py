"""Samples of a model: nanochat's seven prompts and a short conversation: `python -m evals.samples --model DIR`.

Six of the prompts have a known answer. Decoding is greedy, so that samples of the same model are equal.
`--prompt TEXT` prints the model's continuation of a text instead, to look at any base model.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from recipes.utils.arguments import REQUIRED, Arguments, flag, read_command_line
from recipes.utils.errors import exit_on_input_error

KINDS = ("auto", "completions", "conversation", "both")


@dataclass
class SamplesArguments(Arguments):
    """Flags of `python -m evals.samples`."""

    model: str = flag(REQUIRED, "directory or Hub id of a causal language model", path=True)
    output: str | None = flag(
        None, "JSON file of the samples (default: evals/samples.json in the model's directory)", path=True
    )
    kind: str = flag(
        "auto", "completions, conversation or both; auto: both for a model that has learnt to chat", choices=KINDS
    )
    prompt: str | None = flag(None, "print the continuation of this text instead, and write no file")
    temperature: float = flag(0.8, "of the continuation; 0 takes the likeliest token", least=0)
    max_new_tokens: int = flag(500, "of the continuation, which ends at the latest where the context does", least=1)
    seed: int = flag(0, "of the continuation", least=0, below=2**32)


if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("evals.samples", SamplesArguments)

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from recipes.inference.generate import Sampling, Text, context_length, generate_replies, stream_completion
from recipes.inference.models import load_model, results_file
from recipes.utils import atomic
from recipes.utils.plain_text import plain_text
from recipes.utils.provenance import command_line
from recipes.utils.run_directory import SAMPLES, read_documents_only
from tokenizer.chat import Message, call_expression
from tokenizer.encode import check_utf8

PROMPTS = {  # and the words that a right completion begins with; None if any completion is right
    "The capital of France is": "Paris",
    "The chemical symbol of gold is": "Au",
    "If yesterday was Friday, then tomorrow will be": "Sunday",
    "The opposite of hot is": "cold",
    "The planets of the solar system are:": "Mercury, Venus, Earth, Mars, Jupiter, Saturn, Uranus",
    "My favorite color is": None,
    "If 5*x + 3 = 13, then x is": "2",
}
QUESTIONS = (
    "Hello!",
    "What is the capital of France?",
    "Anna has 14 apples and buys 27 more. How many apples does Anna have now?",
    "Who are you?",
)
COMPLETION_TOKENS, REPLY_TOKENS = 24, 128


@torch.no_grad()
def complete(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[str], max_new_tokens: int = 32
) -> list[str]:
    """Greedy completions of `prompts`, without the prompts themselves."""
    was_training = model.training
    model.eval()
    completions = []
    for prompt in prompts:  # one by one, so that the logits do not depend on padding
        ids = torch.tensor([tokenizer(prompt)["input_ids"]], device=model.device)
        room = context_length(model) - ids.size(1)
        if room < 1:
            completions.append("")
            continue
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=min(max_new_tokens, room),
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
        )
        completions.append(tokenizer.decode(output[0, ids.size(1) :], skip_special_tokens=True))
    model.train(was_training)
    return completions


def is_right(prompt: str, completion: str) -> bool | None:
    """Whether `completion` begins with the known answer as whole words and numbers; None if there is none."""
    answer = PROMPTS[prompt]
    if answer is None:
        return None
    rest = completion.lstrip()
    return rest.startswith(answer) and not re.match(r"\w|[.,]\d", rest[len(answer) :])


def sample_completions(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
    """Each of the seven prompts with its completion and whether it is right (None if there is no known answer)."""
    completions = complete(model, tokenizer, list(PROMPTS), COMPLETION_TOKENS)
    return [
        {"prompt": prompt, "completion": text, "right": is_right(prompt, text)}
        for prompt, text in zip(PROMPTS, completions, strict=True)
    ]


def converse(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[Message]:
    """A conversation of `QUESTIONS` and the model's replies, including calculator calls and their results."""
    messages: list[Message] = []
    for question in QUESTIONS:
        messages.append({"role": "user", "content": question})
        messages += generate_replies(model, tokenizer, [messages], Sampling(max_new_tokens=REPLY_TOKENS))[0]
    return messages


def print_completions(samples: list[dict[str, Any]]) -> None:
    """Print one line per sample, and how many of those with a known answer are right."""
    print()
    for sample in samples:
        mark = {True: "right", False: "wrong", None: "free "}[sample["right"]]
        print(plain_text(f"  {mark}  {sample['prompt']}{first_line(sample['completion'])}"))
    verdicts = [sample["right"] for sample in samples]
    print(f"\n{verdicts.count(True)} of {len(verdicts) - verdicts.count(None)} prompts completed right")


def first_line(text: str) -> str:
    return text.splitlines()[0] if text else ""


def print_conversation(messages: list[Message]) -> None:
    names = {"user": "you    ", "model": "model  ", "call": "model  [calculator] ", "result": "       = "}
    print()
    for speaker, text in turns(messages):
        print(plain_text(f"  {names[speaker]}{text}"))


def turns(messages: list[Message]) -> list[tuple[str, str]]:
    """The conversation as (speaker, text): user, model, a calculator call, or its result."""
    said = []
    for message in messages:
        if message["role"] in ("user", "tool"):
            said.append(("user" if message["role"] == "user" else "result", message["content"]))
            continue
        expression = call_expression(message)
        said += [("model", message["content"])] if message["content"] else []
        said += [("call", expression)] if expression is not None else []
    return said


# The command


def write_samples(args: SamplesArguments) -> None:
    """Generate samples, print them, and write them to the output file."""
    path = results_file(args.model, SAMPLES, args.output)
    model, tokenizer = load_model(args.model)
    wanted = (
        args.kind if args.kind != "auto" else "both" if has_learnt_to_chat(args.model, tokenizer) else "completions"
    )
    samples: dict[str, Any] = {"model": args.model, "command": command_line()}
    if wanted != "conversation":
        samples["completions"] = sample_completions(model, tokenizer)
        print_completions(samples["completions"])
    if wanted != "completions":
        samples["conversation"] = converse(model, tokenizer)
        print_conversation(samples["conversation"])
    if path is not None:
        atomic.write_text(path, json.dumps(samples, indent=2, ensure_ascii=False) + "\n")
        print(f"written to {path}")


def print_continuation(args: SamplesArguments) -> None:
    """Print the prompt and what the model continues it with, as it is generated."""
    check_utf8([args.prompt])
    sampling = Sampling(max_new_tokens=args.max_new_tokens, temperature=args.temperature, seed=args.seed)
    model, tokenizer = load_model(args.model)
    events = stream_completion(model, tokenizer, args.prompt, sampling)
    print(plain_text(args.prompt), end="", flush=True)
    for event in events:
        if isinstance(event, Text):
            print(plain_text(event.text), end="", flush=True)
    print()


def has_learnt_to_chat(name: str, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the model can hold a conversation: it has a chat template, and was trained on more than documents."""
    return bool(tokenizer.chat_template) and not read_documents_only(name)


def main(args: SamplesArguments) -> None:
    if args.prompt is None:
        write_samples(args)
    else:
        print_continuation(args)


if __name__ == "__main__":
    exit_on_input_error("evals.samples", lambda: main(ARGS))
