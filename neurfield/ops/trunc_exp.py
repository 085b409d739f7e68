# SPDX-License-Identifier: Apache-2.0
"""Truncated exponential, the density activation (csrc/math/trunc_exp.h)."""

import torch
from torch import Tensor

from neurfield.ops._common import DEVICES, NATIVE_FLOATS, check_tensor, native, vjp
from neurfield.ops._operator import operator


def trunc_exp(x: Tensor) -> Tensor:
    """`e^x` with the gradient `e^clamp(x, -15, 15)`, which neither vanishes nor overflows.

    Args:
        x: float32 or float64 of any shape; strided tensors are copied.

    Returns:
        Same shape and dtype. float32 saturates at the largest finite power and gives 0 below -87.3; NaN stays NaN.
        Differentiable any number of times, from the second on through plain torch operations.

    Raises:
        TypeError: wrong dtype.
    """
    check_tensor("trunc_exp", "x", x, tuple(x.shape), NATIVE_FLOATS)
    return _forward(x)


@operator("trunc_exp", devices=DEVICES)
def _forward(x: Tensor) -> Tensor:
    lib = native(x)
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    lib.trunc_exp_forward(x.contiguous().view(-1), y.view(-1))
    return y


@_forward.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@operator("trunc_exp_backward", devices=DEVICES)
def _backward(x: Tensor, grad_y: Tensor) -> Tensor:
    lib = native(x)
    grad_x = torch.empty_like(x, memory_format=torch.contiguous_format)
    lib.trunc_exp_backward(x.contiguous().view(-1), grad_y.contiguous().view(-1), grad_x.view(-1))
    return grad_x


@_backward.register_fake
def _(x: Tensor, grad_y: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _setup_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(inputs[0])


def _autograd(ctx, grad_y: Tensor):
    (x,) = ctx.saved_tensors
    return _backward(x, grad_y)


def _composed_gradient(x: Tensor, grad_y: Tensor) -> Tensor:
    return grad_y * x.clamp(-15, 15).exp()


def _double_autograd(ctx, grad_grad_x: Tensor):
    return vjp(_composed_gradient, ctx.saved_tensors, grad_grad_x)


def _setup_double_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


_backward.register_autograd(_double_autograd, setup_context=_setup_double_context)
_forward.register_autograd(_autograd, setup_context=_setup_context)
