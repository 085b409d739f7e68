# SPDX-License-Identifier: Apache-2.0
"""Rays without an occupancy grid: coarse samples, then fine ones where the coarse field found something.

The procedure of the original NeRF (Mildenhall et al. 2020, section 5.2), which evaluates every ray everywhere: a
yardstick for what marching and early termination save, a way to train a field and its coarse companion, and to render
fields that have no grid.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from neurfield import ops
from neurfield.ops.composite import Composite
from neurfield.rendering.volume import Field

_UNIT_BOX = (0.0, 0.0, 0.0, 1.0, 1.0, 1.0)
# numbers of 0 ... 1 of a shape that shift samples by parts of their distance
Jitter = Callable[[int, int], Tensor]


class Hierarchical(NamedTuple):
    """What both fields gave for the rays `hit` (int64), those that meet the box, and at which distances.

    `coarse_t` and `fine_t` are `[n_hit, n_samples]`, in the order of the weights of the composites.
    """

    hit: Tensor
    coarse: Composite
    fine: Composite
    coarse_t: Tensor
    fine_t: Tensor


def hierarchical(
    coarse: Field,
    fine: Field,
    origins: Tensor,
    directions: Tensor,
    n_coarse: int = 64,
    n_fine: int = 128,
    aabb: tuple[float, ...] = _UNIT_BOX,
    jitter: Jitter | None = None,
) -> Hierarchical:
    """Composites of rays `[n, 3]` in unit space; differentiable in the fields.

    `coarse` is evaluated at the middle of `n_coarse` equal parts of each ray's way through the box; `fine` at the
    middles between those and `n_fine` further places drawn, evenly, from the coarse weights. With `jitter` the ends of
    the parts move by up to half a part, and the places are random in their equal shares of the distribution.

    Raises:
        ValueError: n_coarse is not positive.
    """
    if n_coarse < 1:
        raise ValueError(f"hierarchical: n_coarse must be at least 1, got {n_coarse}")
    near, far = ops.ray_aabb(origins, directions, origins.new_tensor(aabb))
    hit = (far > near).nonzero()[:, 0]
    o, d, near, far = origins[hit], directions[hit], near[hit, None], far[hit, None]
    part = torch.linspace(0, 1, n_coarse + 1, device=origins.device).expand(len(hit), -1)
    if jitter:
        part = torch.cat(
            [part[:, :1], part[:, 1:-1] + (jitter(len(hit), n_coarse - 1) - 0.5) / n_coarse, part[:, -1:]], 1
        )
    edges = near + (far - near) * part
    first, first_t = _composite(coarse, o, d, edges)
    with torch.no_grad():
        drawn = _draw(edges, first.weights.view(len(hit), n_coarse), n_fine, jitter)
    edges = torch.cat([edges, drawn], dim=1).sort(dim=1).values
    second, second_t = _composite(fine, o, d, edges)
    return Hierarchical(hit, first, second, first_t, second_t)


@torch.no_grad()
def render_hierarchical(
    coarse: Field, fine: Field, origins: Tensor, directions: Tensor, n_coarse: int = 64, n_fine: int = 128
) -> tuple[Tensor, Tensor, Tensor]:
    """rgb over black `[n, 3]`, sum of weight * distance and opacity `[n]` of rays `[n, 3]` in the unit cube."""
    n = len(origins)
    rgb, depth, acc = origins.new_zeros(n, 3), origins.new_zeros(n), origins.new_zeros(n)
    found = hierarchical(coarse, fine, origins, directions, n_coarse, n_fine)
    rgb[found.hit], depth[found.hit], acc[found.hit] = found.fine.rgb, found.fine.depth, found.fine.acc
    return rgb, depth, acc


def _composite(field: Field, origins: Tensor, directions: Tensor, edges: Tensor) -> tuple[Composite, Tensor]:
    """Of rays whose intervals between `edges [n, m + 1]` are seen at their middle; and the middles `[n, m]`."""
    n, m = edges.shape[0], edges.shape[1] - 1
    middle = (edges[:, 1:] + edges[:, :-1]) / 2
    x = origins[:, None] + middle[:, :, None] * directions[:, None]
    sigma, color = field(x.view(-1, 3), directions[:, None].expand(-1, m, -1).reshape(-1, 3))
    start = torch.arange(n, device=edges.device) * m
    info = torch.stack([start, torch.full_like(start, m)], dim=1)
    flat = (edges[:, :-1].reshape(-1), edges[:, 1:].reshape(-1))
    return ops.composite(sigma, color, *flat, info, early_stop_eps=0.0), middle


def _draw(edges: Tensor, weights: Tensor, n: int, jitter: Jitter | None) -> Tensor:
    """`n` places per ray `[n_rays, n]`, evenly spread over the distribution that the weights of the intervals give."""
    pdf = weights + 1e-5
    cdf = torch.cat([torch.zeros_like(pdf[:, :1]), (pdf / pdf.sum(dim=1, keepdim=True)).cumsum(dim=1)], dim=1)
    within = jitter(len(edges), n) if jitter else edges.new_full((len(edges), n), 0.5)
    u = (torch.arange(n, device=edges.device) + within) / n
    above = torch.searchsorted(cdf, u, right=True).clamp(1, cdf.shape[1] - 1)
    low, high = cdf.gather(1, above - 1), cdf.gather(1, above)
    part = ((u - low) / (high - low).clamp_min(1e-5)).clamp(0, 1)
    a, b = edges.gather(1, above - 1), edges.gather(1, above)
    return a + part * (b - a)
