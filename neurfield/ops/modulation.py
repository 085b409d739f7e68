# SPDX-License-Identifier: Apache-2.0
"""Lookups of modulation grids (csrc/math/modulation.h); fused_mlp applies what they give."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from neurfield.ops._common import DEVICES, check_tensor, empty, native, not_deterministic
from neurfield.ops._operator import operator

MAX_DIMS = 4


def modulation(x: Tensor, values: Tensor, resolution: Sequence[int], wraps: Sequence[bool] | None = None) -> Tensor:
    """Interpolates the values of a coarse grid at coordinates, linearly along every axis (Lee et al. 2024, eq. 3).

    Node i of an axis of r nodes lies at `i / (r - 1)`, and coordinates outside of [0, 1] count as its ends; on an axis
    that wraps it lies at `i / r`, and coordinates count modulo 1.

    Args:
        x: float32 or float64 `[n, n_dims]`, 1 ... 4 dimensions; strided tensors are copied. NaN gives NaN.
        values: same dtype `[n_nodes, n_channels]`, the last axis fastest. For `fused_mlp` the channels are gamma and
            beta of each layer in turn.
        resolution: nodes per axis, at least 1 each; their product is n_nodes.
        wraps: per axis whether it is periodic. Default: none is.

    Returns:
        `[n, n_channels]`, same dtype. Differentiable once in `x` and `values`; zero in `x` where it is clamped.
        Gradients are the same numbers for every thread count; on CUDA those of values are sums in any order.

    Raises:
        TypeError, ValueError: wrong dtype, shape, device, resolution or wraps.
    """
    check_tensor("modulation", "x", x, ("n", "n_dims"))
    wraps = [False] * x.shape[1] if wraps is None else list(wraps)
    fits = len(resolution) == len(wraps) == x.shape[1] and all(r >= 1 for r in resolution)
    if not (fits and 1 <= x.shape[1] <= MAX_DIMS):
        raise ValueError(
            f"modulation: expected 1 ... {MAX_DIMS} dimensions with a resolution of at least 1 and a wrap each, "
            f"got {x.shape[1]} with {list(resolution)} and {wraps}"
        )
    check_tensor("modulation", "values", values, (math.prod(resolution), "n_channels"), (x.dtype,), x.device)
    # as the native core takes them: negative where an axis wraps
    return _forward(x, values, [-r if wrap else r for r, wrap in zip(resolution, wraps, strict=True)])


def modulation_gradient(x: Tensor, rows: Tensor, resolution: Sequence[int]) -> Tensor:
    """Adds rows to the nodes around their coordinates, with the weights of the interpolation.

    Args:
        x: float32 or float64 `[n, n_dims]` in [0, 1]. rows: same dtype `[n, n_channels]`.
        resolution: nodes per axis.

    Returns:
        `[n_nodes, n_channels]`, the gradient to `values` of `(rows * modulation(x, values, resolution)).sum()`. The
        same numbers for every thread count, on CUDA a sum in any order.
    """
    check_tensor("modulation_gradient", "x", x, ("n", len(resolution)))
    check_tensor("modulation_gradient", "rows", rows, (x.shape[0], "n_channels"), (x.dtype,), x.device)
    values = x.new_empty(math.prod(resolution), rows.shape[1])  # only its shape matters
    return _backward(rows.detach(), x.detach(), values, list(resolution), False, True)[1]


@operator("modulation", devices=DEVICES)
def _forward(x: Tensor, values: Tensor, resolution: Sequence[int]) -> Tensor:
    lib = native(x)
    y = empty(x, x.shape[0], values.shape[1])
    lib.modulation_forward(list(resolution), x.contiguous(), values.contiguous(), y)
    return y


@_forward.register_fake
def _(x: Tensor, values: Tensor, resolution: Sequence[int]) -> Tensor:
    return x.new_empty(x.shape[0], values.shape[1])


@operator("modulation_backward", devices=DEVICES)
def _backward(
    grad_y: Tensor, x: Tensor, values: Tensor, resolution: Sequence[int], needs_x: bool, needs_values: bool
) -> tuple[Tensor, Tensor]:
    """Gradients to x and values; empty where they are not needed."""
    if x.is_cuda and needs_values and torch.are_deterministic_algorithms_enabled():
        not_deterministic("modulation: on CUDA the gradient of values has no deterministic form; compute it on the CPU")
    lib = native(x)
    grad_x, grad_values = _gradients(x, values, needs_x, needs_values)
    sizes = list(resolution)
    n_scratch = lib.modulation_scratch(sizes, values.shape[1], x.shape[0]) if needs_values else 0
    x, values, grad_y = x.contiguous(), values.contiguous(), grad_y.contiguous()
    scratch = empty(x, n_scratch)
    lib.modulation_backward(sizes, x, values, grad_y, grad_values, grad_x, scratch, needs_values, needs_x)
    return grad_x, grad_values


@_backward.register_fake
def _(grad_y, x, values, resolution, needs_x, needs_values):
    return _gradients(x, values, needs_x, needs_values)


def _gradients(x: Tensor, values: Tensor, needs_x: bool, needs_values: bool) -> tuple[Tensor, Tensor]:
    grad_x = x.new_empty(x.shape if needs_x else (0, x.shape[1]))
    return grad_x, values.new_empty(values.shape if needs_values else (0, values.shape[1]))


def _setup_context(ctx, inputs, output) -> None:
    x, values, ctx.resolution = inputs
    ctx.save_for_backward(x, values)


def _autograd(ctx, grad_y: Tensor):
    needs_x, needs_values, _ = ctx.needs_input_grad
    grad_x, grad_values = _backward(grad_y, *ctx.saved_tensors, ctx.resolution, needs_x, needs_values)
    return grad_x if needs_x else None, grad_values if needs_values else None, None


_forward.register_autograd(_autograd, setup_context=_setup_context)
