# SPDX-License-Identifier: Apache-2.0
"""Spherical-harmonics encoding of directions (csrc/math/spherical_harmonics.h)."""

import torch
from torch import Tensor

from neurfield.ops._common import DEVICES, check_tensor, empty, native
from neurfield.ops._operator import operator

MAX_DEGREE = 8


def spherical_harmonics(directions: Tensor, degree: int) -> Tensor:
    """Real spherical harmonics of all bands below `degree`, in the order and with the signs of tiny-cuda-nn.

    For unit directions the squares of a row sum to `degree^2 / (4 pi)`. Directions are not normalised here: elsewhere
    the result is the value of the polynomials in x, y, z that tiny-cuda-nn evaluates.

    Args:
        directions: float32 or float64 `[n, 3]`, unit vectors; strided tensors are copied.
        degree: 1 ... 8.

    Returns:
        `[n, degree^2]`, same dtype. Differentiable once in `directions`; non-finite input gives NaN or infinity.

    Raises:
        TypeError, ValueError: wrong dtype, shape or degree.
    """
    check_tensor("spherical_harmonics", "directions", directions, ("n", 3))
    if not 1 <= degree <= MAX_DEGREE:
        raise ValueError(f"spherical_harmonics: degree must be 1 ... {MAX_DEGREE}, got {degree}")
    return _forward(directions, degree)


@operator("spherical_harmonics", devices=DEVICES)
def _forward(directions: Tensor, degree: int) -> Tensor:
    lib = native(directions)
    y = empty(directions, directions.shape[0], degree * degree)
    lib.spherical_harmonics_forward(directions.contiguous(), y, degree)
    return y


@_forward.register_fake
def _(directions: Tensor, degree: int) -> Tensor:
    return directions.new_empty(directions.shape[0], degree * degree)


@operator("spherical_harmonics_backward", devices=DEVICES)
def _backward(directions: Tensor, grad_y: Tensor, degree: int) -> Tensor:
    lib = native(directions)
    grad_directions = torch.empty_like(directions, memory_format=torch.contiguous_format)
    lib.spherical_harmonics_backward(directions.contiguous(), grad_y.contiguous(), grad_directions, degree)
    return grad_directions


@_backward.register_fake
def _(directions: Tensor, grad_y: Tensor, degree: int) -> Tensor:
    return torch.empty_like(directions, memory_format=torch.contiguous_format)


def _setup_context(ctx, inputs, output) -> None:
    directions, ctx.degree = inputs
    ctx.save_for_backward(directions)


def _autograd(ctx, grad_y: Tensor):
    (directions,) = ctx.saved_tensors
    return _backward(directions, grad_y, ctx.degree), None


_forward.register_autograd(_autograd, setup_context=_setup_context)
