# SPDX-License-Identifier: Apache-2.0
"""Surfaces and visibility from depths that are known: those of a ball."""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from neurfield.cameras import paths
from neurfield.cameras.cameras import CAMERA_MODELS, Cameras
from neurfield.export.depth_views import (
    COMPOSED_VIEWS,
    LONGEST_SIDE,
    MAX_VIEWS,
    SHORTEST_SIDE,
    DepthViews,
    best_views,
    depth_views,
    fused_distance,
    seen_vertices,
)
from neurfield.rendering.renderer import image_rays

CELL = 0.02
RADIUS = 1.0
X, Y, Z = torch.eye(3)


def nothing(points: Tensor) -> Tensor:
    return torch.zeros(len(points))


def ball_views(*positions: Tensor) -> DepthViews:
    """The ball around the origin from positions, with its exact depths."""
    cameras = Cameras.pinhole(paths.look_at(torch.stack(positions), torch.zeros(3)), 300.0, 200, 200)
    rays = [image_rays(cameras[view], 0, 200) for view in range(len(cameras))]
    o, d = (torch.cat(parts) for parts in zip(*rays, strict=True))
    along, missed = -(o * d).sum(dim=1), (o * o).sum(dim=1) - RADIUS**2
    root = along**2 - missed
    return DepthViews(cameras, torch.where(root > 0, along - root.clamp_min(0).sqrt(), torch.inf))


@pytest.mark.parametrize("model", CAMERA_MODELS)
def test_what_pixels_see_is_where_their_rays_end(model: str) -> None:
    """Of a picture that is no square, off its axis and through a lens, with another depth in each pixel."""
    camera = Cameras.pinhole(paths.look_at(4 * X[None], Y), 150.0, 160, 100)
    lens = torch.tensor([[0.05, -0.01, 0.004, -0.001, 0.0, 0.0]]) * (model != "pinhole")
    index = torch.tensor([CAMERA_MODELS.index(model)])
    camera = replace(camera, models=index, distortion=lens, intrinsics=torch.tensor([[150.0, 140.0, 70.0, 60.0]]))
    depth = 1 + torch.rand(160 * 100, generator=torch.Generator().manual_seed(1))
    o, d = image_rays(camera, 0, 100)
    distance = fused_distance(DepthViews(camera, depth), o + d * (depth[:, None] - 0.25), 0.5 / 3, nothing)
    torch.testing.assert_close(distance, torch.full_like(distance, 0.5), atol=2e-5, rtol=0)


def test_panoramas_say_where_points_are_behind_above_and_below_them() -> None:
    """Also where the ends of the picture meet, and at its poles, of which the lattice of a mesh has whole planes."""
    camera = Cameras.panorama(torch.eye(3, 4)[None], 500, 250)
    depth = torch.full((500 * 250,), 2.0)
    points = 1.9 * torch.cat([X[None], Y[None], Z[None], (Y + Z)[None] / 2**0.5, (Y - Z)[None] / 2**0.5])
    points = torch.cat([points, -points, -2.1 / 1.9 * points])
    distance = fused_distance(DepthViews(camera, depth), points, 0.1, nothing)
    torch.testing.assert_close(distance, torch.tensor([1.0, 1, -1]).repeat_interleave(5) / 3, atol=1e-5, rtol=0)
    assert seen_vertices(DepthViews(camera, depth), points, 0.1, False).all()


def test_distance_is_in_bands_of_three_cells_and_one_and_minus_one_far_off() -> None:
    views = ball_views(4 * X)
    along = torch.tensor([3.0, 1.5, 1.06, 1.03, 1.0, 0.97, 0.95, 0.5, -1.0, -3.0])
    expected = torch.tensor([1.0, 1.0, 1.0, 0.5, 0.0, -0.5, -0.05 / 0.06, -1.0, -1.0, -1.0])
    torch.testing.assert_close(fused_distance(views, along[:, None] * X, CELL, nothing), expected, atol=0.01, rtol=0)


