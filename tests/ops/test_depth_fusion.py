# SPDX-License-Identifier: Apache-2.0
"""Pictures of random depths, of other sizes in each view, through every lens, against float64."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from neurfield import ops
from neurfield.cameras.cameras import CAMERA_MODELS, Cameras
from neurfield.ops.depth_fusion import _views
from neurfield.reference import depth_fusion as reference
from tests.cases import SIZES, strided, uniform
from tests.compare import EPS, assert_close
from tests.ops.test_camera import LENSES, rotations

BAND, SHEET, CELL, REACH = 0.7, 0.4, 0.05, 6.0


def views(models: Sequence[str]) -> tuple[Cameras, Tensor]:
    """Small pictures from within what is looked at, and depths, a tenth of them infinite."""
    n = len(models)
    c2w = torch.cat([rotations(n), uniform(n, 3, 1, low=-1, dtype=torch.float64)], dim=2).float()
    sizes = torch.tensor([[37, 29], [16, 16], [64, 5], [1, 1]])[torch.arange(n) % 4]
    cameras = replace(
        Cameras.pinhole(c2w, 12.0, 1, 1),
        intrinsics=torch.cat([torch.tensor([[12.0, 11.0]]).repeat(n, 1), sizes / 2 + 0.3], dim=1),
        sizes=sizes,
        models=torch.tensor([CAMERA_MODELS.index(model) for model in models], dtype=torch.int64),
        distortion=torch.tensor([LENSES[model] for model in models]).view(n, 6),
    )
    depths = uniform(int(sizes.prod(dim=1).sum()), low=0.5, high=3, seed=5)
    depths[uniform(len(depths), seed=6) < 0.1] = torch.inf
    return cameras, depths


def clearances(cameras: Cameras, depths: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The reference, and which points lie so near to a border of a pixel or of a case that a rounding decides."""
    pictures = [
        depth.view(height, width)
        for (width, height), depth in zip(
            cameras.sizes.tolist(), depths.double().split(cameras.sizes.prod(dim=1).tolist()), strict=True
        )
    ]
    wide = (cameras.c2w.double(), cameras.intrinsics.double(), cameras.distortion.double(), cameras.models)
    front, distance, places = reference.clearance(*wide, pictures, points.double())
    # a hundred roundings of an image coordinate below 64, as in test_camera, unless a point lies at the camera
    near = distance < 0.1
    near |= ((places - places.round()).abs() < 100 * EPS[torch.float32] * 64).any(dim=2) & front.isfinite()
    pixel = distance / 11.0
    for border in (BAND, -BAND, SHEET, -SHEET, REACH * pixel.clamp_min(CELL), -REACH * pixel.clamp_min(CELL)):
        near |= (front - border).abs() < 1e-5
    return front, distance, near.any(dim=0)


ALL = [*CAMERA_MODELS] * 9  # as many views as it takes that some see sheets from both sides


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("models", [*([model] for model in CAMERA_MODELS), ALL, []], ids=len)
def test_matches_the_reference(models: list[str], n: int) -> None:
    cameras, depths = views(models)
    points = uniform(n, 3, low=-3, high=3, seed=7)
    if not models:
        distance, is_sheet = ops.fuse_depths(cameras, depths, points, BAND, SHEET)
        assert (distance == 1).all() and not is_sheet.any()
        assert not ops.seen_in_depths(cameras, depths, points, CELL, REACH, True).any()
        return
    front, from_camera, near = clearances(cameras, depths, points)
    assert near.float().mean() < 0.05 or n < 100
    expected, expected_sheet = reference.fuse_depths(front, BAND, SHEET)
    assert n < 100 or len(models) == 1 or 5 < expected_sheet[~near].sum() < n / 2
    for given in (points, strided(points)):
        distance, is_sheet = ops.fuse_depths(cameras, strided(depths), given, BAND, SHEET)
        # a distance of up to 8 and what it is taken from: five roundings; then bands, and a mean of n_views
        assert_close(distance[~near], expected[~near], 5 * 8 / BAND + 3 + len(models))
        assert torch.equal(is_sheet[~near], expected_sheet[~near])
        for in_front in (True, False):
            seen = ops.seen_in_depths(cameras, strided(depths), given, CELL, REACH, in_front)
            wanted = reference.seen_in_depths(front, from_camera, cameras.intrinsics.double(), CELL, REACH, in_front)
            assert torch.equal(seen[~near], wanted[~near])


