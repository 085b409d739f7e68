# SPDX-License-Identifier: Apache-2.0
"""One training step op by op under autograd, for any field: march, evaluate, composite, compare, Adam.

What follows the march is one function of tensors that waits for no device. `composed_step` marches as many samples as
there are and waits for the numbers of every step. `capacity_step` has buffers of fixed size and takes as many of the
rays as fit; it is what CUDA runs, where its function of tensors is replayed as a graph.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from neurfield import losses, ops
from neurfield.fields.conditions import Conditions
from neurfield.fields.radiance_module import Conditioned, RadianceModule
from neurfield.ops import Composite, PackedSamples
from neurfield.rendering.volume import (
    MarchOptions,
    composite_rays,
    march_rays,
    march_visible,
    sample_positions,
)
from neurfield.sampling.occupancy_grid import OccupancyGrid
from neurfield.training.density import density_along
from neurfield.training.estimators import MARGIN, RayEstimator
from neurfield.training.graph import Delayed, learner
from neurfield.training.method import LossConfig, MethodConfig
from neurfield.training.optimizer import Adam, step_if_finite
from neurfield.training.task import StepResult


@dataclass(frozen=True)
class RayBatch:
    """Rays in unit space `[n_rays, 3]`, the target colours of pixels and what is behind them `[n_pixels, 3]`.

    A pixel is the mean of n_rays / n_pixels consecutive rays. `conditions` are those that the field needs, a row for
    each ray. `distances` `[n_rays, 2]` are of what each ray hits, with the weight of the depth error (losses.depth) in
    the loss, 0 where the distance is not known; None: it is of none.
    """

    origins: Tensor
    directions: Tensor
    target: Tensor
    background: Tensor
    conditions: Conditions = dataclasses.field(default_factory=Conditions)
    distances: Tensor | None = None

    @property
    def n_rays(self) -> int:
        return self.origins.shape[0]

    @property
    def n_pixels(self) -> int:
        return self.target.shape[0]


RayStepFn = Callable[[RayBatch, float, int], StepResult]
_MARCHED = 8  # samples that there is room for at most before those behind surfaces are left out, for each afterwards
_SPARE = 1.25


def composed_step(
    field: RadianceModule,
    grid: OccupancyGrid,
    optimizer: Adam,
    options: MarchOptions,
    method: MethodConfig,
    seed: int,
    estimator: RayEstimator | None = None,
) -> RayStepFn:
    """A step on all rays of a batch; a loss or gradient that is not finite changes nothing.

    Samples behind surfaces, which teach nothing, are found by a quick density and left out. With an `estimator`, that
    draws the samples.
    """
    learn, density, fused = _learning(field, optimizer, options, method), density_along(field), field.fused_visible()
    quick = dataclasses.replace(options, stop_transmittance=options.stop_transmittance * MARGIN)

    def step(batch: RayBatch, learning_rate: float, number: int) -> StepResult:
        rays, jitter = (batch.origins, batch.directions), (seed, number)
        if estimator is not None:
            samples = estimator.samples(*rays, density(batch.conditions), number, learning_rate)
        elif fused is None:
            samples = march_visible(grid, *rays, options, density(batch.conditions), quick.stop_transmittance, jitter)
        else:
            samples = fused(grid.bitfield, grid.coarse, *rays, quick.fused(jitter), None)
        rate = torch.full((), learning_rate, dtype=torch.float64, device=batch.origins.device)
        return _result(learn(batch, samples, rate).tolist())

    return step


def capacity_step(
    field: RadianceModule, grid: OccupancyGrid, optimizer: Adam, options: MarchOptions, method: MethodConfig, seed: int
) -> RayStepFn:
    """The same on the leading pixels whose samples fit into `training.n_samples`, without waiting for the device.

    Results arrive two steps late. Drawing rays and samples, whose random numbers change with every step, is launched as
    it is; on CUDA the rest, from the field to Adam, is a graph for each shape of batch. No more rays are marched than
    should fill the room, see _Reach; those behind have no samples and do not count.
    """
    learn, parameters = _learning(field, optimizer, options, method), list(field.parameters())
    # the first pixel always fits, so there is always something to learn
    capacity = max(method.training.n_samples, method.sampler.rays_per_pixel * options.max_samples)
    density, fused, late, reach = density_along(field), field.fused_visible(), Delayed(), _Reach(capacity)
    quick = dataclasses.replace(options, stop_transmittance=options.stop_transmittance * MARGIN)

    def draw(batch: RayBatch, n_rays: int, jitter: tuple[int, int]) -> PackedSamples:
        rays = batch.origins[:n_rays], batch.directions[:n_rays]
        if fused is not None:
            return fused(grid.bitfield, grid.coarse, *rays, quick.fused(jitter), capacity)
        marched = march_rays(grid, *rays, options, jitter, reach.rows(n_rays))
        with torch.no_grad():
            positions, _ = sample_positions(marched, *rays)
            sigmas = density(batch.conditions)(positions, marched.ray_indices)
        return ops.visible_samples(marched, sigmas, quick.stop_transmittance, capacity)

    def learn_flat(*tensors: Tensor) -> Tensor:
        origins, directions, target, background, *samples, rate = tensors[:10]
        needed, rest = tensors[10 : 10 + len(field.needs)], tensors[10 + len(field.needs) :]
        conditions = Conditions(**dict(zip(field.needs, needed, strict=True)))
        rays = RayBatch(origins, directions, target, background, conditions, *rest)
        return learn(rays, PackedSamples(*samples), rate)

    run = learner(learn_flat, parameters, parameters[0].is_cuda)

    def step(batch: RayBatch, learning_rate: float, number: int) -> StepResult:
        n_rays = reach.rays(batch)
        samples = draw(batch, n_rays, (seed, number))
        marched_per_ray = samples.counts[2:].double() / n_rays
        samples = _with_rays_behind(samples, batch.n_rays - n_rays)
        rate = torch.full((), learning_rate, dtype=torch.float64, device=batch.origins.device)
        more = [getattr(batch.conditions, name) for name in field.needs]
        more += [] if batch.distances is None else [batch.distances]
        numbers = run(batch.origins, batch.directions, batch.target, batch.background, *samples, rate, *more)
        *said, per_ray = late.exchange(torch.cat([numbers, marched_per_ray]))
        result = _result(said)
        reach.follow(result, per_ray)
        return result

    return step


class _Reach:
    """How many of a batch's rays are marched, and rows for their samples: what the last known step says would fill the
    capacity, and a quarter more. All there is before that step is known.

    Which rays take part is the same as if all were marched, unless a step finds much less on its rays than that one.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity, self._n_rays, self._per_ray = capacity, math.inf, math.inf

    def rays(self, batch: RayBatch) -> int:
        """Those of whole pixels."""
        per_pixel = batch.n_rays // batch.n_pixels
        return min(batch.n_rays, -(-_rounded(min(self._n_rays, batch.n_rays)) // per_pixel) * per_pixel)

    def rows(self, n_rays: int) -> int:
        return max(self._capacity, _rounded(min(_SPARE * self._per_ray * n_rays, _MARCHED * self._capacity)))

    def follow(self, result: StepResult, marched_per_ray: float) -> None:
        self._n_rays = _SPARE * result.n_rays * self._capacity / max(result.n_samples, 1)
        self._per_ray = marched_per_ray


def _rounded(n: float) -> int:
    """Up, to one of eight numbers in an octave: blocks of memory are used again where their sizes are."""
    unit = 1 << max(math.frexp(n)[1] - 4, 0)
    return math.ceil(n / unit) * unit


def _with_rays_behind(samples: PackedSamples, n_rays: int) -> PackedSamples:
    """The same with so many more rays that were not marched: without samples, and counted as dropped."""
    if not n_rays:
        return samples
    n_samples, n_dropped, n_wanted = samples.counts.unbind()
    return samples._replace(
        packed_info=torch.nn.functional.pad(samples.packed_info, (0, 0, 0, n_rays)),
        counts=torch.stack([n_samples, n_dropped + n_rays, n_wanted]),
    )


def _result(numbers: list[float]) -> StepResult:
    loss, squared_error, n_rays, n_samples = numbers
    return StepResult(loss, squared_error, int(n_rays), int(n_samples))


def _learning(
    field: RadianceModule, optimizer: Adam, options: MarchOptions, method: MethodConfig
) -> Callable[[RayBatch, PackedSamples, Tensor], Tensor]:
    """What a step does with a batch, its samples and the learning rate (float64 `[]`); capturable in a CUDA graph.

    Gives float64 `[4]`: the loss, NaN where nothing was changed; the squared error; rays and samples that took part.
    Regularisers are weighted means over the rays.
    """
    loss_fn, regularizers = loss_terms(method.loss)

    def learn(batch: RayBatch, samples: PackedSamples, learning_rate: Tensor) -> Tensor:
        n_pixels = _whole_pixels(batch, samples)
        n_rays = n_pixels * (batch.n_rays // batch.n_pixels)
        seen = Conditioned(field, batch.conditions.of_rays(samples.ray_indices)) if field.needs else field
        rays = composite_rays(seen, samples, batch.origins, batch.directions, options)
        rgb, acc = rays.rgb, rays.acc[:, None]
        if batch.n_rays > batch.n_pixels:
            rgb, acc = (x.unflatten(0, (batch.n_pixels, -1)).mean(1) for x in (rgb, acc))
        rgb = rgb + (1 - acc) * batch.background
        loss = _mean(loss_fn(rgb, batch.target), n_pixels)
        for term, weight in regularizers:
            loss = loss + weight * _mean(term(rays), n_rays)
        if batch.distances is not None:
            loss = loss + _depth_error(rays, samples, batch.distances, n_rays)
        value = descend(loss, field, optimizer, method.loss.view_dependence, learning_rate)
        squared_error = _mean((rgb.detach() - batch.target).square(), n_pixels)
        return torch.stack([x.double() for x in (value, squared_error, n_rays, samples.counts[0])])

    return learn


def loss_terms(config: LossConfig) -> tuple[losses.Loss, list[tuple[Callable[[Composite], Tensor], float]]]:
    """The loss of colours, and the regularisers that have a weight, with it."""
    weights = {name: getattr(config, name) for name in losses.REGULARIZERS}
    terms = [(losses.REGULARIZERS[name], weight) for name, weight in weights.items() if weight > 0]
    return losses.create(config.color), terms


def descend(
    loss: Tensor, field: RadianceModule, optimizer: Adam, view_dependence: float, learning_rate: Tensor
) -> Tensor:
    """Backward and Adam; gives the loss with its penalty, NaN where it or a gradient was not finite: nothing changed.

    Waits for no device.
    """
    loss.backward()
    value = loss.detach()
    # afterwards, when it is known what this batch has met: Adam makes a full step of any gradient, however small
    if view_dependence > 0:
        penalty = field.penalise_view_dependence(view_dependence)
        value = value if penalty is None else value + penalty
    return step_if_finite(optimizer, field.parameters(), value, learning_rate)


def _whole_pixels(batch: RayBatch, samples: PackedSamples) -> Tensor:
    """int64 `[]`: how many of the leading pixels count, all unless the march has dropped rays.

    Then those up to the last ray with samples; the first pixel must have found room.
    """
    n_samples, n_dropped, _ = samples.counts.unbind()
    if not samples.ray_indices.shape[0]:
        return torch.full_like(n_samples, batch.n_pixels)
    last = samples.ray_indices.index_select(0, (n_samples - 1).clamp_min(0).view(1))[0]
    leading = ((last + 1) // (batch.n_rays // batch.n_pixels)).clamp_min(1)
    return torch.where(n_dropped > 0, leading, torch.full_like(leading, batch.n_pixels))


def _depth_error(rays: Composite, samples: PackedSamples, distances: Tensor, n_rays: Tensor) -> Tensor:
    """Weighted sum of losses.depth's over the first `n_rays` (int64 `[]`), as large as if it were over the batch.

    A sum over samples, not over rays first: such sums would have no order on CUDA.
    """
    distance, weight = distances.unbind(1)
    weight = weight.where(torch.arange(len(weight), device=weight.device) < n_rays, 0)
    agreed = losses.depth_agreement(samples.t_starts, distance[samples.ray_indices]) * weight[samples.ray_indices]
    return (weight.sum() - (rays.weights * agreed).sum()) * (len(weight) / n_rays)


def _mean(values: Tensor, n: Tensor) -> Tensor:
    """Mean of all values in the first `n` (int64 `[]`) rows."""
    rows = values.view(values.shape[0], -1)
    behind = torch.arange(rows.shape[0], device=rows.device) >= n
    return rows.masked_fill(behind[:, None], 0).sum() / (n * rows.shape[1])
