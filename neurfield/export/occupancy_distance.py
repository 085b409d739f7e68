# SPDX-License-Identifier: Apache-2.0
"""A signed distance made of an occupancy field, for all that takes shapes: sphere tracing, meshes, points, errors.

The values of an occupancy field say nothing about how far the surface is. It is therefore found once, as the mesh at
occupancy 1/2, and distances are those to its triangles; which side a point is on is the field's own answer.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from neurfield import ops
from neurfield.export.density_mesh import density_mesh
from neurfield.geometry import Mesh
from neurfield.progress import Progress, silent
from neurfield.sampling.evaluate import evaluate

COARSE = 64  # cells per side that decide where the surface may be
LOOKS = 2  # per side of such a cell
BISECTIONS = 4  # of an edge with a vertex: logits learn to jump within a cell
_FAR = 2.0  # longer than any way through the unit cube


def occupancy_mesh(field: Callable[[Tensor], Tensor], resolution: int, progress: Progress = silent) -> Mesh:
    """The surface of occupancy 1/2 (logit 0) in the unit cube, `resolution` cells along the longest side of what is
    inside. Parts thinner than 1/128 of the cube that touch nothing thicker may be missed.

    Args:
        field: positions `[n, 3]` in 0 ... 1 to logits `[n, 1]`, positive inside.
    """
    side = COARSE * LOOKS
    axis = (torch.arange(side) + 0.5) / side
    inside = evaluate(lambda x: field(x)[:, 0], torch.cartesian_prod(axis, axis, axis)) > 0
    cells = inside.view(1, 1, side, side, side).float()
    cells = nn.functional.max_pool3d(cells, LOOKS)  # cells with something inside, and their neighbours
    occupied = nn.functional.max_pool3d(cells, 3, stride=1, padding=1)[0, 0] > 0
    # the odds, which marching cubes take the logarithm of
    return density_mesh(lambda x: field(x)[:, 0].exp(), [occupied.numpy()], resolution, 1.0, progress, BISECTIONS)


class OccupancyDistance(nn.Module):
    """Maps positions `[n, 3]` in 0 ... 1 to distances `[n, 1]` in units of the cube, negative inside.

    Near the surface they are exact for its mesh, which lies within a fraction of a cell of the field's. Farther off,
    where a query of the mesh takes long, they are lower bounds by cells of 1 / 64, which is what sphere tracing needs.
    Without a surface everything is equally far from it. No gradients.

    Args:
        field: see occupancy_mesh.
        resolution: cells of the mesh per side; at least 64 are taken.
        version: grows when the field changes; the mesh is made again then.
    """

    def __init__(
        self, field: Callable[[Tensor], Tensor], resolution: int, version: Callable[[], int] = lambda: 0
    ) -> None:
        super().__init__()
        self.field = field
        self._resolution, self._changes = max(resolution, COARSE), version
        self._made: tuple[int, _Surface | None] | None = None

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        surface = self._surface()
        distance = torch.full((len(x),), _FAR) if surface is None else surface.distance(x)
        return torch.where(self.field(x)[:, 0] > 0, -distance, distance)[:, None]

    def _surface(self) -> "_Surface | None":
        version = self._changes()
        if self._made is None or self._made[0] != version:
            mesh = occupancy_mesh(self.field, self._resolution)
            self._made = (version, _Surface(mesh) if len(mesh.faces) else None)
        return self._made[1]


class _Surface:
    """A mesh in the unit cube, its triangles no longer than a cell along any axis, and how far each cell is from it."""

    def __init__(self, mesh: Mesh) -> None:
        vertices = torch.from_numpy(mesh.vertices.astype(np.float32))
        self._tree = ops.mesh_tree(vertices, torch.from_numpy(mesh.faces))
        reached = torch.zeros(1, 1, COARSE, COARSE, COARSE)
        reached.view(-1)[_cell_of(vertices)] = 1
        rings = torch.zeros_like(reached)
        while not bool(reached.all()):
            rings += 1 - reached
            reached = nn.functional.max_pool3d(reached, 3, stride=1, padding=1)
        # Of r rings around the cells with vertices one belongs to cells that triangles reach into, and a point may lie
        # at the inner border of its own.
        self._bound = (rings.view(-1) - 2) / COARSE

    def distance(self, x: Tensor) -> Tensor:
        """`[n]`: to the mesh where that is near, else a lower bound of it."""
        distance = self._bound[_cell_of(x)]
        near = distance <= 0
        distance[near] = ops.mesh_distance(self._tree, x[near])
        return distance


def _cell_of(x: Tensor) -> Tensor:
    i, j, k = (x * COARSE).long().clamp_(0, COARSE - 1).unbind(1)
    return (i * COARSE + j) * COARSE + k
