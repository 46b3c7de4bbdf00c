"""Muon for the matrices inside the blocks, AdamW for everything else, in one optimizer.

Muon (Keller Jordan, https://kellerjordan.github.io/posts/muon) replaces a matrix's momentum by the nearest
semi-orthogonal matrix, so that every direction of the update has the same size.

Why not `torch.optim.Muon`: it takes matrices only and one by one, and orthogonalizes each of them on every rank. Here
the embedding, head and vectors belong to the same optimizer, equal shapes go as one batch, and ranks share the work.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch.optim.adamw import adamw

# Coefficients (a, b, c) of the quintic a X + b (X X^T) X + c (X X^T)^2 X, one triple a step.
NEWTON_SCHULZ = ((3.4445, -4.7750, 2.0315),) * 5


@dataclass(frozen=True)
class MuonSteps:
    """Which steps a Muon group takes; the names are those of the group's settings. The default is the Muon of 2025.

    Attributes:
        orthogonalization: "newton_schulz" or "polar_express".
        equilibrate_rows: whether rows are rescaled to one norm first (MuonEq).
        renormalize: whether the result gets the Frobenius norm of a semi-orthogonal matrix (Muon+).
        second_moment: beta2 of NorMuon's second moment; None takes no such step.
        cautious: whether weight decay holds back where it would act against the update, and follows its rate.
    """

    orthogonalization: str = "newton_schulz"
    equilibrate_rows: bool = False
    renormalize: bool = False
    second_moment: float | None = None
    cautious: bool = False


MUON_2025 = MuonSteps()
MUON_2026 = MuonSteps("polar_express", equilibrate_rows=True, renormalize=True, second_moment=0.9, cautious=True)


def orthogonalize(
    matrices: torch.Tensor,
    coefficients: Iterable[tuple[float, float, float]] = NEWTON_SCHULZ,
    dtype: torch.dtype = torch.bfloat16,
) -> torch.Tensor:
    """Approximately U V^T for each matrix U S V^T of the batch `matrices` (K, R, C), by Newton-Schulz in `dtype`.

    The iteration pushes singular values towards 1 (to 0.7 .. 1.2 with the classic coefficients) and is made of
    matrix products alone; it works on the short side, so it costs about 2 min(R, C)^2 (2 max(R, C) + min(R, C))
    operations a step.
    """
    x = matrices.to(dtype)
    tall = x.size(-2) > x.size(-1)
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)  # singular values into [0, 1], where the quintic converges
    for a, b, c in coefficients:
        gram = x @ x.mT
        x = a * x + torch.baddbmm(gram, gram, gram, beta=b, alpha=c) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """One `torch.optim.Optimizer` with two kinds of parameter groups, told apart by `group["kind"]`.

    Groups of kind "muon" (2-D matrices): Nesterov momentum, orthogonalized, times sqrt(max(1, outputs / inputs)).
    `transposed=True` says that a group's weights are stored (inputs, outputs), as in GPT-2's `Conv1D`.
    Groups of kind "adamw": AdamW (arXiv 1711.05101) by torch's own fused kernels.

    When a process group of several ranks is up and gradients are equal on all of them (as after DDP), each rank
    orthogonalizes its share of the matrices and the results are gathered. Every rank holds the whole state, so a
    checkpoint of one rank resumes on any number of them.

    Args:
        params: parameter groups, each with "kind"; a group's own settings go before the defaults below.
        lr: learning rate of Muon groups; an update of a square matrix has root-mean-square lr / sqrt(inputs).
        momentum: Nesterov momentum of Muon groups, reached from `momentum_start` over `momentum_warmup` steps.
        betas, eps: AdamW's.
        weight_decay: decoupled, times lr, for both kinds.
        orthogonalize_dtype: precision of the Newton-Schulz products.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float = 0.02,
        momentum: float = 0.95,
        momentum_start: float = 0.85,
        momentum_warmup: int = 300,
        betas: tuple[float, float] = (0.8, 0.95),
        eps: float = 1e-10,
        weight_decay: float = 0.0,
        orthogonalize_dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "momentum_start": momentum_start,
            "momentum_warmup": momentum_warmup,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "transposed": False,
        }
        super().__init__(params, defaults)
        self.orthogonalize_dtype = orthogonalize_dtype
        for group in self.param_groups:
            if group.get("kind") not in ("muon", "adamw"):
                raise ValueError(f"a parameter group's kind must be 'muon' or 'adamw', not {group.get('kind')!r}")
            if group["kind"] == "muon" and any(p.ndim != 2 for p in group["params"]):
                raise ValueError("a Muon group holds a parameter that is not a matrix")
            # Makes `load_state_dict` keep the step count on the parameter's device, where the fused kernel reads it.
            group["fused"] = group["kind"] == "adamw"

    @torch.no_grad()
    def step(self, closure: Callable[[], torch.Tensor] | None = None) -> torch.Tensor | None:
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if group["kind"] == "adamw":
                self._adamw_step(group, params)
            else:
                for shape in dict.fromkeys(p.shape for p in params):
                    self._muon_step(group, [p for p in params if p.shape == shape])
        return loss

    def _muon_step(self, group: dict[str, Any], params: list[torch.Tensor]) -> None:
        """Update `params`, all of one shape (R, C), as one batch."""
        states = [self.state[p] for p in params]
        for p, state in zip(params, states, strict=True):
            if not state:
                state["step"] = torch.tensor(0.0)
                state["momentum_buffer"] = torch.zeros_like(p)
        warmth = min(1.0, states[0]["step"].item() / max(1, group["momentum_warmup"]))
        momentum = group["momentum_start"] + (group["momentum"] - group["momentum_start"]) * warmth
        torch._foreach_add_([state["step"] for state in states], 1)

        buffers, gradients = [state["momentum_buffer"] for state in states], [p.grad for p in params]
        torch._foreach_lerp_(buffers, gradients, 1 - momentum)
        lookahead = torch.stack(torch._foreach_lerp(gradients, buffers, momentum))  # Nesterov, (K, R, C)
        updates = orthogonalize_shared(lookahead, self.orthogonalize_dtype)

        rows, columns = params[0].shape
        outputs, inputs = (columns, rows) if group["transposed"] else (rows, columns)
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(params, updates.unbind(), alpha=-group["lr"] * max(1.0, outputs / inputs) ** 0.5)

    def _adamw_step(self, group: dict[str, Any], params: list[torch.Tensor]) -> None:
        if not params:
            return
        states = [self.state[p] for p in params]
        for p, state in zip(params, states, strict=True):
            if not state:
                state["step"] = torch.tensor(0.0, device=p.device)
                state["exp_avg"] = torch.zeros_like(p)
                state["exp_avg_sq"] = torch.zeros_like(p)
        adamw(
            params,
            [p.grad for p in params],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=group["fused"],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def orthogonalize_shared(matrices: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """`orthogonalize` for (K, R, C): each rank computes ceil(K / ranks) of the matrices, and all ranks gather all."""
    ranks = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    if ranks == 1:
        return orthogonalize(matrices, dtype=dtype)
    share = -(-len(matrices) // ranks)
    gathered = matrices.new_zeros(share * ranks, *matrices.shape[1:])
    mine = gathered[dist.get_rank() * share :][:share].clone()
    own = matrices[dist.get_rank() * share :][:share]
    if len(own):
        mine[: len(own)] = orthogonalize(own, dtype=dtype)
    dist.all_gather(list(gathered.chunk(ranks)), mine)
    return gathered[: len(matrices)]
