"""Free-form answers scored by another model: `python -m evals.judge --model DIR --instructions FILE --judge JUDGE`.

The judge is an OpenAI-compatible endpoint (http://localhost:8000/v1) or a chat model that transformers loads. The same
command run again judges only what is missing or has failed.
"""

import os
import re
import shlex
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from textwrap import shorten
from typing import Any

from recipes.utils.arguments import REQUIRED, Arguments, flag, read_command_line
from recipes.utils.errors import InputError, exit_on_input_error


@dataclass
class JudgeArguments(Arguments):
    """Flags of `python -m evals.judge`."""

    model: str = flag(REQUIRED, "directory or Hub id of the chat model that answers", path=True)
    instructions: str = flag(REQUIRED, "file in the Alpaca layout: JSON or JSON lines", path=True)
    judge: str = flag(
        REQUIRED, "URL of an OpenAI-compatible endpoint, or directory or Hub id of a chat model", path=True
    )
    judge_model: str | None = flag(None, "model to ask the endpoint for (default: the only one it serves)")
    api_key_env: str | None = flag(None, "environment variable that holds the endpoint's key (default: no key)")
    concurrency: int = flag(4, "requests to the endpoint at a time", least=1, most=1024)
    timeout: float = flag(
        120.0, "seconds without a byte from the endpoint after which a request has failed", above=0, most=86_400
    )
    judge_max_new_tokens: int = flag(1024, "tokens of one verdict; a judge that thinks first needs more", least=1)
    batch_size: int = flag(32, "answers, and verdicts of a local judge, that are worked on at a time", least=1)
    max_problems: int | None = flag(None, "instructions, drawn from a fixed seed (default: all)", least=1)
    temperature: float = flag(0.0, "of sampling answers; 0 takes the likeliest token", least=0)
    top_k: int | None = flag(None, "sample answers from this many likeliest tokens only", least=1)
    max_new_tokens: int = flag(256, "tokens of one answer", least=1)
    output: str | None = flag(
        None, "JSON file of the results (default: evals/judge.json in the model's directory)", path=True
    )


if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("evals.judge", JudgeArguments)

from evals.chat.tasks import draw
from evals.judge.endpoint import EndpointJudge
from evals.judge.instructions import Row, read_instructions
from evals.judge.local import LocalJudge, spoken
from evals.judge.results import resume, write_results
from evals.judge.verdict import NOT_ASKED, Judge, Verdict, judge_prompt
from recipes.inference.generate import Sampling, generate_replies
from recipes.inference.models import load_chat_model, results_file
from recipes.inference.urls import public_url
from recipes.utils.plain_text import plain_text
from recipes.utils.provenance import command_line, join

SAVE_EVERY = 8  # verdicts


def evaluate(args: JudgeArguments) -> int:
    """Answer, judge, print and write. Returns how many answers have no score."""
    sampling = Sampling(max_new_tokens=args.max_new_tokens, temperature=args.temperature, top_k=args.top_k)
    rows = [row for _, row in draw(read_instructions(args.instructions), args.max_problems)]
    output = results_file(args.model, "judge.json", args.output)
    if output is None:
        raise InputError(f"model {args.model} is no directory here to write evals/judge.json into: give an --output.")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("the judge works as one process: leave out accelerate launch.")
    judge = open_judge(args)  # before the answers, which take long
    header = describe(args, judge)
    rows = resume(output, header, rows)
    known = sum(row.score is not None for row in rows)
    name = plain_text(judge.name)  # which a server may have given
    print(f"{args.model}: {len(rows):,} instructions, {known:,} scored before, judged by {name}", flush=True)

    def save() -> None:
        write_results(output, header, rows)

    answer(rows, args, sampling, save)
    score(rows, judge, save)
    print(plain_text(summary(rows)))
    print(f"written to {output}", flush=True)
    return sum(row.score is None for row in rows)


def describe(args: JudgeArguments, judge: Judge) -> dict[str, Any]:
    """Who judged whom, and how; of an endpoint's URL only what may be published."""
    words = [public_url(word) if "://" in word else word for word in shlex.split(command_line())]
    arguments = asdict(args)
    if isinstance(judge, EndpointJudge):
        arguments["judge"] = judge.url
    return {"model": args.model, "judge": judge.name, "command": join(words), "arguments": arguments}


