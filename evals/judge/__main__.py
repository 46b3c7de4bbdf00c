"""Free-form answers scored by another model: `python -m evals.judge --model DIR --instructions FILE --judge JUDGE`.

The judge is an OpenAI-compatible endpoint (http://localhost:8000/v1) or a chat model that transformers loads. Run
again, the same command judges only what is missing or has failed. With several --model the judge sees their answers to
an instruction together, without names and in random order, and the models are ranked.
"""

import os
import re
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from textwrap import shorten
from typing import Any

from recipes.utils.arguments import REQUIRED, Arguments, flag, read_command_line
from recipes.utils.errors import InputError, exit_on_input_error


@dataclass
class JudgeArguments(Arguments):
    model: list[str] = flag(
        REQUIRED, "directory or Hub id of the chat model that answers; several are compared", path=True
    )
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
        None, "JSON file of the results (default: evals/judge.json in the directory of a single model)", path=True
    )


if __name__ == "__main__":  # before torch is imported, which takes seconds
    ARGS = read_command_line("evals.judge", JudgeArguments)

from evals.chat.tasks import draw
from evals.judge.comparison import MOST_MODELS, comparison_prompt, label_answers, read_comparison
from evals.judge.endpoint import EndpointJudge
from evals.judge.instructions import Row, read_instructions
from evals.judge.local import LocalJudge, spoken
from evals.judge.ranking import judged_places, ranking_lines
from evals.judge.results import resume, resume_comparison, write_comparison, write_results
from evals.judge.verdict import NOT_ASKED, Judge, Verdict, judge_prompt
from recipes.inference.generate import Sampling, generate_replies
from recipes.inference.models import check_distinct, check_output, load_chat_model, results_file
from recipes.inference.openai_client import read_key
from recipes.inference.urls import public_url
from recipes.utils.loading import check_source
from recipes.utils.plain_text import plain_text
from recipes.utils.provenance import command_line, join
from recipes.utils.run_directory import EVALS, JUDGE_RESULTS

SAVE_EVERY = 8  # verdicts


def evaluate(args: JudgeArguments) -> int:
    """Answer, judge, print and write. Returns the number of answers without a score."""
    sampling = Sampling(max_new_tokens=args.max_new_tokens, temperature=args.temperature, top_k=args.top_k)
    rows = [row for _, row in draw(read_instructions(args.instructions), args.max_problems)]
    output = find_output(args)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("the judge works as one process: leave out accelerate launch.")
    judge = open_judge(args)  # before the slow part
    header = describe(args, judge)
    name = plain_text(judge.name)  # may come from a server
    if len(args.model) > 1:
        return compare(args, sampling, rows, output, header, judge)
    rows = resume(output, header, rows)
    known = sum(row.score is not None for row in rows)
    print(f"{args.model[0]}: {len(rows):,} instructions, {known:,} scored before, judged by {name}", flush=True)

    def save() -> None:
        write_results(output, header, rows)

    answer(rows, args.model[0], args, sampling, save)
    score(rows, judge, save)
    print(plain_text(summary(rows)))
    print(f"written to {output}", flush=True)
    return sum(row.score is None for row in rows)


def compare(
    args: JudgeArguments, sampling: Sampling, rows: list[Row], output: Path, header: dict[str, Any], judge: Judge
) -> int:
    """Have several models' answers judged together. Returns the number of instructions without scores."""
    tables = resume_comparison(output, header, {model: list(map(replace, rows)) for model in args.model})
    for model, own in tables.items():  # before the first of them takes its time
        if any(row.answer is None for row in own):
            check_source(model)
    known = len(judged_places(tables))
    who = plain_text(judge.name)  # may come from a server
    print(f"{len(args.model)} models: {len(rows):,} instructions, {known:,} scored before, judged by {who}")

    def save() -> None:
        write_comparison(output, header, tables)

    for model, own in tables.items():
        print(f"{model}:", flush=True)
        answer(own, model, args, sampling, save)
    score_together(tables, judge, save)
    failures = [next((row for row in each if row.error), each[0]) for each in zip(*tables.values(), strict=True)]
    print(plain_text("\n".join([*ranking_lines(tables), *why(failures)])))
    print(f"written to {output}", flush=True)
    return len(rows) - len(judged_places(tables))


def find_output(args: JudgeArguments) -> Path:
    """The file of the results. Raises `InputError` for a model given twice, and if there is no place for the file."""
    check_distinct(args.model)
    if len(args.model) > MOST_MODELS:
        raise InputError(f"{len(args.model)} models are more than the {MOST_MODELS} that a judge can tell apart.")
    if len(args.model) > 1:
        if args.output is None:
            raise InputError("the results of several models belong to none of their directories: give an --output.")
        return check_output(args.output)
    output = results_file(args.model[0], JUDGE_RESULTS, args.output)
    if output is None:
        raise InputError(
            f"model {args.model[0]} is not a directory here to write {EVALS}/{JUDGE_RESULTS} into: give an --output."
        )
    return output


