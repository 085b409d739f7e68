# SPDX-License-Identifier: Apache-2.0
"""Silhouettes of balls, drawn by tracing the cameras' own rays: hulls must hold the balls and little else."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from neurfield import ops
from neurfield.cameras.cameras import CAMERA_MODELS, Cameras
from neurfield.ops.carve import _views
from neurfield.reference import carve as carve_reference
from neurfield.reference import occupancy as reference
from neurfield.sampling.occupancy_grid import CLOSED, OccupancyGrid
from neurfield.sampling.pixels import PixelSampler
from tests.cases import generator
from tests.ops.test_camera import LENSES

RESOLUTION = 32
BALLS = torch.tensor([[0.5, 0.5, 0.5], [0.3, 0.6, 0.65]], dtype=torch.float64)
RADII = torch.tensor([0.2, 0.02], dtype=torch.float64)  # the small one is thinner than a cell (0.031) and a few pixels


def look_at(position: Tensor, target: Tensor) -> Tensor:
    back = torch.nn.functional.normalize(position - target, dim=0)
    right = torch.linalg.cross(torch.tensor([0.3, 0.1, 1.0]), back)
    right = torch.nn.functional.normalize(right, dim=0)
    return torch.stack([right, torch.linalg.cross(back, right), back, position], dim=1)


def orbit(model: str, n: int = 16, focal: float = 70.0) -> Cameras:
    """Views of 64 x 56 pixels around the unit cube; the ball of every third one is cut off by the image border."""
    directions = torch.nn.functional.normalize(torch.randn(n, 3, generator=generator(1)), dim=1)
    targets = torch.full((n, 3), 0.5)
    targets[::3] += 0.3
    c2w = torch.stack([look_at(0.5 + 1.4 * d, t) for d, t in zip(directions, targets, strict=True)])
    return replace(
        Cameras.pinhole(c2w, focal, 64, 56),
        models=torch.full((n,), CAMERA_MODELS.index(model)),
        distortion=torch.tensor(LENSES[model]).repeat(n, 1),
    )


def hits_ball(origins: Tensor, directions: Tensor) -> Tensor:
    offset = BALLS - origins.double()[:, None]
    along = (offset * directions.double()[:, None]).sum(dim=2)
    return ((offset.square().sum(dim=2) - along.square() <= RADII.square()) & (along > 0)).any(dim=1)


def pixel_grid(cameras: Cameras, per_pixel: int) -> tuple[Tensor, Tensor]:
    """View and image coordinates of per_pixel^2 points in every pixel, [n_pixels * per_pixel^2]."""
    width, height = cameras.sizes[0].tolist()
    inner = (torch.arange(per_pixel) + 0.5) / per_pixel
    y, x, v, u = torch.meshgrid(torch.arange(height * 1.0), torch.arange(width * 1.0), inner, inner, indexing="ij")
    xy = torch.stack([x + u, y + v], dim=-1).reshape(-1, 2)
    return torch.arange(len(cameras)).repeat_interleave(len(xy)), xy.repeat(len(cameras), 1)


def silhouettes(cameras: Cameras, per_pixel: int = 4) -> Tensor:
    hit = hits_ball(*ops.camera_rays(cameras, *pixel_grid(cameras, per_pixel)))
    return hit.view(-1, per_pixel**2).any(dim=1).to(torch.uint8)


def cell_centers(resolution: int) -> Tensor:
    return (reference.morton_decode(torch.arange(resolution**3)) + 0.5).double() / resolution


@pytest.mark.parametrize("model", CAMERA_MODELS)
def test_hull_keeps_what_is_there_and_little_else(model: str) -> None:
    cameras = orbit(model)
    grid = torch.zeros(1, RESOLUTION**3)
    ops.carve(grid, cameras, silhouettes(cameras), CLOSED)
    assert set(grid.unique().tolist()) == {0.0, CLOSED}
    open_cells = grid[0] == 0
    distance = (cell_centers(RESOLUTION)[:, None] - BALLS).norm(dim=2) - RADII
    # a cell that may hold a part of a ball is within half a diagonal of it; one whose centre is inside surely does
    assert open_cells[(distance < 0).any(dim=1)].all()
    nearest = (cell_centers(RESOLUTION)[:, None] - BALLS).abs().clamp_min(0.5 / RESOLUTION) - 0.5 / RESOLUTION
    touching = (nearest.norm(dim=2) < RADII).any(dim=1)
    assert open_cells[touching].all()
    # The widened footprint is 2.2 (cell) + 2 (margin) pixels wide, 0.04 in space per side, and 16 views leave corners.
    assert not open_cells[(distance > 0.16).all(dim=1)].any()
    assert open_cells.float().mean() < 0.2


def amid(n: int = 16, width: int = 90) -> Cameras:
    """Panoramas from within the unit cube, off the balls."""
    positions = torch.rand(200, 3, generator=generator(2))
    far = ((positions[:, None] - BALLS.float()).norm(dim=2) > RADII.float() + 0.15).all(dim=1)
    c2w = torch.stack([look_at(p, torch.full((3,), 0.5) + 0.3 * p.flip(0)) for p in positions[far][:n]])
    return Cameras.panorama(c2w, width, width // 2)


def test_hull_of_panoramas_from_within() -> None:
    """What appears at both ends of a picture, or at a pole, is kept by that view as by the others."""
    cameras = amid()
    centers = cell_centers(RESOLUTION)
    nearest = (centers[:, None] - BALLS).abs().clamp_min(0.5 / RESOLUTION) - 0.5 / RESOLUTION
    touching = (nearest.norm(dim=2) < RADII).any(dim=1)
    opaque = silhouettes(cameras)
    grid = torch.zeros(1, RESOLUTION**3)
    ops.carve(grid, cameras, opaque, CLOSED)
    open_cells = grid[0] == 0
    assert open_cells[touching].all()
    distance = (centers[:, None] - BALLS).norm(dim=2) - RADII
    assert not open_cells[(distance > 0.2).all(dim=1)].any()
    ops.close_unseen(seen := torch.zeros(1, RESOLUTION**3), cameras[:1], CLOSED)
    assert not seen.any()
    # one view that shows nothing: all is empty
    ops.carve(grid, cameras[:1], torch.zeros(90 * 45, dtype=torch.uint8), CLOSED)
    assert (grid == CLOSED).all()


def test_a_view_of_a_panorama_closes_what_lies_away_from_a_ball() -> None:
    """Seen alone, at the middle, at both ends, at a pole and in a picture of which a part is cut off."""
    position = torch.tensor([0.9, 0.5, 0.5])
    for towards in ([0.5, 0.5, 0.5], [1.3, 0.5, 0.5], [0.9, 0.5, 1.5], [0.9, 0.6, 0.5]):
        whole = Cameras.panorama(
            look_at(position, torch.tensor(towards) + torch.tensor([0.0, 1e-3, 0.0]))[None], 90, 45
        )
        for camera in (whole, replace(whole, sizes=torch.tensor([[85, 41]]))):
            grid = torch.zeros(1, RESOLUTION**3)
            ops.carve(grid, camera, silhouettes(camera), CLOSED)
            origins = camera.c2w[:, :, 3].double()
            directions = torch.nn.functional.normalize(cell_centers(RESOLUTION) - origins, dim=1)
            hidden = hits_ball(origins.expand_as(directions), directions)
            assert (grid[0][hidden] == 0).all()
            assert (grid == CLOSED).float().mean() > 0.3


def test_hull_matches_the_reference() -> None:
    """The native footprint holds the box around the eight projected corners, and is at most a little larger."""
    cameras = orbit("pinhole", n=8)
    opaque = silhouettes(cameras)
    grid = torch.zeros(1, 16**3)
    ops.carve(grid, cameras, opaque, CLOSED)
    tensors = (t.double() for t in (cameras.c2w, cameras.intrinsics, cameras.distortion))
    closed = carve_reference.carve(*tensors, cameras.models, opaque.view(-1, 56, 64), 16)
    native = grid[0] == CLOSED
    assert not (native & ~closed).any()
    assert (closed & ~native).float().mean() < 0.02


def test_views_that_show_nothing_at_all_and_masks() -> None:
    cameras = orbit("pinhole", n=4)
    grid = OccupancyGrid(resolution=16)
    image = torch.zeros(56, 64, 4, dtype=torch.uint8)

    def carve(image: Tensor, n: int, mask: Tensor | None = None) -> None:
        some = cameras[:n]
        grid.carve(some, PixelSampler([image] * n, some, mask if mask is None else [mask] * n).silhouettes())

    carve(image[:, :, :3], 4)
    assert grid.occupied_fraction() == 1.0  # no alpha: nothing is known
    ignored = torch.zeros(56, 64, dtype=torch.uint8)
    ignored[0, 0] = 1  # something is to be drawn
    carve(image, 4, ignored)
    assert grid.occupied_fraction() == 1.0  # empty, but masked
    carve(image, 1)
    closed = (grid.density_grid == CLOSED).float().mean()
    assert 0 < closed < 1  # what the one view sees whole is empty; what lies outside of it is not judged
    assert grid.occupied_fraction() == pytest.approx(1 - float(closed))
    carve(image[:, :, -1:].expand(-1, -1, 2).float(), 1)  # grey and alpha, as floats: the same
    assert grid.occupied_fraction() == pytest.approx(1 - float(closed))


@pytest.mark.parametrize("size", [(700, 600), (1500, 20)])
def test_large_silhouettes_are_reduced_safely(size: tuple[int, int]) -> None:
    """One opaque pixel in an empty picture keeps the cells along its ray open."""
    width, height = size
    cameras = Cameras.pinhole(look_at(torch.tensor([0.5, 0.5, 2.0]), torch.full((3,), 0.5))[None], width, width, height)
    opaque = torch.zeros(height, width, dtype=torch.uint8)
    opaque[height // 2 + 3, width // 2 + 30] = 1
    grid = OccupancyGrid(resolution=64)
    ops.carve(grid.density_grid, cameras, opaque.view(-1), CLOSED)
    grid._close_bits()
    xy = torch.tensor([[width // 2 + 30.5, height // 2 + 3.5]])
    origins, directions = ops.camera_rays(cameras, torch.zeros(1, dtype=torch.int64), xy)
    samples = grid.march(origins, directions)
    t_near, t_far = ops.ray_aabb(origins, directions, torch.tensor([0.0, 0, 0, 1, 1, 1]))
    assert float((samples.t_ends - samples.t_starts).sum()) == pytest.approx(float(t_far - t_near), abs=0.003)
    assert grid.occupied_fraction() < (0.9 if height > 64 else 1.0)


def in_front(cameras: Cameras, points: Tensor) -> Tensor:
    """Which points lie in at least one image."""
    seen = torch.zeros(len(points), dtype=torch.bool)
    for view in range(len(cameras)):
        pixel, depth = ops.project(cameras, torch.full((len(points),), view), points)
        inside = ((pixel >= 0) & (pixel <= cameras.sizes[view])).all(dim=1)
        if cameras.models[view] < 2:
            inside &= depth > 0
        seen |= inside
    return seen


@pytest.mark.parametrize("model", CAMERA_MODELS)
def test_close_unseen_keeps_all_that_is_seen(model: str) -> None:
    cameras = orbit(model, n=3, focal=200.0)  # narrow views; in cascade 2 the cameras stand within the grid
    grid = OccupancyGrid(aabb_scale=4, resolution=16)
    grid.close_unseen(cameras)
    cells = torch.arange(3 * 16**3, dtype=torch.int32)
    drawn, points = ops.occupancy_draw(cells, 20 * len(cells), 16, seed=0, step=0)
    seen = in_front(cameras, points)
    assert (grid.density_grid.view(-1)[drawn][seen] == 0).all()
    # of the cells without a seen point, most are closed: the rest touch the border of a view
    visible = torch.zeros(len(cells), dtype=torch.bool)
    visible[drawn[seen]] = True
    closed = grid.density_grid.view(-1) == CLOSED
    assert closed.float().mean() > (0.5 if model != "opencv_fisheye" else 0.3)
    assert not (closed & visible).any()


def test_cells_beyond_the_fold_of_a_fisheye_are_unseen() -> None:
    """Those of angles at which theta (1 - 0.12 theta^2) falls, from 1.67 on, whose images would be in the picture."""
    camera = replace(
        Cameras.pinhole(torch.eye(3, 4)[None], 50.0, 120, 120),
        models=torch.tensor([2]),
        distortion=torch.tensor([[-0.12, 0.0, 0.0, 0.0, 0.0, 0.0]]),
    )
    camera.c2w[0, :, 3] = 0.5
    grid = torch.zeros(1, RESOLUTION**3)
    ops.close_unseen(grid, camera, CLOSED)
    local = cell_centers(RESOLUTION) - 0.5
    angle = torch.atan2(local[:, :2].norm(dim=1), -local[:, 2])
    open_cells = grid[0] == 0
    assert open_cells[angle < 1.6].all()
    far = local.norm(dim=1) > 0.15  # nearer cells are wider than footprints are bounded for
    assert not open_cells[(angle > 1.67 + 0.26) & far].any()


@pytest.mark.parametrize("model", [*CAMERA_MODELS, "all around"])
def test_restricted_sampler_keeps_every_pixel_that_meets_an_occupied_cell(model: str) -> None:
    cameras = amid(6, width=128) if model == "all around" else orbit(model, n=6)
    width, height = cameras.sizes[0].tolist()
    opaque = silhouettes(cameras)
    images = [torch.stack([alpha * 255] * 4, dim=2) for alpha in opaque.view(len(cameras), height, width)]
    grid = OccupancyGrid(resolution=32)
    sampler = PixelSampler(images, cameras)
    grid.carve(cameras, sampler.silhouettes())
    before = sampler.n_blocks
    sampler.restrict(grid)
    assert sampler.n_blocks < before
    view_idx, xy = pixel_grid(cameras, 1)
    samples = grid.march(*ops.camera_rays(cameras, view_idx, xy))
    meets = samples.packed_info[:, 1] > 0
    per_row, rows = width // 8, height // 8
    block = view_idx * (per_row * rows) + (xy[:, 1] // 8).long() * per_row + (xy[:, 0] // 8).long()
    assert torch.isin(block[meets], sampler.blocks).all()
    targets = sampler.sample(3000, step=0)[2]
    assert targets[:, 3].mean() > opaque.float().mean()


def test_opcheck() -> None:
    cameras = orbit("opencv", n=2)
    views = _views("test", cameras, cameras.c2w.device)
    grid = torch.zeros(1, 8**3)
    opcheck(torch.ops.neurfield.carve.default, (*views, silhouettes(cameras), 1.0, CLOSED, grid))
    opcheck(torch.ops.neurfield.close_unseen.default, (*views, CLOSED, grid))
    bits = ops.occupancy_bits(torch.ones(1, 8**3), 0.5)
    opcheck(torch.ops.neurfield.mark_pixel_blocks.default, (*views, *bits, 2 * 8 * 7))


def test_errors_say_expected_and_found() -> None:
    cameras = orbit("pinhole", n=2)
    with pytest.raises(ValueError, match=r"carve: opaque must be uint8 \[7168\], got uint8 \[5\]"):
        ops.carve(torch.zeros(1, 512), cameras, torch.zeros(5, dtype=torch.uint8), CLOSED)
    with pytest.raises(ValueError, match=r"close_unseen: density_grid is changed in place and must be contiguous"):
        ops.close_unseen(torch.zeros(512, 1).expand(512, 512).t()[:1].expand(2, 512), cameras, CLOSED)
