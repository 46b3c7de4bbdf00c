"""What was measured of GRPO is told at the end, whatever an earlier process measured."""

from types import SimpleNamespace

import datasets

from recipes.data.messages import user
from recipes.inference.generate import Sampling
from recipes.training.pass_at_k import PassAtK
from recipes.training.tracking import MetricsLog


def test_records_of_another_k_and_of_earlier_versions_are_in_the_table(tmp_path, capsys):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.write({"step": 0, "val/greedy": 0.25, "val/pass@1": 0.5, "val/pass@16": 0.75})
    new = {"val/greedy": 0.4, "val/pass@1": 0.5, "val/pass@4": 0.8}
    log.write({"step": 10, **new, **{f"{key}_clustered_se": 0.025 for key in new}})
    problems = datasets.Dataset.from_list([{"prompt": [user("What is 1 plus 1?")], "answer": "2", "kind": "sum"}] * 3)
    passes = PassAtK(None, SimpleNamespace(log=log), problems, 0, 4, Sampling(), 1)
    passes.report(tmp_path / "pass_at_k.png")
    title, *lines, note = [line.split() for line in capsys.readouterr().out.splitlines() if line][:5]
    assert title[:3] == ["3", "held-out", "problems,"] and note[:4] == ["±", "is", "the", "standard"]
    assert lines == [
        ["step", "greedy", "pass@1", "pass@4"],
        ["0", "25.0%", "50.0%"],
        ["10", "40.0", "±", "2.5%", "50.0", "±", "2.5%", "80.0", "±", "2.5%"],
    ]
    assert (tmp_path / "pass_at_k.png").stat().st_size > 5000
