# SPDX-License-Identifier: Apache-2.0
"""The grid of networks of a KiloNeRF: its box, its cells, and which of them need a network."""

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from neurfield.convert.occupied import Voxels
from neurfield.errors import UserError
from neurfield.fields.kilonerf import KiloNerfConfig
from neurfield.memory import available_bytes, readable

_BYTES_PER_VALUE = 4 * 5 + 2  # parameter, gradient, two moments, a copy for roll-backs; steps of Adam


@dataclass(frozen=True)
class CellPlan:
    """What a scene needs.

    Attributes:
        config: of the field, complete.
        cells: int32 `[z, y, x]`, the network of each cell or -1.
        low, high: `[n, 3]` parts of the voxels, each inside of one cell, in the order of their networks.
        starts: int64 `[n_networks + 1]`, where the parts of each network begin.
    """

    config: KiloNerfConfig
    cells: Tensor
    low: Tensor
    high: Tensor
    starts: Tensor

    def describe(self) -> str:
        network = self.config.network
        megabytes = self.config.n_networks * network.n_params * 4 / 1e6
        n_empty = self.cells.numel() - self.config.n_networks
        cells = " x ".join(map(str, self.config.cells))
        return (
            f"{self.config.n_networks} networks of {network.n_values} parameters in {cells} cells, the other {n_empty} "
            f"are empty and have none; {megabytes:.1f} MB, {megabytes / 2:.1f} MB in fp16"
        )


def plan_cells(config: KiloNerfConfig, voxels: Voxels) -> CellPlan:
    """Cubic cells over the box of the voxels, `config.longest` along its longest side.

    Raises:
        UserError: no voxels, or more networks than the memory holds.
    """
    if not len(voxels):
        raise UserError("the teacher is empty everywhere: nothing in it is as dense as distill.density_threshold")
    low = voxels.low.amin(dim=0)
    sides = (voxels.low + voxels.width[:, None]).amax(dim=0) - low
    cell = float(sides.max()) / config.longest
    counts = [max(1, math.ceil(side / cell - 1e-4)) for side in sides.tolist()]
    if math.prod(counts) > 1 << 24:
        raise UserError(f"field.longest {config.longest}: {counts} cells are more than 2^24; take fewer")
    low, high, owner = _cut(voxels, low, cell, counts)
    used, network = owner.unique(return_inverse=True)
    n_networks = len(used)
    needed, free = n_networks * config.network.n_params * _BYTES_PER_VALUE, available_bytes()
    if free is not None and needed > free:
        fits = max(1, int(config.longest * (free / needed) ** 0.5))  # cells of a surface are the fewest: a square
        raise UserError(
            f"field.longest {config.longest}: {n_networks} networks need {readable(needed)} while they are trained, "
            f"only {readable(free)} are free; field.longest {fits} fits, and more with a smaller field.width"
        )
    cells = torch.full((math.prod(counts),), -1, dtype=torch.int32)
    cells[used] = torch.arange(n_networks, dtype=torch.int32)
    order = network.argsort(stable=True)
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), network.bincount(minlength=n_networks).cumsum(0)])
    corner = voxels.low.amin(dim=0).tolist()
    box = (*corner, *(c + cell * n for c, n in zip(corner, counts, strict=True)))
    complete = dataclasses.replace(config, box=box, cells=tuple(counts), n_networks=n_networks)
    return CellPlan(complete, cells.view(counts[::-1]), low[order], high[order], starts)


def _cut(voxels: Voxels, corner: Tensor, cell: float, counts: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Voxels cut along the cells' faces: low and high corner of the parts, and the raster index of their cells."""
    size, margin = torch.tensor(counts), 1e-5
    low, high = (voxels.low - corner) / cell, (voxels.low + voxels.width[:, None] - corner) / cell
    first = torch.minimum((low + margin).floor().long(), size - 1)
    last = torch.minimum((high - margin).floor().long(), size - 1)
    lows, highs, owners = [], [], []
    for step in torch.cartesian_prod(*(torch.arange(int(n) + 1) for n in (last - first).amax(dim=0))).view(-1, 3):
        own = first + step
        here = (own <= last).all(dim=1)
        own = own[here]
        lows.append(torch.maximum(low[here], own.float()) * cell + corner)
        highs.append(torch.minimum(high[here], own.float() + 1) * cell + corner)
        owners.append((own[:, 2] * counts[1] + own[:, 1]) * counts[0] + own[:, 0])
    return torch.cat(lows), torch.cat(highs), torch.cat(owners)
