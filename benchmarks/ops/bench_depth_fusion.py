# SPDX-License-Identifier: Apache-2.0
"""Depths of 24 views of a ball as one distance, at the corners of the cells around its surface, as meshes are made.

A sample is a point in a view. In torch a view is asked about all points at a time, its own arithmetic around
ops.project.
"""

import torch
from torch import Tensor

from benchmarks.harness import report, throughput
from neurfield import ops
from neurfield.cameras import paths
from neurfield.cameras.cameras import CAMERA_MODELS, Cameras
from tests.cases import unit_vectors

N_VIEWS, SIZE, RESOLUTION, BAND = 24, 400, 128, 0.05
LENS = [0.05, -0.01, 0.004, -0.001, 0.0, 0.0]


def ball_views(model: str) -> tuple[Cameras, Tensor]:
    """Of a ball of radius 1, and its depths."""
    made = Cameras.pinhole(paths.look_at(4 * unit_vectors(N_VIEWS), torch.zeros(3)), 1.5 * SIZE, SIZE, SIZE)
    made.models[:] = CAMERA_MODELS.index(model)
    made.distortion[:] = torch.tensor(LENS) * (model != "pinhole")
    row, column = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    pixel_xy = torch.stack([column, row], dim=2).view(-1, 2).repeat(N_VIEWS, 1) + 0.5
    o, d = ops.camera_rays(made, torch.arange(N_VIEWS).repeat_interleave(SIZE**2), pixel_xy)
    along, missed = -(o * d).sum(dim=1), (o * o).sum(dim=1) - 1
    root = along**2 - missed
    return made, torch.where(root > 0, along - root.clamp_min(0).sqrt(), torch.inf)


def fuse_in_torch(cameras: Cameras, depths: Tensor, points: Tensor) -> Tensor:
    total, count = torch.zeros(len(points)), torch.zeros(len(points))
    for view, depth in enumerate(depths.split(SIZE**2)):
        pixel_xy, _ = ops.project(cameras, torch.full((len(points),), view), points)
        x, y = pixel_xy.nan_to_num(-1.0).unbind(1)
        pixel = y.clamp(0, SIZE - 1).long() * SIZE + x.clamp(0, SIZE - 1).long()
        inside = (x >= 0) & (y >= 0) & (x < SIZE) & (y < SIZE)
        bands = (depth.take(pixel) - (points - cameras.c2w[view, :, 3]).norm(dim=1)) / BAND
        tells = inside & (bands > -1)
        total += torch.where(tells, bands.clamp_max(1.0), 0.0)
        count += tells
    return torch.where(count > 0, total / count.clamp_min(1), -1.0)


def main() -> None:
    axis = torch.linspace(-1.1, 1.1, RESOLUTION)
    points = torch.cartesian_prod(axis, axis, axis)
    points = points[(points.norm(dim=1) - 1).abs() < 2 * BAND].contiguous()
    n, rows = N_VIEWS * len(points), []
    for model in CAMERA_MODELS:
        views = ball_views(model)
        rows += [
            throughput(f"distance, {model}", n, lambda v=views: ops.fuse_depths(*v, points, BAND, BAND / 2)),
            throughput(f"distance, {model}, torch", n, lambda v=views: fuse_in_torch(*v, points)),
            throughput(f"seen, {model}", n, lambda v=views: ops.seen_in_depths(*v, points, BAND / 3, 6.0, False)),
        ]
    report("depth_fusion", "What depths say about points", rows)
