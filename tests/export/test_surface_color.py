# SPDX-License-Identifier: Apache-2.0
"""Colours of places by rays from cameras: those of a ball that each camera sees in a colour of its own."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from neurfield.data.scene import Normalization
from neurfield.export.depth_views import DepthViews
from neurfield.export.surface_color import SurfaceColors
from tests.export.test_depth_views import CELL, RADIUS, X, Y, Z, ball_views

NORM = Normalization(scale=0.25, offset=(0.5, 0.4, 0.6))


def ball_run(opacity: float, is_fused: bool = True) -> SimpleNamespace:
    """A camera at 4 X sees red, others see green, and the field shows blue; rays see `opacity` of it."""

    def draw(origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        torch.testing.assert_close(directions.norm(dim=1), torch.ones(len(directions)))
        world = (origins - torch.tensor(NORM.offset)) / NORM.scale
        is_red = (world - 4 * X).norm(dim=1) < 1e-3
        torch.testing.assert_close(directions, torch.nn.functional.normalize(X - world), atol=1e-4, rtol=0)
        rgb = torch.stack([is_red, ~is_red, torch.zeros_like(is_red)], dim=1) * opacity
        return rgb, torch.zeros(len(rgb)), torch.full((len(rgb),), opacity)

    def field(x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        return torch.full((len(x),), 1e3), torch.tensor([0.0, 0.0, 1.0]).expand(len(x), 3) * directions[:, :1].abs()

    renderer = SimpleNamespace(is_fused=is_fused, drawing=lambda conditions: draw)
    run = SimpleNamespace(
        field=field, renderer=renderer, views=SimpleNamespace(normalization=NORM),
        grid=SimpleNamespace(bitfield=torch.zeros(1)),
    )  # fmt: skip
    run.on_cpu = lambda: run
    return run


def colors(run: SimpleNamespace, views: DepthViews, place: Tensor, normal: Tensor) -> np.ndarray:
    surface = SurfaceColors(run, views, CELL * NORM.scale, 3 * CELL * NORM.scale)
    unit = place * NORM.scale + torch.tensor(NORM.offset)
    return surface(unit[None].numpy(), normal[None].numpy(), lambda fraction: None)[0]


@pytest.mark.parametrize("opacity", [1.0, 0.4])
def test_the_mean_is_weighted_by_scale_and_freed_of_what_shines_through(opacity: float) -> None:
    """The place at X: 3 away, faced, from 4 X, and 5 away, at a cosine of 3 / 5, from 4 (X + Y) and 4 (X - Y)."""
    views = ball_views(4 * X, 4 * (X + Y), 4 * (X - Y), -4 * X)
    near, far = 1 / 9, 3 / 5 / 25
    found = colors(ball_run(opacity), views, X * RADIUS, X)
    np.testing.assert_allclose(found, [near / (near + 2 * far), 2 * far / (near + 2 * far), 0], atol=1e-5)


def test_what_no_view_sees_or_rays_pass_through_has_no_color() -> None:
    views = ball_views(4 * X, 4 * (X + Y))
    assert np.isnan(colors(ball_run(1.0), views, -Z * RADIUS, -Z)).all()
    assert np.isnan(colors(ball_run(0.05), views, X * RADIUS, X)).all()


def test_fields_that_are_not_drawn_are_asked_from_the_best_view_or_along_the_normal() -> None:
    """The field's blue is how much a ray goes along x."""
    run, askew = ball_run(1.0, is_fused=False), ball_views(4 * (X + Y))
    np.testing.assert_allclose(colors(run, askew, X * RADIUS, X), [0, 0, 3 / 5], atol=1e-4)
    nobody = DepthViews(askew.cameras[[]], torch.empty(0))
    np.testing.assert_allclose(colors(ball_run(1.0), nobody, X * RADIUS, X), [0, 0, 1], atol=1e-4)
