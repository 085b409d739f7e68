# SPDX-License-Identifier: Apache-2.0
"""What training views see, by the depths rendered in them: the surface that all of them make together, and which parts
of a mesh they see.

A density is high somewhere behind what the views see and says little about where: inside an object it is noise, and
behind a facade a block as thick as the scene's cube. Where rays end is what training has fitted.
"""

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from neurfield import ops
from neurfield.cameras.cameras import Cameras
from neurfield.export.density_mesh import CUT, DensityFn, Progress
from neurfield.rendering.outputs import SOLID

if TYPE_CHECKING:
    from neurfield.run import Run

MAX_VIEWS, PIXELS_PER_CELL = 96, 1.0  # the latter in the middle of what is there
COMPOSED_VIEWS, COMPOSED_PIXELS = 24, 0.5  # of fields that no native code draws, which takes seconds
SHORTEST_SIDE, LONGEST_SIDE = 32, 1024  # pixels; the means over views are finer than their pixels
_BAND_CELLS = 3.0  # a view says nothing about what lies further behind what it sees
_SHEET_CELLS = 2.0  # off what is seen, on both of its sides: what lies there is thin
_LEAST_FACING = 0.01  # cosine: what no view faces looks as it does from behind
_CELLS_OFF = 6.0  # of what is seen, a vertex may lie: mean depths of slanted pixels are off


