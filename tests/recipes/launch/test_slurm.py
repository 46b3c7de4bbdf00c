"""A job of SLURM trains on two nodes, saves when its time is up, goes back to the queue and ends as if undisturbed."""

import signal
import subprocess

import pytest

from recipes.launch.slurm import SlurmArguments, describe, directives
from recipes.training.checkpoint_files import whole_checkpoints
from recipes.utils.errors import InputError
from recipes.utils.provenance import ROOT
from tests.recipes.launch.cluster import JOB, Cluster
from tests.recipes.processes import flags, run
from tests.recipes.test_exactness import assert_same_run

GPU = ["--config", str(ROOT / "recipes" / "configs" / "pretrain" / "gpu.yaml"), "--output_dir", "/shared/run"]


@pytest.fixture
def cluster(tmp_path):
    return Cluster(tmp_path / "cluster")


def newest(output_dir) -> str:
    return next((path.name for path in reversed(whole_checkpoints(output_dir))), "none")


@pytest.mark.slow
@pytest.mark.launch
def test_two_nodes_stopped_by_slurm_and_requeued_equal_an_undisturbed_run(cluster, tiny, tmp_path):
    long = tiny | {"num_iterations": 80, "save_every": 10, "eval_every": 40}
    whole, mine = tmp_path / "whole", tmp_path / "run"
    assert run(flags(long | {"output_dir": whole}), processes=2).code == 0

    argv = ["pretrain", *flags(long | {"output_dir": mine})]
    job = cluster.start(*argv)
    cluster.wait_until(lambda: newest(mine) == "step_000010", job)
    cluster.signal_tasks()
    assert job.wait(60) == 0, cluster.log.read_text()
    assert f"requeue {JOB}" == cluster.asked[-1]
    stopped_at = newest(mine)
    assert stopped_at not in ("step_000010", "step_000080"), "saved when it was told to"
    assert len(cluster.tasks) == 2 and not (mine / "config.json").exists()

    assert cluster.run(*argv) == 0, cluster.log.read_text()
    assert f"resuming from {mine}/checkpoints/{stopped_at}" in cluster.log.read_text()
    assert cluster.asked.count(f"requeue {JOB}") == 1, "a finished stage is not requeued"
    assert_same_run(mine, whole)


@pytest.mark.launch
def test_what_fails_is_not_requeued(cluster, tiny, tmp_path):
    """A full volume, damaged data, a wrong flag: it would fail again."""
    argv = ["pretrain", *flags(tiny | {"output_dir": tmp_path / "run", "depth": 0})]
    assert cluster.run(*argv) == 2
    assert "pretrain: depth must be at least 1" in cluster.log.read_text()
    assert not [each for each in cluster.asked if each.startswith("requeue")]


@pytest.fixture
def stopping(tmp_path) -> str:
    """An interpreter that trains nothing: it saves a checkpoint of a new name into --output_dir, and ends well."""
    path = tmp_path / "stopping"
    path.write_text('#!/bin/bash\nmkdir -p "${@: -1}/checkpoints/step_$SLURM_RESTART_COUNT"\n')
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("state", ["CANCELLED", "COMPLETING", "PREEMPTED"])
def test_a_cancelled_job_is_not_put_back(cluster, stopping, tmp_path, state):
    cluster.state(state)
    assert cluster.run("pretrain", "--output_dir", str(tmp_path / "run"), PYTHON=stopping) == 0
    assert cluster.asked[-1] == f"show job {JOB}"


def test_a_stopped_stage_is_put_back_and_a_finished_one_is_not(cluster, stopping, tmp_path):
    argv = ["sft", "--output_dir", str(tmp_path / "sft")]
    assert cluster.run(*argv, PYTHON=stopping) == 0
    assert cluster.asked[-1] == f"requeue {JOB}"
    (tmp_path / "sft" / "config.json").write_text("{}")
    (cluster.place / "scontrol").unlink()
    assert cluster.run(*argv, PYTHON=stopping) == 0
    assert not [each for each in cluster.asked if each.startswith("requeue")]


def test_a_finished_stage_is_found_in_the_home_directory(cluster, stopping, tmp_path):
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft" / "config.json").write_text("{}")
    assert (
        cluster.run("sft", "--output_dir=~/sft", str(tmp_path / "elsewhere"), PYTHON=stopping, HOME=str(tmp_path)) == 0
    )
    assert not [each for each in cluster.asked if each.startswith("requeue")]


def test_a_stage_that_saves_nothing_new_does_not_go_round_for_ever(cluster, tmp_path):
    assert cluster.run("pretrain", "--output_dir", str(tmp_path / "run"), PYTHON="true") == 0
    assert not [each for each in cluster.asked if each.startswith("requeue")]


def test_each_task_knows_its_place(tmp_path):
    cluster = Cluster(tmp_path / "cluster", nodes=2, tasks_per_node=2)
    shown = tmp_path / "shown"
    show = tmp_path / "show"
    show.write_text(f'#!/bin/bash\necho "$RANK $LOCAL_RANK $WORLD_SIZE $LOCAL_WORLD_SIZE $MASTER_ADDR" >> {shown}\n')
    show.chmod(0o755)
    cluster.run("pretrain", "--output_dir", str(tmp_path), PYTHON=str(show))
    assert sorted(shown.read_text().splitlines()) == [f"{rank} {rank % 2} 4 2 127.0.0.1" for rank in range(4)]


