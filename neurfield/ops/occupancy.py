# SPDX-License-Identifier: Apache-2.0
"""Occupancy grid of cascaded cubes (csrc/math/occupancy.h).

Cascade `k` covers `[0.5 - 2^(k-1), 0.5 + 2^(k-1)]^3` with `resolution^3` cells in Morton order (x in bit 0).
The density grid is float32 `[n_cascades, resolution^3]`, its bitfield uint8 `[n_cascades, resolution^3 / 8]`.
`coarse` is uint8 `[n_cascades, (resolution / 8)^3]` in raster order (x fastest) and tells for each block of 8^3 cells
how many blocks away the nearest one with a set bit is (0: it has one itself): rays skip empty space in few steps.
Indices of cells count over all cascades.
"""

from typing import Any

import torch
from torch import Tensor

from neurfield.ops._common import DEVICES, check_tensor, native
from neurfield.ops._operator import operator

RESOLUTIONS = (8, 16, 32, 64, 128, 256)
MAX_CASCADES = 8


def check_occupancy(op: str, bitfield: Tensor, coarse: Tensor, device: torch.device | None = None) -> None:
    """Raises TypeError or ValueError unless `bitfield` and `coarse` describe one grid, on `device` if it is given."""
    sizes = {r**3 // 8: (r // 8) ** 3 for r in RESOLUTIONS}
    check_tensor(op, "bitfield", bitfield, ("n_cascades", "resolution^3 / 8"), (torch.uint8,), device)
    n_cascades, n_bytes = bitfield.shape
    if n_bytes not in sizes or not 1 <= n_cascades <= MAX_CASCADES:
        raise ValueError(
            f"{op}: bitfield must be [1 ... {MAX_CASCADES}, resolution^3 / 8] with resolution one of {RESOLUTIONS}, "
            f"got {list(bitfield.shape)}"
        )
    check_tensor(op, "coarse", coarse, (n_cascades, sizes[n_bytes]), (torch.uint8,), bitfield.device)


def check_density_grid(op: str, density_grid: Tensor) -> None:
    """Raises TypeError or ValueError unless it is the density grid of some number of cascades."""
    check_tensor(op, "density_grid", density_grid, ("n_cascades", "resolution^3"), (torch.float32,))
    n_cascades, n_cells = density_grid.shape
    if n_cells not in [r**3 for r in RESOLUTIONS] or not 1 <= n_cascades <= MAX_CASCADES:
        raise ValueError(
            f"{op}: density_grid must be [1 ... {MAX_CASCADES}, resolution^3] with resolution one of {RESOLUTIONS}, "
            f"got {list(density_grid.shape)}"
        )


def morton_cells(resolution: int) -> Tensor:
    """Cells int64 `[resolution^3, 3]` along x, y, z in Morton order."""
    octants = torch.tensor([[i >> axis & 1 for axis in range(3)] for i in range(8)])  # bit b of x is bit 3b
    cells = torch.zeros(1, 3, dtype=torch.int64)
    for bit in range(resolution.bit_length() - 1):
        cells = ((octants << bit)[:, None] + cells).view(-1, 3)
    return cells


def occupancy_bits(density_grid: Tensor, threshold: float | Tensor) -> tuple[Tensor, Tensor]:
    """Bits of the cells with `density > threshold`; a set bit of a finer cascade is set in the coarser one, too.

    Args:
        threshold: a number, or float32 `[]` where the grid lies: nothing waits for it.

    Returns:
        `bitfield`, `coarse` as described above.
    """
    check_density_grid("occupancy_bits", density_grid)
    if isinstance(threshold, Tensor):
        check_tensor("occupancy_bits", "threshold", threshold, (), (torch.float32,), density_grid.device)
    else:
        threshold = density_grid.new_full((), threshold)
    return _bits(density_grid, threshold)


@operator("occupancy_bits", devices=DEVICES)
def _bits(density_grid: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    lib = native(density_grid)
    bitfield, coarse = _empty_bits(density_grid)
    lib.occupancy_bits(density_grid.contiguous(), threshold.view(1), bitfield, coarse)
    return bitfield, coarse


@_bits.register_fake
def _(density_grid: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    return _empty_bits(density_grid)


def _empty_bits(density_grid: Tensor) -> tuple[Tensor, Tensor]:
    n_cascades, n_cells = density_grid.shape
    return (
        density_grid.new_empty(n_cascades, n_cells // 8, dtype=torch.uint8),
        density_grid.new_empty(n_cascades, n_cells // 512, dtype=torch.uint8),
    )


def occupancy_coarse(bitfield: Tensor) -> Tensor:
    """The coarse bytes that belong to a bitfield."""
    check_occupancy("occupancy_coarse", bitfield, _empty_coarse(bitfield))
    return _coarse(bitfield)


@operator("occupancy_coarse", devices=DEVICES)
def _coarse(bitfield: Tensor) -> Tensor:
    lib = native(bitfield)
    coarse = _empty_coarse(bitfield)
    lib.occupancy_coarse(bitfield.contiguous(), coarse)
    return coarse


@_coarse.register_fake
def _(bitfield: Tensor) -> Tensor:
    return _empty_coarse(bitfield)


def _empty_coarse(bitfield: Tensor) -> Tensor:
    return bitfield.new_empty(bitfield.shape[0], bitfield.shape[1] // 64)


def occupancy_mean(density_grid: Tensor) -> Tensor:
    """Mean of `max(density, 0)` over the cells of cascade 0, float64 `[]`; the same for any number of threads."""
    check_density_grid("occupancy_mean", density_grid)
    return _mean(density_grid)


@operator("occupancy_mean", devices=DEVICES)
def _mean(density_grid: Tensor) -> Tensor:
    lib = native(density_grid)
    cells, mean = density_grid[0].contiguous(), density_grid.new_empty(1, dtype=torch.float64)
    lib.occupancy_mean(cells, mean, _scratch(lib, cells.numel(), density_grid))
    return mean.view(())


@_mean.register_fake
def _(density_grid: Tensor) -> Tensor:
    return density_grid.new_empty((), dtype=torch.float64)


def _scratch(lib: Any, n_cells: int, like: Tensor) -> Tensor:
    return like.new_empty(lib.occupancy_scratch_bytes(n_cells), dtype=torch.uint8)


def occupancy_select(density_grid: Tensor, threshold: float) -> Tensor:
    """Indices over all cascades, int32 ascending, of the cells with `density > threshold`; waits for their number."""
    cells, n_selected = occupancy_select_padded(density_grid, threshold)
    return cells[: int(n_selected)]


def occupancy_select_padded(density_grid: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """The same in a list with room for all cells, int32 `[density_grid.numel()]`, zero at its end; waits for nothing.

    Returns:
        The list, and how many cells are in it, int64 `[1]`.
    """
    check_density_grid("occupancy_select", density_grid)
    return _select(density_grid, threshold)


@operator("occupancy_select", devices=DEVICES)
def _select(density_grid: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    lib = native(density_grid)
    cells, n_selected = _empty_selection(density_grid)
    scratch = _scratch(lib, cells.numel(), density_grid)
    lib.occupancy_select(density_grid.reshape(-1), threshold, cells, n_selected, scratch)
    return cells, n_selected


@_select.register_fake
def _(density_grid: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    return _empty_selection(density_grid)


def _empty_selection(density_grid: Tensor) -> tuple[Tensor, Tensor]:
    cells = density_grid.new_zeros(density_grid.numel(), dtype=torch.int32)
    return cells, density_grid.new_empty(1, dtype=torch.int64)


def occupancy_draw(
    cells: Tensor, n_samples: int, resolution: int, seed: int, step: int, draw: int = 0, n_cells: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Draws cells out of a list, stratified, and a uniform position in each.

    Sample `i` comes from the `i`-th of `n_samples` equal shares of the list: every cell is equally likely, the result
    is in the order of the list (Morton order keeps lookups coherent), and `n_samples = len(cells)` visits each once.

    Args:
        cells: int32 `[n]` over all cascades, `n > 0` unless `n_samples` is 0.
        resolution: of the grid.
        seed, step, draw: name the random numbers; `draw` separates several draws of one step.
        n_cells: int64 `[1]` where the cells lie, how many of them are in the list, at most n; None: all.

    Returns:
        int64 `[n_samples]` cells, float32 `[n_samples, 3]` positions in unit space. Of an empty list, -1 and
        the middle of unit space.
    """
    check_tensor("occupancy_draw", "cells", cells, ("n_cells",), (torch.int32,))
    if resolution not in RESOLUTIONS or n_samples < 0 or (n_samples > 0 and cells.shape[0] == 0):
        raise ValueError(
            f"occupancy_draw: expected a resolution of {RESOLUTIONS}, n_samples >= 0 and cells to draw from, "
            f"got {resolution}, {n_samples} and {cells.shape[0]} cells"
        )
    if n_cells is None:
        n_cells = cells.new_full((1,), cells.shape[0], dtype=torch.int64)
    check_tensor("occupancy_draw", "n_cells", n_cells, (1,), (torch.int64,), cells.device)
    return _draw(cells, n_cells, n_samples, resolution, seed, step, draw)


@operator("occupancy_draw", devices=DEVICES)
def _draw(
    cells: Tensor, n_cells: Tensor, n_samples: int, resolution: int, seed: int, step: int, draw: int
) -> tuple[Tensor, Tensor]:
    lib = native(cells)
    drawn, positions = _empty_draws(cells, n_samples)
    lib.occupancy_draw(cells.contiguous(), n_cells, resolution, seed, step, 4 * draw, drawn, positions)
    return drawn, positions


@_draw.register_fake
def _(cells, n_cells, n_samples, *random):
    return _empty_draws(cells, n_samples)


def _empty_draws(cells: Tensor, n_samples: int) -> tuple[Tensor, Tensor]:
    return cells.new_empty(n_samples, dtype=torch.int64), cells.new_empty(n_samples, 3, dtype=torch.float32)


def occupancy_update(density_grid: Tensor, cells: Tensor, values: Tensor, decay: float) -> None:
    """In place: `density = density < 0 ? density : max(decay * density, values of the cell's samples)`.

    A decaying maximum, so that a thin structure switches its cell on at once. NaN values are ignored, infinite ones
    count as the largest float.

    Args:
        density_grid: contiguous.
        cells: int64 `[n]` over all cascades, or -1, which is ignored. On CUDA, where checking would wait for the
            device, all others are, too.
        values: float32 `[n]`.
    """
    check_density_grid("occupancy_update", density_grid)
    check_tensor("occupancy_update", "cells", cells, ("n",), (torch.int64,), density_grid.device)
    check_tensor("occupancy_update", "values", values, (cells.shape[0],), (torch.float32,), density_grid.device)
    if not density_grid.is_contiguous():
        raise ValueError("occupancy_update: density_grid is changed in place and must be contiguous")
    if (
        cells.device.type == "cpu"
        and cells.numel()
        and not -1 <= int(cells.min()) <= int(cells.max()) < density_grid.numel()
    ):
        raise ValueError(f"occupancy_update: cells must be in [0, {density_grid.numel()})")
    _update(density_grid, cells, values, decay)


@operator("occupancy_update", mutates=("density_grid",), devices=DEVICES)
def _update(density_grid: Tensor, cells: Tensor, values: Tensor, decay: float) -> None:
    lib = native(density_grid)
    lib.occupancy_update(density_grid, cells.contiguous(), values.contiguous(), decay)


@_update.register_fake
def _(density_grid: Tensor, cells: Tensor, values: Tensor, decay: float) -> None:
    return None