def describe(args: JudgeArguments, judge: Judge) -> dict[str, Any]:
    """Model, judge, command and arguments, without the secrets of an endpoint's URL."""
    words = [public_url(word) if "://" in word else word for word in shlex.split(command_line())]
    arguments = asdict(args)
    if isinstance(judge, EndpointJudge):
        arguments["judge"] = judge.url
    who: dict[str, Any] = {"models": args.model}
    if len(args.model) == 1:
        who = {"model": args.model[0]}
        arguments["model"] = args.model[0]
    return {**who, "judge": judge.name, "command": join(words), "arguments": arguments}


def open_judge(args: JudgeArguments) -> Judge:
    """Load the judge, or check that its endpoint answers. Raises `InputError` if not."""
    if "://" not in args.judge and not re.match(r"[^/]+:\d+(/|$)", args.judge):
        if args.judge_model or args.api_key_env:
            raise InputError(
                f"judge_model and api_key_env are for an endpoint, and {args.judge} is not an http:// URL."
            )
        return LocalJudge(args.judge, args.batch_size, args.judge_max_new_tokens)
    key = read_key(args.api_key_env)
    return EndpointJudge(args.judge, args.judge_model, key, args.timeout, args.concurrency, args.judge_max_new_tokens)


def answer(
    rows: list[Row], model_name: str, args: JudgeArguments, sampling: Sampling, save: Callable[[], None]
) -> None:
    """Generate the missing answers of a model, batch by batch."""
    if all(row.answer is not None for row in rows):
        return
    model, tokenizer = load_chat_model(model_name)
    for start in range(0, len(rows), args.batch_size):
        batch = rows[start : start + args.batch_size]
        if all(row.answer is not None for row in batch):
            continue
        own = replace(sampling, seed=sampling.seed + start)  # the same answers even if the work is interrupted
        replies = generate_replies(model, tokenizer, [row.conversation for row in batch], own, batch_size=len(batch))
        for row, reply in zip(batch, replies, strict=True):
            row.answer = spoken(reply) if row.answer is None else row.answer
        save()
        print(f"answered {start + len(batch):,} of {len(rows):,}", flush=True)


def score(rows: list[Row], judge: Judge, save: Callable[[], None]) -> None:
    """Judge the answers without a score; an empty answer gets 0 unasked."""
    count_empty(rows)
    missing = [row for row in rows if row.score is None]
    for row in missing:
        row.error = None  # from the previous run

    def enter(place: int, verdict: Verdict) -> None:
        row = missing[place]
        row.score, row.reason, row.error = verdict.score, verdict.reason, verdict.error

    with saving(len(missing), enter, save) as take:
        judge.score([judge_prompt(row) for row in missing], take)


def score_together(tables: dict[str, list[Row]], judge: Judge, save: Callable[[], None]) -> None:
    """Judge the instructions without scores, all models' answers to one in one request.

    An empty answer gets 0 unasked, and is not shown.
    """
    for rows in tables.values():
        count_empty(rows)
    at_places = [dict(zip(tables, rows, strict=True)) for rows in zip(*tables.values(), strict=True)]
    missing = [rows for rows in at_places if any(row.score is None for row in rows.values())]
    labels = [label_answers(rows) for rows in missing]
    for row in (row for rows in missing for row in rows.values()):
        row.error = None

    def enter(place: int, verdict: Verdict) -> None:
        for label, model in labels[place].items():
            row, own = missing[place][model], verdict if verdict.of is None else verdict.of[label]
            row.score, row.reason, row.error = own.score, own.reason, own.error

    with saving(len(missing), enter, save) as take:
        prompts = [comparison_prompt(rows, each) for rows, each in zip(missing, labels, strict=True)]
        judge.score(prompts, take, lambda place, text: read_comparison(text, list(labels[place])))


def count_empty(rows: list[Row]) -> None:
    """Give empty answers their 0."""
    for row in rows:
        if row.score is None and not row.answer:
            row.score, row.reason = 0, "The model gave no answer."


@contextmanager
def saving(
    count: int, enter: Callable[[int, Verdict], None], save: Callable[[], None]
) -> Iterator[Callable[[int, Verdict], None]]:
    """Gives what takes the verdicts of a judge: it enters them, saves them now and then, and says how many."""
    taken = failed = 0

    def take(place: int, verdict: Verdict) -> None:
        nonlocal taken, failed
        enter(place, verdict)
        taken, failed = taken + 1, failed + (verdict.error is not None)
        if taken % SAVE_EVERY == 0:
            save()
            print(f"judged {taken:,} of {count:,}" + (f", {failed:,} failed" if failed else ""), flush=True)

    try:
        yield take
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
    """A line with the commonest failure, if any. Answers that were not asked follow from other failures."""
    errors = Counter(row.error for row in rows if row.error not in (None, NOT_ASKED))
    return [f"commonest failure ({times:,} times): {error}" for error, times in errors.most_common(1)]


def sample(name: str, row: Row) -> str:
    """One judged answer in full."""
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
    except KeyboardInterrupt:  # finished verdicts are saved already
        print("interrupted; run the same command again to continue", flush=True)
        sys.stderr.flush()
        os._exit(130)  # sys.exit would wait for the threads of requests in flight
    if failed:
        what = "answers have no score" if len(args.model) == 1 else "instructions have no scores"
        print(f"{failed:,} {what}: run the same command again to judge only those.", flush=True)
        sys.exit(1)


if __name__ == "__main__":
    exit_on_input_error("evals.judge", lambda: main(ARGS))
