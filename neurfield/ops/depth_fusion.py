# SPDX-License-Identifier: Apache-2.0
"""What views of known depths say about points (csrc/math/depth_fusion.h)."""

import math

import torch
from torch import Tensor

from neurfield.ops._common import DEVICES, check_tensor, native, read_once
from neurfield.ops._operator import operator
from neurfield.ops.camera import SizedCameras, sized_views

_SINGLE = (torch.float32,)


def fuse_depths(
    cameras: SizedCameras, depths: Tensor, points: Tensor, band: float, sheet: float
) -> tuple[Tensor, Tensor]:
    """How far in front of what all views see points lie (Curless and Levoy 1996, with equal weights).

    A view has a point in front of what it sees by the depth of the pixel that the point falls into, less its distance
    from the camera.

    Args:
        cameras: float32.
        depths: float32 `[n_pixels]` along rays, the pictures of all views one after the other, row by row; infinite
            where no ray ends. NaN says nothing. On CUDA the first call with these sizes reads them and waits for the
            device.
        points: float32 `[n, 3]` in the frame that c2w maps to.
        band: above 0, how far behind what it sees a view still says something.
        sheet: 0 ... band.

    Returns:
        `distance [n]`, -1 ... 1 in bands: the mean over the views that do not see something a band or more in front of
        the point, of at most 1 each. Without any such view -1 if one has the point in its picture, else 1.
        `is_sheet [n]`, bool: one view has the point more than `sheet` in front, but less than a band, and another one
        more than `sheet` behind. Not differentiable.

    Raises:
        TypeError, ValueError: wrong dtype or shape; numbers out of range.
    """
    op = "fuse_depths"
    views = _views(op, cameras, depths, points)
    if not (0 < band < math.inf and 0 <= sheet <= band):
        raise ValueError(f"{op}: expected 0 <= sheet <= band and a finite band above 0, got {sheet:g} and {band:g}")
    distance, is_sheet = _fuse(*views, depths, points, band, sheet)
    return distance, is_sheet.bool()


def seen_in_depths(
    cameras: SizedCameras, depths: Tensor, points: Tensor, cell: float, reach: float, in_front: bool
) -> Tensor:
    """Which points lie where any view sees something, bool `[n]`. Not differentiable.

    Args:
        cameras, depths, points: see fuse_depths.
        cell: at least 0, in the world.
        reach: at least 0, how many cells off what a view sees, or pixels where these are larger there, points may lie.
        in_front: whether those count that lie further in front of it.

    Raises:
        TypeError, ValueError: wrong dtype or shape; numbers out of range.
    """
    op = "seen_in_depths"
    views = _views(op, cameras, depths, points)
    if not (0 <= cell < math.inf and 0 <= reach < math.inf):
        raise ValueError(f"{op}: cell and reach must be finite and at least 0, got {cell:g} and {reach:g}")
    return _seen(*views, depths, points, cell, reach, in_front).bool()


def _views(op: str, cameras: SizedCameras, depths: Tensor, points: Tensor) -> tuple[Tensor, ...]:
    """c2w, intrinsics, distortion, models, sizes."""
    check_tensor(op, "points", points, ("n", 3), _SINGLE)
    views = sized_views(op, cameras, points.device)
    n_pixels, largest = _pixels(cameras.sizes) if len(cameras.sizes) else (0, 0)
    check_tensor(op, "depths", depths, (n_pixels,), _SINGLE, points.device)
    if largest >= 2**31:
        raise ValueError(f"{op}: pictures must have fewer than 2^31 pixels, got {largest}")
    return views


@read_once
def _pixels(sizes: Tensor) -> tuple[int, int]:
    """Of all pictures together, and of the largest."""
    areas = sizes.prod(dim=1)
    n_pixels, largest = torch.stack([areas.sum(), areas.max()]).tolist()
    return n_pixels, largest


def _native_pictures(
    c2w: Tensor, intrinsics: Tensor, distortion: Tensor, models: Tensor, sizes: Tensor, depths: Tensor
) -> tuple[Tensor, ...]:
    areas = sizes.prod(dim=1)
    pictures = (c2w, intrinsics, distortion, models, sizes, areas.cumsum(0) - areas, depths)
    return tuple(tensor.contiguous() for tensor in pictures)


@operator("fuse_depths", devices=DEVICES)
def _fuse(
    c2w: Tensor,
    intrinsics: Tensor,
    distortion: Tensor,
    models: Tensor,
    sizes: Tensor,
    depths: Tensor,
    points: Tensor,
    band: float,
    sheet: float,
) -> tuple[Tensor, Tensor]:
    """The distance, and uint8, non-zero where a sheet is seen from both sides."""
    lib = native(points)
    distance, is_sheet = points.new_empty(len(points)), points.new_empty(len(points), dtype=torch.uint8)
    pictures = _native_pictures(c2w, intrinsics, distortion, models, sizes, depths)
    lib.fuse_depths(*pictures, points.contiguous(), band, sheet, distance, is_sheet)
    return distance, is_sheet


@_fuse.register_fake
def _(c2w, intrinsics, distortion, models, sizes, depths, points, band, sheet):
    n = points.shape[0]
    return points.new_empty(n), points.new_empty(n, dtype=torch.uint8)


@operator("seen_in_depths", devices=DEVICES)
def _seen(
    c2w: Tensor,
    intrinsics: Tensor,
    distortion: Tensor,
    models: Tensor,
    sizes: Tensor,
    depths: Tensor,
    points: Tensor,
    cell: float,
    reach: float,
    in_front: bool,
) -> Tensor:
    lib = native(points)
    seen = points.new_empty(len(points), dtype=torch.uint8)
    pictures = _native_pictures(c2w, intrinsics, distortion, models, sizes, depths)
    lib.seen_in_depths(*pictures, points.contiguous(), cell, reach, in_front, seen)
    return seen


@_seen.register_fake
def _(c2w, intrinsics, distortion, models, sizes, depths, points, cell, reach, in_front):
    return points.new_empty(points.shape[0], dtype=torch.uint8)
