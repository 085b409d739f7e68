# SPDX-License-Identifier: Apache-2.0
"""Rays to colour, depth and opacity, op by op: march, evaluate, composite. Works with any field; differentiable.

A field is a callable on positions and unit directions `[n, 3]` in unit space that gives sigma `[n]` and rgb `[n, 3]`.
What is composited is a callable on samples of given rays, as nerfacc has it: `sample_functions` makes it of a field.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from neurfield import ops
from neurfield.fields.outward import outward
from neurfield.fields.radiance_module import density_of
from neurfield.ops.composite import Composite
from neurfield.ops.march import PackedSamples
from neurfield.sampling.occupancy_grid import OccupancyGrid


class Field(Protocol):
    """What the renderer asks of a field; positions `[n, 3]` in unit space, unit directions `[n, 3]`."""

    def density(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """sigma `[n]` and whatever features the field has."""

    def __call__(self, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """sigma `[n]`, rgb `[n, 3]`."""


# t_starts, t_ends [n], ray_indices int64 [n] -> sigmas [n], as nerfacc's `sigma_fn`
SigmaFn = Callable[[Tensor, Tensor, Tensor], Tensor]
# the same -> rgbs [n, 3], sigmas [n], as nerfacc's `rgb_sigma_fn`
RgbSigmaFn = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]

ROUND = 16  # samples per ray that are evaluated at once when an image is rendered
NORMAL_REACH = 1 / 256  # of differences of the density, in unit space: finer ones show the noise of fields
LEAST_WEIGHT = 1 / 256  # of a sample whose direction counts in a normal: a step between two bytes


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


def march_visible(
    grid: OccupancyGrid,
    origins: Tensor,
    directions: Tensor,
    options: MarchOptions,
    density: Callable[[Tensor, Tensor], Tensor],
    stop_transmittance: float,
    jitter: tuple[int, int] | None = None,
) -> PackedSamples:
    """march_rays without what ops.visible_samples leaves out, by `density`: positions `[n, 3]`, and which of the rays
    they are on, int64 `[n]`, to sigma `[n]`."""
    marched = march_rays(grid, origins, directions, options, jitter)
    if not marched.t_starts.shape[0]:
        return marched
    with torch.no_grad():
        sigmas = density(sample_positions(marched, origins, directions)[0], marched.ray_indices)
    return ops.visible_samples(marched, sigmas, stop_transmittance)


def sample_positions(samples: PackedSamples, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Positions and directions `[n_samples, 3]` of the samples of rays `[n_rays, 3]`."""
    return _along(origins, directions, samples.ray_indices, samples.t_starts)


