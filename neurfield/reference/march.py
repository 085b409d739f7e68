# SPDX-License-Identifier: Apache-2.0
"""Steps of a ray in float64, one after the other, every one tested: no skipping, no SIMD."""

import math

import torch
from torch import Tensor

from neurfield.reference.aabb import ray_aabb
from neurfield.reference.occupancy import cells_of

BASE_STEP = math.sqrt(3) / 1024
LARGEST_STEP = math.sqrt(3)


def step_count(t: float, step_scale: float, cone_angle: float) -> float:
    """n(t) of methods with exponential stepping, `cone_angle > 0`."""
    growth, dt_min = math.log1p(cone_angle), BASE_STEP * step_scale
    dt_max = max(LARGEST_STEP, dt_min)
    t_a, t_b = dt_min / growth, dt_max / growth
    if t <= t_a:
        return (t - t_a) / dt_min + math.log(t_a) / growth
    if t >= t_b:
        return (t - t_b) / dt_max + math.log(t_b) / growth
    return math.log(t) / growth


def step_distance(n: Tensor, step_scale: float, cone_angle: float) -> Tensor:
    """t(n), the inverse of step_count."""
    growth, dt_min = math.log1p(cone_angle), BASE_STEP * step_scale
    dt_max = max(LARGEST_STEP, dt_min)
    t_a, t_b = dt_min / growth, dt_max / growth
    n_a, n_b = math.log(t_a) / growth, math.log(t_b) / growth
    low, high = (n - n_a) * dt_min + t_a, (n - n_b) * dt_max + t_b
    return torch.where(n <= n_a, low, torch.where(n >= n_b, high, torch.exp(n * growth)))


def march_ray(
    origin: Tensor,
    direction: Tensor,
    bitfield: Tensor,
    *,
    step_scale: float = 1.0,
    cone_angle: float = 0.0,
    near: float = 0.0,
    jitter: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """All steps of one ray, float64 `origin [3]`, `direction [3]`; see neurfield.ops.march.

    Returns:
        t_starts [n_steps], t_ends [n_steps], whether each step is a sample, and its distance to the next border of a
        cell or of a cascade in units of t (a step closer to a border than its rounding may fall on either side).
    """
    half = 2.0 ** (bitfield.shape[0] - 2)
    aabb = torch.tensor([0.5 - half] * 3 + [0.5 + half] * 3, dtype=torch.float64)
    t_near, t_far = (t.item() for t in ray_aabb(origin[None], direction[None], aabb))
    t_0 = max(t_near, near, 0.0)
    n_steps = max(math.ceil((t_far - t_0) / (BASE_STEP * step_scale)), 0) if t_far > t_0 else 0
    steps = torch.arange(n_steps + 1, dtype=torch.float64) + jitter
    if cone_angle > 0:
        t = step_distance(step_count(t_0, step_scale, cone_angle) + steps, step_scale, cone_angle)
    else:
        t = t_0 + steps * BASE_STEP * step_scale
    n_inside = int((t[:-1] < t_far).sum())
    t_starts, t_ends = t[:n_inside], t[1 : n_inside + 1]
    dt = (cone_angle * t_starts).clamp(BASE_STEP * step_scale, max(LARGEST_STEP, BASE_STEP * step_scale))
    if cone_angle == 0:
        dt = torch.full_like(t_starts, BASE_STEP * step_scale)
    cells, border = cells_of(origin + t_starts[:, None] * direction, dt, bitfield)
    occupied = (bitfield.view(-1)[cells >> 3] >> (cells & 7) & 1).bool()
    return t_starts, t_ends, occupied, torch.minimum(border, t_far - t_starts)
