# SPDX-License-Identifier: Apache-2.0
"""Projection as published; rays by bisection or fixed-point iteration, which share nothing with Newton's method."""

import torch
from torch import Tensor


def project(
    c2w: Tensor, intrinsics: Tensor, distortion: Tensor, models: Tensor, view_idx: Tensor, points: Tensor
) -> tuple[Tensor, Tensor]:
    """-> pixel_xy [n, 2] (meaningless behind the camera), depths [n]; see neurfield.ops.project."""
    pose = c2w[view_idx]
    local = torch.einsum("nij,ni->nj", pose[:, :, :3], points - pose[:, :, 3])
    lens = local * torch.tensor([1.0, -1.0, -1.0], dtype=local.dtype)
    image = distort(distortion[view_idx], models[view_idx], lens)
    return image * intrinsics[view_idx, :2] + intrinsics[view_idx, 2:], lens[:, 2]


def has_image(c2w: Tensor, distortion: Tensor, models: Tensor, view_idx: Tensor, points: Tensor) -> Tensor:
    """bool [n]: where project means something. The image must move outwards all the way from the axis to the point."""
    pose = c2w[view_idx]
    local = torch.einsum("nij,ni->nj", pose[:, :, :3], points - pose[:, :, 3])
    fisheye, panorama, off, along = models[view_idx] == 2, models[view_idx] == 3, local[:, :2].norm(dim=1), -local[:, 2]
    r = torch.where(fisheye, torch.atan2(off, along), off / along)[:, None] * torch.linspace(0, 1, 1001).double()
    radial = 1 + sum(distortion[view_idx, i, None] * r ** (2 * i + 2) for i in range(4))
    unfolded = (models[view_idx] == 0) | panorama | (torch.diff(r * radial, dim=1) > 0).all(dim=1)
    seen = torch.where(fisheye, (off > 0) | (along > 0), torch.where(panorama, local.norm(dim=1) > 0, along > 0))
    return seen & unfolded


def distort(distortion: Tensor, models: Tensor, lens: Tensor) -> Tensor:
    """Lens-frame points [n, 3] -> image plane [n, 2] by each point's model."""
    k, (p1, p2) = distortion[:, :4], distortion[:, 4:].unbind(1)
    q = lens[:, :2] / lens[:, 2:]
    x, y = q.unbind(1)
    r2 = x * x + y * y
    radial = 1 + sum((k[:, i] * r2 ** (i + 1) for i in range(4)), start=torch.zeros_like(r2))
    tangential = torch.stack([2 * p1 * x * y + p2 * (r2 + 2 * x * x), p1 * (r2 + 2 * y * y) + 2 * p2 * x * y], dim=1)
    opencv = q * radial[:, None] + tangential
    planar = lens[:, :2].norm(dim=1)
    theta = torch.atan2(planar, lens[:, 2])
    theta_d = theta * (1 + sum(k[:, i] * theta ** (2 * i + 2) for i in range(4)))
    fisheye = lens[:, :2] * (theta_d / planar.clamp_min(1e-300))[:, None]
    unit = torch.nn.functional.normalize(lens, dim=1)
    angles = torch.stack([torch.atan2(lens[:, 0], lens[:, 2]), torch.asin(unit[:, 1].clamp(-1, 1))], dim=1)
    return torch.stack([q, opencv, fisheye, angles])[models, torch.arange(len(lens))]
