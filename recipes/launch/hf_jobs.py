"""A stage as a Hugging Face Job: `python -m recipes.launch.hf_jobs --stage pretrain --flavor h200x8 --hub_run_id ...`.

The job runs a pinned commit of this repository with the tested set of packages. The run lives in a private model
repository: whole checkpoints arrive there as they are written, and the next job with the same --hub_run_id goes on
from the newest. Flags of the stage follow after `--`.
"""

import re
from dataclasses import dataclass, field

from recipes.utils.arguments import REQUIRED, Arguments, flag
from recipes.utils.errors import InputError, exit_on_input_error, suggest

HOURS = {"s": 1 / 3600, "m": 1 / 60, "h": 1, "d": 24}


@dataclass
class HfJobsArguments(Arguments):
    """Flags of `python -m recipes.launch.hf_jobs`; those of the stage follow after `--`."""

    stage: str = flag(REQUIRED, "tokenizer, pretrain, midtrain, sft, dpo, grpo or speedrun")
    flavor: str = flag(REQUIRED, "the machine, as h200x8 or a10g-small (hf jobs hardware lists them)")
    hub_run_id: str = flag(REQUIRED, "model repository on the Hub that keeps the run: user/name")
    timeout: str = flag("8h", "when the job is ended at the latest, as 90m, 8h or 2d")
    namespace: str | None = flag(None, "organization that pays (default: you)")
    secrets: list[str] = flag(["HF_TOKEN"], "names of environment variables that the job gets as secrets")
    image: str = flag("ghcr.io/astral-sh/uv:python3.12-bookworm", "Docker image with git and uv")
    price_per_hour: float | None = flag(None, "dollars an hour of the machine (default: what the Hub says)", least=0)
    dry_run: bool = flag(False, "print what would be submitted and what it is estimated to cost")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch(r"\d+(\.\d+)?[smhd]", self.timeout) or self.hours == 0:
            raise InputError(f"timeout {self.timeout!r} is not a duration: give one as 90m, 8h or 2d.")
        for name in self.secrets:
            if not re.fullmatch(r"[A-Za-z_]\w*", name) or (name.lower().startswith("hf_") and name != "HF_TOKEN"):
                raise InputError("secrets are given by the names of environment variables, as HF_TOKEN WANDB_API_KEY.")

    @property
    def hours(self) -> float:
        return float(self.timeout[:-1]) * HOURS[self.timeout[-1]]


if __name__ == "__main__":  # before torch is imported, which takes seconds
    from recipes.launch.command_line import read_launch_line

    ARGS, FLAGS = read_launch_line("hf_jobs", HfJobsArguments)

import os
import shlex
from pathlib import Path

from huggingface_hub import HfApi, JobHardware, constants, get_token

from recipes.launch.checkout import pinned_source
from recipes.launch.stages import check_flags, estimate_lines, find_stage, place_flags, run_directory
from recipes.publish.upload import check_account, one_line, prepare_publication
from recipes.utils.hardware import gpu_figures
from recipes.utils.hub import check_repo_id
from recipes.utils.provenance import ROOT

NOTHING = "nothing was submitted: try again later."


@dataclass(frozen=True)
class Job:
    """All that is submitted."""

    image: str
    flavor: str
    timeout: str
    command: list[str]
    secrets: list[str] = field(default_factory=list)  # names


def plan_job(args: HfJobsArguments, flags: list[str], source: tuple[str, str]) -> Job:
    """The job of a stage at a `source` (URL and commit). Raises `InputError` for what would fail there."""
    find_stage(args.stage)
    check_repo_id(args.hub_run_id)
    check_flags(args.stage, place_flags(args.stage, flags, run_directory(args.hub_run_id)))
    url, commit = (shlex.quote(each) for each in source)
    run = ["python", "-m", "recipes.launch.hub_run", "--stage", args.stage, "--hub_run_id", args.hub_run_id]
    steps = [
        "git init -q nanochat && cd nanochat",
        f"git fetch -q --depth 1 {url} {commit} && git checkout -q FETCH_HEAD",
        "uv pip install -q --system -c constraints.txt -e '.[peft,tracking]'",
        f"exec {shlex.join([*run, '--', *flags])}",
    ]
    secrets = list(dict.fromkeys(["HF_TOKEN", *args.secrets]))  # without which nothing could be pushed
    return Job(args.image, args.flavor, args.timeout, ["bash", "-c", " && ".join(steps)], secrets)


