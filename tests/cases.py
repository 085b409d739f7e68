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
