# SPDX-License-Identifier: Apache-2.0
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor


def modulation(x: Tensor, values: Tensor, resolution: Sequence[int], wraps: Sequence[bool]) -> Tensor:
    """x [n, n_dims], values [n_nodes, n_channels] -> [n, n_channels]; see neurfield.ops.modulation."""
    sides = []  # per axis: (index [n], weight [n]) of the lower and upper node
    for axis, (r, wrap) in enumerate(zip(resolution, wraps, strict=True)):
        position = (x[:, axis] % 1) * r if wrap else x[:, axis].clamp(0, 1) * (r - 1)
        lower = position.detach().floor().long().clamp(0, r - 1)
        upper = (lower + 1) % r if wrap else (lower + 1).clamp_max(r - 1)
        fraction = position - lower
        sides.append(((lower, 1 - fraction), (upper, fraction)))
    y = torch.zeros(x.shape[0], values.shape[1], dtype=values.dtype)
    for corner in itertools.product(*sides):
        index, weight = torch.zeros(x.shape[0], dtype=torch.int64), torch.ones(x.shape[0], dtype=x.dtype)
        for r, (node, w) in zip(resolution, corner, strict=True):
            index, weight = index * r + node, weight * w
        y = y + weight[:, None] * values[index]
    return y
