# SPDX-License-Identifier: Apache-2.0
"""What cameras and silhouettes say about an occupancy grid (csrc/math/footprint.h, csrc/cpu/carve.h).

Done once before training, in place, outside of any graph.
"""

import torch
from torch import Tensor

from neurfield.ops._common import DEVICES, check_tensor, native
from neurfield.ops._operator import operator
from neurfield.ops.camera import CameraTensors, SizedCameras, camera_rays, sized_views
from neurfield.ops.occupancy import check_density_grid, check_occupancy
from neurfield.ops.pixel import block_counts

# Silhouettes are widened by this many pixels: renderers and cameras spread a point over about one pixel each way.
MARGIN = 1.0
BORDER_POINTS = 33  # per side of a distorted image, from which the bounds of its field of view are taken
BOUNDS_SLACK = 0.01  # of the field of view, for what lies between those points


class _Pinhole:
    """The lenses of cameras at the origin, looking along their own axes."""

    def __init__(self, cameras: CameraTensors) -> None:
        self.c2w = torch.eye(3, 4, device=cameras.c2w.device).repeat(cameras.c2w.shape[0], 1, 1)
        self.intrinsics, self.distortion, self.models = cameras.intrinsics, cameras.distortion, cameras.models


def view_bounds(cameras: SizedCameras) -> Tensor:
    """Undistorted image plane that each view shows, exact for a pinhole, else never too small.

    Returns:
        float32 `[n_views, 4]` x_min x_max y_min y_max of X / Z and Y / Z in the lens frame (y down), infinite for a
        fisheye and a panorama.
    """
    focal, center = cameras.intrinsics[:, None, :2], cameras.intrinsics[:, None, 2:]
    n_views, sizes = cameras.c2w.shape[0], cameras.sizes[:, None].to(focal.dtype)
    device = cameras.c2w.device
    corners = (torch.tensor([[[0.0, 0.0], [1.0, 1.0]]], device=device) * sizes - center) / focal
    bounds = corners.transpose(1, 2).reshape(n_views, 4).contiguous()
    bounds[cameras.models >= 2] = torch.tensor([-torch.inf, torch.inf, -torch.inf, torch.inf], device=device)
    bent = (cameras.models == 1).nonzero()[:, 0]
    if len(bent):
        u = torch.linspace(0, 1, BORDER_POINTS, device=device)
        zero, one = torch.zeros_like(u), torch.ones_like(u)
        border = torch.stack([torch.cat([u, u, zero, one]), torch.cat([zero, one, u, u])], dim=1)
        pixel_xy = (border * sizes[bent]).reshape(-1, 2)
        _, directions = camera_rays(_Pinhole(cameras), bent.repeat_interleave(len(border)), pixel_xy)
        plane = (directions[:, :2] / -directions[:, 2:] * torch.tensor([1.0, -1.0], device=device)).view(
            len(bent), -1, 2
        )
        low, high = plane.amin(dim=1), plane.amax(dim=1)
        slack = BOUNDS_SLACK * (high - low)
        bounds[bent] = torch.stack([low - slack, high + slack], dim=2).view(-1, 4)
    return bounds


