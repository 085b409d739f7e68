# SPDX-License-Identifier: Apache-2.0
"""Pixels to rays and points to pixels, with lens distortion (csrc/math/camera.h)."""

from typing import Protocol

import torch
from torch import Tensor

from neurfield.ops._common import DEVICES, check_tensor, native
from neurfield.ops._operator import operator


class CameraTensors(Protocol):
    """What the operators read of neurfield.cameras.cameras.Cameras; float32 or float64."""

    @property
    def c2w(self) -> Tensor: ...
    @property
    def intrinsics(self) -> Tensor: ...
    @property
    def distortion(self) -> Tensor: ...
    @property
    def models(self) -> Tensor: ...


class SizedCameras(CameraTensors, Protocol):
    @property
    def sizes(self) -> Tensor: ...


def sized_views(op: str, cameras: SizedCameras, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """c2w, intrinsics, distortion, models and sizes, checked: of float32 cameras on a device."""
    check_tensor(op, "c2w", cameras.c2w, ("n_views", 3, 4), (torch.float32,), device)
    n_views = cameras.c2w.shape[0]
    check_tensor(op, "intrinsics", cameras.intrinsics, (n_views, 4), (torch.float32,), device)
    check_tensor(op, "distortion", cameras.distortion, (n_views, 6), (torch.float32,), device)
    check_tensor(op, "models", cameras.models, (n_views,), (torch.int64,), device)
    check_tensor(op, "sizes", cameras.sizes, (n_views, 2), (torch.int64,), device)
    return cameras.c2w, cameras.intrinsics, cameras.distortion, cameras.models, cameras.sizes


def _check(op: str, cameras: CameraTensors, view_idx: Tensor, values: Tensor, name: str, width: int) -> None:
    check_tensor(op, "c2w", cameras.c2w, ("n_views", 3, 4))
    n_views, dtype, device = cameras.c2w.shape[0], cameras.c2w.dtype, cameras.c2w.device
    check_tensor(op, "intrinsics", cameras.intrinsics, (n_views, 4), (dtype,), device)
    check_tensor(op, "distortion", cameras.distortion, (n_views, 6), (dtype,), device)
    check_tensor(op, "models", cameras.models, (n_views,), (torch.int64,), device)
    check_tensor(op, "view_idx", view_idx, ("n",), (torch.int64,), device)
    check_tensor(op, name, values, (view_idx.shape[0], width), (dtype,), device)
    if view_idx.numel() and not 0 <= int(view_idx.min()) <= int(view_idx.max()) < n_views:
        raise ValueError(
            f"{op}: view_idx must be in [0, {n_views}), got {int(view_idx.min())} ... {int(view_idx.max())}"
        )


def camera_rays(cameras: CameraTensors, view_idx: Tensor, pixel_xy: Tensor) -> tuple[Tensor, Tensor]:
    """Rays through image coordinates.

    Distortion is inverted to 1e-7 pixels (in float32 the result then rounds). Coordinates outside of the range of a
    lens polynomial have no exact ray and get the one whose image came nearest, finite and of unit length. Those beside
    a panorama get the one on the other side of the world, where its picture begins anew.

    Args:
        cameras: Cameras, float32 or float64.
        view_idx: int64 `[n]`.
        pixel_xy: `[n, 2]` image coordinates, same dtype: the centre of pixel (i, j) is (i + 0.5, j + 0.5).

    Returns:
        `origins [n, 3]`, `directions [n, 3]` of unit length, in the frame that c2w maps to. Differentiable in `c2w`.

    Raises:
        TypeError, ValueError: wrong dtype or shape, a view out of range.
    """
    _check("camera_rays", cameras, view_idx, pixel_xy, "pixel_xy", 2)
    return _rays(cameras.c2w, cameras.intrinsics, cameras.distortion, cameras.models, view_idx, pixel_xy)


def project(cameras: CameraTensors, view_idx: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Image coordinates of points: the inverse of camera_rays.

    Args:
        cameras: Cameras, float32 or float64.
        view_idx: int64 `[n]`.
        points: `[n, 3]` in the frame that c2w maps to, same dtype.

    Returns:
        `pixel_xy [n, 2]`, not confined to the image, NaN where the camera has no image of the point: behind it, or so
        far out that the radial polynomial no longer grows. A panorama has images of all points but its own position.
        `depths [n]` along the viewing axis, negative behind.
        Not differentiable.

    Raises:
        TypeError, ValueError: wrong dtype or shape, a view out of range.
    """
    _check("project", cameras, view_idx, points, "points", 3)
    return _project(cameras.c2w, cameras.intrinsics, cameras.distortion, cameras.models, view_idx, points)


@operator("camera_rays", devices=DEVICES)
def _rays(
    c2w: Tensor, intrinsics: Tensor, distortion: Tensor, models: Tensor, view_idx: Tensor, pixel_xy: Tensor
) -> tuple[Tensor, Tensor]:
    lib = native(c2w)
    n = view_idx.shape[0]
    origins, directions = c2w.new_empty(n, 3), c2w.new_empty(n, 3)
    inputs = (c2w, intrinsics, distortion, models, view_idx, pixel_xy)
    lib.camera_rays(*(t.contiguous() for t in inputs), origins, directions)
    return origins, directions


@_rays.register_fake
def _(c2w, intrinsics, distortion, models, view_idx, pixel_xy):
    return c2w.new_empty(view_idx.shape[0], 3), c2w.new_empty(view_idx.shape[0], 3)


def _setup_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


def _rays_backward(ctx, grad_origins: Tensor, grad_directions: Tensor):
    """direction = R local and origin = t, so dL/dR = dL/d(direction) local^T and dL/dt = dL/d(origin), per view."""
    c2w, intrinsics, distortion, models, view_idx, pixel_xy = ctx.saved_tensors
    identity = torch.eye(3, 4, dtype=c2w.dtype, device=c2w.device).expand_as(c2w)
    _, local = _rays(identity, intrinsics, distortion, models, view_idx, pixel_xy)
    per_ray = torch.cat([grad_directions[:, :, None] * local[:, None, :], grad_origins[:, :, None]], dim=2)
    grad_c2w = torch.zeros_like(c2w).index_add(0, view_idx, per_ray)
    return grad_c2w, None, None, None, None, None


_rays.register_autograd(_rays_backward, setup_context=_setup_context)


@operator("project", devices=DEVICES)
def _project(
    c2w: Tensor, intrinsics: Tensor, distortion: Tensor, models: Tensor, view_idx: Tensor, points: Tensor
) -> tuple[Tensor, Tensor]:
    lib = native(c2w)
    n = view_idx.shape[0]
    pixel_xy, depths = c2w.new_empty(n, 2), c2w.new_empty(n)
    inputs = (c2w, intrinsics, distortion, models, view_idx, points)
    lib.project_points(*(t.contiguous() for t in inputs), pixel_xy, depths)
    return pixel_xy, depths


@_project.register_fake
def _(c2w, intrinsics, distortion, models, view_idx, points):
    return c2w.new_empty(view_idx.shape[0], 2), c2w.new_empty(view_idx.shape[0])
