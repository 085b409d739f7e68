# SPDX-License-Identifier: Apache-2.0
"""Frequency encoding (csrc/math/frequency.h)."""

import math

import torch
from torch import Tensor

from neurfield.ops._common import DEVICES, check_tensor, empty, native, vjp
from neurfield.ops._operator import operator


def frequency(x: Tensor, n_frequencies: int) -> Tensor:
    """Encodes every value as sines and cosines of octave-spaced frequencies.

    `y[:, 2k] = sin(2^k pi x)`, `y[:, 2k + 1] = cos(2^k pi x)` per input dimension, dimensions one after the other
    (Mildenhall et al. 2020, eq. 4; the ordering of tiny-cuda-nn).

    Args:
        x: float32 or float64 `[n, n_dims]`, any finite value; strided tensors are copied.
        n_frequencies: at least 1.

    Returns:
        `[n, n_dims * 2 * n_frequencies]`, same dtype. Differentiable any number of times in `x`, from the second on
        through plain torch operations; non-finite input gives NaN.

    Raises:
        TypeError, ValueError: wrong dtype, shape or n_frequencies.
    """
    check_tensor("frequency", "x", x, ("n", "n_dims"))
    if n_frequencies < 1:
        raise ValueError(f"frequency: n_frequencies must be at least 1, got {n_frequencies}")
    y = _forward(x.reshape(-1), n_frequencies)
    return y.view(x.shape[0], x.shape[1] * 2 * n_frequencies)


@operator("frequency", devices=DEVICES)
def _forward(x: Tensor, n_frequencies: int) -> Tensor:
    lib = native(x)
    y = empty(x, x.shape[0], 2 * n_frequencies)
    lib.frequency_forward(x.contiguous(), y)
    return y


@_forward.register_fake
def _(x: Tensor, n_frequencies: int) -> Tensor:
    return x.new_empty(x.shape[0], 2 * n_frequencies)


@operator("frequency_backward", devices=DEVICES)
def _backward(x: Tensor, grad_y: Tensor) -> Tensor:
    lib = native(x)
    grad_x = torch.empty_like(x, memory_format=torch.contiguous_format)
    lib.frequency_backward(x.contiguous(), grad_y.contiguous(), grad_x)
    return grad_x


@_backward.register_fake
def _(x: Tensor, grad_y: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _setup_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(inputs[0])


def _autograd(ctx, grad_y: Tensor):
    (x,) = ctx.saved_tensors
    return _backward(x, grad_y), None


def _composed_gradient(x: Tensor, grad_y: Tensor) -> Tensor:
    """The gradient to x as torch operations, which can be differentiated."""
    scale = torch.exp2(torch.arange(grad_y.shape[1] // 2, dtype=x.dtype, device=x.device))
    half_turns = x[:, None] * scale
    angles = math.pi * (half_turns - 2 * torch.round(half_turns / 2))  # less whole turns, exactly
    slopes = angles.cos() * grad_y[:, 0::2] - angles.sin() * grad_y[:, 1::2]
    return math.pi * (scale * slopes).sum(1)


def _setup_double_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


def _double_autograd(ctx, grad_grad_x: Tensor):
    return vjp(_composed_gradient, ctx.saved_tensors, grad_grad_x)


_backward.register_autograd(_double_autograd, setup_context=_setup_double_context)
_forward.register_autograd(_autograd, setup_context=_setup_context)
