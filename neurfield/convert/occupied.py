# SPDX-License-Identifier: Apache-2.0
"""Where a trained field is not empty: voxels of its occupancy grid, and the grid that they make."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from neurfield import ops
from neurfield.progress import Progress, silent
from neurfield.sampling.occupancy_grid import BASE_STEP, CLOSED, OccupancyGrid

_CHUNK = 1 << 13  # voxels at a time, 27 positions each: 0.2 GB of features of the original NeRF
_OFFSETS = (torch.arange(3) * 2 + 1) / 6  # of the points of a voxel along an axis


@dataclass(frozen=True)
class Voxels:
    """Cells of an occupancy grid: index over all cascades int64 `[n]`, lowest corner `[n, 3]` and width `[n]`."""

    index: Tensor
    low: Tensor
    width: Tensor

    def __len__(self) -> int:
        return len(self.index)


@torch.no_grad()
def occupied_voxels(
    grid: OccupancyGrid,
    density: Callable[[Tensor], Tensor],
    threshold: float,
    progress: Progress = silent,
) -> tuple[Voxels, Tensor]:
    """Set voxels of the grid whose density exceeds `threshold` at any of 3 x 3 x 3 points (Reiser et al. 2021, A.1).

    Args:
        grid: of the trained field; what it holds to be empty stays empty. Where a finer cascade covers a voxel, only
            the finer ones count.
        density: positions `[n, 3]` in unit space -> sigma `[n]`.
        threshold: per unit of unit space.

    Returns:
        The voxels and their largest density `[n]`, on the CPU.
    """
    every, device = _set_voxels(grid), grid.bitfield.device
    offsets = torch.cartesian_prod(_OFFSETS, _OFFSETS, _OFFSETS)
    largest = torch.empty(len(every))
    for begin in range(0, len(every), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        x = every.low[part, None] + every.width[part, None, None] * offsets
        largest[part] = density(x.reshape(-1, 3).to(device)).view(-1, 27).amax(dim=1).cpu()
        progress(min(begin + _CHUNK, len(every)) / len(every))
    keep = largest > threshold
    return Voxels(every.index[keep], every.low[keep], every.width[keep]), largest[keep]


def grid_of(voxels: Voxels, largest: Tensor, like: OccupancyGrid) -> OccupancyGrid:
    """A grid like `like`, on the CPU, whose open cells are the voxels; all others are closed for good."""
    grid = OccupancyGrid(like.aabb_scale, like.resolution, like.threshold, like.decay)
    density = torch.full(grid.density_grid.shape, CLOSED)
    density.view(-1)[voxels.index] = largest * BASE_STEP
    bitfield, coarse = ops.occupancy_bits(density, 0.0)
    grid.load_state_dict({"density_grid": density, "bitfield": bitfield, "coarse": coarse})
    return grid


def _set_voxels(grid: OccupancyGrid) -> Voxels:
    per_cascade = grid.resolution**3
    index = grid.is_set().view(-1).nonzero()[:, 0].cpu()
    cascade, morton = index // per_cascade, index % per_cascade
    side = 2.0**cascade
    width = side / grid.resolution
    low = 0.5 - 0.5 * side[:, None] + width[:, None] * ops.morton_cells(grid.resolution)[morton]
    reach = (low + 0.5 * width[:, None] - 0.5).abs().amax(dim=1)
    finest = (cascade == 0) | (reach > 0.25 * side)
    return Voxels(index[finest], low[finest], width[finest])
