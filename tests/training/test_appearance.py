# SPDX-License-Identifier: Apache-2.0
"""Photos of one ball with different exposures and tints: looks are learned apart from the ball."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import neurfield
from neurfield.data.scene import Scene
from neurfield.errors import UserError
from tests.scenes import ball_scene
from tests.training.test_trainer import SMALL

N_TRAIN = 20
STEPS = 200
LOOKS = ("field.appearance_channels=4",)
# matt, like the ball: few photos from all sides could as well be of one that shines differently to each of them
MATT = ("field.direction_encoding={otype: SphericalHarmonics, degree: 1}",)


def gains() -> Tensor:
    """Of red, green and blue of each training photo: exposures of 0.4 to 1 with a tint."""
    generator = torch.Generator().manual_seed(1)
    exposure = 0.4 + 0.6 * torch.arange(N_TRAIN).float()[torch.randperm(N_TRAIN, generator=generator)] / (N_TRAIN - 1)
    tint = 0.85 + 0.15 * torch.rand(N_TRAIN, 3, generator=generator)
    return exposure[:, None] * tint


def tinted_scene() -> Scene:
    """Every sixth photo is for testing and has no look of its own: it is as the ball is."""
    scene = ball_scene(N_TRAIN, N_TRAIN // 5)
    test = list(range(3, len(scene.images), 6))
    train = [view for view in range(len(scene.images)) if view not in test]
    images = list(scene.images)
    for view, gain in zip(train, gains(), strict=True):
        images[view] = images[view].clone()
        images[view][..., :3] = (images[view][..., :3] * gain).round().to(torch.uint8)
    return replace(scene, name="tinted", images=images, splits={"train": train, "val": [], "test": test})


@pytest.fixture(scope="module")
def runs() -> dict[str, neurfield.Run]:
    """Without and with looks."""
    return {
        name: neurfield.train(tinted_scene(), "ngp-fast", overrides=(*SMALL, *MATT, *extra), max_num_iterations=STEPS)
        for name, extra in (("same", ()), ("looks", LOOKS))
    }


def corrected_psnr(run: neurfield.Run) -> float:
    """Of the test photos, each channel of a picture times the number that fits it best to the photo."""
    scene, errors = tinted_scene(), []
    for view in scene.splits["test"]:
        alpha = scene.images[view][..., 3:] / 255
        target = (scene.images[view][..., :3] / 255 * alpha).view(-1, 3)
        picture = run.render(scene.cameras[view], ("rgb", "accumulation"))
        own = picture["rgb"].reshape(-1, 3) - (1 - picture["accumulation"].reshape(-1, 1))
        gain = (own * target).sum(0) / (own * own).sum(0).clamp_min(1e-9)
        errors.append(((own * gain - target) ** 2).mean())
    return -10 * float(torch.stack(errors).mean().log10())


def test_test_views_are_better_with_looks(runs: dict[str, neurfield.Run]) -> None:
    same, looks = corrected_psnr(runs["same"]), corrected_psnr(runs["looks"])
    assert looks > same + 2, (same, looks)


def test_a_photo_has_its_own_look(runs: dict[str, neurfield.Run]) -> None:
    run, scene = runs["looks"], tinted_scene()
    assert run.n_appearances == N_TRAIN
    darkest, brightest = int(gains().mean(1).argmin()), int(gains().mean(1).argmax())
    camera = scene.cameras[scene.splits["test"][0]]
    dark, bright, mean = (
        (p["rgb"] - 1 + p["accumulation"][..., None]).mean()
        for p in (run.render(camera, appearance=a) for a in (darkest, brightest, None))
    )
    assert dark < 0.75 * bright and dark < mean < bright
    # the training photos are measured in their own looks, which fit better than the mean
    assert run.evaluate("train")["psnr"] > runs["same"].evaluate("train")["psnr"] + 3


def test_one_look_is_an_ordinary_field(runs: dict[str, neurfield.Run]) -> None:
    run = runs["looks"]
    assert run.field.fused() is None and run.at(appearance=3).field.fused_render() is not None
    assert run.renderer.is_fused, "the mean look"
    camera = run.cameras[0]
    apart = run.at(appearance=3)
    assert apart.n_appearances == 0
    assert torch.equal(apart.render(camera)["rgb"], run.render(camera, appearance=3)["rgb"])


def test_a_look_that_is_not_there_is_one_line(runs: dict[str, neurfield.Run]) -> None:
    with pytest.raises(UserError, match="appearance 99: expected the number of a training view"):
        runs["looks"].render(runs["looks"].cameras[0], appearance=99)


def test_looks_are_kept_and_continued_exactly(tmp_path: Path) -> None:
    scene = tinted_scene()
    # a rate that does not know the budget, so that the shorter run is the beginning of the longer
    constant = ("training.ema_decay=0.9", "optimizer.decay_start=1")
    kept = {"overrides": (*SMALL, *LOOKS, *constant), "method": "ngp-fast"}
    whole = neurfield.train(scene, max_num_iterations=40, output_dir=tmp_path / "whole", **kept)
    half = neurfield.train(scene, max_num_iterations=24, output_dir=tmp_path / "half", **kept)
    assert half.path is not None
    again = neurfield.train(scene, max_num_iterations=40, resume=half.path.parents[1])
    for (name, a), (_, b) in zip(whole.field.state_dict().items(), again.field.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    loaded = neurfield.load(again.path)
    assert torch.equal(
        loaded.render(loaded.cameras[2], appearance=2)["rgb"], again.render(again.cameras[2], appearance=2)["rgb"]
    )
    assert again.field.appearance.abs().max() > 0


def test_numbers_that_are_no_photos(runs: dict[str, neurfield.Run]) -> None:
    with pytest.raises(UserError, match=r"appearance 20: expected the number of a training view, 0 ... 19"):
        runs["looks"].at(appearance=20)
    with pytest.raises(UserError, match=r"appearance 0: the field of this run .ngp-fast. has one look for all photos"):
        runs["same"].at(appearance=0)
    with pytest.raises(UserError, match=r"time 0.5: the field of this run .ngp-fast. is the same at all times"):
        runs["same"].at(0.5)
