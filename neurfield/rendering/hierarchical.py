# SPDX-License-Identifier: Apache-2.0
"""Rays without an occupancy grid: coarse samples, then fine ones where the coarse field found something.

The procedure of the original NeRF (Mildenhall et al. 2020, section 5.2), which evaluates every ray everywhere: a
yardstick for what marching and early termination save, and a way to render fields that have no grid.
"""

import torch
from torch import Tensor

from neurfield import ops
from neurfield.rendering.volume import Field

_UNIT_BOX = (0.0, 0.0, 0.0, 1.0, 1.0, 1.0)


@torch.no_grad()
def render_hierarchical(
    coarse: Field,
    fine: Field,
    origins: Tensor,
    directions: Tensor,
    n_coarse: int = 64,
    n_fine: int = 128,
    aabb: tuple[float, ...] = _UNIT_BOX,
) -> tuple[Tensor, Tensor, Tensor]:
    """rgb over black `[n, 3]`, sum of weight * distance and opacity `[n]` of rays `[n, 3]` in unit space.

    `coarse` is evaluated at the middle of `n_coarse` equal parts of each ray's way through the box; `fine` at the
    middles between those and `n_fine` further places drawn, evenly, from the coarse weights.
    """
    near, far = ops.ray_aabb(origins, directions, torch.tensor(aabb))
    hit = (far > near).nonzero()[:, 0]
    rgb, depth, acc = (
        origins.new_zeros(len(origins), 3),
        origins.new_zeros(len(origins)),
        origins.new_zeros(len(origins)),
    )
    if len(hit) and n_coarse:
        o, d = origins[hit], directions[hit]
        part = torch.linspace(0, 1, n_coarse + 1)
        edges = near[hit, None] + (far - near)[hit, None] * part
        weights = _composite(coarse, o, d, edges)[3].view(len(hit), n_coarse)
        edges = torch.cat([edges, _draw(edges, weights, n_fine)], dim=1).sort(dim=1).values
        rgb[hit], depth[hit], acc[hit], _ = _composite(fine, o, d, edges)
    return rgb, depth, acc


def _composite(
    field: Field, origins: Tensor, directions: Tensor, edges: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """rgb, depth, opacity of rays; weights `[n * m]` of the intervals between `edges [n, m + 1]`, seen at middle."""
    n, m = edges.shape[0], edges.shape[1] - 1
    middle = (edges[:, 1:] + edges[:, :-1]) / 2
    x = origins[:, None] + middle[:, :, None] * directions[:, None]
    sigma, color = field(x.view(-1, 3), directions[:, None].expand(-1, m, -1).reshape(-1, 3))
    start = torch.arange(n) * m
    info = torch.stack([start, torch.full_like(start, m)], dim=1)
    flat = (edges[:, :-1].reshape(-1), edges[:, 1:].reshape(-1))
    found = ops.composite(sigma, color, *flat, info, early_stop_eps=0.0)
    return found.rgb, found.depth, found.acc, found.weights


def _draw(edges: Tensor, weights: Tensor, n: int) -> Tensor:
    """`n` places per ray `[n_rays, n]`, evenly spread over the distribution that the weights of the intervals give."""
    pdf = weights + 1e-5
    cdf = torch.cat([torch.zeros_like(pdf[:, :1]), (pdf / pdf.sum(dim=1, keepdim=True)).cumsum(dim=1)], dim=1)
    u = ((torch.arange(n) + 0.5) / n).expand(len(edges), n).contiguous()
    above = torch.searchsorted(cdf, u, right=True).clamp(1, cdf.shape[1] - 1)
    low, high = cdf.gather(1, above - 1), cdf.gather(1, above)
    part = ((u - low) / (high - low).clamp_min(1e-5)).clamp(0, 1)
    a, b = edges.gather(1, above - 1), edges.gather(1, above)
    return a + part * (b - a)
