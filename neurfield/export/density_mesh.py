# SPDX-License-Identifier: Apache-2.0
"""The surface of a density in unit space: where to look, and where it crosses a level.

Marching cubes run on ln(sigma / level), cut at +-CUT: a density grows by orders of magnitude within a cell, and linear
interpolation of sigma itself would put every vertex next to the empty end of its edge.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from neurfield.export.morton import raster
from neurfield.geometry import Mesh, marching_cubes
from neurfield.progress import Progress, silent
from neurfield.sampling.evaluate import evaluate
from neurfield.sampling.occupancy_grid import DensityFn, OccupancyGrid

CUT = 3.0


def occupied_cells(grid: OccupancyGrid, extent: int = 1) -> list[NDArray[np.bool_]]:
    """Cells that may have density, and their neighbours, of the cascades within a cube of side `extent`.

    Returns:
        `[r, r, r]` (x, y, z) for the cubes of side 1, 2, 4 ... extent around the middle of unit space.
    """
    return [_with_neighbours(_cells(grid, cascade)) for cascade in range(extent.bit_length())]


def reaches_beyond(grid: OccupancyGrid, extent: int) -> bool:
    """Whether a cell outside of the cube of side `extent` is occupied."""
    for cascade in range(extent.bit_length(), grid.n_cascades):
        cells, quarter = _cells(grid, cascade), grid.resolution // 4
        cells[quarter:-quarter, quarter:-quarter, quarter:-quarter] = False  # the next finer cube
        if cells.any():
            return True
    return False


def _cells(grid: OccupancyGrid, cascade: int) -> NDArray[np.bool_]:
    """Bits of a cascade, `[r, r, r]` (x, y, z)."""
    return raster(np.unpackbits(grid.bitfield[cascade].numpy(), bitorder="little")).astype(bool).transpose(2, 1, 0)


def _with_neighbours(cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
    for axis in range(3):
        before, after = (np.roll(cells, shift, axis) for shift in (1, -1))
        np.moveaxis(before, axis, 0)[0] = False
        np.moveaxis(after, axis, 0)[-1] = False
        cells = cells | before | after
    return cells


def _lookup(occupied: list[NDArray[np.bool_]], axes: Sequence[NDArray[np.float64]]) -> NDArray[np.bool_]:
    """Whether the points of a lattice lie in occupied cells, those of the finest cube around each.

    Args:
        occupied: see occupied_cells.
        axes: ascending coordinates of the lattice along x, y, z.
    """
    inside = np.zeros([len(axis) for axis in axes], bool)
    for cascade, cells in reversed(list(enumerate(occupied))):
        r, half = cells.shape[0], 2.0**cascade / 2
        spans = [slice(*np.searchsorted(axis, (0.5 - half, 0.5 + half))) for axis in axes]
        places = [axis[span] - 0.5 + half for axis, span in zip(axes, spans, strict=True)]
        index = [np.minimum(np.floor(place / (2 * half) * r), r - 1).astype(int) for place in places]
        inside[tuple(spans)] = cells[np.ix_(*index)]
    return inside


def occupied_box(occupied: list[NDArray[np.bool_]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners, in unit space, of the box around what is occupied, which is something; see occupied_cells."""
    outer, side = occupied[-1], 2.0 ** (len(occupied) - 1)
    places = [np.flatnonzero(outer.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    ends = (np.array([place[end] + (end != 0) for place in places]) for end in (0, -1))
    low, high = (0.5 + side * (end / outer.shape[0] - 0.5) for end in ends)
    return low, high


def density_mesh(
    density: DensityFn,
    occupied: list[NDArray[np.bool_]],
    resolution: int,
    level: float,
    progress: Progress = silent,
    bisections: int = 0,
) -> Mesh:
    """The closed surface `density = level` in unit space, around the denser side.

    Args:
        density: positions float32 `[n, 3]` in unit space to density `[n]`; asked only in occupied cells.
        occupied: see occupied_cells; the largest of its cubes is what is looked at.
        resolution: cells along the longest side of the box around what is occupied.
        level: above 0, per unit of unit space.
        progress: called with the fraction done.
        bisections: of each vertex's edge, where the density is asked again. For fields that are all but a step within a
            cell, where the values at its corners do not say where the surface is: vertices in the middles of edges make
            terraces.

    Returns:
        A mesh without normals and colours; empty where the density never reaches the level. Beyond the largest cube
        the density counts as 0, so surfaces are closed at its border. Memory grows with `resolution^2`.
    """
    if not occupied[-1].any():
        return Mesh(np.empty((0, 3)), np.empty((0, 3), np.int64))
    low, high = occupied_box(occupied)
    cell = float((high - low).max() / resolution)
    # one more sample on every side, outside of all cells, closes the surface
    counts = [int(n) for n in np.ceil((high - low) / cell - 1e-9).astype(int) + 3]
    axes = [low[i] + cell * (np.arange(n) - 1) for i, n in enumerate(counts)]

    def logarithm(points: NDArray[np.float64], progress: Progress = silent) -> NDArray[np.float32]:
        sigma = evaluate(density, torch.from_numpy(points.astype(np.float32)), progress).numpy()
        with np.errstate(divide="ignore"):
            return np.clip(np.log(sigma / level), -CUT, CUT)

    def sample(begin: int, end: int) -> NDArray[np.float32]:
        slab = (axes[0][begin:end], axes[1], axes[2])
        inside = _lookup(occupied, slab)
        values = np.full(inside.shape, -CUT, np.float32)
        rows = np.nonzero(inside)
        points = np.stack([axis[row] for axis, row in zip(slab, rows, strict=True)], axis=1)
        values[rows] = logarithm(points, lambda f: progress((begin + f * (end - begin)) / counts[0]))
        return values

    origin = np.array([axis[0] for axis in axes])
    vertices, faces = marching_cubes(sample, (counts[0], counts[1], counts[2]), 0.0)
    if bisections:
        vertices = _slid(vertices, lambda x: logarithm(origin + x * cell), bisections)
    return Mesh(origin + vertices * cell, faces)


def _slid(
    vertices: NDArray[np.float64], value: Callable[[NDArray[np.float64]], NDArray[np.float32]], bisections: int
) -> NDArray[np.float64]:
    """Vertices `[n, 3]` in units of samples, each moved along its edge of the lattice to where `value` crosses 0.

    Those of edges whose ends are on one side stay: a sample outside of what is occupied was not asked.
    """
    low = np.floor(vertices)
    step = np.eye(3)[(vertices - low).argmax(axis=1)]
    ends = [value(low), value(low + step)]
    places = [np.zeros(len(vertices)), np.ones(len(vertices))]
    crosses = (ends[0] > 0) != (ends[1] > 0)
    for _ in range(bisections):
        middle = (places[0] + places[1]) / 2
        found = value(low + middle[:, None] * step)
        is_first = (found > 0) == (ends[0] > 0)  # on the side of the lower end
        for end, replaced in ((0, is_first), (1, ~is_first)):
            ends[end] = np.where(replaced, found, ends[end])
            places[end] = np.where(replaced, middle, places[end])
    part = np.where(crosses, ends[0] / np.where(crosses, ends[0] - ends[1], 1), 0)
    slid = low + (places[0] + part * (places[1] - places[0]))[:, None] * step
    return np.where(crosses[:, None], slid, vertices)