def open_judge(args: JudgeArguments) -> Judge:
    """The judge, after a sign of life. Raises `InputError` if it gives none."""
    if "://" not in args.judge and not re.match(r"[^/]+:\d+(/|$)", args.judge):
        if args.judge_model or args.api_key_env:
            raise InputError(f"judge_model and api_key_env are for an endpoint, and {args.judge} is no http:// URL.")
        return LocalJudge(args.judge, args.batch_size, args.judge_max_new_tokens)
    key = None
    if args.api_key_env is not None:
        key = os.environ.get(args.api_key_env, "").strip()
        if not key or not key.isascii() or not key.isprintable():
            raise InputError(
                f"environment variable {args.api_key_env} holds no key: set it, or leave out api_key_env."
            )
    return EndpointJudge(args.judge, args.judge_model, key, args.timeout, args.concurrency, args.judge_max_new_tokens)


def answer(rows: list[Row], args: JudgeArguments, sampling: Sampling, save: Callable[[], None]) -> None:
    """Let the model answer what has no answer yet, batch by batch."""
    if all(row.answer is not None for row in rows):
        return
    model, tokenizer = load_chat_model(args.model)
    for start in range(0, len(rows), args.batch_size):
        batch = rows[start : start + args.batch_size]
        if all(row.answer is not None for row in batch):
            continue
        own = replace(sampling, seed=sampling.seed + start)  # the same answers, however often the work is interrupted
        replies = generate_replies(model, tokenizer, [row.conversation for row in batch], own, batch_size=len(batch))
        for row, reply in zip(batch, replies, strict=True):
            row.answer = spoken(reply) if row.answer is None else row.answer
        save()
        print(f"answered {start + len(batch):,} of {len(rows):,}", flush=True)


def score(rows: list[Row], judge: Judge, save: Callable[[], None]) -> None:
    """Let the judge score what has no score yet; an empty answer gets 0 without being shown to it."""
    for row in rows:
        if row.score is None and not row.answer:
            row.score, row.reason = 0, "The model gave no answer."
    missing = [row for row in rows if row.score is None]
    for row in missing:
        row.error = None  # of the time before
    taken = 0

    def take(place: int, verdict: Verdict) -> None:
        nonlocal taken
        row = missing[place]
        row.score, row.reason, row.error = verdict.score, verdict.reason, verdict.error
        taken += 1
        if taken % SAVE_EVERY == 0:
            save()
            failed = sum(row.error is not None for row in missing)
            print(f"judged {taken:,} of {len(missing):,}" + (f", {failed:,} failed" if failed else ""), flush=True)

    try:
        judge.score([judge_prompt(row) for row in missing], take)
    finally:  # also after Ctrl-C
        save()


# The end


def summary(rows: list[Row]) -> str:
    """Mean score, count and failures; the best, the median and the worst answer."""
    scored = sorted((row for row in rows if row.score is not None), key=lambda row: -row.score)
    if not scored:
        return "\n".join(["no answer was scored", *why(rows)])
    empty = sum(not row.answer for row in scored)
    picks = {"best": scored[0], "median": scored[len(scored) // 2], "worst": scored[-1]}
    mean = sum(row.score for row in scored) / len(scored)
    head = f"mean score {mean:.1f} of 100 over {len(scored):,} answers, {len(rows) - len(scored):,} failed"
    head += f" ({empty:,} empty answers count as 0)" if empty else ""
    return "\n".join([head, *(sample(name, row) for name, row in picks.items()), *why(rows)])


def why(rows: list[Row]) -> list[str]:
    """A line with the commonest failure, if there is one; those that were not asked only follow from others."""
    errors = Counter(row.error for row in rows if row.error not in (None, NOT_ASKED))
    return [f"commonest failure ({times:,} times): {error}" for error, times in errors.most_common(1)]


def sample(name: str, row: Row) -> str:
    """One judged answer for people to read."""
    texts = {
        "asked": f"{row.instruction} {row.input}",
        "reference": row.reference,
        "answer": row.answer,
        "reason": row.reason,
    }
    lines = [f"  {label:<10} {shorten(text or '', 300, placeholder=' ...')}" for label, text in texts.items()]
    return "\n".join([f"\n{name}: {row.score:g}", *lines])


def main(args: JudgeArguments) -> None:
    try:
        failed = evaluate(args)
    except KeyboardInterrupt:  # all that is finished has been saved on the way here
        print("interrupted; the same command goes on", flush=True)
        sys.stderr.flush()
        os._exit(130)  # sys.exit would wait for the threads of requests in flight
    if failed:
        print(f"{failed:,} answers have no score: run the same command again to judge only those.", flush=True)
        sys.exit(1)


if __name__ == "__main__":
    exit_on_input_error("evals.judge", lambda: main(ARGS))