def test_results_do_not_depend_on_the_other_points() -> None:
    """Points are taken many at a time, and views are left out where all of those are decided."""
    cameras, depths = views(ALL)
    points = uniform(700, 3, low=-3, high=3, seed=8)

    def ask(points: Tensor) -> Tensor:
        fused = ops.fuse_depths(cameras, depths, points, BAND, SHEET)
        return torch.stack([*fused, ops.seen_in_depths(cameras, depths, points, CELL, REACH, False)])

    order = uniform(700, seed=9).argsort()
    assert torch.equal(ask(points)[:, order], ask(points[order]))
    assert torch.equal(ask(points)[:, :1], ask(points[:1]))


@pytest.mark.parametrize("model", ["opencv", "opencv_fisheye"])
def test_points_beyond_the_fold_of_a_lens_are_not_in_its_picture(model: str) -> None:
    """r (1 - 0.12 r^2), of X / Z or the angle, falls from r = 1.67 on: a point at 2.5 would be where one at 0.68 is."""
    camera = replace(
        Cameras.pinhole(torch.eye(3, 4)[None], 50.0, 100, 100),
        models=torch.tensor([CAMERA_MODELS.index(model)]),
        distortion=torch.tensor([[-0.12, 0.0, 0.0, 0.0, 0.0, 0.0]]),
    )
    r = torch.tensor([0.68, 1.6, 1.8, 2.5])
    angle = r.atan() if model == "opencv" else r
    points = torch.stack([angle.sin(), torch.zeros(4), -angle.cos()], dim=1)
    wall = torch.full((100 * 100,), 0.5)  # in front of all points
    distance, _ = ops.fuse_depths(camera, wall, points, 0.1, 0.05)
    assert distance.tolist() == [-1, 1, 1, 1]  # the second lies beside the picture
    assert ops.seen_in_depths(camera, wall * 2, points, 0.01, 1.0, False).tolist() == [True, False, False, False]
    wide = replace(camera, intrinsics=camera.intrinsics + torch.tensor([0, 0, 50.0, 0]), sizes=camera.sizes * 2)
    distance, _ = ops.fuse_depths(wide, wall.repeat(4), points, 0.1, 0.05)
    assert distance.tolist() == [-1, -1, 1, 1]


def test_a_depth_that_is_no_number_says_nothing() -> None:
    camera = Cameras.pinhole(torch.eye(3, 4)[None], 50.0, 10, 10)
    depths = torch.full((100,), torch.nan)
    points = torch.tensor([[0.0, 0.0, -1.0], [torch.nan, 0.0, -1.0], [0.0, 0.0, -torch.inf]])
    assert ops.fuse_depths(camera, depths, points, 0.1, 0.05)[0].tolist() == [1, 1, 1]
    assert not ops.seen_in_depths(camera, depths, points, 0.1, 1.0, True).any()


def test_opcheck() -> None:
    cameras, depths = views(ALL)
    points = uniform(33, 3, low=-3, high=3, seed=7)
    inputs = (*_views("test", cameras, depths, points), depths, points)
    opcheck(torch.ops.neurfield.fuse_depths.default, (*inputs, BAND, SHEET))
    opcheck(torch.ops.neurfield.seen_in_depths.default, (*inputs, CELL, REACH, False))


def test_errors_say_expected_and_found() -> None:
    cameras, depths = views(["pinhole", "opencv"])
    points = uniform(4, 3)
    with pytest.raises(ValueError, match=r"fuse_depths: depths must be float32 \[1329\], got float32 \[1328\]"):
        ops.fuse_depths(cameras, depths[1:], points, BAND, SHEET)
    with pytest.raises(TypeError, match=r"seen_in_depths: points must be float32 \[n, 3\], got float64 \[4, 3\]"):
        ops.seen_in_depths(cameras, depths, points.double(), CELL, REACH, True)
    with pytest.raises(ValueError, match=r"fuse_depths: sizes must be int64 \[2, 2\], got int64 \[1, 2\]"):
        ops.fuse_depths(replace(cameras, sizes=cameras.sizes[:1]), depths, points, BAND, SHEET)
    with pytest.raises(ValueError, match=r"0 <= sheet <= band and a finite band above 0, got 0.8 and 0.7"):
        ops.fuse_depths(cameras, depths, points, BAND, 0.8)
    with pytest.raises(ValueError, match="cell and reach must be finite and at least 0, got -1 and 6"):
        ops.seen_in_depths(cameras, depths, points, -1.0, REACH, True)
    large = replace(cameras, sizes=torch.tensor([[1 << 16, 1 << 15], [0, 0]]))
    with pytest.raises(ValueError, match=r"fewer than 2\^31 pixels, got 2147483648"):
        ops.fuse_depths(large, torch.empty(1).expand(1 << 31), points, BAND, SHEET)
