# SPDX-License-Identifier: Apache-2.0
"""What is measured, how it is averaged, what masks leave out, and what the report says about all of that."""

import dataclasses
import json
import math
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from neurfield.cameras.cameras import Cameras
from neurfield.data.scene import Scene
from neurfield.errors import UserError
from neurfield.metrics import METRICS
from neurfield.training.evaluation import evaluate
from tests.scenes import ball_scene

SIZE = 24
GREY = 102 / 255


@pytest.fixture
def scene() -> Scene:
    """Two grey test views."""
    scene = ball_scene(n_train=1, n_test=2, size=SIZE)
    return dataclasses.replace(scene, images=[torch.full((SIZE, SIZE, 3), 102, dtype=torch.uint8)] * 3)


def renderer(*errors: float) -> Any:
    """Renders view after view in grey, with the next of `errors` in its upper half."""
    remaining = iter(errors)

    def render(camera: Cameras, outputs: object, progress: Callable, appearance: int | None) -> dict[str, Tensor]:
        picture = torch.full((SIZE, SIZE, 3), GREY)
        for part in (0.5, 1.0):
            progress(part)
        picture[: SIZE // 2] += next(remaining)
        return {"rgb": picture}

    return SimpleNamespace(render=render, background=torch.ones(3), rays_per_pixel=1)


def half_mask(upper: int, lower: int) -> Tensor:
    mask = torch.full((SIZE, SIZE), lower, dtype=torch.uint8)
    mask[: SIZE // 2] = upper
    return mask


def test_panoramas_have_a_psnr_of_the_view_beside_that_of_the_picture(scene):
    """An error in the quarter of a picture at one of its poles, 1 - sin(45 degrees) of the half of the view there."""
    c = scene.cameras
    around = Cameras.panorama(c.c2w, SIZE, SIZE)
    models = around.models.clone()
    models[2] = 0
    scene = dataclasses.replace(scene, cameras=dataclasses.replace(around, models=models))
    wrong = torch.zeros(SIZE, SIZE, 3)
    wrong[: SIZE // 4] = 0.1

    def render(*_: object, **__: object) -> dict[str, Tensor]:
        return {"rgb": GREY + wrong}

    painter: Any = SimpleNamespace(render=render, background=torch.ones(3), rays_per_pixel=1)
    result = evaluate(painter, scene, "test")
    first, second = result["per_image"]
    assert first["psnr"] == pytest.approx(20 - 10 * math.log10(1 / 4), abs=1e-3)
    expected = 20 - 10 * math.log10((1 - math.sqrt(0.5)) / 2)
    assert first["ws_psnr"] == result["ws_psnr"] == pytest.approx(expected, abs=1e-3)
    assert "ws_psnr" not in second and "solid angle" in result["protocol"]["ws_psnr"]
    upper = [half_mask(255, 0)] * 3
    masked = evaluate(painter, dataclasses.replace(scene, masks=upper), "test")
    assert masked["ws_psnr"] == pytest.approx(expected - 10 * math.log10(2), abs=1e-3)
    assert "ws_psnr" not in evaluate(painter, dataclasses.replace(scene, cameras=c), "test")


def test_figures_are_means_over_views(scene):
    result = evaluate(renderer(0.1, 0.01), scene, "test")
    first, second = result["per_image"]
    # half of the pixels are off by 0.1: -10 log10(0.01 / 2)
    assert first["psnr"] == pytest.approx(23.0103, abs=1e-3) and second["psnr"] == pytest.approx(43.0103, abs=1e-3)
    assert first["file"] == "view_1" and (first["view"], second["view"]) == (1, 2)
    for name in ("psnr", "ssim"):
        assert result[name] == pytest.approx((first[name] + second[name]) / 2)
    json.dumps(result)


def test_predictions_are_clamped(scene):
    assert evaluate(renderer(5, 5), scene, "test")["psnr"] == pytest.approx(
        float(-10 * torch.log10(torch.tensor((1 - GREY) ** 2 / 2))), abs=1e-4
    )


def test_ignored_pixels_are_left_out(scene):
    masks = [None, half_mask(upper=255, lower=0), half_mask(upper=0, lower=255)]
    result = evaluate(renderer(0.1, 0.1), dataclasses.replace(scene, masks=masks), "test")
    wrong, right = result["per_image"]
    assert wrong["psnr"] == pytest.approx(20, abs=1e-3)  # all that is left is off by 0.1
    assert right["psnr"] > 100 and right["ssim"] == 1  # rounding
    assert result["protocol"]["n_masked_views"] == 2
    masks[1] = half_mask(0, 0)
    without = evaluate(renderer(0.1, 0.1), dataclasses.replace(scene, masks=masks), "test")
    assert [image["view"] for image in without["per_image"]] == [2]
    with pytest.raises(UserError, match="the masks leave no pixel of the test views"):
        evaluate(renderer(0.1, 0.1), dataclasses.replace(scene, masks=[half_mask(0, 0)] * 3), "test")


def test_every_metric_is_measured_or_its_absence_explained(scene, monkeypatch):
    there = dataclasses.replace(METRICS["lpips"], measure=lambda image, target: 0.25, why_not=lambda: None)
    monkeypatch.setitem(METRICS, "lpips", there)
    result = evaluate(renderer(0.1, 0.1), scene, "test")
    assert result["lpips"] == result["per_image"][0]["lpips"] == 0.25
    assert all(result["protocol"][name] == metric.protocol for name, metric in METRICS.items())

    monkeypatch.setitem(METRICS, "lpips", dataclasses.replace(there, why_not=lambda: "no weights"))
    result = evaluate(renderer(0.1, 0.1), scene, "test")
    assert "lpips" not in result and "lpips" not in result["per_image"][0]
    assert result["protocol"]["lpips"] == "none: no weights"


def test_a_view_that_is_too_small_is_one_line():
    small = ball_scene(n_train=1, n_test=1, size=10)
    picture = SimpleNamespace(render=lambda *_, **__: {"rgb": torch.zeros(10, 10, 3)}, background=torch.ones(3))
    with pytest.raises(UserError, match="at least 11 x 11 pixels"):
        evaluate(picture, small, "test")


def test_progress_is_told_within_views_and_not_counted_as_theirs(scene, monkeypatch):
    clock, seen = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def progress(part: float) -> None:
        seen.append(part)
        clock[0] += 100

    result = evaluate(renderer(0.1, 0.1), scene, "test", progress)
    assert seen == [0.25, 0.5, 0.75, 1.0]
    assert result["seconds_per_view"] == 0
