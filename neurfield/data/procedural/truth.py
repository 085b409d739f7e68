# SPDX-License-Identifier: Apache-2.0
"""Ground-truth mesh of a procedural scene: the surface of the union of its solids, with their own colours."""

import numpy as np

from neurfield.data.procedural.lighting import display
from neurfield.data.procedural.model import FAR, Model
from neurfield.data.procedural.shapes import Array, f32
from neurfield.geometry import Mesh, marching_cubes

NEWTON_STEPS = 2


def surface_mesh(model: Model, resolution: int) -> Mesh:
    """Mesh with about `resolution` cells along the longest side; its vertices are moved onto the exact surface.

    Edges between faces of a solid are bevelled over one cell; parts thinner than a cell may have holes.
    """
    cell = f32((model.high - model.low).max() / resolution)
    low = model.low - 2 * cell
    shape = tuple(int(n) for n in np.ceil((model.high - model.low) / cell).astype(np.int64) + 5)
    axes = [low[i] + cell * np.arange(n, dtype=np.float32) for i, n in enumerate(shape)]
    vertices, faces = marching_cubes(
        lambda begin, end: -_distances(model, axes[0][begin:end], axes[1], axes[2], cell),
        (shape[0], shape[1], shape[2]),
        0.0,
    )
    points = f32(vertices).T * cell + low[:, None]
    for _ in range(NEWTON_STEPS):
        distance, part = model.nearest(points, float(2 * cell))
        points = points - model.normals(points, part) * np.clip(distance, -cell / 2, cell / 2)
    part = model.nearest(points, float(2 * cell))[1]
    normals = model.normals(points, part)
    colors = np.zeros_like(points)
    for solid, rows in model.by_part(part):
        surface = solid.surface(points[:, rows], normals[:, rows])
        colors[:, rows] = display(surface.albedo * f32(1.4))
    return Mesh(
        points.T.astype(np.float64),
        faces,
        normals.T.copy(),
        (colors.T * 255 + 0.5).astype(np.uint8),
        {"frame": "world"},
    )


def _distances(model: Model, x: Array, y: Array, z: Array, cell: Array) -> Array:
    """Signed distances `[nx, ny, nz]` on a grid, each part within its box and two cells around it; FAR elsewhere."""
    result = np.full((len(x), len(y), len(z)), FAR)
    for part in model.parts:
        inside = [
            slice(*np.searchsorted(axis, (part.low[i] - 2 * cell, part.high[i] + 2 * cell)))
            for i, axis in enumerate((x, y, z))
        ]
        block = result[tuple(inside)]
        if block.size:
            grid = np.meshgrid(x[inside[0]], y[inside[1]], z[inside[2]], indexing="ij")
            points = np.stack([axis.ravel() for axis in grid])
            np.minimum(block, part.distance(points).reshape(block.shape), out=block)
    return result
