"""Whatever a run has left is reported, what is missing or damaged is left out, and every number is the file's own."""

import json
import re
import shutil
from pathlib import Path

import pytest
from matplotlib import image

from evals.report.__main__ import ReportArguments, build_page, report
from evals.report.files import parse_judge, read
from evals.report.formats import duration, flops, percent, short
from evals.report.gather import gather
from modeling_nanochat import NanochatGPTConfig
from recipes.utils.arguments import parse_arguments
from recipes.utils.errors import InputError
from tests.evals.report.test_page import Reader
from tests.evals.run_files import CORE_22, FEATURES, NOTES, add_dpo, core, lines, task, training, write, write_run

SECTIONS = (
    "A conversation", "Completions", "Exams", "CORE", "Judged answers", "Training", "Reinforcement", "Data", "Model",
    "Tokenizer", "System and cost", "Commands",
)  # fmt: skip
UNKNOWN = re.compile(r"\b(nan|inf|none|null)\b", re.IGNORECASE)


@pytest.fixture
def run_dir(tmp_path):
    return write_run(tmp_path / "small")


def written(directory, **prices):
    """Text of report.md and of report.html."""
    report(ReportArguments(str(directory), **prices))
    html = (directory / "report.html").read_text(encoding="utf-8")
    page = Reader(html)
    assert page.ok and all(link.startswith("#") for link in page.links)
    markdown = (directory / "report.md").read_text(encoding="utf-8")
    assert not UNKNOWN.search(page.text + markdown)
    return markdown, page.text


def drafted(directory):
    """Text of report.md, without drawing: what a damaged file could break is done by then."""
    args = ReportArguments(str(directory), price_per_hour=1.0)
    markdown = build_page(gather(directory), args).markdown("report")
    assert not UNKNOWN.search(markdown.partition("## Not in this report")[0])
    return markdown


def headings(markdown):
    return re.findall(r"^## (.+)$", markdown, re.MULTILINE)


@pytest.mark.slow
def test_a_whole_run_has_every_section_and_its_pictures(run_dir):
    markdown, _ = written(run_dir)
    assert headings(markdown) == list(SECTIONS)
    links = re.findall(r"(?<!\\)\]\((.+?)\)", markdown)
    names = ["chat", "core", "core_tasks", "loss_base", "loss_mid", "loss_sft", "speed", "mfu", "reinforcement"]
    assert links == [f"report/{name}.png" for name in [*names, "tokenizer_domains", "tokenizer_lengths"]]
    for link in links:
        assert image.imread(run_dir / link).std() > 0


@pytest.mark.slow
def test_the_numbers_are_those_of_the_files(run_dir):
    parameters = 2 * 512 * 64 + 2 * 12 * 64**2
    for text in written(run_dir, price_per_gpu_hour=9.0):
        flat = re.sub(r"[ |\n\\]+", "", text)
        numbers = ["0.8765", "43.2%", "44.4%", "45.7%", "91.0%", f"{parameters:,}", "a-judge40.0"]
        for number in [*numbers, "baseprimer402,5604.00e7"]:
            assert number in flat, number
        assert f"{sum(each['centered'] for each in CORE_22.values()) / 22:.4f}" in flat
        assert "$1.60" in flat, "80 s of 8 processes at $9"
        assert "1:20" in flat and "8xNVIDIAH10080GBHBM3" in flat and "0123456789ab" in flat
        for command in ("python -m tokenizer.train --seed 0", "python recipes/grpo.py --output_dir runs/small/grpo"):
            assert command in text.replace("\\", "")


def test_without_mixed_precision_it_was_fp32(run_dir):
    path = run_dir / "base" / "launches.json"
    path.write_text(path.read_text().replace('"bf16"', '"no"'))
    markdown = drafted(run_dir)
    assert re.search(r"\| +fp32 \|", markdown) and not re.search(r"\| +no \|", markdown)