def test_distance_is_the_mean_over_views_that_say_something() -> None:
    """Beside the ball one view sees past a point, one sees it from the front, one has it behind the ball."""
    positions = (4 * X, 4 * Y, -4 * Y)
    point = 1.03 * Y[None]
    parts = [float(fused_distance(ball_views(position), point, CELL, nothing)) for position in positions]
    assert parts[0] == 1.0 and parts[1] == pytest.approx(0.5, abs=0.01) and parts[2] == -1.0
    mean = float(fused_distance(ball_views(*positions), point, CELL, nothing))
    assert mean == pytest.approx((parts[0] + parts[1]) / 2, abs=1e-6)


def test_density_decides_where_views_have_both_sides_of_a_sheet() -> None:
    """A place that one view has 2.5 cells in front of what it sees, and one as far behind."""
    front, both = ball_views(4 * X), ball_views(4 * X, -4 * X)
    both = replace(both, depths=torch.cat([front.depths, front.depths + 2 * RADIUS]))
    points = torch.tensor([2.5, 2.5, 1.5])[:, None] * CELL * X + X  # a sheet at the front of the ball
    half = math.log(2) / CELL

    def density(asked: Tensor) -> Tensor:
        assert len(asked) == 2, "the third is too near for that"
        return torch.tensor([half * math.e, half / math.e])

    assert fused_distance(front, points, CELL, nothing)[0] == pytest.approx(2.5 / 3, abs=0.01)
    distance = fused_distance(both, points, CELL, density)
    mean = float(fused_distance(both, points[2:], CELL, nothing))
    assert distance.tolist() == pytest.approx([-1 / 3, min(0.0, 1 / 3), mean], abs=0.01)


def test_what_no_view_has_in_its_picture_is_outside() -> None:
    view = ball_views(4 * X)
    outside = torch.stack([6 * X, 3 * Y, 100 * Z])  # behind the camera, beside and above the picture
    assert fused_distance(view, outside, CELL, nothing).tolist() == [1.0] * 3
    no_views = DepthViews(view.cameras[[]], view.depths[:0])
    assert fused_distance(no_views, outside, CELL, nothing).tolist() == [1.0] * 3
    assert fused_distance(ball_views(4 * X, -4 * X), -0.5 * X[None], CELL, nothing).tolist() == [-1.0]  # hidden in both
    assert not seen_vertices(view, outside, CELL, True).any()


def test_seen_is_what_lies_up_to_six_pixels_off_where_these_are_larger_than_cells() -> None:
    behind = torch.tensor([[1 - 0.07, 0.0, 0.0], [1 - 0.09, 0.0, 0.0]])  # pixels there are 3 / 300 wide
    assert seen_vertices(ball_views(4 * X), behind, 0.001, False).tolist() == [False, False]
    assert seen_vertices(ball_views(4 * X), behind + 0.02 * X, 0.001, False).tolist() == [True, False]


def test_seen_is_what_lies_up_to_six_cells_off() -> None:
    view = ball_views(4 * X)
    along = torch.tensor([2.0, 1.14, 1.1, 1.0, 0.9, 0.86, -1.0])
    assert seen_vertices(view, along[:, None] * X, CELL, False).tolist() == [
        False,
        False,
        True,
        True,
        True,
        False,
        False,
    ]
    assert seen_vertices(view, along[:, None] * X, CELL, True).tolist() == [True] * 5 + [False, False]
    edge = torch.stack([-X + 1.35 * Y, -X + 1.2 * Y])  # beside and behind the silhouette, a ball's width behind it
    assert not seen_vertices(view, edge, CELL, False).any()
    assert seen_vertices(ball_views(4 * X, -4 * X), -X[None], CELL, False).all()


