# SPDX-License-Identifier: Apache-2.0
"""A signal's field, sampled on a grid of any resolution, tile by tile."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from neurfield.fields.signal_field import grid_positions
from neurfield.progress import Progress, silent

TILE = 1 << 17  # samples at once


@torch.no_grad()
def sample_grid(
    field: nn.Module,
    sizes: tuple[int, ...],
    into: Callable[[int, int, Tensor], None],
    progress: Progress = silent,
) -> None:
    """Hands `into(begin, end, values [end - begin, n_channels])` the flat samples of a grid with `sizes` per axis."""
    n = math.prod(sizes)
    for begin in range(0, n, TILE):
        end = min(begin + TILE, n)
        into(begin, end, field(grid_positions(torch.arange(begin, end), sizes)))
        progress(end / n)
