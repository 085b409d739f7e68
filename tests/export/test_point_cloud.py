# SPDX-License-Identifier: Apache-2.0
"""Point clouds of a ball: on its surface, in its colours, as many as asked for."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import trimesh

from neurfield.errors import UserError
from neurfield.export.point_cloud import _spread, export_point_cloud
from neurfield.rendering.renderer import Renderer
from neurfield.sampling.occupancy_grid import OccupancyGrid
from neurfield.training.view_set import ViewSet
from tests.rendering.test_renderer import NORM, RADIUS, Ball
from tests.scenes import ball_scene


@pytest.fixture(scope="module")
def run():
    scene = dataclasses.replace(ball_scene(8, 1, 48), normalization=NORM)
    grid = OccupancyGrid()
    views = ViewSet.of_scene(scene)
    return SimpleNamespace(views=views, cameras=scene.cameras, renderer=Renderer(Ball(), grid, NORM), grid=grid)


def test_points_lie_on_the_ball_and_have_its_colours(run, tmp_path):
    parts: list[float] = []
    n = export_point_cloud(run, tmp_path / "ball.ply", 500, progress=parts.append)
    cloud = trimesh.load(tmp_path / "ball.ply")
    assert n == len(cloud.vertices) == 500 and parts[-1] == pytest.approx(1.0) and parts == sorted(parts)
    radius = np.linalg.norm(cloud.vertices, axis=1)
    # rims are a mean of depths; a step is 5e-3
    assert np.abs(np.median(radius) - RADIUS) < 0.01 and np.quantile(np.abs(radius - RADIUS), 0.9) < 0.03
    expected = 127.5 * (1 + cloud.vertices / radius[:, None])
    assert np.median(np.abs(cloud.colors[:, :3] - expected)) < 5


@pytest.mark.parametrize("n_points", [1, 50, 2000])
@pytest.mark.parametrize("zoom", [1.0, 0.3])
def test_as_many_as_asked_for_however_little_of_the_pictures_is_opaque(zoom, n_points, run, tmp_path):
    far = SimpleNamespace(**vars(run))
    focal = run.cameras.intrinsics * torch.tensor([zoom, zoom, 1, 1])
    far.cameras = dataclasses.replace(run.cameras, intrinsics=focal).resized(8.0)
    assert export_point_cloud(far, tmp_path / "ball.ply", n_points) == n_points


def test_no_more_points_than_pixels(run, tmp_path):
    n = export_point_cloud(run, tmp_path / "ball.ply", 10_000_000)
    assert 2000 < n < 8 * 48 * 48


def test_what_cannot_be_is_one_line(run, tmp_path):
    with pytest.raises(UserError, match=r"written as \.ply"):
        export_point_cloud(run, tmp_path / "ball.obj")
    with pytest.raises(UserError, match="got 0"):
        export_point_cloud(run, tmp_path / "ball.ply", 0)
    (tmp_path / "there.ply").write_text("")
    with pytest.raises(UserError, match="exists"):
        export_point_cloud(run, tmp_path / "there.ply")
    empty = SimpleNamespace(**vars(run))
    empty.renderer = Renderer(Ball(), run.grid.cropped(lambda x: torch.zeros(len(x), dtype=torch.bool)), NORM)
    with pytest.raises(UserError, match="no ray"):
        export_point_cloud(empty, tmp_path / "empty.ply")


def test_points_are_chosen_among_more_than_float32_counts() -> None:
    n_all = (1 << 25) + 4
    assert _spread(3, n_all).tolist() == [0, n_all // 2 - 1, n_all - 1]
