"""Precision and peak follow the hardware that is there."""

import re
from functools import partial
from pathlib import Path

import pytest
import torch

from recipes.utils import hardware
from recipes.utils.errors import InputError
from recipes.utils.hardware import (
    GPUS,
    _left_in_cgroups,
    available_memory,
    check_card,
    choose_precision,
    find_misfit,
    gpu_figures,
    has_bf16,
    measure_matmul,
    peak_flops,
    peak_memory,
    precision_name,
)

CPU = torch.device("cpu")
STATUS = Path("/proc/self/status")


def test_precision_is_what_was_asked_for_or_what_the_hardware_has():
    for requested in ("no", "bf16"):
        assert choose_precision(requested, CPU) == requested
    assert choose_precision("fp16", torch.device("cuda")) == "fp16"
    assert choose_precision("auto", CPU) == ("bf16" if has_bf16(CPU) else "no")
    assert [precision_name(each) for each in ("bf16", "no")] == ["bf16", "fp32"]


def test_fp16_on_a_cpu_is_one_clear_line():
    with pytest.raises(InputError, match=r"^mixed_precision fp16 needs a GPU: .*bf16, or no"):
        choose_precision("fp16", CPU)


@pytest.mark.skipif(not hasattr(torch.cpu, "get_capabilities"), reason="torch cannot tell by itself")
def test_both_ways_to_ask_about_bf16_agree(monkeypatch):
    answer = has_bf16(CPU)
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert has_bf16(CPU) == answer


@pytest.mark.parametrize(
    ("device_name", "known"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H100 NVL", "H100 NVL"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA GH200 480GB", "GH200"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA A10", "A10"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA RTX A6000", "A6000"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("Tesla T4", "T4"),
        ("Tesla V100-SXM2-32GB", "V100"),
        ("AMD Instinct MI300X", "MI300X"),
        ("h100", "H100"),
    ],
)
def test_gpus_are_known_by_the_names_they_give_themselves(device_name, known):
    assert gpu_figures(device_name) == GPUS[known]


@pytest.mark.parametrize("device_name", ["NVIDIA RTX A1000 Laptop GPU", "NVIDIA T400 4GB", "Abacus", ""])
def test_an_unknown_gpu_is_not_taken_for_another(device_name):
    assert gpu_figures(device_name) is None


def test_every_gpu_of_the_table_is_found_by_its_own_name():
    assert {name: gpu_figures(name) for name in GPUS} == GPUS


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_measured_peak_is_a_plausible_number_of_flops(dtype):
    assert 1e7 < measure_matmul(dtype, size=128) < 1e15


def test_a_cpus_peak_is_measured_and_no_other_devices_guessed(monkeypatch):
    monkeypatch.setattr(hardware, "measure_matmul", partial(measure_matmul, size=128))
    assert peak_flops(CPU, torch.float32) > 1e7
    assert peak_flops(torch.device("mps"), torch.float32) is None


@pytest.mark.skipif(not STATUS.exists(), reason="no account by the system")
def test_peak_memory_is_what_the_system_says():
    kilobytes = int(re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())[1])
    assert peak_memory(CPU) == pytest.approx(1024 * kilobytes, rel=0.02)


def test_memory_that_is_left_is_the_least_of_the_machine_and_every_limit_above(tmp_path):
    assert 0 < available_memory() < 2**60
    me = tmp_path / "cgroup"
    for version, (folder, limit, usage, line) in {
        1: ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "4:memory:/a/b\n3:cpu:/a"),
        2: ("", "memory.max", "memory.current", "0::/a/b"),
    }.items():
        top = tmp_path / str(version) / folder
        for group, (most, used) in {top: ("1000", 500), top / "a": ("max", 400), top / "a/b": ("300", 120)}.items():
            group.mkdir(parents=True, exist_ok=True)
            (group / limit).write_text(most)
            (group / usage).write_text(str(used))
            (group / "memory.stat").write_text("inactive_file 20\nanon 100\n")
        me.write_text(line)
        assert sorted(_left_in_cgroups(tmp_path / str(version), me)) == [200, 520]
    assert _left_in_cgroups(tmp_path, tmp_path / "none") == []


# Kernels for a card

CU126 = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]


@pytest.mark.parametrize(
    ("capability", "built_for", "runs"),
    [
        ((9, 0), CU126, True),
        ((8, 9), CU126, True),  # by the kernels of sm_86, which is of its generation
        ((10, 0), CU126, False),
        ((12, 0), CU126, False),
        ((3, 7), CU126, False),
        ((12, 0), [*CU126, "compute_90"], True),  # compiled from PTX at the start
        ((8, 0), ["sm_86"], False),  # older than what it was built for
        ((9, 0), ["sm_90a"], True),
        ((10, 3), ["sm_100a"], False),  # exactly that one
        ((10, 3), ["sm_100f"], True),  # its family
        ((9, 0), [], True),  # not told: AMD's
    ],
)
def test_a_card_is_refused_if_torch_has_no_kernels_for_it(capability, built_for, runs):
    misfit = find_misfit(capability, built_for)
    assert (misfit is None) == runs
    if misfit:
        assert f"sm_{capability[0]}{capability[1]}" in misfit and built_for[0] in misfit


def test_a_card_without_kernels_is_one_line_before_it_is_used(monkeypatch):
    class Properties:
        name, major, minor = "NVIDIA B200", 10, 0

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: Properties)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: CU126)
    with pytest.raises(
        InputError, match=r"cannot use this GPU, 1 \(NVIDIA B200\): it is sm_100, and that build is for"
    ):
        check_card(1)