def _views(
    op: str, cameras: SizedCameras, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What the native core takes for cameras: c2w, intrinsics, distortion, models, bounds, sizes."""
    c2w, intrinsics, distortion, models, sizes = sized_views(op, cameras, device)
    return c2w, intrinsics, distortion, models, view_bounds(cameras), sizes


def _contiguous(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.contiguous() for tensor in tensors)


def _check_in_place(op: str, density_grid: Tensor) -> None:
    check_density_grid(op, density_grid)
    if not density_grid.is_contiguous():
        raise ValueError(f"{op}: density_grid is changed in place and must be contiguous")


@torch.no_grad()
def carve(density_grid: Tensor, cameras: SizedCameras, opaque: Tensor, closed: float, margin: float = MARGIN) -> None:
    """Visual hull: sets to `closed` the cells in whose footprint some view shows nothing.

    A view judges a cell only when it sees all of it; the footprint is a rectangle that holds the cell's image, widened
    by `margin` pixels. So a cell with something in it that every view shows by a non-zero pixel is never closed.

    Args:
        density_grid: float32 `[n_cascades, resolution^3]`, changed in place.
        cameras: float32, in unit space.
        opaque: uint8 `[n_pixels]`, the silhouettes of all views one after the other, row by row; non-zero where
            something is or may be.
        closed: value of closed cells.
    """
    _check_in_place("carve", density_grid)
    areas = cameras.sizes.prod(dim=1)
    check_tensor("carve", "opaque", opaque, (int(areas.sum()),), (torch.uint8,), density_grid.device)
    _carve(*_views("carve", cameras, density_grid.device), opaque, margin, closed, density_grid)


@operator("carve", mutates=("density_grid",), devices=DEVICES)
def _carve(
    c2w: Tensor,
    intrinsics: Tensor,
    distortion: Tensor,
    models: Tensor,
    bounds: Tensor,
    sizes: Tensor,
    opaque: Tensor,
    margin: float,
    closed: float,
    density_grid: Tensor,
) -> None:
    lib = native(c2w)
    areas = sizes.prod(dim=1)
    views = _contiguous(c2w, intrinsics, distortion, models, bounds, sizes, opaque)
    scratch = opaque.new_empty(lib.carve_scratch_bytes(sizes.shape[0]))
    lib.carve(*views, areas.cumsum(0) - areas, margin, closed, density_grid, scratch)


@_carve.register_fake
def _(c2w, intrinsics, distortion, models, bounds, sizes, opaque, margin, closed, density_grid):
    return None


@torch.no_grad()
def close_unseen(density_grid: Tensor, cameras: SizedCameras, closed: float) -> None:
    """Sets to `closed` the cells of which no view sees any part. In place; cameras float32 in unit space."""
    _check_in_place("close_unseen", density_grid)
    _close_unseen(*_views("close_unseen", cameras, density_grid.device), closed, density_grid)


@operator("close_unseen", mutates=("density_grid",), devices=DEVICES)
def _close_unseen(
    c2w: Tensor,
    intrinsics: Tensor,
    distortion: Tensor,
    models: Tensor,
    bounds: Tensor,
    sizes: Tensor,
    closed: float,
    density_grid: Tensor,
) -> None:
    lib = native(c2w)
    lib.close_unseen(*_contiguous(c2w, intrinsics, distortion, models, bounds, sizes), closed, density_grid)


@_close_unseen.register_fake
def _(c2w, intrinsics, distortion, models, bounds, sizes, closed, density_grid):
    return None


@torch.no_grad()
def occupied_pixel_blocks(cameras: SizedCameras, bitfield: Tensor, coarse: Tensor) -> Tensor:
    """Numbers, int32 ascending, of the blocks of 8 x 8 pixels that may show an occupied cell, and of their neighbours.

    Blocks are numbered through all views, row by row, as in neurfield.ops.sample_pixels. Every pixel whose ray meets an
    occupied cell is in one of them.
    """
    check_occupancy("occupied_pixel_blocks", bitfield, coarse)
    n_blocks = int(block_counts(cameras.sizes).sum())
    marks = _mark(*_views("occupied_pixel_blocks", cameras, bitfield.device), bitfield, coarse, n_blocks)
    return marks.nonzero()[:, 0].to(torch.int32)


@operator("mark_pixel_blocks", devices=DEVICES)
def _mark(
    c2w: Tensor,
    intrinsics: Tensor,
    distortion: Tensor,
    models: Tensor,
    bounds: Tensor,
    sizes: Tensor,
    bitfield: Tensor,
    coarse: Tensor,
    n_blocks: int,
) -> Tensor:
    """uint8 `[n_blocks]`, non-zero where a block may show an occupied cell or is next to one that may."""
    lib = native(c2w)
    marks, counts = bitfield.new_empty(n_blocks), block_counts(sizes)
    views = _contiguous(c2w, intrinsics, distortion, models, bounds, sizes, bitfield, coarse)
    lib.mark_pixel_blocks(*views, counts.cumsum(0) - counts, marks)
    return marks


@_mark.register_fake
def _(c2w, intrinsics, distortion, models, bounds, sizes, bitfield, coarse, n_blocks):
    return bitfield.new_empty(n_blocks)