def find_price(flavor: str, online: bool) -> float | None:
    """Dollars an hour of a flavor, as far as the Hub tells. Raises `InputError`, naming the closest, if unknown."""
    prices: dict[str, float | None] = {each.value: None for each in JobHardware}
    if online:
        with one_line("the list of machines", NOTHING):
            hourly = {"minute": 60, "hour": 1}  # other units are not priced here
            prices = {
                each.name: each.unit_cost_usd * hourly[each.unit_label] if each.unit_label in hourly else None
                for each in HfApi().list_jobs_hardware()
            }
    if flavor not in prices:
        raise InputError(f"unknown flavor {flavor!r}: {suggest(flavor, prices)}")
    return prices[flavor]


def gpus_of(flavor: str) -> tuple[int, str | None]:
    """How many GPUs a flavor has, and their name if we know it: h200x8 is 8 H200, a10g-small one A10G."""
    if flavor.startswith("cpu"):
        return 1, None
    count = re.search(r"x(\d+)$", flavor)
    name = re.split(r"x\d+$|-", flavor)[0].upper()
    return int(count[1]) if count else 1, name if gpu_figures(name) else None


def read_secrets(names: list[str]) -> dict[str, str]:
    """Values of secrets by their names. Raises `InputError` for one that is not set."""
    values = {name: os.environ.get(name) or (get_token() if name == "HF_TOKEN" else None) for name in names}
    for name, value in values.items():
        if not value:
            raise InputError(f"the secret {name} is not set here: set it, or leave it out of --secrets.")
    return values


def describe(args: HfJobsArguments, flags: list[str], job: Job, price: float | None) -> list[str]:
    """The lines of a dry run."""
    gpus, name = gpus_of(job.flavor)
    placed = place_flags(args.stage, flags, run_directory(args.hub_run_id))
    return [
        f"to Hugging Face Jobs, as {args.namespace or 'you'}:",
        f"  {'flavor':<9}{job.flavor}",
        f"  {'image':<9}{job.image}",
        f"  {'timeout':<9}{job.timeout}",
        f"  {'secrets':<9}{', '.join(job.secrets)} (by name; the values are those of your environment)",
        f"  {'command':<9}{shlex.join(job.command)}",
        f"  {'stage':<9}{shlex.join([*find_stage(args.stage).program, *placed])}",
        f"the run is kept in {constants.ENDPOINT}/{args.hub_run_id} (private if it is new), and resumed from there",
        *estimate_lines(args.stage, placed, gpus, name, price, limit_hours=args.hours),
    ]


def submit(args: HfJobsArguments, flags: list[str], root: Path = ROOT) -> None:
    """Check everything, then submit the job. Raises `InputError` before that if something is wrong."""
    source, refusal = pinned_source(root)
    job = plan_job(args, flags, source)
    if args.dry_run:
        price = find_price(args.flavor, online=not constants.HF_HUB_OFFLINE and get_token() is not None)
        price = price if args.price_per_hour is None else args.price_per_hour
        print("\n".join(["dry run: nothing is submitted", *describe(args, flags, job, price)]))
        if refusal:
            print(f"without --dry_run this would be refused: {refusal}")
        return
    if refusal:
        raise InputError(refusal)
    check_account(args.hub_run_id)
    find_price(args.flavor, online=True)
    prepare_publication(args.hub_run_id, "model", [], private=False)  # it exists and we see it, or it is new
    secrets = read_secrets(job.secrets)
    with one_line("the job", NOTHING):
        made = HfApi().run_job(
            image=job.image,
            command=job.command,
            secrets=secrets,
            flavor=job.flavor,
            timeout=job.timeout,
            namespace=args.namespace,
        )
    print(f"submitted: {made.url}")
    print(f"its output: hf jobs logs {made.id}; its end: hf jobs cancel {made.id}")
    print(f"the run: {constants.ENDPOINT}/{args.hub_run_id}; the same command goes on from its newest checkpoint")


if __name__ == "__main__":
    exit_on_input_error("hf_jobs", lambda: submit(ARGS, FLAGS))
