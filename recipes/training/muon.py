"""Muon for the matrices inside the blocks, AdamW for everything else, in one optimizer.

Muon (Keller Jordan, https://kellerjordan.github.io/posts/muon) replaces a matrix's momentum by the nearest
semi-orthogonal matrix, so that every direction of the update has the same size. nanochat's Muon of 2026 puts further
steps around that one: each is a function here and a setting of a group (`MuonSteps`). Those whose names end with _
change their first argument in place, as in torch: fresh memory costs more than the arithmetic.

Why not `torch.optim.Muon`: it takes matrices only and one by one, and orthogonalizes each of them on every rank. Here
the embedding, head and vectors belong to the same optimizer, equal shapes go as one batch, and ranks share work and
state.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch.optim.adamw import adamw

from recipes.training.sharding import RowShares, Shares, is_divided


class Polynomials(NamedTuple):
    """A quintic a X + b (X X^T) X + c (X X^T)^2 X for each iteration, after X is divided by norm x margin + eps."""

    coefficients: tuple[tuple[float, float, float], ...]
    margin: float
    eps: float


ORTHOGONALIZATIONS = {
    # Keller Jordan's: the steepest at 0, so that small singular values grow fast; ends anywhere in 0.7 .. 1.2.
    "newton_schulz": Polynomials(((3.4445, -4.7750, 2.0315),) * 5, margin=1.0, eps=1e-7),
    # Polar Express (Amsel, Persson, Musco, Gower, arXiv 2505.16932): for each iteration the polynomial that is best
    # for what the ones before leave of singular values from 1e-3 to 1, by the paper's algorithm with cushion and
    # safety factor 2e-2. The same as in karpathy/nanochat, nanochat/optim.py; the tests derive them.
    "polar_express": Polynomials(
        (
            (8.156554524902461, -22.48329292557795, 15.878769915207462),
            (4.042929935166739, -2.808917465908714, 0.5000178451051316),
            (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
            (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
            (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
        ),
        margin=1.01,
        eps=1e-6,
    ),
}


@dataclass(frozen=True)
class MuonSteps:
    """Which steps a Muon group takes; the names are those of the group's settings. The default is the Muon of 2025.

    Attributes:
        orthogonalization: "newton_schulz" or "polar_express".
        equilibrate_rows: whether rows get one norm before that (MuonEq).
        renormalize: whether the result gets the Frobenius norm of a semi-orthogonal matrix (Muon+).
        second_moment: beta2 of NorMuon's second moment; None leaves that step out.
        cautious: whether weight decay acts only where it agrees with the update, and at the update's rate.
    """

    orthogonalization: str = "newton_schulz"
    equilibrate_rows: bool = False
    renormalize: bool = False
    second_moment: float | None = None
    cautious: bool = False

    @classmethod
    def of(cls, group: dict[str, Any]) -> "MuonSteps":
        """Those of a parameter group. Groups that were saved before 2026's steps do not name any."""
        return cls(**{name: group[name] for name in cls.__annotations__ if name in group})

    def __str__(self) -> str:
        for generation, steps in MUON.items():
            if self == steps:
                return f"the Muon of {generation}"
        return f"a Muon with {', '.join(f'{name}={value}' for name, value in asdict(self).items())}"


MUON_2025 = MuonSteps()
MUON_2026 = MuonSteps("polar_express", equilibrate_rows=True, renormalize=True, second_moment=0.9, cautious=True)
MUON = {2025: MUON_2025, 2026: MUON_2026}  # by generation


def equilibrate_rows_(matrices: torch.Tensor, inputs_dim: int = -1) -> torch.Tensor:
    """MuonEq (arXiv 2603.28254): every row of (K, R, C) gets the same norm, their root mean square.

    Rows are the weights of one output. With equal ones the singular values lie closer together, so that the few
    iterations of the orthogonalization bring all of them near 1. `inputs_dim` is what a row runs along.
    """
    norms = matrices.norm(dim=inputs_dim, keepdim=True)
    target = norms.square().mean(dim=(-2, -1), keepdim=True).sqrt()
    return matrices.mul_(target / norms.clamp_min(1e-6))