@dataclass(frozen=True)
class DepthView:
    """A camera, a batch of one, and depths `[h, w]` along its rays in world units, infinite where no ray ends."""

    camera: Cameras
    depth: Tensor

    def clearance(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """How far in front of what the view sees points lie.

        Args:
            points: float32 `[n, 3]` in the world.

        Returns:
            How far they are in front of what is seen, negative behind it, nan where they are not in the picture, and
            their distances from the camera, `[n]` each.
        """
        height, width = self.depth.shape
        pixel_xy, _ = ops.project(self.camera, torch.zeros(len(points), dtype=torch.int64), points)
        x, y = pixel_xy.nan_to_num(-1.0).unbind(1)
        # of all points, not of those inside alone: picking them costs more
        pixel = y.clamp(0, height - 1).long() * width + x.clamp(0, width - 1).long()
        inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
        distance = (points - self.camera.c2w[0, :, 3]).norm(dim=1)
        return torch.where(inside, self.depth.take(pixel) - distance, torch.nan), distance


def depth_views(
    run: "Run", middle: Tensor, cell: float, resolution: int, progress: Progress = lambda fraction: None
) -> list[DepthView]:
    """Up to MAX_VIEWS training views, as large as a mesh needs; fewer and smaller ones of a field that is slow to draw.

    Args:
        run: trained, on any device; what is rendered lies on the CPU.
        middle: of the mesh, `[3]` in the world.
        cell: of the mesh, in the world.
        resolution: cells along its longest side.
        progress: called with the fraction done.
    """
    train = run.views.train
    most, pixels = (MAX_VIEWS, PIXELS_PER_CELL) if run.renderer.is_fused else (COMPOSED_VIEWS, COMPOSED_PIXELS)
    n = min(len(train), most)
    chosen, views = [train[i * len(train) // n] for i in range(n)], []
    renderer = copy(run.renderer)
    renderer.rays_per_pixel = 1  # a mean over several lies between front and back at silhouettes
    for i, view in enumerate(chosen):
        camera = run.cameras[view]
        # from among the cells, they are as far away as the mesh reaches; of a field there may be more than of its photo
        distance = max(float((camera.c2w[0, :, 3] - middle).norm()), cell * resolution / 2)
        factor = pixels * distance / (cell * float(camera.intrinsics[0, :2].max()))
        longest = int(camera.sizes.max())
        camera = camera.resized(min(max(factor, SHORTEST_SIDE / longest), LONGEST_SIDE / longest))
        result = renderer.render(camera, ("depth", "accumulation"))
        views.append(DepthView(camera, torch.where(result["accumulation"] >= SOLID, result["depth"], torch.inf)))
        progress((i + 1) / len(chosen))
    return views


def fused_distance(views: Sequence[DepthView], points: Tensor, cell: float, density: DensityFn) -> Tensor:
    """How far outside of what all views see points lie (Curless and Levoy 1996, with equal weights), float32 `[n]`.

    The unit is a band of _BAND_CELLS cells: 1 is that far outside or further, 0 the surface. The mean over all views
    that do not see a surface more than a band in front of the point. Where there is no such view it is -1, inside, or 1
    if no view has the point in its picture.

    Where one view has the point _SHEET_CELLS in front of what it sees and another as far behind, a sheet is seen from
    both sides, whose mean says nothing. There the density makes it inside as well: 0 where a cell stops half of the
    light.

    Args:
        views: see depth_views.
        points: float32 `[n, 3]` in the world.
        cell: of the mesh, in the world.
        density: of points in the world, per unit of it.
    """
    total, count = points.new_zeros(len(points)), points.new_zeros(len(points))
    hidden, in_front, behind = (torch.zeros(len(points), dtype=torch.bool) for _ in range(3))
    sheet = _SHEET_CELLS / _BAND_CELLS
    for view in views:
        clearance, _ = view.clearance(points)
        bands = clearance / (_BAND_CELLS * cell)
        tells = bands > -1
        total += torch.where(tells, bands.clamp_max(1.0), 0.0)
        count += tells
        hidden |= bands <= -1
        in_front |= (bands > sheet) & (bands < 1)
        behind |= tells & (bands < -sheet)
    distance = torch.where(count > 0, total / count.clamp_min(1), torch.where(hidden, -1.0, 1.0))
    both = in_front & behind
    excess = torch.log(density(points[both]) * (cell / math.log(2)))
    distance[both] = torch.minimum(distance[both], excess.clamp(-CUT, CUT) / -CUT)
    return distance


def seen_vertices(views: Sequence[DepthView], vertices: Tensor, cell: float, in_front: bool) -> Tensor:
    """bool `[n]`: which of the `vertices [n, 3]`, float32 in the world, lie where any view sees something.

    Args:
        views: see depth_views.
        vertices: of a mesh.
        cell: of the mesh, in the world.
        in_front: whether those count that lie further in front of what is seen, as the surface of a low density does.
            By depths, these are the sides of what is hidden behind a silhouette.
    """
    seen = torch.zeros(len(vertices), dtype=torch.bool)
    for view in views:
        clearance, distance = view.clearance(vertices)
        pixel_size = distance / float(view.camera.intrinsics[0, :2].min())
        off = clearance.clamp_max(0) if in_front else clearance
        seen |= off.abs() <= _CELLS_OFF * torch.clamp(pixel_size, min=cell)
    return seen


def best_views(
    views: Sequence[DepthView], points: Tensor, normals: Tensor, cell: float, n: int
) -> tuple[Tensor, Tensor]:
    """Which views show points of a surface at the largest scale.

    Args:
        views: see depth_views.
        points: float32 `[m, 3]` in the world.
        normals: of the surface there, unit `[m, 3]`, in the world.
        cell: of the mesh, in the world.
        n: of views that are wanted.

    Returns:
        Of the `n` best the area in the picture per area of the surface, for focal lengths of one pixel, float32
        `[m, n]`, 0 where a view does not show the point or there are not so many, and their numbers, int64 `[m, n]`.
    """
    scales = torch.zeros(max(len(views), n), len(points))
    for scale, view in zip(scales, views, strict=False):
        clearance, distance = view.clearance(points)
        facing = ((view.camera.c2w[0, :, 3] - points) * normals).sum(dim=1) / distance
        facing = facing.clamp_min(_LEAST_FACING)  # thin parts have their normals anyhow
        scale[:] = torch.where(clearance.abs() <= _BAND_CELLS * cell, facing / distance.square(), 0.0)
    best, which = scales.topk(n, dim=0)
    return best.T, which.T.clamp_max(max(len(views) - 1, 0))
