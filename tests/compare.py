# SPDX-License-Identifier: Apache-2.0
"""Comparisons with bounds that come from arithmetic; each test says how many roundings it allows and why."""

from collections.abc import Callable

import torch
from torch import Tensor

EPS = {torch.float16: 2.0**-11, torch.float32: 2.0**-24, torch.float64: 2.0**-53}


def assert_close(actual: Tensor, expected: Tensor, roundings: float, scale: float | Tensor = 1.0) -> None:
    """|actual - expected| <= roundings * unit roundoff of actual's dtype * max(scale, |expected|), elementwise.

    `scale` is the magnitude at which the computation rounds: the largest intermediate, not the result.
    """
    assert actual.shape == expected.shape, f"shapes differ: {list(actual.shape)} and {list(expected.shape)}"
    assert torch.isfinite(actual).all() == torch.isfinite(expected).all(), "finite on one side only"
    wide, reference = actual.double(), expected.double()
    bound = roundings * EPS[actual.dtype] * torch.maximum(torch.as_tensor(scale).double(), reference.abs())
    excess = (wide - reference).abs() / bound
    worst = float(excess.max()) if excess.numel() else 0.0
    assert worst <= 1, f"error is {worst:.3g} times the bound of {roundings} roundings"


def relative_norm(actual: Tensor, expected: Tensor) -> float:
    """||actual - expected|| / ||expected|| in float64, 0 for two empty tensors."""
    difference = (actual.double() - expected.double()).norm()
    return float(difference / expected.double().norm().clamp_min(1e-300))


def slopes(run: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, ...]:
    """First derivatives of something that is not linear in what `run` gives, for gradgradcheck to take the third."""
    return torch.autograd.grad(run(*inputs).sin().sum(), inputs, create_graph=True)
