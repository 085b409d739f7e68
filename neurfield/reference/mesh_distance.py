# SPDX-License-Identifier: Apache-2.0
"""Distances to triangles and winding numbers by brute force, see neurfield.ops.mesh_distance."""

import math

import torch
from torch import Tensor


def mesh_distance(vertices: Tensor, faces: Tensor, points: Tensor) -> Tensor:
    """Distance `[n]` of points `[n, 3]`: of all planes whose foot is in their triangle, and of all edges, the least."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    edges = torch.stack([_to_segment(points, *ends) for ends in ((a, b), (b, c), (c, a))]).amin(dim=0)  # [n, m]
    normal = torch.linalg.cross(b - a, c - a)
    length = normal.norm(dim=1)
    height = ((points[:, None] - a) * normal).sum(-1) / length.clamp_min(1e-300)
    foot = points[:, None] - height[..., None] * normal / length.clamp_min(1e-300)[:, None]
    is_within = torch.stack(
        [
            (torch.linalg.cross((q - p).expand_as(foot), foot - p) * normal).sum(-1) >= 0
            for p, q in ((a, b), (b, c), (c, a))
        ]
    ).all(dim=0) & (length > 0)
    return torch.where(is_within, height.abs(), edges).amin(dim=1)


def _to_segment(points: Tensor, p: Tensor, q: Tensor) -> Tensor:
    along = q - p
    t = ((points[:, None] - p) * along).sum(-1) / (along * along).sum(-1).clamp_min(1e-300)
    return (points[:, None] - p - t.clamp(0, 1)[..., None] * along).norm(dim=-1)


def winding_number(vertices: Tensor, faces: Tensor, points: Tensor) -> Tensor:
    """`[n]`: solid angles of all triangles over 4 pi (Van Oosterom and Strackee 1983): 1 inside of a closed mesh."""
    a, b, c = (vertices[faces[:, k]] - points[:, None] for k in range(3))
    la, lb, lc = a.norm(dim=-1), b.norm(dim=-1), c.norm(dim=-1)
    volume = (a * torch.linalg.cross(b, c)).sum(-1)
    denominator = la * lb * lc + (a * b).sum(-1) * lc + (b * c).sum(-1) * la + (c * a).sum(-1) * lb
    return (2 * torch.atan2(volume, denominator)).sum(dim=1) / (4 * math.pi)