def orthogonalize(
    matrices: torch.Tensor, method: str = "newton_schulz", dtype: torch.dtype = torch.bfloat16
) -> torch.Tensor:
    """Approximately U V^T for each matrix U S V^T of the batch `matrices` (K, R, C), by `method` in `dtype`.

    The iteration pushes singular values towards 1 (to 0.7 .. 1.2 with Newton-Schulz) and is made of matrix products
    alone; it works on the short side, so it costs about 2 min(R, C)^2 (2 max(R, C) + min(R, C)) operations a step.
    """
    coefficients, margin, eps = ORTHOGONALIZATIONS[method]
    x = matrices.to(dtype)
    tall = x.size(-2) > x.size(-1)
    if tall:
        x = x.mT
    # Singular values into [0, 1], where the quintic converges.
    x = x / (x.norm(dim=(-2, -1), keepdim=True) * margin + eps)
    for a, b, c in coefficients:
        gram = x @ x.mT
        x = a * x + torch.baddbmm(gram, gram, gram, beta=b, alpha=c) @ x
    return (x.mT if tall else x).to(matrices.dtype)


def renormalize_(matrices: torch.Tensor) -> torch.Tensor:
    """Muon+ (arXiv 2602.21545): Frobenius norm sqrt(min(R, C)), that of an exactly semi-orthogonal matrix (R, C).

    Makes up for singular values that the orthogonalization left below or above 1 on the average.
    """
    norms = matrices.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-6)
    return matrices.mul_(min(matrices.shape[-2:]) ** 0.5 / norms)


def normalize_neurons_(
    updates: torch.Tensor, second_moments: list[torch.Tensor], beta2: float, inputs_dim: int = -1
) -> torch.Tensor:
    """NorMuon (arXiv 2510.05491): divide each neuron's update (K, R, C) by its running root mean square.

    Some neurons' updates stay larger than others' through the orthogonalization. There is one second moment for each
    index of the longer side, (R, 1) or (1, C), updated too. The Frobenius norm of an update stays what it was.
    """
    dim = averaged_dim(updates.shape, inputs_dim)
    mean_squares = updates.norm(dim=dim, keepdim=True).square() / updates.size(dim)
    torch._foreach_lerp_(second_moments, mean_squares.unbind(), 1 - beta2)
    scale = torch.stack(second_moments).clamp_min(1e-10).rsqrt()
    before = mean_squares.sum(dim=(-2, -1), keepdim=True).sqrt()
    after = (mean_squares * scale.square()).sum(dim=(-2, -1), keepdim=True).sqrt()
    return updates.mul_(scale * (before / after.clamp_min(1e-10)))


def averaged_dim(shape: torch.Size, inputs_dim: int) -> int:
    """The dimension over which NorMuon averages: the shorter one, or that of the inputs."""
    rows, columns = shape[-2:]
    return inputs_dim if rows == columns else -1 if rows > columns else -2


def add_cautious_decay_(
    updates: Sequence[torch.Tensor], weights: Sequence[torch.Tensor], weight_decay: float
) -> list[torch.Tensor]:
    """Add decay of those weights that the update makes smaller anyway (cautious weight decay, arXiv 2510.12402).

    The `updates` (R, C) are to be subtracted from the `weights` (R, C), at the update's rate. What an update makes
    larger does not decay, so decay never acts against the loss.
    """
    updates = [update.contiguous() for update in updates]  # those of tall matrices lie transposed: slow beside weights
    agrees = torch._foreach_mul(updates, weights)
    for product in agrees:
        product.ge_(0)  # 1 or 0, as numbers: products with booleans are ten times slower on a CPU
    torch._foreach_addcmul_(updates, weights, agrees, value=weight_decay)
    return updates