def test_a_model_of_2026_is_described_by_its_features(run_dir):
    sizes = "{} wide, {} tokens of vocabulary, {} of context"
    assert f"\nNanochatGPTForCausalLM, 2 layers, {sizes.format(64, 512, 96)}. " in drafted(run_dir)
    NanochatGPTConfig.from_depth(12, generation=2026).save_pretrained(run_dir / "grpo")
    sizes = sizes.format(768, "32,768", "2,048")
    assert f"\nNanochatGPTForCausalLM, 12 layers, {sizes}; {FEATURES}. " in drafted(run_dir)


@pytest.mark.slow
def test_a_price_an_hour_is_of_the_machine(run_dir):
    assert "$0.20" in written(run_dir, price_per_hour=9.0)[0]
    assert "$" not in written(run_dir)[0].replace("\\$", "$").split("## Commands")[0].split("## Judged")[0]


@pytest.mark.slow
def test_a_call_of_the_calculator_is_shown_as_one_and_text_stays_text(run_dir):
    markdown, text = written(run_dir)
    html = (run_dir / "report.html").read_text()
    assert '<p class="call"><span>calculator</span> 12*4</p><p class="result">= 48</p>' in html
    assert "model  [calculator] 12*4\n       = 48\nmodel  It is 48." in markdown
    assert "<script>alert(1)</script> | a" in text and "<script" not in html


@pytest.mark.slow
def test_a_run_with_dpo_has_it_as_a_stage_between_sft_and_grpo(run_dir):
    add_dpo(run_dir, next_source="dpo")
    markdown, _ = written(run_dir)
    assert headings(markdown) == [*SECTIONS[:6], "Preferences", *SECTIONS[6:]]
    assert "report/preferences.png" in markdown and "report/loss_dpo.png" not in markdown
    assert image.imread(run_dir / "report" / "preferences.png").ndim == 3
    assert "pairs in which the chosen answer is preferred | 75.0% | 87.5%" in re.sub(" +", " ", markdown)
    row = next(line for line in markdown.splitlines() if line.startswith("| task "))
    assert re.findall(r"\w+", row)[1:6] == ["base", "SFT", "DPO", "GRPO", "d20"]
    assert "recipes/dpo.py" in markdown.partition("## Commands")[2]


def test_reinforcement_has_errors_the_replies_in_training_and_problems_before_and_after(run_dir):
    section = drafted(run_dir).partition("## Reinforcement")[2].partition("\n## ")[0]
    rows = re.sub(r" +", " ", section.replace("\\", ""))
    assert "| greedy | 30.0 ± 2.3% | 31.0 ± 2.3% |" in rows and "| pass@1 | 20.0% | 20.0% |" in rows
    assert "| groups with spread | 38% | 38% |" in rows and "| calls a reply | 2.00 | 2.00 |" in rows
    assert (
        "The first held-out problem, not chosen by result: likeliest replies before training and after step 10" in rows
    )
    ends = "| wrong: [6*0 = 0] It is 0. | right: [6*10 = 60] It is 60. |"
    assert f"| How much is 6 times 10? &lt;b&gt; | 60 {ends}" in rows


def test_records_of_runs_before_there_were_errors_are_reported(run_dir):
    path = run_dir / "grpo" / "metrics.jsonl"
    known = ("step", "val/greedy", "val/pass@1", "train/loss", "train/reward")
    old = [{key: value for key, value in json.loads(line).items() if key in known} for line in path.open()]
    path.write_text(lines(old))
    (run_dir / "grpo" / "before_after.json").unlink()
    section = drafted(run_dir).partition("## Reinforcement")[2].partition("\n## ")[0]
    assert re.search(r"greedy +\| +30.0% \| 31.0% \|", section) and "±" not in section and "###" not in section


PARTS = {
    "base/evals/samples.json": "",
    "grpo/evals/samples.json": "A conversation",
    "base/evals/core.json": "CORE",
    "sft/evals/judge.json": "Judged answers",
    "grpo/metrics.jsonl": "Reinforcement",
    "grpo/before_after.json": "",
    "tokenizer/tokenizer_evaluation.json": "Tokenizer",
    "base/arguments.json": "",
    "base/launches.json": "",
    "base/config.json": "",
    "sft/evals/chat.json": "",
    "base/metrics.jsonl": "",
}


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_what_is_missing_is_left_out(part, run_dir):
    (run_dir / part).unlink()
    markdown = drafted(run_dir)
    assert [name for name in SECTIONS if name != PARTS[part]] == [
        name for name in headings(markdown) if name != "Not in this report"
    ]


