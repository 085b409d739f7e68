# SPDX-License-Identifier: Apache-2.0
"""Complex Gabor wavelet, the activation of WIRE (csrc/math/wavelet.h)."""

import math

import torch
from torch import Tensor

from neurfield.ops._common import DEVICES, check_tensor, empty, native, vjp
from neurfield.ops._operator import operator


def wavelet(u: Tensor, omega: float, scale: float) -> Tensor:
    """`exp(i omega u - |scale u|^2)` of complex numbers (Saragadam et al. 2023, eq. 3).

    Args:
        u: float32 or float64 `[n, 2 width]`, width real parts and then as many imaginary ones; strided tensors are
            copied.
        omega, scale: positive. Values reach `exp((omega / (2 scale))^2)`, for imaginary parts below zero.

    Returns:
        The same shape and dtype, real parts and then imaginary ones. Differentiable any number of times in `u`, from
        the second on through plain torch operations. In float32 what is below e^-87 is 0; NaN stays NaN.

    Raises:
        TypeError, ValueError: wrong dtype or shape, an odd number of columns; omega or scale not positive.
    """
    check_tensor("wavelet", "u", u, ("n", "2 width"))
    if u.shape[1] % 2:
        raise ValueError(f"wavelet: u must have as many imaginary as real columns, got {u.shape[1]} in all")
    for name, value in (("omega", omega), ("scale", scale)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"wavelet: {name} must be a positive number, got {value}")
    return _forward(u, omega, scale)


@operator("wavelet", devices=DEVICES)
def _forward(u: Tensor, omega: float, scale: float) -> Tensor:
    lib = native(u)
    h = empty(u, *u.shape)
    lib.wavelet_forward(u.contiguous(), omega, scale, h)
    return h


@_forward.register_fake
def _(u: Tensor, omega: float, scale: float) -> Tensor:
    return u.new_empty(u.shape)


@operator("wavelet_backward", devices=DEVICES)
def _backward(u: Tensor, h: Tensor, grad_h: Tensor, omega: float, scale: float) -> Tensor:
    lib = native(u)
    grad_u = empty(u, *u.shape)
    lib.wavelet_backward(u.contiguous(), h.contiguous(), grad_h.contiguous(), omega, scale, grad_u)
    return grad_u


@_backward.register_fake
def _(u: Tensor, h: Tensor, grad_h: Tensor, omega: float, scale: float) -> Tensor:
    return u.new_empty(u.shape)


def _setup_context(ctx, inputs, output) -> None:
    u, ctx.omega, ctx.scale = inputs
    ctx.save_for_backward(u, output)


def _autograd(ctx, grad_h: Tensor):
    u, h = ctx.saved_tensors
    return _backward(u, h, grad_h, ctx.omega, ctx.scale), None, None


def _setup_double_context(ctx, inputs, output) -> None:
    u, _h, grad_h, ctx.omega, ctx.scale = inputs
    ctx.save_for_backward(u, grad_h)


def _double_autograd(ctx, grad_grad_u: Tensor):
    """h is a function of u: what reaches it goes to u at once."""
    omega, square = ctx.omega, ctx.scale**2

    def gradient(u: Tensor, grad_h: Tensor) -> Tensor:
        (a, b), (grad_re, grad_im) = u.chunk(2, dim=1), grad_h.chunk(2, dim=1)
        size = torch.exp(-omega * b - square * (a * a + b * b))
        re, im = size * torch.cos(omega * a), size * torch.sin(omega * a)
        along, across = grad_re * re + grad_im * im, grad_im * re - grad_re * im
        return torch.cat([omega * across - 2 * square * a * along, -(omega + 2 * square * b) * along], dim=1)

    grad_u, grad_grad_h = vjp(gradient, ctx.saved_tensors, grad_grad_u)
    return grad_u, None, grad_grad_h, None, None


_backward.register_autograd(_double_autograd, setup_context=_setup_double_context)
_forward.register_autograd(_autograd, setup_context=_setup_context)
