# SPDX-License-Identifier: Apache-2.0
"""Fourier features (csrc/math/fourier_features.h)."""

import math

import torch
from torch import Tensor

from neurfield.ops._common import DEVICES, check_tensor, contiguous, empty, native, vjp
from neurfield.ops._operator import operator

MAX_DIMS = 8


def fourier_features(x: Tensor, frequencies: Tensor, gates: Tensor | None = None) -> Tensor:
    """Encodes points as sines and cosines of arbitrary frequencies (Tancik et al. 2020, eq. 5; 2 pi included).

    `y[:, 2k] = g sin(2 pi b_k . x)`, `y[:, 2k + 1] = g cos(2 pi b_k . x)` with the gate `g = 1`, or `gates[:, j]` for
    the frequencies `k` with `floor(k n_gates / n_frequencies) = j`, which are consecutive.

    Args:
        x: float32 or float64 `[n, n_dims]`, at most 8 dimensions, any finite value; strided tensors are copied.
        frequencies: same dtype `[n_frequencies, n_dims]`, in cycles per unit of x. Not differentiable.
        gates: same dtype `[n, n_gates]`, 1 ... n_frequencies of them, or None. Not differentiable.

    Returns:
        `[n, 2 n_frequencies]`, same dtype. Differentiable any number of times in `x`, from the second on through plain
        torch operations; non-finite input gives NaN. In float32 the phase is rounded at the size of its largest term.

    Raises:
        TypeError, ValueError: wrong dtype, shape or device; frequencies or gates that require a gradient.
    """
    check_tensor("fourier_features", "x", x, ("n", "n_dims"))
    check_tensor("fourier_features", "frequencies", frequencies, ("n", x.shape[1]), (x.dtype,), x.device)
    n_frequencies = frequencies.shape[0]
    if not (1 <= x.shape[1] <= MAX_DIMS and n_frequencies >= 1):
        raise ValueError(
            f"fourier_features: expected 1 ... {MAX_DIMS} dimensions and at least 1 frequency, "
            f"got {x.shape[1]} and {n_frequencies}"
        )
    constants = [frequencies]
    if gates is not None:
        check_tensor("fourier_features", "gates", gates, (x.shape[0], "n_gates"), (x.dtype,), x.device)
        if not 1 <= gates.shape[1] <= n_frequencies:
            raise ValueError(f"fourier_features: expected 1 ... {n_frequencies} gates, got {gates.shape[1]}")
        constants.append(gates)
    if any(constant.requires_grad for constant in constants):
        raise ValueError("fourier_features: frequencies and gates are constants; detach them")
    return _forward(x, frequencies, gates)


def _arranged(frequencies: Tensor, gates: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Frequencies component by component, as the kernels read them, and the gates."""
    return frequencies.t().contiguous(), contiguous(gates)


@operator("fourier_features", devices=DEVICES)
def _forward(x: Tensor, frequencies: Tensor, gates: Tensor | None) -> Tensor:
    lib = native(x)
    y = empty(x, x.shape[0], 2 * frequencies.shape[0])
    lib.fourier_features_forward(x.contiguous(), *_arranged(frequencies, gates), y)
    return y


@_forward.register_fake
def _(x: Tensor, frequencies: Tensor, gates: Tensor | None) -> Tensor:
    return x.new_empty(x.shape[0], 2 * frequencies.shape[0])


@operator("fourier_features_backward", devices=DEVICES)
def _backward(grad_y: Tensor, x: Tensor, frequencies: Tensor, gates: Tensor | None) -> Tensor:
    lib = native(x)
    grad_x = torch.empty_like(x, memory_format=torch.contiguous_format)
    lib.fourier_features_backward(x.contiguous(), *_arranged(frequencies, gates), grad_y.contiguous(), grad_x)
    return grad_x


@_backward.register_fake
def _(grad_y: Tensor, x: Tensor, frequencies: Tensor, gates: Tensor | None) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _setup_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


def _autograd(ctx, grad_y: Tensor):
    return _backward(grad_y, *ctx.saved_tensors), None, None


_forward.register_autograd(_autograd, setup_context=_setup_context)


def _setup_double_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


def _double_autograd(ctx, grad_grad_x: Tensor):
    """Gradients of `<grad_grad_x, grad_x>` in grad_y and x."""
    grad_y, x, frequencies, gates = ctx.saved_tensors

    def gradient(grad_y: Tensor, x: Tensor) -> Tensor:
        return _composed_gradient(grad_y, x, frequencies, gates)

    return *vjp(gradient, (grad_y, x), grad_grad_x), None, None


_backward.register_autograd(_double_autograd, setup_context=_setup_double_context)


def _composed_gradient(grad_y: Tensor, x: Tensor, frequencies: Tensor, gates: Tensor | None) -> Tensor:
    """The gradient to x as torch operations, which can be differentiated."""
    angles = 2 * math.pi * (x @ frequencies.t())
    grad_sine, grad_cosine = grad_y[:, 0::2], grad_y[:, 1::2]
    slopes = 2 * math.pi * (angles.cos() * grad_sine - angles.sin() * grad_cosine)
    if gates is not None:
        n_frequencies = frequencies.shape[0]
        slopes = slopes * gates[:, torch.arange(n_frequencies, device=x.device) * gates.shape[1] // n_frequencies]
    return slopes @ frequencies