DAMAGE = {
    "half": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "list": lambda text: "[1, 2]",
    "strings": lambda text: re.sub(r": -?[\d.e-]+", ': "many"', text),
    "nan": lambda text: re.sub(r": -?[\d.e-]+", ": NaN", text),
    "nulls": lambda text: re.sub(r": [^{\[,}]+", ": null", text),
    "binary": lambda text: "\0\1\udcff",
}
SAFE = {"nan", "strings", "nulls"}  # damage that some of the files do not feel


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_is_left_out_and_said_in_one_line(part, damage, run_dir):
    path = run_dir / part
    path.write_bytes(DAMAGE[damage](path.read_text()).encode("utf-8", "surrogateescape"))
    markdown = drafted(run_dir)
    assert {"Data", "Model", "Exams", "System and cost"} <= set(headings(markdown)), "the rest is there"
    notes = markdown.partition("## Not in this report")[2]
    silent = damage in SAFE or part.endswith(("launches.json", "metrics.jsonl"))
    assert silent or part in notes.replace("\\", ""), notes


def test_damaged_lines_of_metrics_are_counted_and_a_half_written_last_one_is_not(run_dir):
    path = run_dir / "base" / "metrics.jsonl"
    whole = path.read_text()
    path.write_text(whole + '{"step": 41, "tr')
    assert gather(run_dir).notes == []
    path.write_text('{"st\n[]\n' + whole)
    assert gather(run_dir).notes == ["2 damaged lines of base/metrics.jsonl left out."]
    assert gather(run_dir).stages[0].steps == 40


@pytest.mark.slow
def test_values_that_are_no_numbers_are_not_drawn(run_dir):
    records = [*training(5), {"step": 6, "train/loss": None}, {"step": "x", "train/loss": 1.0}]
    write(run_dir / "base" / "metrics.jsonl", lines(records) + '{"step": 7, "train/loss": NaN, "val/bpb": Infinity}\n')
    written(run_dir)
    stage = gather(run_dir).stages[0]
    assert stage.last("train/loss") == 1.0 and stage.bpb is None


@pytest.mark.slow
def test_a_stage_that_is_not_finished_is_reported_as_far_as_it_is(run_dir):
    shutil.rmtree(run_dir / "grpo")
    (run_dir / "sft" / "config.json").unlink()
    markdown, _ = written(run_dir)
    assert "sft is not finished: its figures end after step 10" in markdown
    assert not (run_dir / "sft" / "README.md").exists() and (run_dir / "mid" / "README.md").exists()


def test_a_run_with_a_base_model_only(tmp_path, run_dir):
    shutil.copytree(run_dir / "base", tmp_path / "only" / "base")
    shutil.rmtree(tmp_path / "only" / "base" / "evals")
    markdown, _ = written(tmp_path / "only")
    assert headings(markdown) == ["Training", "Data", "Model", "System and cost", "Commands"]


@pytest.mark.slow
def test_a_part_of_core_is_never_called_core(run_dir):
    nine = dict(list(CORE_22.items())[:9])
    write(run_dir / "base" / "evals" / "core.json", core(nine, whole=False))
    markdown, _ = written(run_dir)
    assert "## CORE, partial" in markdown and "Over 9 of 22 tasks" in markdown
    assert not (run_dir / "report" / "core.png").exists(), "no comparison with GPT-2"
    assert "CORE of base" not in markdown and "CORE," not in markdown.split("## ")[0]
    # A file that claims more than its tasks is not believed.
    write(run_dir / "base" / "evals" / "core.json", core(nine, whole=True))
    assert gather(run_dir).stages[0].core.core is None


