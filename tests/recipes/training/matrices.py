"""Random matrices, and optimizer steps whose gradients anyone can draw again."""

import torch


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def parameter(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.nn.Parameter:
    return torch.nn.Parameter(random(*shape, seed=seed, dtype=dtype))


def gradient(shape: tuple[int, ...], step: int, number: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """That of the parameter `number` in `step`."""
    return random(*shape, seed=1000 * step + number + 1, dtype=dtype)


def take_steps(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter], steps: int, first: int = 0) -> None:
    """Optimizer steps with gradients that depend on the number of the step and of the parameter alone."""
    for step in range(first, first + steps):
        for number, p in enumerate(params):
            p.grad = gradient(p.shape, step, number, p.dtype)
        optimizer.step()
