# SPDX-License-Identifier: Apache-2.0
"""Learning from depth maps: that it helps, that it is measured, and that maps of another unit do no harm."""

import dataclasses

import pytest
import torch

from neurfield.data.scene import Scene
from neurfield.training.evaluation import evaluate
from neurfield.training.method import RunConfig
from neurfield.training.radiance_task import RadianceTask
from tests.scenes import ball_depth, ball_scene, radiance_trainer
from tests.training.test_trainer import small_config


def scene_with_depths(n_train: int = 5, factor: float = 1.0) -> Scene:
    """Few views of a ball, of which the depth is known, of the last training view it is not."""
    scene = ball_scene(n_train=n_train)
    depths = [factor * ball_depth(scene.cameras[view]) for view in range(len(scene.cameras))]
    return dataclasses.replace(scene, depths=[*depths[: n_train - 1], None, *depths[n_train:]])


def configured(*overrides: str, steps: int = 150) -> RunConfig:
    config = small_config(*overrides)
    return dataclasses.replace(config, max_num_iterations=steps)


def test_few_views_with_depths_have_a_better_shape_and_it_is_measured() -> None:
    scene, errors = scene_with_depths(8), []
    for overrides in ((), ("loss.depth=0",)):
        trainer = radiance_trainer(scene, configured("sampler.hull=false", *overrides, steps=400))
        trainer.train()
        result = evaluate(trainer.task.renderer, scene, "test")
        errors.append(result["depth_abs_rel"])
        assert result["per_image"][0]["depth_abs_rel"] > 0 and "known" in result["protocol"]["depth_abs_rel"]
    assert errors[0] < 0.5 * errors[1]


def test_the_error_is_that_of_the_depth_along_the_axis_and_of_what_no_mask_ignores() -> None:
    """A ball that is drawn a tenth too far away, and nothing in one quarter of the picture."""
    scene = scene_with_depths()

    class Painter:
        background, rays_per_pixel = torch.zeros(3), 1

        def render(self, camera, outputs, progress, appearance):
            assert outputs == ("rgb", "depth", "accumulation")
            size = int(camera.sizes[0, 0])
            x = (torch.arange(size) + 0.5 - size / 2) / (1.4 * size)
            along_ray = (1 + x[:, None] ** 2 + x**2).sqrt()
            acc = torch.ones(size, size)
            acc[: size // 2, : size // 2] = 0.4
            return {
                "rgb": torch.zeros(size, size, 3),
                "depth": 1.1 * ball_depth(camera) * along_ray,
                "accumulation": acc,
            }

    result = evaluate(Painter(), scene, "test")
    assert result["depth_abs_rel"] == pytest.approx(0.75 * 0.1 + 0.25, abs=1e-4)
    keep = torch.ones(32, 32, dtype=torch.uint8)
    keep[:16, :16] = 0  # just that quarter
    masked = dataclasses.replace(scene, masks=[keep] * len(scene.images))
    assert evaluate(Painter(), masked, "test")["depth_abs_rel"] == pytest.approx(0.1, abs=1e-4)
    seen_elsewhere = [None if depth is None else depth * (1 - keep) for depth in scene.depths]
    nothing_left = dataclasses.replace(masked, depths=seen_elsewhere)
    assert "depth_abs_rel" not in evaluate(Painter(), nothing_left, "test")
    endless = [None if depth is None else depth.where(depth > 0, torch.inf) for depth in scene.depths]
    found = evaluate(Painter(), dataclasses.replace(scene, depths=endless), "test")
    assert found["depth_abs_rel"] == result["depth_abs_rel"]
    plain = dataclasses.replace(scene, depths=None)
    assert "depth_abs_rel" not in evaluate(radiance_trainer(plain, configured()).task.renderer, plain, "test")


@pytest.mark.parametrize(("factor", "reason"), [(1000.0, "100% of what they see lies outside"), (0.001, "lies within")])
def test_maps_of_another_unit_are_not_used_and_a_note_says_why(factor: float, reason: str) -> None:
    task = RadianceTask(scene_with_depths(factor=factor), configured())
    assert task.pixels.depths is None
    (note,) = (note for note in task.notes if "depth maps" in note)
    assert reason in note and "depth_unit_scale_factor" in note


def test_what_is_behind_an_object_is_no_sign_of_another_unit() -> None:
    """A wall outside of the field's box, in five pixels of six, for which the ball has holes."""
    scene, gap = scene_with_depths(), torch.arange(32) % 3 == 0
    depths = [None if depth is None else depth.where((depth > 0) & gap, 40.0) for depth in scene.depths]
    assert 0.8 < torch.stack([depth == 40 for depth in depths if depth is not None]).float().mean() < 0.9
    task = RadianceTask(dataclasses.replace(scene, depths=depths), configured())
    assert task.pixels.depths is not None and not any("depth maps" in note for note in task.notes)


@pytest.mark.parametrize("nothing", [torch.inf, -torch.inf, torch.nan, -1.0])
def test_what_is_not_finite_or_below_0_is_not_known(nothing: float) -> None:
    scene = scene_with_depths()
    depths = [None if depth is None else depth.where(depth > 0, nothing) for depth in scene.depths]
    task = RadianceTask(dataclasses.replace(scene, depths=depths), configured())
    expected = RadianceTask(scene, configured())
    assert torch.equal(task.pixels.depths, expected.pixels.depths) and task.notes == expected.notes


def test_maps_are_held_only_where_they_are_learned_from() -> None:
    scene = scene_with_depths()
    assert RadianceTask(scene, configured("loss.depth=0")).pixels.depths is None
    held = RadianceTask(scene, configured()).pixels.depths
    assert held is not None and held.shape == (5 * 32 * 32,)
    assert held.max() == pytest.approx(0.33 * float(max(d.max() for d in scene.depths[:4])), rel=1e-5)
    unknown = dataclasses.replace(scene, depths=[None] * 7)
    assert RadianceTask(unknown, configured()).pixels.depths is None
