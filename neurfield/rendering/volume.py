# SPDX-License-Identifier: Apache-2.0
"""Rays to colour, depth and opacity, op by op: march, evaluate, composite. Works with any field; differentiable.

A field is a callable on positions and unit directions `[n, 3]` in unit space that gives sigma `[n]` and rgb `[n, 3]`.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from neurfield import ops
from neurfield.ops.composite import Composite
from neurfield.ops.march import PackedSamples
from neurfield.sampling.occupancy_grid import OccupancyGrid


class Field(Protocol):
    """What the renderer asks of a field; positions `[n, 3]` in unit space, unit directions `[n, 3]`."""

    def density(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """sigma `[n]` and whatever features the field has."""

    def __call__(self, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """sigma `[n]`, rgb `[n, 3]`."""


ROUND = 16  # samples per ray that are evaluated at once when an image is rendered
NORMAL_ERROR = 1 / 512  # of a rendered normal; a quarter of the step between two bytes of its picture


@dataclass(frozen=True)
class MarchOptions:
    """Where along a ray samples lie (methods of ops.march), and when a ray is opaque."""

    step_scale: float = 1.0
    cone_angle: float = 0.0
    near: float = 0.05
    max_samples: int = 1024
    stop_transmittance: float = 1e-4

    def fused(self, jitter: tuple[int, int] | None = None) -> ops.FusedMarch:
        """The same for the fused operators."""
        return ops.FusedMarch(
            step_scale=self.step_scale,
            cone_angle=self.cone_angle,
            near=self.near,
            stop_transmittance=self.stop_transmittance,
            max_samples=self.max_samples,
            jitter=jitter,
        )

    @staticmethod
    def for_box(aabb_scale: int, step_scale: float = 1.0) -> "MarchOptions":
        """Constant steps in the unit cube; in larger boxes steps that grow with the distance, as instant-ngp's."""
        return MarchOptions(step_scale=step_scale, cone_angle=0.0 if aabb_scale == 1 else 1 / 256)


def march_rays(
    grid: OccupancyGrid,
    origins: Tensor,
    directions: Tensor,
    options: MarchOptions,
    jitter: tuple[int, int] | None = None,
    capacity: int | None = None,
) -> PackedSamples:
    """Samples of rays in occupied cells.

    Args:
        jitter: (seed, step) shifts each ray by a random part of a step.
        capacity: rows of the samples' tensors, whose rest is zero; see `padded` of ops.march. None: exact.
    """
    seed, step = jitter or (0, None)
    return grid.march(
        origins,
        directions,
        step_scale=options.step_scale,
        cone_angle=options.cone_angle,
        near=options.near,
        max_samples=options.max_samples,
        capacity=capacity,
        padded=capacity is not None,
        seed=seed,
        step=step,
    )