@pytest.mark.parametrize("is_fused", [True, False])
@pytest.mark.parametrize("n_train", [3, MAX_VIEWS + 1, 5 * MAX_VIEWS])
def test_views_are_spread_and_as_large_as_the_mesh_needs(n_train: int, is_fused: bool) -> None:
    rendered, per_pixel = [], []

    class Drawn:
        rays_per_pixel = 4

        def __init__(self) -> None:
            self.is_fused = is_fused

        def render(self, *arguments: Any) -> dict[str, Tensor]:
            per_pixel.append(self.rays_per_pixel)
            return render(*arguments)

    def render(camera: Cameras, outputs: tuple[str, ...]) -> dict[str, Tensor]:
        rendered.append(camera)
        width, height = camera.sizes[0].tolist()
        return {"depth": torch.ones(height, width), "accumulation": torch.full((height, width), 0.25)}

    n_all = 2 * n_train
    positions = torch.arange(n_all)[:, None] * X + 4 * Z
    cameras = Cameras.pinhole(paths.look_at(positions, torch.zeros(3)), 300.0, 200, 100)
    train = list(range(1, n_all, 2))
    run = SimpleNamespace(cameras=cameras, views=SimpleNamespace(train=train), renderer=Drawn())
    middle = 100.0 * Y  # so far that all are as large
    views = depth_views(run, middle, 1.0, 64)  # type: ignore[arg-type]
    most, factor = (MAX_VIEWS, 1.0) if is_fused else (COMPOSED_VIEWS, 0.5)
    chosen = [int(camera.c2w[0, 0, 3].round()) for camera in rendered]
    assert len(views) == len(set(chosen)) == min(n_train, most) and set(chosen) <= set(train)
    steps = torch.tensor(chosen).diff()
    assert steps.min() >= 2 * (n_train // len(views)) and steps.max() <= 2 * -(-n_train // len(views))
    far = (cameras.c2w[train[0], :, 3] - middle).norm()
    assert torch.equal(views.cameras.sizes, torch.cat([camera.sizes for camera in rendered]))
    assert rendered[0].sizes[0, 0] == pytest.approx(200 * factor * float(far) / 300, abs=1)
    assert torch.isinf(views.depths).all(), "a ray that is not stopped"
    for cell, resolution, longest in ((0.01, 64, LONGEST_SIDE), (100.0, 1, SHORTEST_SIDE)):
        views = depth_views(run, middle, cell, resolution)  # type: ignore[arg-type]
        assert (views.cameras.sizes == torch.tensor([longest, longest // 2])).all()
    near = depth_views(run, cameras.c2w[train[0], :, 3], 1.0, 400).cameras  # type: ignore[arg-type]
    assert near.sizes[0, 0] == pytest.approx(200 * factor * 200 / 300, abs=1), "a camera in the middle of the mesh"
    assert all(n == 1 for n in per_pixel) and run.renderer.rays_per_pixel == 4


def test_best_views_are_those_that_show_a_place_at_the_largest_scale() -> None:
    """The ball's side towards x: seen from x, askew from between x and y, and by none from behind."""
    views = ball_views(4 * (X + Y), -4 * X, 4 * X)
    scale, which = best_views(views, X[None], X[None], CELL, 2)
    distance = math.hypot(3, 4)
    torch.testing.assert_close(scale, torch.tensor([[1 / 9, 3 / distance**3]]))
    assert which.tolist() == [[2, 0]]
    hidden = torch.stack([-Z, 1.5 * X])  # from below, and in front of what is seen
    scale, _ = best_views(views, hidden, torch.stack([-Z, X]), CELL, 2)
    assert not scale.any() and scale.shape == (2, 2)
    scale, which = best_views(views, X[None], -X[None], CELL, 2)  # a normal that turns away
    torch.testing.assert_close(scale, torch.tensor([[0.01 / 9, 0.01 / distance**2]]))
    no_views = DepthViews(views.cameras[[]], views.depths[:0])
    assert not best_views(no_views, X[None], X[None], CELL, 2)[0].any()
