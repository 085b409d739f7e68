# SPDX-License-Identifier: Apache-2.0
import math
from typing import NamedTuple

import torch
from torch import Tensor

PRIMES = (1, 2654435761, 805459861, 3674653429)
MAX_RESOLUTION = (2**32 - 1, 65535, 1625, 255)  # by n_dims: the largest whose power fits 32 bits
UINT32 = 2**32


class Level(NamedTuple):
    scale: float
    resolution: int
    n_entries: int
    offset: int
    hashed: bool


def levels(
    n_dims: int,
    n_levels: int,
    log2_hashmap_size: int,
    base_resolution: int,
    per_level_scale: float,
    grid_type: str,
) -> list[Level]:
    """Sizes of the levels in fp32, from the definition."""
    result: list[Level] = []
    offset = 0
    log2_scale = torch.log2(torch.tensor(per_level_scale, dtype=torch.float32))
    for level_idx in range(n_levels):
        scale = torch.exp2(torch.tensor(float(level_idx), dtype=torch.float32) * log2_scale) * base_resolution - 1
        resolution = math.ceil(scale.item()) + 1
        n_entries = min(-(-(resolution**n_dims) // 8) * 8, 2**31 - 1)
        if grid_type == "Hash":
            n_entries = min(n_entries, 2**log2_hashmap_size)
        if grid_type == "Tiled":
            n_entries = min(n_entries, base_resolution**n_dims)
        fits = resolution <= MAX_RESOLUTION[n_dims - 1]
        stride = resolution**n_dims if fits else UINT32 - 1
        hashed = grid_type == "Hash" and n_entries < stride
        result.append(Level(scale.item(), resolution, n_entries, offset, hashed))
        offset += n_entries
    return result


def vertex_index(vertices: Tensor, level: Level) -> Tensor:
    """vertices int64 [n, n_dims], each in [0, 2^32) -> entry of the level int64 [n]."""
    n_dims = vertices.shape[1]
    index = torch.zeros_like(vertices[:, 0])
    if level.hashed:
        for axis in range(n_dims):
            index ^= vertices[:, axis] * PRIMES[axis] % UINT32
    elif level.resolution <= MAX_RESOLUTION[n_dims - 1]:
        for axis in range(n_dims):
            index += vertices[:, axis] * level.resolution**axis
    return index % UINT32 % level.n_entries


def hash_grid(
    x: Tensor,
    table: Tensor,
    grid_levels: list[Level],
    interpolation: str = "Linear",
    max_level: Tensor | None = None,
) -> Tensor:
    """x [n, n_dims], table [n_entries, n_features] -> [n, n_levels * n_features]; see neurfield.ops.hash_grid.

    Cells are found in the precision of x, and differentiation treats them as constants. `max_level` is [1] or [n].
    """
    n_dims = x.shape[1]
    outputs = []
    for level_idx, level in enumerate(grid_levels):
        position = x * level.scale + 0.5
        cell = position.detach().floor()
        fraction = position - cell
        if interpolation == "Smoothstep":
            fraction = fraction * fraction * (3 - 2 * fraction)
        if interpolation == "Nearest":
            fraction = torch.zeros_like(fraction)
        features = x.new_zeros(x.shape[0], table.shape[1])
        for corner in range(2**n_dims):
            upper = torch.tensor([corner >> axis & 1 for axis in range(n_dims)], device=x.device)
            weight = torch.where(upper.bool(), fraction, 1 - fraction).prod(dim=1)
            index = vertex_index((cell.long() + upper) % UINT32, level)
            features = features + weight[:, None] * table[level.offset + index]
        if max_level is not None:
            features = features * (level_idx < max_level * len(grid_levels))[:, None]
        outputs.append(features)
    return torch.cat(outputs, dim=1)
