# SPDX-License-Identifier: Apache-2.0
"""The step of a field and its coarse companion: what it compares, what its places are, and that it learns."""

import dataclasses
import math

import pytest
import torch

from neurfield.rendering.hierarchical import hierarchical
from neurfield.sampling.occupancy_grid import OccupancyGrid
from neurfield.training.composed_step import RayBatch
from neurfield.training.evaluation import evaluate
from neurfield.training.method import MethodConfig, RunConfig, load_method
from neurfield.training.optimizer import Adam
from neurfield.training.radiance_task import RadianceTask
from neurfield.training.step_random import step_generator
from neurfield.training.steps import make_step
from tests.cases import uniform
from tests.rendering.test_hierarchical import Blob
from tests.rendering.test_hierarchical import rays as blob_rays
from tests.scenes import ball_scene
from tests.training.test_composed_step import OPTIONS, Recorder, batch
from tests.training.test_trainer import assert_same_state, disc, mean_psnr, trained

UNIT = (0.0, 0.0, 0.0, 1.0, 1.0, 1.0)
SMALL = (
    "field.coarse=true", "field.width=16", "field.n_layers=3", "field.skip=1", "field.position_frequencies=4",
    "sampler.n_coarse=8", "sampler.n_fine=8", "training.n_samples=4096", "optimizer.learning_rate=0.01",
)  # fmt: skip


def method(*overrides: str) -> MethodConfig:
    return load_method("nerf", (*SMALL, *overrides))


def field_of(config: MethodConfig):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return config.field.build(UNIT)


@pytest.mark.parametrize("per_pixel", [1, 4])
def test_both_colours_are_compared_with_the_pixels(per_pixel: int) -> None:
    config, rays = method("loss.distortion=0.1"), batch(per_pixel)
    field = field_of(config)
    recorder = Recorder(field)
    step = make_step(field, OccupancyGrid(1, resolution=16), recorder, OPTIONS, config, 3)
    result = step(rays, 0.01, 7)
    generator = step_generator(3, 7)
    with torch.no_grad():
        hit, *found, coarse_t, fine_t = hierarchical(
            field.coarse, field, rays.origins, rays.directions, 8, 8, UNIT,
            lambda rows, columns: torch.rand(rows, columns, generator=generator),
        )  # fmt: skip
    assert 0 < len(hit) < rays.n_rays and result.n_samples == len(hit) * 24 and result.n_rays == rays.n_rays
    loss = 0.0
    distance, weight = rays.distances.unbind(1)
    for part, t in zip(found, (coarse_t, fine_t), strict=True):
        rgb, acc = torch.zeros(rays.n_rays, 3), torch.zeros(rays.n_rays, 1)
        rgb[hit], acc[hit, 0] = part.rgb, part.acc
        over = [r + (1 - a) * rays.background[i // per_pixel] for i, (r, a) in enumerate(zip(rgb, acc, strict=True))]
        seen = [torch.stack(over[i : i + per_pixel]).mean(0) for i in range(0, rays.n_rays, per_pixel)]
        error = (torch.stack(seen) - rays.target).square().mean()
        right = (1 - (t / distance[hit, None] - 1).abs() / 0.05).clamp_min(0)
        share = torch.zeros(rays.n_rays).index_put((hit,), (part.weights.view_as(t) * right).sum(1))
        wrong = float((weight * (1 - share)).sum())
        assert 0 < wrong < 0.999 * float(weight.sum())
        loss += float(error) + 0.1 * float(part.distortion.sum()) / rays.n_rays + wrong
    assert result.loss == pytest.approx(loss, rel=1e-5)
    assert result.squared_error == pytest.approx(float(error), rel=1e-5)
    assert all(grad.any() for grad in recorder.grads.values()) and any("coarse" in name for name in recorder.grads)


def test_all_lies_where_the_batch_lies() -> None:
    """What would be made on the default device cannot meet the rays."""
    config, rays = method(), batch(4)
    field = field_of(config)
    step = make_step(field, OccupancyGrid(1, resolution=16), Recorder(field), OPTIONS, config, 3)
    expected = step(rays, 0.01, 7)
    with torch.device("meta"):
        assert step(rays, 0.01, 7) == expected


def test_places_are_jittered_within_their_shares() -> None:
    origins, directions = blob_rays(60)
    seen: list[torch.Tensor] = []

    class Watching(Blob):
        def forward(self, x, d):
            seen.append(x)
            return super().forward(x, d)

    def places(value: float | None) -> list[torch.Tensor]:
        seen.clear()
        jitter = None if value is None else lambda rows, columns: torch.full((rows, columns), value)
        hit = hierarchical(Watching(), Watching(), origins, directions, 16, 8, UNIT, jitter).hit
        return [(x.view(len(hit), -1, 3) - origins[hit][:, None]).norm(dim=2) for x in seen]

    even, low, high = places(None), places(0.0), places(1 - 2**-24)
    width = even[0][:, 1:2] - even[0][:, :1]
    for t, sign in ((low[0], -1), (high[0], 1)):
        moved = (t - even[0]) / width
        torch.testing.assert_close(moved[:, 1:-1], torch.full_like(moved[:, 1:-1], 0.5 * sign), atol=1e-3, rtol=0)
        torch.testing.assert_close(
            moved[:, [0, -1]], torch.full_like(moved[:, [0, -1]], 0.25 * sign), atol=1e-3, rtol=0
        )
    assert even[1].shape[1] == 24
    for t in (even[1], low[1], high[1]):
        assert (t.diff(dim=1) >= -1e-6).all()
    assert (low[1] <= even[1] + 1e-6).float().mean() > 0.9 and not torch.allclose(low[1], high[1])


def test_rays_that_meet_nothing_teach_nothing() -> None:
    config = method()
    field = field_of(config)
    adam = Adam(field, config.optimizer)
    origins = uniform(32, 3, seed=1) + 5
    rays = RayBatch(origins, torch.eye(3)[:1].repeat(32, 1), torch.full((32, 3), 0.25), torch.full((32, 3), 0.75))
    result = make_step(field, OccupancyGrid(1, resolution=16), adam, OPTIONS, config, 3)(rays, 0.01, 0)
    assert (result.loss, result.n_samples, adam.step_count) == (pytest.approx(0.25), 0, 0)


def test_a_network_that_has_become_nan_is_noticed() -> None:
    config = method()
    field = field_of(config)
    field.coarse.trunk.params.data.fill_(math.nan)
    adam = Adam(field, config.optimizer)
    result = make_step(field, OccupancyGrid(1, resolution=16), adam, OPTIONS, config, 3)(batch(), 0.01, 0)
    assert math.isnan(result.loss) and adam.step_count == 0


def test_all_pixels_of_cut_out_photos_are_learned_from() -> None:
    """What lies outside of the hull is looked at, so that the pixels there must deny it."""
    scene = ball_scene()
    assert scene.has_alpha
    task = RadianceTask(scene, RunConfig(method=method()))
    assert task.pixels.blocks is None and task.n_rays == 4096 // 24 // 64 * 64 + 64
    marched = RadianceTask(scene, RunConfig(method=method("field.coarse=false")))
    assert marched.pixels.blocks is not None


def test_learns_the_ball_the_same_way_every_time() -> None:
    scene = ball_scene()
    config = RunConfig(method=method(), max_num_iterations=400)
    trainer = trained(scene, config)
    assert evaluate(trainer.task.renderer, scene, "test")["psnr"] > mean_psnr(scene, disc) + 2
    short = dataclasses.replace(config, max_num_iterations=5)
    assert_same_state(trained(scene, short), trained(scene, short))