@pytest.mark.slow
def test_gsm8k_is_shown_both_ways_with_how_the_figures_compare(run_dir):
    for text in written(run_dir):
        flat, *notes = (re.sub(r"[ |\n\\]+", "", each) for each in (text, *NOTES))
        assert "GSM8K5.0%" in flat and "GSM8K,flexible7.9%" in flat
        assert all(note in flat for note in notes)
    chat = gather(run_dir).stages[-1].chat
    assert chat.chat_core is None and chat.notes == NOTES


def test_the_largest_standard_error_is_told_where_all_are_known(run_dir):
    for stage, error in (("base", 0.01), ("sft", 0.08), ("grpo", 0.02)):
        score = {"facts": task(0.5) | {"standard_error": error}}
        write(run_dir / stage / "evals" / "chat.json", {"tasks": score})
    said = "Standard error of a figure: at most 8.0 points. It knows that problems told in the same words"
    assert said in drafted(run_dir)
    for unknown in ({}, {"standard_error": None}):  # an older file; a single problem
        write(run_dir / "sft" / "evals" / "chat.json", {"tasks": {"facts": task(0.5) | unknown}})
        assert "Standard error" not in drafted(run_dir)


@pytest.mark.slow
def test_chat_core_needs_all_five_tasks(run_dir):
    assert gather(run_dir).stages[-1].chat.chat_core is None
    five = {name: {"kind": "x", "count": 10, "accuracy": 0.4, "baseline": 0.0, "centered": 0.4}
            for name in ("arc_easy", "arc_challenge", "mmlu", "gsm8k", "humaneval")}  # fmt: skip
    write(run_dir / "grpo" / "evals" / "chat.json", {"tasks": five})
    assert gather(run_dir).stages[-1].chat.chat_core == pytest.approx(0.4)
    assert "ChatCORE" in written(run_dir)[0]


@pytest.mark.slow
def test_reporting_again_gives_the_same_bytes(run_dir):
    contents = []
    for _ in range(2):
        written(run_dir)
        contents.append({path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()})
    assert contents[0] == contents[1]


@pytest.mark.parametrize("kind", ["missing", "empty", "other"])
def test_no_run_is_one_clear_line(kind, tmp_path):
    directory = tmp_path / "run"
    if kind != "missing":
        directory.mkdir()
    if kind == "other":
        (directory / "base").mkdir()
        (directory / "base" / "photo.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="no run in|nothing to report in"):
        report(ReportArguments(str(directory)))
    assert not (directory / "report.md").exists()


@pytest.mark.parametrize(
    "flags",
    [["--price_per_hour", "-1"], ["--price_per_hour", "nan"], ["--price_per_hour", "1", "--price_per_gpu_hour", "1"]],
)
def test_an_impossible_price_is_one_clear_line(flags, run_dir):
    with pytest.raises(InputError, match="price_per"):
        parse_arguments(ReportArguments, argv=["--run", str(run_dir), *flags])


def test_another_architecture_is_described_as_well(run_dir):
    from transformers import GPT2Config

    GPT2Config(n_layer=3, n_embd=32, n_head=2, vocab_size=100).save_pretrained(run_dir / "base")
    parameters = gather(run_dir).stages[0].parameters
    assert parameters.total == 100 * 32 + 1024 * 32 + 3 * (12 * 32**2 + 13 * 32) + 2 * 32
    assert parameters.name.startswith("GPT2LMHeadModel, 3 layers")
    assert ("h.*.attn.c_attn", (32, 96), 3) in parameters.rows


@pytest.mark.parametrize(
    ("number", "text"),
    [(999, "999"), (9999, "9,999"), (12_345, "12.3k"), (999_600, "1M"), (5_242_880, "5.24M"), (560_988_160, "561M"),
     (11.22e9, "11.2B"), (999.7e6, "1B"), (1e12, "1T")],
)  # fmt: skip
def test_short_numbers(number, text):
    assert short(number) == text


def test_what_is_unknown_is_empty():
    assert [percent(None), duration(None), flops(None)] == ["", "", ""]
    assert [percent(0.123), duration(3661), flops(4.1e19)] == ["12.3%", "1:01:01", "4.10e19"]


def test_the_json_of_a_damaged_config_runs_no_code(run_dir):
    path = run_dir / "base" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": "unheard-of"}))
    assert any(note.startswith("base/config.json is damaged") for note in gather(run_dir).notes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "said"),
    [("core_metric", "CORE of base"), ("core_partial", "The mean over a part of CORE's tasks of base")],
)
def test_core_that_was_measured_during_training_is_drawn(key, said, run_dir):
    records = [*training(40), {"step": 20, key: 0.1}, {"step": 40, key: 0.2}]
    write(run_dir / "base" / "metrics.jsonl", lines(records))
    markdown, _ = written(run_dir)
    assert f"{said} during training, 0.2000 at the end." in markdown.replace("\\", "")
    assert (run_dir / "report" / f"{key}_base.png").stat().st_size > 5000


