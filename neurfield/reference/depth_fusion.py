# SPDX-License-Identifier: Apache-2.0
"""What depths say about points, view by view."""

from collections.abc import Sequence

import torch
from torch import Tensor

from neurfield.reference.camera import has_image, project


def clearance(
    c2w: Tensor, intrinsics: Tensor, distortion: Tensor, models: Tensor, depths: Sequence[Tensor], points: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """-> how far points lie in front of what views see, NaN outside of their pictures, their distances from the
    cameras, both `[n_views, n]`, and where they are in the picture, `[n_views, n, 2]`; depths of a view `[h, w]`."""
    front, distance, places = [], [], []
    for view, depth in enumerate(depths):
        view_idx = torch.full((len(points),), view)
        xy, _ = project(c2w, intrinsics, distortion, models, view_idx, points)
        inside = ((xy >= 0) & (xy < torch.tensor(depth.shape[::-1]))).all(dim=1)
        inside &= has_image(c2w, distortion, models, view_idx, points)
        column, row = xy[inside].long().unbind(1)
        distance.append((points - c2w[view, :, 3]).norm(dim=1))
        front.append(torch.full_like(distance[-1], torch.nan))
        front[-1][inside] = depth[row, column] - distance[-1][inside]
        places.append(xy)
    return torch.stack(front), torch.stack(distance), torch.stack(places)


def fuse_depths(front: Tensor, band: float, sheet: float) -> tuple[Tensor, Tensor]:
    """Of clearances `[n_views, n]`; see neurfield.ops.fuse_depths."""
    tells = front > -band
    mean = torch.where(tells, (front / band).clamp_max(1), torch.nan).nanmean(dim=0)
    unsaid = torch.where((front <= -band).any(dim=0), -1.0, 1.0).to(front.dtype)
    is_sheet = ((front > sheet) & (front < band)).any(dim=0) & (tells & (front < -sheet)).any(dim=0)
    return torch.where(tells.any(dim=0), mean, unsaid), is_sheet


def seen_in_depths(
    front: Tensor, distance: Tensor, intrinsics: Tensor, cell: float, reach: float, in_front: bool
) -> Tensor:
    """Of clearances and distances `[n_views, n]`; see neurfield.ops.seen_in_depths."""
    pixel = distance / intrinsics[:, :2].amin(dim=1, keepdim=True)
    off = front.clamp_max(0) if in_front else front
    return (off.abs() <= reach * pixel.clamp_min(cell)).any(dim=0)
