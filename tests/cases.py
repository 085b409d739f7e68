# SPDX-License-Identifier: Apache-2.0
"""Inputs that tests and benchmarks share."""

import torch

# around the SIMD widths, the block sizes and nothing at all
SIZES = (0, 1, 2, 31, 32, 33, 255, 257)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uniform(*shape: int, low: float = 0.0, high: float = 1.0, dtype=torch.float32, seed: int = 0) -> torch.Tensor:
    """Uniform values in [low, high), the same in every run."""
    values = torch.rand(*shape, dtype=torch.float64, generator=generator(seed))
    return (low + (high - low) * values).to(dtype)


def strided(x: torch.Tensor) -> torch.Tensor:
    """The same values in a tensor that is not contiguous (every second row of a wider one)."""
    wide = x.new_full((2 * x.shape[0], *(s + 1 for s in x.shape[1:])), float("nan") if x.is_floating_point() else 0)
    view = wide[::2][(slice(None), *(slice(0, s) for s in x.shape[1:]))]
    view.copy_(x)
    return view


def unit_vectors(n: int, dtype=torch.float32, seed: int = 0) -> torch.Tensor:
    """Directions [n, 3] spread evenly over the sphere, normalised in float64."""
    vectors = torch.randn(n, 3, dtype=torch.float64, generator=generator(seed))
    return torch.nn.functional.normalize(vectors, dim=1).to(dtype)


def packed_samples(counts: list[int], dtype=torch.float32, seed: int = 0) -> dict[str, torch.Tensor]:
    """Inputs of packed compositing for rays of these sample counts: random steps, gaps, densities and colours."""
    n = sum(counts)
    packed_info = torch.tensor([[sum(counts[:i]), count] for i, count in enumerate(counts)], dtype=torch.int64)
    delta = uniform(n, low=0.01, high=0.06, dtype=torch.float64, seed=seed)
    t_starts = torch.empty(n, dtype=torch.float64)
    for start, count in packed_info.tolist():
        ray = slice(start, start + count)
        t_starts[ray] = 0.5 + torch.cumsum(1.5 * delta[ray], 0) - delta[ray]
    return {
        "sigmas": uniform(n, high=4, dtype=dtype, seed=seed + 1),
        "rgbs": uniform(n, 3, dtype=dtype, seed=seed + 2),
        "t_starts": t_starts.to(dtype),
        "t_ends": (t_starts + delta).to(dtype),
        "packed_info": packed_info.view(-1, 2),
    }
