# SPDX-License-Identifier: Apache-2.0
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.library import opcheck

from neurfield import ops
from neurfield.cameras.cameras import CAMERA_MODELS, Cameras, panorama_intrinsics
from neurfield.reference import camera as reference
from tests.cases import SIZES, generator, strided, uniform
from tests.compare import EPS, assert_close

# of a phone's wide lens, of a fisheye; k1 ... k4 p1 p2
LENSES = {
    "pinhole": [0.0] * 6,
    "opencv": [-0.12, 0.04, 0.01, -0.005, 0.001, -0.002],
    "opencv_fisheye": [0.05, -0.01, 0.004, -0.001, 0.0, 0.0],
    "equirectangular": [0.0] * 6,
}


def rotations(n: int, seed: int = 0) -> Tensor:
    q, r = torch.linalg.qr(torch.randn(n, 3, 3, dtype=torch.float64, generator=generator(seed)))
    q = q * torch.sign(torch.diagonal(r, dim1=1, dim2=2))[:, None, :]
    return q * torch.sign(torch.linalg.det(q))[:, None, None]


def cameras(model: str, n: int = 3, dtype=torch.float32) -> Cameras:
    """Views of 640 x 480 pixels, 600 of focal length or all around, about the origin."""
    c2w = torch.cat([rotations(n), uniform(n, 3, 1, low=-2, high=2, dtype=torch.float64)], dim=2)
    made = Cameras.pinhole(c2w, 600.0, 640, 480)
    intrinsics = panorama_intrinsics(640, 480) if model == "equirectangular" else (600.0, 590, 325, 236)
    return replace(
        made,
        c2w=c2w.to(dtype),
        intrinsics=torch.tensor(intrinsics, dtype=dtype).repeat(n, 1),
        models=torch.full((n,), CAMERA_MODELS.index(model)),
        distortion=torch.tensor(LENSES[model], dtype=dtype).repeat(n, 1),
    )


def pixels(n: int, n_views: int = 3, dtype=torch.float32) -> tuple[Tensor, Tensor]:
    view_idx = torch.randint(0, n_views, (n,), generator=generator(3))
    return view_idx, uniform(n, 2, dtype=dtype, seed=4) * torch.tensor([640, 480], dtype=dtype)


def tensors(c: Cameras) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return c.c2w, c.intrinsics, c.distortion, c.models


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("model", CAMERA_MODELS)
def test_rays_project_back_through_the_reference(model: str, n: int) -> None:
    """In float64 the round trip must close to 1e-6 pixels, which tests the inversion without sharing its method."""
    c = cameras(model, dtype=torch.float64)
    view_idx, pixel_xy = pixels(n, dtype=torch.float64)
    origins, directions = ops.camera_rays(c, view_idx, pixel_xy)
    assert torch.equal(origins, c.c2w[view_idx, :, 3])
    assert_close(directions.norm(dim=1), torch.ones(n, dtype=torch.float64), 8)
    back, depths = reference.project(*tensors(c), view_idx, origins + 3 * directions)
    assert (depths > 0).all() or model == "equirectangular"
    assert ((back - pixel_xy).abs() < 1e-6).all()
    # float32: the direction rounds in 3 components, then in a rotation of 3 products: 10 units of 1 suffice
    narrow = cameras(model)
    for inputs in ((view_idx, pixel_xy.float()), (strided(view_idx), strided(pixel_xy.float()))):
        # the input itself rounds at 640 pixels, as its difference to the principal point does, over the focal length
        slack = 2 * 640 / float(c.intrinsics[0, 1])
        assert_close(ops.camera_rays(narrow, *inputs)[1], directions, 10 + 2 * slack)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("model", CAMERA_MODELS)
def test_project_matches_reference(model: str, dtype: torch.dtype) -> None:
    c = cameras(model, dtype=dtype)
    view_idx, pixel_xy = pixels(257, dtype=dtype)
    origins, directions = ops.camera_rays(c, view_idx, pixel_xy)
    points = origins + directions * (1 + 5 * uniform(257, 1, dtype=dtype, seed=5))
    got = ops.project(c, view_idx, points)
    wide = (t.double() if t.is_floating_point() else t for t in tensors(c))
    expected = reference.project(*wide, view_idx, points.double())
    # lens coordinates round at |point - origin| <= 6 over a depth of at least 0.5, the polynomial adds about 10
    assert_close(got[0], expected[0], 100, scale=640.0)
    assert_close(got[1], expected[1], 10, scale=8.0)
    assert ((got[0] - pixel_xy).abs() < 100 * EPS[dtype] * 640 + 1e-6).all()


