# SPDX-License-Identifier: Apache-2.0
"""Rays through points of known distance: where they go, which are left out, how they are drawn, and that they help."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from neurfield.data.scene import Scene
from neurfield.data.seen_points import SeenPoints
from neurfield.sampling.pixels import PixelSampler
from neurfield.training.evaluation import evaluate
from neurfield.training.method import RunConfig
from neurfield.training.point_rays import PointRays, weighted, woven
from neurfield.training.radiance_task import RadianceTask
from tests.cases import uniform
from tests.scenes import RADIUS, ball_depth, ball_scene, radiance_trainer
from tests.training.test_trainer import small_config


def on_the_ball(n: int = 300) -> Tensor:
    return RADIUS * torch.nn.functional.normalize(uniform(n, 3, low=-1, seed=3))


def scene_with_points(n_train: int = 8) -> Scene:
    """Every training view sees those of the points on the ball that face it."""
    scene, positions = ball_scene(n_train=n_train), on_the_ball()
    towards = scene.cameras.c2w[:n_train, :, 3] - positions[:, None]
    faces = (towards * positions[:, None]).sum(-1) > 0.05 * towards.norm(dim=-1)
    points, views = faces.nonzero().unbind(1)
    return dataclasses.replace(scene, points=SeenPoints(positions, points, views))


def configured(*overrides: str, steps: int = 400) -> RunConfig:
    return dataclasses.replace(small_config("sampler.hull=false", *overrides), max_num_iterations=steps)


def rays_of(scene: Scene, seen: SeenPoints, masks: list[Tensor | None] | None = None) -> PointRays:
    views = scene.views("train")
    pixels = PixelSampler([scene.images[view] for view in views], scene.unit_cameras("train"), masks)
    return PointRays(seen, views, pixels, scene.normalization)


def test_rays_go_to_the_points_and_have_the_colours_there() -> None:
    scene = scene_with_points()
    assert scene.points is not None
    rays = rays_of(scene, scene.points)
    assert 0.9 * len(scene.points) < len(rays) < len(scene.points)  # not at the edge, where pixels are transparent
    drawn, distances = rays.sample(500, scene.unit_cameras("train").c2w, 3, 1, 2)
    assert drawn.origins.shape == drawn.directions.shape == (1000, 3) and distances.shape == (1000,)
    assert drawn.targets.shape == (500, 4) and drawn.picks.shape == (500, 3)
    hit = scene.normalization.to_world(drawn.origins + distances[:, None] * drawn.directions)
    assert (hit.norm(dim=1) - RADIUS).abs().max() < 1e-5
    assert torch.equal(drawn.origins[::2], scene.unit_cameras("train").c2w[drawn.picks[:, 0].long(), :, 3])
    colors = 0.5 + 0.5 * hit[::2] / RADIUS  # the ball is coloured by its normal
    assert (drawn.targets[:, :3] - colors).abs().median() < 0.05
    again, _ = rays.sample(500, scene.unit_cameras("train").c2w, 3, 1, 2)
    other, _ = rays.sample(500, scene.unit_cameras("train").c2w, 4, 1, 2)
    assert torch.equal(again.directions, drawn.directions) and not torch.equal(other.directions, drawn.directions)


def test_what_cannot_be_learned_from_is_left_out() -> None:
    scene, n = ball_scene(n_train=2), 2
    cameras = scene.cameras
    middle = -cameras.c2w[0, :, 2]
    positions = torch.stack([
        cameras.c2w[0, :, 3] + 2.2 * middle,  # on the ball, in the middle of view 0
        cameras.c2w[0, :, 3] + 2.2 * middle,  # the same, seen by a test view
        cameras.c2w[0, :, 3] - 0.1 * middle,  # behind the camera
        torch.tensor([100.0, 0.0, 0.0]),  # outside of the box
        cameras.c2w[0, :, 3] + 2.2 * middle + 0.85 * cameras.c2w[0, :, 0],  # transparent there
    ])  # fmt: skip
    seen = SeenPoints(positions, torch.arange(5), torch.tensor([0, n, 0, 0, 0]))
    rays = rays_of(scene, seen)
    assert len(rays) == 1 and rays.distances.item() == pytest.approx(2.2 * 0.33, rel=1e-5)
    assert torch.allclose(rays.local, torch.tensor([[0.0, 0, -1]]), atol=1e-5)
    hidden = torch.zeros(32, 32, dtype=torch.uint8)
    hidden[:, 0] = 1
    assert len(rays_of(scene, seen, [hidden, None])) == 0
    unseen = dataclasses.replace(seen, views=torch.full((5,), n))
    assert RadianceTask(dataclasses.replace(scene, points=unseen), configured()).points is None


def test_the_rays_move_with_their_cameras() -> None:
    scene = scene_with_points()
    assert scene.points is not None
    rays, c2w = rays_of(scene, scene.points), scene.unit_cameras("train").c2w
    before, distances = rays.sample(64, c2w, 0, 0, 1)
    moved = c2w.clone()
    moved[:, :, 3] += torch.tensor([0.1, 0.2, 0.3])
    after, unchanged = rays.sample(64, moved, 0, 0, 1)
    assert torch.equal(after.directions, before.directions) and torch.equal(unchanged, distances)
    assert torch.allclose(after.origins - before.origins, torch.tensor([0.1, 0.2, 0.3]).expand(64, 3), atol=1e-6)


@pytest.mark.parametrize(("n", "every"), [(1, 4), (4, 4), (5, 4), (63, 16), (64, 16), (65, 16)])
def test_rows_are_woven_evenly(n: int, every: int) -> None:
    n_few = -(-n // every)
    both = woven(torch.full((n_few, 2), -1), torch.arange(2 * (n - n_few)).view(-1, 2), every)
    assert [i for i in range(n) if both[i, 0] == -1] == list(range(0, n, every))
    assert both[both[:, 0] >= 0].flatten().tolist() == list(range(2 * (n - n_few)))


def test_weights_are_those_of_a_mean_over_what_is_known() -> None:
    found = weighted(torch.tensor([0.0, 2.0, 0.0, 3.0]), 0.5)
    assert found.tolist() == [[0, 0], [2, 0.25], [0, 0], [3, 0.25]]
    assert not weighted(torch.zeros(3), 0.5).any()


@pytest.mark.parametrize("per_pixel", [1, 4])
def test_one_of_sixteen_pixels_of_a_step_is_a_point(per_pixel: int) -> None:
    scene = scene_with_points()
    overrides = (f"sampler.rays_per_pixel={per_pixel}", "sampler.rays_per_pixel_start=0", "loss.points=0.5")
    depths = [ball_depth(scene.cameras[view]) for view in range(len(scene.cameras))]
    task = RadianceTask(dataclasses.replace(scene, depths=depths), configured(*overrides))
    assert task.points is not None
    assert f"{len(task.points)} distances to points of the data are learned from (loss.points)" in task.notes
    batch = task._batch(5, 0.5)
    assert batch.distances is not None and batch.distances.shape == (batch.n_rays, 2)
    of_pixels = batch.distances.view(batch.n_pixels, per_pixel, 2)
    points = of_pixels[::16]
    n_points = math.ceil(batch.n_pixels / 16)
    assert torch.allclose(points[..., 1], torch.full((n_points, per_pixel), 0.5 / (n_points * per_pixel)))
    assert float(batch.distances[:, 1].sum()) == pytest.approx(0.5 + 0.002, rel=1e-5)
    hit = scene.normalization.to_world(batch.origins + batch.distances[:, :1] * batch.directions)
    off = (hit.norm(dim=1) - RADIUS).view(batch.n_pixels, per_pixel)[::16]
    assert off.abs().max() < 1e-4
    without = RadianceTask(scene, configured("loss.points=0"))
    assert without.points is None and without._batch(5, 0.5).distances is None


def test_few_views_with_points_have_a_better_shape() -> None:
    scene, errors = scene_with_points(), []
    depths = [ball_depth(scene.cameras[view]) for view in range(len(scene.cameras))]
    for overrides in ((), ("loss.points=0",)):
        trainer = radiance_trainer(scene, configured(*overrides))
        trainer.train()
        known = dataclasses.replace(scene, depths=depths)
        errors.append(evaluate(trainer.task.renderer, known, "test")["depth_abs_rel"])
    assert errors[0] < 0.8 * errors[1]
