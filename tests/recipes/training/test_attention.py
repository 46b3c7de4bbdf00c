"""The kernel of the attention is chosen by the card, said, and refused in one line if it cannot be used."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch.nn import attention as torch_attention
from transformers import GPT2Config

from modeling_nanochat import NanochatGPTConfig
from recipes.training import attention, loop
from recipes.training.attention import FLASH_3, choose_attention, describe_attention, fast_sdpa
from tests.recipes.processes import flags, run
from tests.recipes.test_pretrain import assert_one_line, losses

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def card(monkeypatch):
    """Makes this machine seem to have a card of a capability, with or without FlashAttention 3."""

    def pretend(capability, flash):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(attention, "has_flash_attention_3", lambda: flash)

    return pretend


@pytest.mark.parametrize(
    ("capability", "flash", "chosen"),
    [((9, 0), True, FLASH_3), ((9, 0), False, "sdpa"), ((8, 0), True, "sdpa"), ((10, 0), True, "sdpa")],
)
def test_auto_takes_flash_attention_3_on_hopper_where_it_is_there(card, capability, flash, chosen):
    card(capability, flash)
    ours = NanochatGPTConfig.from_depth(4)
    assert choose_attention("auto", GPU, 2048, ours, "bf16") == chosen
    assert choose_attention("auto", GPU, 2048, ours, "no") == "sdpa"  # it takes 16 bits only
    assert choose_attention("auto", GPU, 2048, GPT2Config(), "bf16") == "sdpa"  # which may not know it
    assert choose_attention("flex_attention", GPU, 2048, ours, "bf16") == "flex_attention"


def test_on_a_cpu_short_rows_take_eager_attention():
    assert [choose_attention("auto", CPU, length) for length in (512, 1024, 2048)] == ["eager", "eager", "sdpa"]


def test_without_kernels_there_is_no_flash_attention_3():
    assert not attention.has_flash_attention_3()  # not among our dependencies


@pytest.mark.parametrize(("capability", "first"), [((9, 0), "CUDNN_ATTENTION"), ((8, 0), None)])
def test_sdpa_tries_cudnn_first_on_hopper_alone(card, capability, first):
    card(capability, False)
    order = torch_attention._cur_sdpa_kernel_backends  # private: torch has no other way to ask
    before = order(with_priority=True)
    with fast_sdpa(GPU):
        inside = order(with_priority=True)
    assert inside[0].name == first if first else inside == before
    assert order(with_priority=True) == before
    with fast_sdpa(CPU):
        assert order(with_priority=True) == before


def test_the_loss_of_training_rows_is_computed_with_cudnn_first(monkeypatch):
    """The order is in force while the model runs, and asked for by the device of the rows."""
    active = []

    @contextmanager
    def noting(device):
        active.append(device)
        yield
        active.clear()

    def model(**inputs):
        assert active == [CPU]
        return SimpleNamespace(loss=torch.zeros(()))

    monkeypatch.setattr(loop, "fast_sdpa", noting)
    monkeypatch.setattr(loop, "unwrap", lambda model: model)
    loop.rows_loss(model, torch.zeros(2, 9, dtype=torch.long), 16)
    assert not active


def test_the_line_says_when_windows_cost_a_mask(card):
    card((9, 0), False)
    windows, none = (NanochatGPTConfig.from_depth(4, generation=year) for year in (2026, 2025))
    assert "read a mask of 2048 x 2048" in describe_attention("sdpa", windows, GPU, 2048)
    assert describe_attention("sdpa", none, GPU, 2048) == "sdpa, by cuDNN where it can"
    assert describe_attention(FLASH_3, windows, GPU, 2048) == FLASH_3
    assert describe_attention("sdpa", windows, CPU, 2048) == "sdpa"


def test_kernels_of_a_cpu_train_alike_and_the_run_says_which(tiny, tmp_path):
    plain = tiny | {"generation": 2026, "mixed_precision": "no"}
    for name in ("eager", "sdpa"):
        end = run(flags(plain | {"output_dir": tmp_path / name, "attn_implementation": name}))
        assert end.code == 0, end.stderr
        assert f"attention    {name}" in end.stdout
    # Muon orthogonalizes in bf16 where the CPU has it, which makes more of what differs by rounding.
    torch.testing.assert_close(losses(tmp_path / "eager"), losses(tmp_path / "sdpa"), rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("flex_attention", "flex_attention does not train on a CPU: take sdpa, or eager."),
        ("sdqa", "unknown kernel 'sdqa'; did you mean sdpa?"),
        ("flash_attention_3", "attn_implementation flash_attention_3 does not work here"),
        ("kernels-community/flash-attn3", "attn_implementation kernels-community/flash-attn3 does not work here"),
    ],
)
def test_a_kernel_that_cannot_be_used_is_one_line(tiny, tmp_path, name, says):
    assert_one_line(run(flags(tiny | {"output_dir": tmp_path, "attn_implementation": name})), says)
