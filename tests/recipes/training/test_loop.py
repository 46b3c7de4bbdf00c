"""Two processes of a loop: what they hold in memory, and how long they wait for each other."""

import gc
import json
import os
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import torch

from recipes.training import loop
from tests.recipes.processes import flags, run

pytestmark = pytest.mark.launch


def measure_gradients(directory: Path) -> None:
    """In a training process: note in each last micro-batch how many bytes its gradients hold, and of which size."""

    class Measuring(loop.TrainingLoop):
        def _update(self, *args):
            gradients = [parameter.grad for parameter in self.model.parameters()]
            storages = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in gradients}
            noted.append({"held": sum(storages.values()), "needed": sum(each.nbytes for each in gradients)})
            noted[-1]["searches"] = gc.isenabled()
            norm = super()._update(*args)
            noted[-1]["kept"] = all(parameter.grad is not None for parameter in self.model.parameters())
            return norm

        def run(self, checkpoint):
            finished = super().run(checkpoint)
            rank = os.environ.get("RANK", "0")
            outlives_the_run = any(each is self.model for each in loop._TRAINED)
            found = {"steps": noted, "storages": storages, "outlives_the_run": outlives_the_run}
            found["searches"] = gc.isenabled()
            (directory / f"{rank}.json").write_text(json.dumps(found))
            return finished

    def measuring_loss(model, rows, num_tokens):
        gradients = {each.grad.untyped_storage().data_ptr() for each in model.parameters() if each.grad is not None}
        storages.append(len(gradients))
        return rows_loss(model, rows, num_tokens)

    noted, storages, rows_loss = [], [], loop.rows_loss
    loop.rows_loss = measuring_loss
    loop.TrainingLoop = Measuring


def measured(tiny, tmp_path, processes: int) -> dict:
    """Of the first process of a run of 4 steps, each of several micro-batches."""
    few = {"num_iterations": 4, "eval_every": -1, "save_every": 0, "mixed_precision": "no", "device_batch_size": 1}
    argv = flags(tiny | few | {"output_dir": tmp_path / "run"})
    end = run(argv, processes, before=partial(measure_gradients, tmp_path))
    assert end.code == 0, end.stderr
    return json.loads((tmp_path / "0.json").read_text())


def test_under_ddp_gradients_stay_in_its_buckets_and_are_held_once(tiny, tmp_path):
    found = measured(tiny, tmp_path, processes=2)
    number_of_buckets = found["storages"][-1]
    assert number_of_buckets <= 2 < 8, "fewer storages than parameters: views of buckets"
    # After the rehearsal's two passes the buckets find their order in the first step, and keep it. Two micro-batches a
    # step: also in the first of them, whose gradients do not travel, nothing is allocated anew.
    assert found["storages"][3:] == [number_of_buckets] * 7
    for step in found["steps"][2:]:
        assert step["kept"] and step["held"] == step["needed"]
    # Freed right after the last collective, DDP now and then waits for ever: see `_TRAINED`.
    assert found["outlives_the_run"]


def test_one_process_lets_go_of_its_gradients_and_is_not_held_up_by_garbage(tiny, tmp_path):
    found = measured(tiny, tmp_path, processes=1)
    assert not any(step["kept"] for step in found["steps"])
    # Python looks for garbage in the first step, where most is built, and in no later one; afterwards again.
    assert [step["searches"] for step in found["steps"]] == [True, False, False, False] and found["searches"]


def note_timeout(file: Path) -> None:
    """In a training process: write down the timeout of the group that it joins."""
    join = torch.distributed.init_process_group

    def joining(*args, **kwargs):
        join(*args, **kwargs)
        # Private, as torch has no public way to ask.
        backend = torch.distributed.group.WORLD._get_backend(torch.device("cpu"))
        file.write_text(str(backend.options._timeout.total_seconds()))

    torch.distributed.init_process_group = joining


@pytest.mark.parametrize("stage", ["pretrain", "sft"])
def test_processes_wait_two_hours_for_the_one_that_reads_the_data(tiny, tmp_path, stage):
    # The mistake ends them as soon as they have joined.
    arguments = tiny | {"total_batch_size": 100} if stage == "pretrain" else {"source": "./nowhere"}
    run(flags(arguments | {"output_dir": tmp_path / "run"}), 2, partial(note_timeout, tmp_path / "timeout"), stage)
    assert timedelta(seconds=float((tmp_path / "timeout").read_text())) == timedelta(hours=2)
