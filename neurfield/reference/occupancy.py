# SPDX-License-Identifier: Apache-2.0
import math

import torch
from torch import Tensor


def morton_encode(cells: Tensor) -> Tensor:
    """int64 [n, 3] -> [n], bits of x, y, z interleaved with x in bit 0."""
    code = torch.zeros_like(cells[:, 0])
    for bit in range(8):
        for axis in range(3):
            code |= (cells[:, axis] >> bit & 1) << (3 * bit + axis)
    return code


def morton_decode(codes: Tensor) -> Tensor:
    """int64 [n] -> [n, 3]"""
    cells = torch.zeros(codes.shape[0], 3, dtype=torch.int64)
    for bit in range(8):
        for axis in range(3):
            cells[:, axis] |= (codes >> (3 * bit + axis) & 1) << bit
    return cells


def resolution_of(bitfield: Tensor) -> int:
    return round((bitfield.shape[1] * 8) ** (1 / 3))


def cells_of(x: Tensor, dt: Tensor, bitfield: Tensor) -> tuple[Tensor, Tensor]:
    """The cell in which samples at x [n, 3] with steps dt [n] are tested, and their distance to where that changes."""
    resolution, n_cascades = resolution_of(bitfield), bitfield.shape[0]
    reach = (x - 0.5).abs().amax(dim=1)
    cascade = torch.zeros_like(reach, dtype=torch.int64)
    border = torch.full_like(reach, math.inf)
    for k in range(1, n_cascades):
        cascade[(reach >= 2.0 ** (k - 2)) | (dt * 2 * resolution >= 2.0 ** (k - 1))] = k
        border = torch.minimum(border, (reach - 2.0 ** (k - 2)).abs())
        # relative to dt, which grows in proportion to t
        border = torch.minimum(border, (dt * 2 * resolution / 2.0 ** (k - 1) - 1).abs())
    width = 2.0 ** cascade.double() / resolution
    u = (x - 0.5) / width[:, None] + resolution / 2
    border = torch.minimum(border, ((u - u.round()).abs() * width[:, None]).amin(dim=1))
    code = morton_encode(u.floor().clamp(0, resolution - 1).long())
    return code + cascade * resolution**3, border


def occupancy_bits(density_grid: Tensor, threshold: float) -> Tensor:
    """density_grid [n_cascades, resolution^3] -> bitfield; see neurfield.ops.occupancy_bits."""
    n_cascades, n_cells = density_grid.shape
    resolution = round(n_cells ** (1 / 3))
    occupied = density_grid > threshold
    xyz = morton_decode(torch.arange(n_cells))
    above = morton_encode(xyz // 2 + resolution // 4)
    for k in range(n_cascades - 1):
        occupied[k + 1, above[occupied[k]]] = True
    weights = 2 ** torch.arange(8)
    return (occupied.view(n_cascades, -1, 8) * weights).sum(dim=2).to(torch.uint8)


def occupancy_coarse(bitfield: Tensor) -> Tensor:
    """bitfield -> distances of blocks of 8^3 cells to the nearest occupied one; see neurfield.ops.occupancy."""
    n_blocks = resolution_of(bitfield) // 8
    occupied = bitfield.view(bitfield.shape[0], -1, 64).ne(0).any(dim=2)
    xyz = morton_decode(torch.arange(n_blocks**3))
    distances = (xyz[:, None] - xyz[None]).abs().amax(dim=2)
    rows = [distances[:, mask].amin(dim=1) if mask.any() else distances[0] * 0 + n_blocks for mask in occupied]
    coarse = torch.empty(len(rows), n_blocks**3, dtype=torch.uint8)
    coarse[:, xyz @ torch.tensor([1, n_blocks, n_blocks**2])] = torch.stack(rows).to(torch.uint8)
    return coarse


def occupancy_update(density_grid: Tensor, cells: Tensor, values: Tensor, decay: float) -> Tensor:
    """The updated grid; see neurfield.ops.occupancy_update."""
    scratch = torch.zeros_like(density_grid).view(-1)
    scratch.scatter_reduce_(0, cells, values, "amax")
    updated = torch.maximum(decay * density_grid, scratch.view_as(density_grid))
    return torch.where(density_grid < 0, density_grid, updated)
