# SPDX-License-Identifier: Apache-2.0
"""The cells of a KiloNeRF (csrc/math/kilo_grid.h)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from neurfield.ops._common import DEVICES, check_tensor, native, read_once
from neurfield.ops._operator import operator
from neurfield.ops.occupancy import check_occupancy


@dataclass(frozen=True)
class KiloCells:
    """Cells of a box, each with a network or none.

    Attributes:
        cells: int32 `[z, y, x]`, a network or -1.
        low: corner of the box with the lowest coordinates.
        scale: cells per unit along each axis.
    """

    cells: Tensor
    low: tuple[float, float, float]
    scale: tuple[float, float, float]

    def __post_init__(self) -> None:
        check_tensor("kilo_locate", "cells", self.cells, ("z", "y", "x"), (torch.int32,))
        if not self.cells.numel() or min(self.scale) <= 0:
            raise ValueError(
                f"kilo_locate: expected cells and a positive scale, got {list(self.cells.shape)} and {self.scale}"
            )

    @property
    def box(self) -> list[float]:
        return [*self.low, *self.scale]


def check_rays(
    op: str, params: Tensor, n_params: int, grid: KiloCells, bitfield: Tensor, coarse: Tensor,
    origins: Tensor, directions: Tensor,
) -> None:  # fmt: skip
    """Raises TypeError or ValueError unless rays can be sent through the networks `params [n_networks, n_params]`.

    Waits for the device once, to see whether a cell names a network beyond them.
    """
    floats, device = (torch.float32,), origins.device
    check_tensor(op, "params", params, ("n_networks", n_params), floats, device)
    check_tensor(op, "cells", grid.cells, ("z", "y", "x"), (torch.int32,), device)
    check_tensor(op, "origins", origins, ("n_rays", 3), floats)
    check_tensor(op, "directions", directions, (origins.shape[0], 3), floats, device)
    check_occupancy(op, bitfield, coarse, device)
    if not grid.cells.is_meta and _last_network(grid.cells) >= params.shape[0]:
        raise ValueError(f"{op}: a cell names a network beyond those that params holds")


@read_once
def _last_network(cells: Tensor) -> int:
    return int(cells.max())


def kilo_locate(x: Tensor, grid: KiloCells) -> tuple[Tensor, Tensor]:
    """Which network a position belongs to, and where in its cell it lies.

    Args:
        x: float32 or float64 `[n, 3]`.

    Returns:
        int32 network `[n]`, -1 outside of the box and in cells without a network; local coordinates `[n, 3]`, -1 ... 1
        inside of the box, differentiable in `x`. Upper faces of the box belong to the last cells; NaN is outside.
    """
    check_tensor("kilo_locate", "x", x, ("n", 3))
    check_tensor("kilo_locate", "cells", grid.cells, ("z", "y", "x"), (torch.int32,), x.device)
    network, local = _locate(x.detach(), grid.cells, grid.box)
    if x.requires_grad:  # adds nothing but the gradient, which is that of the cell's own coordinates
        axes = zip((x - x.detach()).unbind(1), grid.scale, strict=True)  # a tensor of the scales would wait for CUDA
        local = local + torch.stack([2 * scale * nothing for nothing, scale in axes], dim=1)
    return network, local


@operator("kilo_locate", devices=DEVICES)
def _locate(x: Tensor, cells: Tensor, box: list[float]) -> tuple[Tensor, Tensor]:
    lib = native(x)
    network, local = x.new_empty(x.shape[0], dtype=torch.int32), x.new_empty(x.shape[0], 3)
    lib.kilo_locate(x.contiguous(), cells.contiguous(), box, network, local)
    return network, local


@_locate.register_fake
def _(x, cells, box):
    return x.new_empty(x.shape[0], dtype=torch.int32), x.new_empty(x.shape[0], 3)