def _along(origins: Tensor, directions: Tensor, ray_indices: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Positions at `t [n]` of rays, and the rays' directions there, `[n, 3]`."""
    d = directions[ray_indices]
    return origins[ray_indices] + t[:, None] * d, d


def sample_functions(
    field: Field, origins: Tensor, directions: Tensor, place: float = 0.5
) -> tuple[SigmaFn, RgbSigmaFn]:
    """nerfacc's two functions, `sigma_fn` and `rgb_sigma_fn`, of a field along given rays.

    Args:
        field: density per unit of t and colour of positions in the frame of the rays (unit space, for our fields).
        origins, directions: `[n_rays, 3]`, unit directions.
        place: of a sample in its interval: 0.5 the middle, as nerfacc's recipes evaluate it, 0 the start, where our own
            samples sit.

    Returns:
        `sigma_fn(t_starts, t_ends, ray_indices) -> sigmas [n]` and `rgb_sigma_fn(...) -> (rgbs [n, 3], sigmas [n])`,
        differentiable as the field is; 0 samples are allowed.
    """

    def positions(t_starts: Tensor, t_ends: Tensor, ray_indices: Tensor) -> tuple[Tensor, Tensor]:
        t = t_starts if place == 0 else torch.lerp(t_starts, t_ends, place)
        return _along(origins, directions, ray_indices, t)

    def sigma_fn(t_starts: Tensor, t_ends: Tensor, ray_indices: Tensor) -> Tensor:
        return field.density(positions(t_starts, t_ends, ray_indices)[0])[0]

    def rgb_sigma_fn(t_starts: Tensor, t_ends: Tensor, ray_indices: Tensor) -> tuple[Tensor, Tensor]:
        sigmas, rgbs = field(*positions(t_starts, t_ends, ray_indices))
        return rgbs, sigmas

    return sigma_fn, rgb_sigma_fn


def packed_samples(ray_indices: Tensor, t_starts: Tensor, t_ends: Tensor, n_rays: int) -> PackedSamples:
    """Samples `[n]` as nerfacc's estimators give them, ray by ray, in the form that our compositing takes.

    Raises:
        ValueError: samples of a ray that are not together, rays in another order, a number that is no ray's, an index
            that is no int64, or tensors of other shapes.
    """
    shapes = [list(t.shape) for t in (ray_indices, t_starts, t_ends)]
    if ray_indices.dtype != torch.int64 or ray_indices.dim() != 1 or any(shape != shapes[0] for shape in shapes):
        raise ValueError(
            "packed_samples: expected int64 ray_indices [n], t_starts [n] and t_ends [n], "
            f"got {str(ray_indices.dtype).removeprefix('torch.')} {shapes[0]}, {shapes[1]} and {shapes[2]}"
        )
    # in order, the first and the last are the least and the greatest
    ends = torch.cat([ray_indices[:1], ray_indices[-1:]])
    if bool(((ends < 0) | (ends >= n_rays)).any() | (ray_indices.diff() < 0).any()):
        raise ValueError(f"packed_samples: expected ray_indices in increasing order in 0 ... {n_rays - 1}")
    counts = torch.bincount(ray_indices, minlength=n_rays)
    n, none = counts.sum(), counts.new_zeros(())
    info = torch.stack([counts.cumsum(0) - counts, counts], dim=1)
    return PackedSamples(info, ray_indices, t_starts, t_ends, torch.stack([n, none, n]))


def composite_samples(rgb_sigma_fn: RgbSigmaFn, samples: PackedSamples, stop_transmittance: float = 1e-4) -> Composite:
    """Evaluates samples of rays and composites them over black; differentiable in what `rgb_sigma_fn` depends on."""
    t_starts, t_ends, packed_info = samples.t_starts, samples.t_ends, samples.packed_info
    rgbs, sigmas = rgb_sigma_fn(t_starts, t_ends, samples.ray_indices)
    return ops.composite(sigmas, rgbs, t_starts, t_ends, packed_info, early_stop_eps=stop_transmittance)


def composite_rays(
    field: Field, samples: PackedSamples, origins: Tensor, directions: Tensor, options: MarchOptions
) -> Composite:
    """composite_samples of a field, at the start of each interval."""
    _, rgb_sigma_fn = sample_functions(field, origins, directions, place=0)
    return composite_samples(rgb_sigma_fn, samples, options.stop_transmittance)


def composite_in_rounds(
    rgb_sigma_fn: RgbSigmaFn, samples: PackedSamples, stop_transmittance: float = 1e-4
) -> tuple[Tensor, Tensor, Tensor]:
    """rgb over black `[n, 3]`, sum of weight * distance and opacity `[n]`, without gradient.

    As composite_samples, but ROUND samples of each ray at a time, so that nothing is evaluated far behind a surface. A
    ray ends with the round in which its transmittance falls below `stop_transmittance`.
    """
    return _in_rounds(lambda part: composite_samples(rgb_sigma_fn, part, 0.0), samples, stop_transmittance)


def _in_rounds(
    composite: Callable[[PackedSamples], Composite], samples: PackedSamples, stop_transmittance: float
) -> tuple[Tensor, Tensor, Tensor]:
    """See composite_in_rounds; `composite` is asked for the samples of a round, which it may take to be all."""
    starts, counts = samples.packed_info.unbind(dim=1)
    sums = samples.t_starts.new_zeros(counts.shape[0], 5)  # rgb, depth, opacity
    alive = (counts > 0).nonzero()[:, 0]
    ahead, first = torch.arange(ROUND, device=counts.device), 0
    while len(alive):
        number = first + ahead
        exists = number < counts[alive, None]
        rows = (starts[alive, None] + number)[exists]
        taken = exists.sum(dim=1)
        part = samples._replace(
            packed_info=torch.stack([taken.cumsum(0) - taken, taken], dim=1), ray_indices=samples.ray_indices[rows],
            t_starts=samples.t_starts[rows], t_ends=samples.t_ends[rows],
        )  # fmt: skip
        found = composite(part)
        trans = 1 - sums[alive, 4]
        sums[alive] += trans[:, None] * torch.cat([found.rgb, found.depth[:, None], found.acc[:, None]], dim=1)
        first += ROUND
        alive = alive[(1 - sums[alive, 4] >= stop_transmittance) & (counts[alive] > first)]
    return sums[:, :3], sums[:, 3], sums[:, 4]


@torch.no_grad()
def render_normals(
    field: Field,
    samples: PackedSamples,
    origins: Tensor,
    directions: Tensor,
    options: MarchOptions,
) -> Tensor:
    """Normals `[n_rays, 3]`, as long as the rays are opaque: the direction of the mean of what is outward at samples.

    Zero where nothing is hit. What is outward is asked over a step, at least NORMAL_REACH; the mean is weighted as
    colours are. Samples of less than LEAST_WEIGHT in their round have no part in it: a direction costs four densities,
    and most samples are empty or hidden.
    """
    density = density_of(field)
    out_of = field.outward if hasattr(field, "outward") else partial(outward, density)

    def composite(part: PackedSamples) -> Composite:
        x, _ = sample_positions(part, origins, directions)
        sigmas, out, lengths = density(x), torch.zeros_like(x), part.t_ends - part.t_starts
        packed = part.t_starts, part.t_ends, part.packed_info
        weights = ops.composite(sigmas, out, *packed, early_stop_eps=0.0).weights
        seen = (weights > LEAST_WEIGHT).nonzero()[:, 0]
        out[seen] = out_of(x[seen], lengths[seen].clamp_min(NORMAL_REACH))
        return ops.composite(sigmas, out, *packed, early_stop_eps=0.0)

    out, _, acc = _in_rounds(composite, samples, options.stop_transmittance)
    return torch.nn.functional.normalize(out, dim=1) * acc[:, None]


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
