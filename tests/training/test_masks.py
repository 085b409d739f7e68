# SPDX-License-Identifier: Apache-2.0
"""Pixels that a mask ignores: they teach the field nothing, and no figure counts them."""

import dataclasses

import pytest
import torch
from torch import Tensor

from neurfield import metrics
from neurfield.data.scene import Scene
from neurfield.errors import UserError
from neurfield.rendering.color import over_background
from neurfield.training.evaluation import evaluate
from tests.scenes import ball_scene, radiance_trainer
from tests.training.test_trainer import small_config


def half_mask(scene: Scene) -> list[Tensor | None]:
    """The left half of every view is ignored, except in one, which has no mask."""
    mask = torch.ones(scene.images[0].shape[:2], dtype=torch.uint8)
    mask[:, : mask.shape[1] // 2] = 0
    return [None, *[mask] * (len(scene.images) - 1)]


def spoiled(scene: Scene, masks: list[Tensor | None]) -> Scene:
    """Something else where the masks ignore."""
    noise = torch.Generator().manual_seed(0)
    images = []
    for image, mask in zip(scene.images, masks, strict=True):
        other = torch.randint(0, 256, image.shape, generator=noise, dtype=torch.uint8)
        images.append(image if mask is None else torch.where(mask[..., None] > 0, image, other))
    return dataclasses.replace(scene, images=images)


def trained(scene: Scene) -> dict[str, Tensor]:
    trainer = radiance_trainer(scene, small_config(steps=20))
    trainer.train()
    return trainer.tensors()


@pytest.mark.parametrize("alpha", [True, False], ids=["cut out", "opaque"])
def test_training_does_not_see_what_is_ignored(alpha: bool) -> None:
    """Bit for bit: neither the pixels drawn nor the hull carved from the alpha masks."""
    scene = ball_scene(8, 1, alpha=alpha)
    masks = half_mask(scene)
    masked = dataclasses.replace(scene, masks=masks)
    ours, theirs = trained(masked), trained(spoiled(masked, masks))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    unmasked = trained(spoiled(scene, masks))
    assert not torch.equal(ours["field.encoding.params"], unmasked["field.encoding.params"])


def test_figures_are_of_the_pixels_that_are_kept() -> None:
    scene = ball_scene(4, 2)
    trainer = radiance_trainer(scene, small_config(steps=5))
    trainer.train()
    masks = half_mask(scene)
    masked = spoiled(dataclasses.replace(scene, masks=masks), masks)
    result = evaluate(trainer.task.renderer, masked, "test")
    for view, entry in zip(scene.splits["test"], result["per_image"], strict=True):
        target = over_background(scene.images[view], trainer.task.renderer.background)
        picture = trainer.task.renderer.render(scene.cameras[view])["rgb"].clamp(0, 1)
        right = slice(picture.shape[1] // 2, None)
        assert entry["psnr"] == pytest.approx(metrics.psnr(picture[:, right], target[:, right]), abs=1e-9)
    assert result["protocol"]["n_masked_views"] == 2
    assert evaluate(trainer.task.renderer, scene, "test")["protocol"]["n_masked_views"] == 0


def test_views_without_a_pixel_left_are_not_measured() -> None:
    scene = ball_scene(4, 2)
    trainer = radiance_trainer(scene, small_config(steps=1))
    black = torch.zeros(scene.images[0].shape[:2], dtype=torch.uint8)
    one = dataclasses.replace(scene, masks=[None] * 5 + [black])
    result = evaluate(trainer.task.renderer, one, "test")
    assert [entry["view"] for entry in result["per_image"]] == [4] and result["protocol"]["n_views"] == 1
    with pytest.raises(UserError, match="the masks leave no pixel of the test views"):
        evaluate(trainer.task.renderer, dataclasses.replace(scene, masks=[black] * 6), "test")
