"""A model that two processes hold by transformers' tensor parallelism computes as one does."""

import os
import socket

import pytest
import torch
import torch.distributed as dist

from modeling_nanochat import NanochatGPTForCausalLM
from tests.modeling_nanochat.tiny import assert_close, random_ids

RANKS = 2


def compute_in_parallel(rank: int, directory: str, port: int) -> None:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": RANKS, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in place.items()}
    dist.init_process_group("gloo", rank=rank, world_size=RANKS)
    model = NanochatGPTForCausalLM.from_pretrained(directory, tp_plan="auto").eval()
    held = sum(p.to_local().numel() if hasattr(p, "to_local") else p.numel() for p in model.parameters())
    ids = random_ids(2, 12)
    with torch.no_grad():
        logits = model(ids).logits
        written = model.generate(ids, max_new_tokens=8, do_sample=False)
    if rank == 0:
        torch.save({"held": held, "logits": logits, "written": written}, f"{directory}/found.pt")
    dist.destroy_process_group()


@pytest.mark.launch
@pytest.mark.slow
def test_two_processes_compute_as_one(model, tmp_path):
    model.save_pretrained(tmp_path)
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        port = listener.getsockname()[1]
    torch.multiprocessing.spawn(compute_in_parallel, (str(tmp_path), port), nprocs=RANKS)
    found, ids = torch.load(tmp_path / "found.pt", weights_only=True), random_ids(2, 12)
    assert found["held"] < 0.8 * sum(p.numel() for p in model.parameters()), "the weights are shared out"
    with torch.no_grad():
        assert_close(found["logits"], model(ids).logits, 1e-4)
        assert torch.equal(found["written"], model.generate(ids, max_new_tokens=8, do_sample=False))
