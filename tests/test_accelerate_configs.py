"""The launch configurations are ones that accelerate reads."""

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file

DIRECTORY = Path(__file__).parents[1] / "accelerate_configs"
PROCESSES = {"cpu": 1, "single_gpu": 1, "ddp": 8, "fsdp2": 8, "multi_node": 16}


@pytest.mark.parametrize("name", PROCESSES)
def test_a_launch_configuration_loads_with_its_number_of_processes(name):
    config = load_config_from_file(str(DIRECTORY / f"{name}.yaml"))
    assert config.num_processes == PROCESSES[name]
    assert config.use_cpu == (name == "cpu")
    assert config.mixed_precision == "no", "the recipes choose the precision themselves"


def test_every_launch_configuration_is_tested():
    assert {path.stem for path in DIRECTORY.glob("*.yaml")} == set(PROCESSES)