def sample_positions(samples: PackedSamples, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Positions and directions `[n_samples, 3]` of the samples of rays `[n_rays, 3]`."""
    d = directions[samples.ray_indices]
    return origins[samples.ray_indices] + samples.t_starts[:, None] * d, d


def composite_rays(
    field: Field, samples: PackedSamples, origins: Tensor, directions: Tensor, options: MarchOptions
) -> Composite:
    """Evaluates the field at the samples and composites them over black; differentiable in the field's parameters."""
    sigmas, rgbs = field(*sample_positions(samples, origins, directions))
    t_starts, t_ends, packed_info = samples.t_starts, samples.t_ends, samples.packed_info
    return ops.composite(sigmas, rgbs, t_starts, t_ends, packed_info, early_stop_eps=options.stop_transmittance)


def composite_in_rounds(
    field: Field, samples: PackedSamples, origins: Tensor, directions: Tensor, options: MarchOptions
) -> tuple[Tensor, Tensor, Tensor]:
    """rgb over black `[n, 3]`, sum of weight * distance and opacity `[n]`, without gradient.

    As composite_rays, but ROUND samples of each ray at a time, so that nothing is evaluated far behind a surface. A ray
    ends with the round in which its transmittance falls below `stop_transmittance`.
    """
    starts, counts = samples.packed_info.unbind(dim=1)
    sums = origins.new_zeros(origins.shape[0], 5)  # rgb, depth, opacity
    alive = (counts > 0).nonzero()[:, 0]
    ahead, first = torch.arange(ROUND, device=origins.device), 0
    while len(alive):
        number = first + ahead
        exists = number < counts[alive, None]
        rows = (starts[alive, None] + number)[exists]
        taken = exists.sum(dim=1)
        part = samples._replace(
            packed_info=torch.stack([taken.cumsum(0) - taken, taken], dim=1), ray_indices=samples.ray_indices[rows],
            t_starts=samples.t_starts[rows], t_ends=samples.t_ends[rows],
        )  # fmt: skip
        sigmas, rgbs = field(*sample_positions(part, origins, directions))
        found = ops.composite(sigmas, rgbs, part.t_starts, part.t_ends, part.packed_info, early_stop_eps=0.0)
        trans = 1 - sums[alive, 4]
        sums[alive] += trans[:, None] * torch.cat([found.rgb, found.depth[:, None], found.acc[:, None]], dim=1)
        first += ROUND
        alive = alive[(1 - sums[alive, 4] >= options.stop_transmittance) & (counts[alive] > first)]
    return sums[:, :3], sums[:, 3], sums[:, 4]


def render_normals(
    field: Field,
    samples: PackedSamples,
    origins: Tensor,
    directions: Tensor,
    options: MarchOptions,
) -> Tensor:
    """Normals `[n_rays, 3]`: minus the direction of the density's gradient, composited; zero where nothing is hit.

    Samples whose weights cannot add up to more than NORMAL_ERROR along a ray count as having no direction, so each
    normal is off by at most that.
    """
    x, _ = sample_positions(samples, origins, directions)
    with torch.no_grad():
        sigmas, _ = field.density(x)
    t_starts, t_ends, packed_info = samples.t_starts, samples.t_ends, samples.packed_info
    normals, eps = torch.zeros_like(x), options.stop_transmittance
    weights = ops.composite(sigmas, normals, t_starts, t_ends, packed_info, early_stop_eps=eps).weights
    # A gradient costs several densities, and most samples are empty or hidden.
    seen = (weights * packed_info[:, 1][samples.ray_indices] > NORMAL_ERROR).nonzero()[:, 0]
    positions = x[seen].requires_grad_(True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(field.density(positions)[0].sum(), positions)
    normals[seen] = -torch.nn.functional.normalize(gradient, dim=1)
    return ops.composite(sigmas, normals, t_starts, t_ends, packed_info, early_stop_eps=eps).rgb


def render_occupancy(
    grid: OccupancyGrid, origins: Tensor, directions: Tensor, options: MarchOptions
) -> tuple[Tensor, Tensor]:
    """The first occupied cell that each ray takes a sample in.

    Returns:
        Colours `[n_rays, 3]` in 0 ... 1, by the place of the cell, lighter and darker in turns, and whether a cell was
        met `[n_rays]`.
    """
    samples = march_rays(grid, origins, directions, replace(options, max_samples=1))
    positions, _ = sample_positions(samples, origins, directions)
    cells, sizes = grid.cells_at(positions)
    color = torch.full_like(origins, 0.0)
    checker = torch.where(cells.sum(dim=1, keepdim=True) % 2 == 0, 1.0, 0.8)
    # the box of a cell decides its colour, not the sample in it, so that cells can be told apart
    place = ((cells + 0.5) * sizes[:, None] - 0.5) / grid.aabb_scale + 0.5
    color[samples.ray_indices] = (0.25 + 0.7 * place) * checker
    return color.clamp(0, 1), samples.packed_info[:, 1] > 0