@pytest.mark.slow
def test_how_each_evaluation_was_made_is_told(run_dir):
    command = "python -m evals.chat --model runs/small/base --max_problems 50"
    fewer = {"facts": task(0.1, 0.0, count=50)}
    write(run_dir / "base" / "evals" / "chat.json", {"model": "x", "command": command, "tasks": fewer})
    for text in written(run_dir):
        assert command in text and "Only 50 problems a task for base." in text


@pytest.mark.slow
def test_core_on_some_examples_is_named_so_and_is_not_in_the_index(run_dir):
    write(run_dir / "base" / "evals" / "core.json", core(CORE_22) | {"max_examples": 10})
    markdown, _ = written(run_dir)
    assert "## CORE on 10 examples a task" in markdown
    assert not any(line.startswith("| CORE ") for line in (run_dir / "base/README.md").read_text().splitlines())


@pytest.mark.slow
def test_tasks_that_failed_are_told_and_a_stage_without_any_figure_is_passed_over(run_dir):
    write(run_dir / "grpo" / "evals" / "chat.json", {"model": "x", "failed": {"gsm8k": "out of memory"}, "tasks": {}})
    write(run_dir / "base" / "evals" / "core.json", {"model": "x", "core": None, "failed": {"copa": "x"}, "tasks": {}})
    markdown, _ = written(run_dir)
    assert "grpo: gsm8k could not be measured (out of memory)." in markdown.replace("\\", "")
    assert "base: copa could not be measured" in markdown and "## CORE" not in markdown
    assert "right in 2 exams, SFT" in markdown


@pytest.mark.slow
def test_an_interrupted_judgment_counts_the_scores_there_are(run_dir):
    path = run_dir / "sft" / "evals" / "judge.json"
    judged = json.loads(path.read_text())
    waiting = {"instruction": "Next.", "input": "", "reference": "r", "answer": "a", "score": None, "reason": None}
    write(path, judged | {"count": 4, "rows": [*judged["rows"], waiting, waiting, waiting]})
    markdown, _ = written(run_dir)
    row = next(line for line in markdown.splitlines() if "a-judge" in line and line.startswith("| SFT"))
    assert [cell.strip() for cell in row.split("|")[3:6]] == ["40.0", "1", "3"]
    assert "1 instructions" in (run_dir / "sft/README.md").read_text()


@pytest.mark.slow
def test_no_path_of_the_machine_is_in_report_or_card(run_dir):
    home = str(Path.home())
    write(run_dir / "base" / "arguments.json", {"total_batch_size": 64, "dataset": f"{home}/secret/corpus.jsonl"})
    (run_dir / "base" / "launches.json").unlink()
    for text in [*written(run_dir), (run_dir / "base/README.md").read_text()]:
        assert home not in text.replace("\\", "") and "~/secret/corpus.jsonl" in text.replace("\\", "")


def test_a_comparison_of_several_models_is_not_one_stages_and_breaks_nothing(run_dir):
    path = run_dir / "sft" / "evals" / "judge.json"
    write(path, {"models": ["a", "b"], "judge": "a-judge", "count": 1, "ranking": [], "pairs": [], "rows": []})
    notes: list[str] = []
    assert read(path, parse_judge, notes) is None and notes == []