@pytest.mark.parametrize(
    ("argv", "more", "said"),
    [
        (
            ["pretran", "--output_dir", "x"],
            {},
            "slurm: unknown stage 'pretran': give pretrain, midtrain, sft, dpo or grpo",
        ),
        (["pretrain"], {}, "slurm: no --output_dir: give one on storage that all nodes share."),
        (["pretrain", "--output_dir"], {}, "slurm: no --output_dir"),
        (["pretrain", "--output_dir=x"], {"SLURM_GPUS_ON_NODE": "8"}, "slurm: 1 tasks for 8 GPUs a node: give sbatch"),
    ],
)
def test_a_wrong_job_ends_before_anything_is_started(cluster, argv, more, said):
    assert cluster.run(*argv, **more) == 2
    assert cluster.log.read_text().startswith(said) and not cluster.tasks


def test_without_packages_a_job_says_so(cluster):
    assert cluster.run("pretrain", "--output_dir=x", PYTHON="/no/python") == 2
    assert cluster.log.read_text().startswith("slurm: no /no/python here: make install, or set PYTHON")


@pytest.mark.launch
def test_a_dry_run_within_an_allocation_is_one(cluster):
    assert cluster.run("--dry_run", "--gpus_per_node=1", "--", "pretrain", *GPU) == 0
    assert cluster.log.read_text().startswith("would submit:\n  sbatch --nodes=1 --gpus-per-node=1 ")
    assert not cluster.tasks


def test_a_job_submitted_from_elsewhere_says_so(cluster, tmp_path):
    assert cluster.run("pretrain", "--output_dir=x", directory=tmp_path) == 2
    assert f"{tmp_path} is not the project's directory" in cluster.log.read_text()


def test_the_dry_run_shows_what_the_tasks_run(cluster, tmp_path):
    stage_flags = [*GPU[:2], "--output_dir", str(tmp_path / "run dir"), "--depth", "12"]
    lines = describe(SlurmArguments(dry_run=True, nodes=2, gpus_per_node=1), ["pretrain", *stage_flags])
    (program,) = [line.strip() for line in lines if line.startswith("  .venv/bin/python ")]
    cluster.run("pretrain", *stage_flags, PYTHON="true")
    for _, command in cluster.tasks:
        assert command.partition(" task true ")[2] == program.removeprefix(".venv/bin/python ").replace("'", "")
    submitted = next(line for line in lines if line.startswith("  sbatch "))
    assert submitted.startswith(
        "  sbatch --nodes=2 --gpus-per-node=1 --ntasks-per-node=1 recipes/launch/slurm.sh pretr"
    )
    assert "--requeue" in directives() and "  --signal=TERM@600" in lines and "  --nodes=1" not in lines


def test_the_dry_run_costs_what_the_plan_takes():
    args = SlurmArguments(dry_run=True, nodes=2, gpu_name="H100", price_per_hour=20.0)
    lines = describe(args, ["pretrain", *GPU, "--depth", "20"])
    (hours,) = [line for line in lines if line.endswith("on 16 x H100, at 40% of their peak")]
    figure = float(hours.split()[2])
    assert hours.startswith("estimate: about") and 0.6 < figure < 0.7
    (cost,) = [line for line in lines if "$" in line]
    assert cost.startswith("estimate: about $") and abs(float(cost.split()[2].strip("$")) - 40 * figure) < 0.4


@pytest.mark.parametrize(
    ("more", "rest", "said"),
    [
        ({}, [], "no stage: give -- and one of pretrain"),
        ({}, ["pretran"], "unknown stage 'pretran': did you mean pretrain?"),
        ({}, ["pretrain", "--dept", "3"], "pretrain: unknown argument dept: did you mean depth?"),
        ({}, ["pretrain", "--depth", "3"], "no --output_dir"),
        ({"gpu_name": "H10O"}, ["pretrain", *GPU], "unknown GPU 'H10O': did you mean H100?"),
        ({"dry_run": False}, ["pretrain", *GPU], "submit it: sbatch recipes/launch/slurm.sh"),
    ],
)
def test_a_wrong_dry_run_is_one_line(more, rest, said):
    with pytest.raises(InputError, match="^" + said.replace("(", "\\(")) as error:
        describe(SlurmArguments(**{"dry_run": True} | more), rest)
    assert "\n" not in str(error.value)


def test_the_script_is_bash_that_parses():
    subprocess.run(["bash", "-n", ROOT / "recipes" / "launch" / "slurm.sh"], check=True)


@pytest.mark.slow
@pytest.mark.launch
def test_a_task_that_dies_ends_the_others_and_the_next_start_resumes(cluster, tiny, tmp_path):
    argv = ["pretrain", *flags(tiny | {"num_iterations": 80, "save_every": 5, "output_dir": tmp_path / "run"})]
    job = cluster.start(*argv)
    cluster.wait_until(lambda: newest(tmp_path / "run") != "none", job)
    subprocess.run(["kill", "-KILL", str(cluster.tasks[1][0])], check=True)
    assert job.wait(60) == 128 + signal.SIGKILL
    assert not [each for each in cluster.asked if each.startswith("requeue")], "SLURM requeues after a node's failure"
    job = cluster.start(*argv)
    cluster.wait_until(lambda: f"resuming from {tmp_path / 'run'}/checkpoints/" in cluster.log.read_text(), job)
    cluster.signal_tasks()
    assert job.wait(60) == 0