class Muon(torch.optim.Optimizer):
    """One `torch.optim.Optimizer` with two kinds of parameter groups, told apart by `group["kind"]`.

    Groups of kind "muon" (2-D matrices): Nesterov momentum, orthogonalized, times sqrt(max(1, outputs / inputs)), with
    the further steps that the group's settings name (see `MuonSteps`).
    `transposed=True` says that a group's weights are stored (inputs, outputs), as in GPT-2's `Conv1D`.
    Groups of kind "adamw": AdamW (arXiv 1711.05101) by torch's own fused kernels.

    Where gradients are equal on several ranks (as after DDP), or ranks have rows of them (FSDP), `shard_state` divides
    state and work among the ranks. Without it every rank keeps and computes everything.

    Args:
        params: parameter groups, each with "kind"; a group's own settings go before the defaults below.
        lr: learning rate of Muon groups; an update of a square matrix has root-mean-square lr / sqrt(inputs).
        momentum: Nesterov momentum of Muon groups, reached from `momentum_start` over `momentum_warmup` steps.
        betas, eps: AdamW's.
        weight_decay: decoupled, times lr, for both kinds.
        orthogonalize_dtype: precision of the orthogonalization's products.
        steps: what Muon groups do beside that, unless their settings say otherwise.
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
        steps: MuonSteps = MUON_2025,
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
            **asdict(steps),
        }
        super().__init__(params, defaults)
        self.orthogonalize_dtype = orthogonalize_dtype
        self.shares: Shares | None = None
        for group in self.param_groups:
            if group.get("kind") not in ("muon", "adamw"):
                raise ValueError(f"a parameter group's kind must be 'muon' or 'adamw', not {group.get('kind')!r}")
            if group["kind"] == "muon" and any(p.ndim != 2 for p in group["params"]):
                raise ValueError("a Muon group holds a parameter that is not a matrix")
            if group["orthogonalization"] not in ORTHOGONALIZATIONS:
                known = " or ".join(map(repr, ORTHOGONALIZATIONS))
                raise ValueError(f"orthogonalization must be {known}, not {group['orthogonalization']!r}")
            # Makes `load_state_dict` keep the step count on the parameter's device, where the fused kernel reads it.
            group["fused"] = group["kind"] == "adamw"

    def shard_state(self, rank: int, ranks: int) -> None:
        """From the first step on, keep the state of this rank's share of the weights only (see training/sharding.py).

        `state_dict` is then that of the share, and every rank has to save its own.
        """
        if ranks > 1:
            matrices = [p for group in self.param_groups if group["kind"] == "muon" for p in group["params"]]
            under_fsdp = any(is_divided(p) for group in self.param_groups for p in group["params"])
            self.shares = (RowShares if under_fsdp else Shares)(matrices, rank, ranks)

    @torch.no_grad()
    def step(self, closure: Callable[[], torch.Tensor] | None = None) -> torch.Tensor | None:
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self.shares is None and any(is_divided(p) for group in self.param_groups for p in group["params"]):
            raise ValueError("ranks hold rows of the weights (FSDP): call shard_state(rank, ranks) before the steps")
        adamw_groups = [group for group in self.param_groups if group["kind"] == "adamw"]
        if self.shares is None:
            for group, params in self._muon_batches():
                self._apply(group, params, self._muon_updates(group, params, [p.grad for p in params]))
            for group in adamw_groups:
                self._adamw_step(group)
            return loss
        gradients = self.shares.owned_gradients()
        updates: dict[torch.Tensor, torch.Tensor] = {}
        for group, params in self._muon_batches():
            if own := [p for p in params if p in gradients]:
                updates.update(zip(own, self._muon_updates(group, own, [gradients[p] for p in own]), strict=True))
        arrived = self.shares.send_updates(updates, self.orthogonalize_dtype)
        sent = [work for group in adamw_groups for work in self._adamw_step(group)]  # while the updates travel
        updates = arrived()
        for group, params in self._muon_batches():
            self._apply(group, params, [updates[p].to(p.dtype) for p in params], self.shares.local)
        for work in sent:
            work.wait()
        return loss

    def _muon_batches(self) -> Iterator[tuple[dict[str, Any], list[torch.Tensor]]]:
        """Muon's groups and those of their matrices that have a gradient, one shape at a time."""
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None and group["kind"] == "muon"]
            for shape in dict.fromkeys(p.shape for p in params):
                yield group, [p for p in params if p.shape == shape]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As every optimizer's, settings of the groups included; of a whole state, a rank keeps its share.

        What ranks saved is made whole by `merge_shards`. Raises `ValueError` for a state of other steps.
        """
        saved = state_dict["param_groups"]
        theirs, mine = (
            {MuonSteps.of(g) for g in each if g.get("kind") == "muon"} for each in (saved, self.param_groups)
        )
        if theirs != mine:
            of, now = (" and ".join(sorted(map(str, each))) or "no Muon" for each in (theirs, mine))
            raise ValueError(
                f"the optimizer's state is that of {of}, but this one is {now}: go on with the settings that it was "
                "saved with, or start without the state"
            )
        groups, own = [asdict(MUON_2025) | group for group in saved], self._own_share(state_dict["state"])
        super().load_state_dict({**state_dict, "state": own, "param_groups": groups})
        for group in self.param_groups:  # accelerate loads to the GPU, where reading the count would wait for it
            for p in group["params"]:
                if group["kind"] == "muon" and p in self.state:
                    self.state[p]["step"] = self.state[p]["step"].cpu()

    def _own_share(self, states: dict[int, dict[str, torch.Tensor]]) -> dict[int, dict[str, torch.Tensor]]:
        """A copy of what this rank keeps of the `states` by parameter's index, which may be its own already.

        Without copying, a piece would keep the memory of the whole, or a checkpoint's file in use.
        """
        parameters, own = [p for group in self.param_groups for p in group["params"]], {}
        for index, state in states.items():
            p, shares = parameters[index], self.shares
            if shares is not None and p in shares.places and not shares.owns(p):
                continue
            is_cut = shares is not None and p not in shares.places
            own[index] = {
                name: (shares.piece(p, value) if is_cut and value.shape == p.shape else value).clone()
                for name, value in state.items()
            }
        return own

    def _muon_updates(
        self, group: dict[str, Any], params: list[torch.Tensor], gradients: list[torch.Tensor]
    ) -> Sequence[torch.Tensor]:
        """Updates of `params`, all of one shape (R, C), computed as one batch (K, R, C), and their new states."""
        states = [self.state[p] for p in params]
        inputs_dim = -2 if group["transposed"] else -1
        for gradient, state in zip(gradients, states, strict=True):
            if not state:
                state["step"] = torch.tensor(0.0)
                state["momentum_buffer"] = torch.zeros_like(gradient)
                if group["second_moment"] is not None:
                    first = gradient.narrow(averaged_dim(gradient.shape, inputs_dim), 0, 1)  # (R, 1) or (1, C)
                    state["second_moment_buffer"] = torch.zeros_like(first)
        warmth = min(1.0, states[0]["step"].item() / max(1, group["momentum_warmup"]))
        momentum = group["momentum_start"] + (group["momentum"] - group["momentum_start"]) * warmth
        torch._foreach_add_([state["step"] for state in states], 1)

        buffers = [state["momentum_buffer"] for state in states]
        torch._foreach_lerp_(buffers, gradients, 1 - momentum)
        updates = torch.stack(torch._foreach_lerp(gradients, buffers, momentum))  # Nesterov, (K, R, C)
        if group["equilibrate_rows"]:
            updates = equilibrate_rows_(updates, inputs_dim)
        updates = orthogonalize(updates, group["orthogonalization"], self.orthogonalize_dtype)
        if group["renormalize"]:
            updates = renormalize_(updates)
        if group["second_moment"] is not None:
            second_moments = [state["second_moment_buffer"] for state in states]
            updates = normalize_neurons_(updates, second_moments, group["second_moment"], inputs_dim)
        return updates.unbind()

    def _apply(
        self,
        group: dict[str, Any],
        params: list[torch.Tensor],
        updates: Sequence[torch.Tensor],
        local: Callable[[torch.Tensor], torch.Tensor] = lambda p: p,
    ) -> None:
        """Weight decay, and the updates, of `params`, all of one shape (R, C), or of what is `local` of them."""
        rows, columns = params[0].shape
        outputs, inputs = (columns, rows) if group["transposed"] else (rows, columns)
        params = [local(p) for p in params]
        if group["weight_decay"] and group["cautious"]:
            updates = add_cautious_decay_(updates, params, group["weight_decay"])
        elif group["weight_decay"]:
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(params, updates, alpha=-group["lr"] * max(1.0, outputs / inputs) ** 0.5)

    def _adamw_step(self, group: dict[str, Any]) -> list[dist.Work]:
        """AdamW's update; returns what is on its way to other ranks."""
        params = [p for p in group["params"] if p.grad is not None]
        if not params:
            return []
        states, own, gradients = [self.state[p] for p in params], params, [p.grad for p in params]
        if self.shares is not None:
            own = [self.shares.piece(p, p.detach()) for p in params]
            gradients = [self.shares.piece(p, p.grad) for p in params]
        for piece, state in zip(own, states, strict=True):
            if not state:
                state["step"] = torch.tensor(0.0, device=piece.device)
                state["exp_avg"] = torch.zeros_like(piece)
                state["exp_avg_sq"] = torch.zeros_like(piece)
        adamw(
            own,
            gradients,
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
        return [] if self.shares is None else self.shares.send_pieces(params)
