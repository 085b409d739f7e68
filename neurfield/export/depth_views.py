# SPDX-License-Identifier: Apache-2.0
"""What training views see, by the depths rendered in them: the surface that all of them make together, and which parts
of a mesh they see.

A density is high somewhere behind what the views see and says little about where: inside an object it is noise, and
behind a facade a block as thick as the scene's cube. Where rays end is what training has fitted.
"""

import math
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from neurfield import ops
from neurfield.cameras.cameras import Cameras
from neurfield.export.density_mesh import CUT
from neurfield.progress import Progress, silent
from neurfield.rendering.outputs import SOLID
from neurfield.sampling.occupancy_grid import DensityFn

if TYPE_CHECKING:
    from neurfield.run import Run

MAX_VIEWS, PIXELS_PER_CELL = 96, 1.0  # the latter in the middle of what is there
COMPOSED_VIEWS, COMPOSED_PIXELS = 24, 0.5  # of fields that no native code draws, which takes seconds
SHORTEST_SIDE, LONGEST_SIDE = 32, 1024  # pixels; the means over views are finer than their pixels
BAND_CELLS = 3.0  # a view says nothing about what lies further behind what it sees
_SHEET_CELLS = 2.0  # off what is seen, on both of its sides: what lies there is thin
_LEAST_FACING = 0.01  # cosine: what no view faces looks as it does from behind
_CELLS_OFF = 6.0  # of what is seen, a vertex may lie: mean depths of slanted pixels are off


@dataclass(frozen=True)
class DepthViews:
    """Cameras, and what ops.fuse_depths takes as their depths: in world units, infinite where no ray ends."""

    cameras: Cameras
    depths: Tensor

    def __len__(self) -> int:
        return len(self.cameras)


def depth_views(run: "Run", middle: Tensor, cell: float, resolution: int, progress: Progress = silent) -> DepthViews:
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
    cameras = run.cameras[[train[i * len(train) // n] for i in range(n)]]
    # from among the cells, they are as far away as the mesh reaches; of a field there may be more than of its photo
    distance = (cameras.c2w[:, :, 3] - middle).norm(dim=1, keepdim=True).double().clamp_min(cell * resolution / 2)
    factor = pixels * distance / (cell * cameras.intrinsics[:, :2].amax(dim=1, keepdim=True))
    longest = cameras.sizes.amax(dim=1, keepdim=True).double()
    cameras = cameras.resized(factor.clamp(SHORTEST_SIDE / longest, LONGEST_SIDE / longest))
    renderer = copy(run.renderer)
    renderer.rays_per_pixel = 1  # a mean over several lies between front and back at silhouettes
    areas = cameras.sizes.prod(dim=1).tolist()
    depths = torch.empty(sum(areas))
    for i, depth in enumerate(depths.split(areas)):
        result = renderer.render(cameras[i], ("depth", "accumulation"))
        depth.copy_(torch.where(result["accumulation"] >= SOLID, result["depth"], torch.inf).flatten())
        progress((i + 1) / n)
    return DepthViews(cameras, depths)


def fused_distance(views: DepthViews, points: Tensor, cell: float, density: DensityFn) -> Tensor:
    """How far outside of what all views see points lie, float32 `[n]`; see ops.fuse_depths.

    The unit is a band of BAND_CELLS cells: 1 is that far outside or further, 0 the surface. Where all views that have
    the point in their pictures see something in front of it, it is -1, inside; 1 where there is no such view.

    Where one view has the point _SHEET_CELLS in front of what it sees and another as far behind, a sheet is seen from
    both sides, whose mean says nothing. There the density makes it inside as well: 0 where a cell stops half of the
    light.

    Args:
        views: see depth_views.
        points: float32 `[n, 3]` in the world.
        cell: of the mesh, in the world.
        density: of points in the world, per unit of it.
    """
    band, sheet = BAND_CELLS * cell, _SHEET_CELLS * cell
    distance, is_sheet = ops.fuse_depths(views.cameras, views.depths, points, band, sheet)
    excess = torch.log(density(points[is_sheet]) * (cell / math.log(2)))
    distance[is_sheet] = torch.minimum(distance[is_sheet], excess.clamp(-CUT, CUT) / -CUT)
    return distance


def seen_vertices(views: DepthViews, vertices: Tensor, cell: float, in_front: bool) -> Tensor:
    """bool `[n]`: which of the `vertices [n, 3]`, float32 in the world, lie where any view sees something.

    Args:
        views: see depth_views.
        vertices: of a mesh.
        cell: of the mesh, in the world.
        in_front: whether those count that lie further in front of what is seen, as the surface of a low density does.
            By depths, these are the sides of what is hidden behind a silhouette.
    """
    return ops.seen_in_depths(views.cameras, views.depths, vertices, cell, _CELLS_OFF, in_front)


def best_views(views: DepthViews, points: Tensor, normals: Tensor, off: float, n: int) -> tuple[Tensor, Tensor]:
    """Which views show points of a surface at the largest scale.

    Args:
        views: see depth_views.
        points: float32 `[m, 3]` in the world.
        normals: of the surface there, unit `[m, 3]`, in the world.
        off: how far off what a view sees a point may lie to be shown by it, in the world.
        n: of views that are wanted.

    Returns:
        Of the `n` best the area in the picture per area of the surface, for focal lengths of one pixel, float32
        `[m, n]`, 0 where a view does not show the point or there are not so many, and their numbers, int64 `[m, n]`.
    """
    scales = torch.zeros(max(len(views), n), len(points))
    for view, depths in enumerate(views.depths.split(views.cameras.sizes.prod(dim=1).tolist())):
        camera = views.cameras[view]
        bands, _ = ops.fuse_depths(camera, depths, points, off, off)  # 1 as well where it has no picture of a point
        towards = camera.c2w[0, :, 3] - points
        distance = towards.norm(dim=1)
        facing = (towards * normals).sum(dim=1) / distance
        facing = facing.clamp_min(_LEAST_FACING)  # thin parts have their normals anyhow
        scales[view] = torch.where(bands.abs() < 1, facing / distance.square(), 0.0)
    best, which = scales.topk(n, dim=0)
    return best.T, which.T.clamp_max(max(len(views) - 1, 0))