def test_axes_and_pixel_centres() -> None:
    c = Cameras.pinhole(torch.eye(4)[None], 100.0, 64, 48)
    xy = torch.tensor([[32.0, 24.0], [0.5, 24.0], [32.0, 0.5]])
    origins, directions = ops.camera_rays(c, torch.zeros(3, dtype=torch.int64), xy)
    assert (origins == 0).all()
    scaled = directions / directions[:, 2:].abs()
    torch.testing.assert_close(scaled, torch.tensor([[0, 0, -1], [-0.315, 0, -1], [0, 0.235, -1]]))  # left, up
    pixel, depth = ops.project(c, torch.zeros(1, dtype=torch.int64), torch.tensor([[-0.315, 0.235, -1.0]]))
    torch.testing.assert_close(pixel, torch.tensor([[0.5, 0.5]]))
    assert depth.item() == 1


def test_points_without_an_image_are_nan() -> None:
    zero = torch.zeros(2, dtype=torch.int64)
    behind = torch.tensor([[0.1, 0.1, 1.0], [0.1, 0.1, 0.0]])
    for model, has_image in (("pinhole", False), ("opencv", False), ("opencv_fisheye", True)):
        c = replace(cameras(model, 1), c2w=torch.eye(3, 4)[None], distortion=torch.zeros(1, 6))
        pixel, depth = ops.project(c, zero, behind)
        assert torch.isfinite(pixel).all() == has_image
        assert depth.tolist() == [-1, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_beyond_the_fold_of_a_lens_are_nan(dtype: torch.dtype) -> None:
    """A barrel lens folds far points back to the middle: r (1 - 0.3 r^2) has its maximum at r = 1.05."""
    r = torch.tensor([0.0, 1.0, 1.1, 1.5, 3.0], dtype=dtype)
    for model, angle in (("opencv", r.atan()), ("opencv_fisheye", r)):
        lens = torch.tensor([[-0.3, 0, 0, 0, 0, 0]], dtype=dtype)
        c = replace(cameras(model, 1, dtype), c2w=torch.eye(3, 4, dtype=dtype)[None], distortion=lens)
        points = torch.stack([angle.sin(), torch.zeros_like(r), -angle.cos()], dim=1)
        pixel, _ = ops.project(c, torch.zeros(len(r), dtype=torch.int64), points)
        assert torch.isfinite(pixel).all(dim=1).tolist() == [True, True, False, False, False]


def test_pixels_beyond_the_lens_polynomial_give_finite_unit_rays() -> None:
    for model in ("opencv", "opencv_fisheye"):
        c = replace(cameras(model, 1), distortion=torch.tensor([[-0.3, 0.0, 0, 0, 0, 0]]))
        xy = torch.tensor([[-600.0, 236.0], [325.0, 236.0], [5000.0, 5000.0]])
        _, directions = ops.camera_rays(c, torch.zeros(3, dtype=torch.int64), xy)
        assert torch.isfinite(directions).all()
        assert_close(directions.norm(dim=1), torch.ones(3), 8)


def test_a_fisheye_sees_behind_itself() -> None:
    c = replace(cameras("opencv_fisheye", 1), distortion=torch.zeros(1, 6), c2w=torch.eye(3, 4)[None])
    xy = torch.tensor([[325.0 + 600.0 * 2.0, 236.0]])  # theta = 2, more than a right angle
    _, directions = ops.camera_rays(c, torch.zeros(1, dtype=torch.int64), xy)
    expected = torch.tensor([[math.sin(2), 0, -math.cos(2)]], dtype=torch.float64)
    assert_close(directions, expected, 10)
    assert_close(ops.project(c, torch.zeros(1, dtype=torch.int64), directions)[0], xy.double(), 20)


def test_where_a_panorama_shows_what() -> None:
    c = Cameras.panorama(torch.eye(4)[None], 400, 200)
    axes = torch.tensor([[0.0, 0, -1], [1, 0, 0], [0, 0, 1], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])  # up and down last
    xy = torch.tensor([[200.0, 100], [300, 100], [400, 100], [100, 100], [200, 0], [200, 200]])
    _, directions = ops.camera_rays(c, torch.zeros(6, dtype=torch.int64), xy)
    assert_close(directions, axes.double(), 4)
    pixel, depth = ops.project(c, torch.zeros(6, dtype=torch.int64), 3 * axes)
    pixel[4:, 0] = 200.0  # a pole is all of its row
    torch.testing.assert_close(pixel, xy, atol=2e-3, rtol=0)  # what is on the border is drawn a thousandth inside
    assert depth.tolist() == [3, 0, -3, 0, 0, 0]
    x, y = torch.rand(50, generator=generator()) * 400, torch.rand(50, generator=generator(1)) * 200
    none = torch.zeros(50, dtype=torch.int64)
    here, round_again, over_the_pole = (
        ops.camera_rays(c, none, torch.stack(at, dim=1))[1] for at in ((x, y), (x - 400, y), (x + 200, -y))
    )
    torch.testing.assert_close(round_again, here, atol=1e-5, rtol=0)
    torch.testing.assert_close(over_the_pole, here, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_panorama_has_a_pixel_for_every_point_but_its_own(dtype: torch.dtype) -> None:
    """Of any width: points at its ends and poles round into the picture, not beside it."""
    points = torch.tensor([[0.0, 0.0, 1], [0, 1, 1], [-0.0, -1, 1], [1e-9, 0, 1], [-1e-9, 0, 1], [0, 1, 0], [0, -1, 0]])
    points = torch.cat([points, torch.zeros(1, 3)]).to(dtype)
    for width in range(100, 4100, 37):
        c = Cameras.panorama(torch.eye(4)[None], width, width // 2 + 1)
        intrinsics = torch.tensor([panorama_intrinsics(width, width // 2 + 1)], dtype=dtype)
        c = replace(c, c2w=c.c2w.to(dtype), intrinsics=intrinsics, distortion=c.distortion.to(dtype))
        pixel, _ = ops.project(c, torch.zeros(len(points), dtype=torch.int64), points)
        seen, nowhere = pixel[:-1], pixel[-1]
        assert (seen >= 0).all() and (seen < c.sizes[0]).all()
        assert nowhere.isnan().all()


@pytest.mark.parametrize("model", CAMERA_MODELS)
def test_gradcheck_of_the_pose(model: str) -> None:
    c = cameras(model, dtype=torch.float64)
    view_idx, pixel_xy = pixels(6, dtype=torch.float64)
    assert gradcheck(
        lambda c2w: ops.camera_rays(replace(c, c2w=c2w), view_idx, pixel_xy), c.c2w.clone().requires_grad_()
    )


def test_opcheck() -> None:
    c = cameras("opencv")
    view_idx, pixel_xy = pixels(7)
    c2w, *rest = tensors(c)
    opcheck(torch.ops.neurfield.camera_rays.default, (c2w.clone().requires_grad_(), *rest, view_idx, pixel_xy))
    # NaN results compare unequal to themselves: points in front only
    points = ops.camera_rays(c, view_idx, pixel_xy)[1] + c2w[view_idx, :, 3]
    opcheck(torch.ops.neurfield.project.default, (*tensors(c), view_idx, points))


def test_errors_say_expected_and_found() -> None:
    c = cameras("pinhole")
    view_idx, pixel_xy = pixels(4)
    with pytest.raises(ValueError, match=r"camera_rays: view_idx must be in \[0, 3\), got 0 ... 3"):
        ops.camera_rays(c, torch.tensor([0, 1, 2, 3]), pixel_xy)
    with pytest.raises(TypeError, match=r"camera_rays: pixel_xy must be float32 \[4, 2\], got int64 \[4, 2\]"):
        ops.camera_rays(c, view_idx, pixel_xy.long())
    with pytest.raises(ValueError, match=r"project: points must be float32 \[4, 3\], got float32 \[4, 2\]"):
        ops.project(c, view_idx, pixel_xy)
