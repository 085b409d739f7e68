# SPDX-License-Identifier: Apache-2.0
"""Gates of progressive encodings (csrc/math/gates.h); fourier_features and others multiply them in."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from neurfield.ops._common import DEVICES, check_tensor, empty, native
from neurfield.ops._operator import operator
from neurfield.ops.modulation import MAX_DIMS


def gates(x: Tensor, counts: Tensor, factors: Tensor, resolution: Sequence[int]) -> Tensor:
    """Interpolates counts of a coarse grid, linearly along every axis, times one factor per block of features.

    Node i of an axis of r nodes lies at `i / (r - 1)`; coordinates outside of [0, 1] count as its ends.

    Args:
        x: float32 or float64 `[n, n_dims]`, 1 ... 4 dimensions. NaN gives NaN in open blocks.
        counts: uint8 `[n_nodes, n_blocks]`, the last axis of the grid fastest.
        factors: dtype of x, `[n_blocks]`. Blocks after the last one that is not zero cost nothing.
        resolution: nodes per axis; their product is n_nodes.

    Returns:
        `[n, n_blocks]`, dtype of x. Not differentiable.

    Raises:
        TypeError, ValueError: wrong dtype, shape, device or resolution.
    """
    check_tensor("gates", "x", x, ("n", "n_dims"))
    if not (len(resolution) == x.shape[1] and 1 <= x.shape[1] <= MAX_DIMS and all(r >= 1 for r in resolution)):
        raise ValueError(
            f"gates: expected 1 ... {MAX_DIMS} dimensions with a resolution of at least 1 each, "
            f"got {x.shape[1]} with {list(resolution)}"
        )
    check_tensor("gates", "counts", counts, (math.prod(resolution), "n_blocks"), (torch.uint8,), x.device)
    check_tensor("gates", "factors", factors, (counts.shape[1],), (x.dtype,), x.device)
    return _forward(x.detach(), counts, factors.detach(), list(resolution))


@operator("gates", devices=DEVICES)
def _forward(x: Tensor, counts: Tensor, factors: Tensor, resolution: Sequence[int]) -> Tensor:
    lib = native(x)
    y = empty(x, x.shape[0], counts.shape[1])
    lib.gates_forward(list(resolution), x.contiguous(), counts.contiguous(), factors.contiguous(), y)
    return y


@_forward.register_fake
def _(x: Tensor, counts: Tensor, factors: Tensor, resolution: Sequence[int]) -> Tensor:
    return x.new_empty(x.shape[0], counts.shape[1])
