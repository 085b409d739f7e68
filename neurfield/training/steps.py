# SPDX-License-Identifier: Apache-2.0
"""One training step: composed of operators for any field, or fused where that is supported; the numbers agree."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from neurfield import losses, ops
from neurfield.fields.radiance_module import RadianceModule
from neurfield.rendering.volume import MarchOptions, composite_rays, march_rays
from neurfield.sampling.occupancy_grid import OccupancyGrid
from neurfield.training.guard import non_finite
from neurfield.training.method import MethodConfig
from neurfield.training.optimizer import Adam
from neurfield.training.task import StepResult


@dataclass(frozen=True)
class RayBatch:
    """Rays in unit space `[n_rays, 3]`, the target colours of pixels and what is behind them `[n_pixels, 3]`.

    A pixel is the mean of n_rays / n_pixels consecutive rays.
    """

    origins: Tensor
    directions: Tensor
    target: Tensor
    background: Tensor

    @property
    def n_rays(self) -> int:
        return self.origins.shape[0]

    @property
    def n_pixels(self) -> int:
        return self.target.shape[0]


RayStepFn = Callable[[RayBatch, float, int], StepResult]


def make_step(
    field: RadianceModule, grid: OccupancyGrid, optimizer: Adam, options: MarchOptions, method: MethodConfig, seed: int
) -> RayStepFn:
    """The fastest step that supports field and loss."""
    fused, loss = field.fused(), _fused_loss(method)
    if fused is not None and fused.can_train and loss is not None:
        return fused_step(fused, grid, optimizer, options, method, seed, loss)
    return composed_step(field, grid, optimizer, options, method, seed)


def make_density(field: RadianceModule) -> Callable[[Tensor], Tensor]:
    """sigma `[n]` of positions `[n, 3]` in unit space, the fastest way, not differentiable."""
    fused = field.fused()
    return (lambda x: field.density(x)[0]) if fused is None else (lambda x: ops.fused_density(fused, x))


def composed_step(
    field: RadianceModule, grid: OccupancyGrid, optimizer: Adam, options: MarchOptions, method: MethodConfig, seed: int
) -> RayStepFn:
    """A step that runs op by op under autograd; a loss that is not finite changes nothing.

    Regularisers are weighted means over the rays.
    """
    loss_fn = losses.create(method.loss.color)
    weights = {name: getattr(method.loss, name) for name in losses.REGULARIZERS}

    def step(batch: RayBatch, learning_rate: float, number: int) -> StepResult:
        samples = march_rays(grid, batch.origins, batch.directions, options, jitter=(seed, number))
        rays = composite_rays(field, samples, batch.origins, batch.directions, options)
        rgb, acc = (x.view(batch.n_pixels, -1, x[0].numel()).mean(1) for x in (rays.rgb, rays.acc))
        rgb = rgb + (1 - acc) * batch.background
        loss = loss_fn(rgb, batch.target).mean()
        for name, weight in weights.items():
            if weight > 0:
                loss = loss + weight * losses.REGULARIZERS[name](rays).mean()
        loss.backward()
        value = loss.item()
        # afterwards, when it is known what this batch has met: Adam makes a full step of any gradient, however small
        if method.loss.view_dependence > 0 and (penalty := field.view_dependence()) is not None:
            penalty = method.loss.view_dependence * penalty
            penalty.backward()
            value += penalty.item()
        if math.isfinite(value) and not non_finite(_gradients(field)):
            optimizer.step(learning_rate)
        else:
            field.zero_grad(set_to_none=True)
            value = math.nan
        squared_error = float((rgb.detach() - batch.target).square().mean())
        return StepResult(value, squared_error, batch.n_rays, samples.t_starts.shape[0])

    return step


def _gradients(field: RadianceModule) -> dict[str, Tensor]:
    return {name: param.grad for name, param in field.named_parameters() if param.grad is not None}


def fused_step(
    field: ops.FusedField,
    grid: OccupancyGrid,
    optimizer: Adam,
    options: MarchOptions,
    method: MethodConfig,
    seed: int,
    loss: ops.FusedLoss,
) -> RayStepFn:
    """A step in native code, tile by tile; a loss or gradient that is not finite changes nothing."""
    # rays are uneven, and their number follows the samples of the step before
    workspace = ops.FusedWorkspace(field, capacity=4 * method.training.n_samples, max_samples=options.max_samples)
    table, constants = optimizer.moments["encoding.params"], optimizer.config

    def step(batch: RayBatch, learning_rate: float, number: int) -> StepResult:
        march = options.fused((seed, number))
        report = ops.fused_gradients(
            workspace,
            grid.bitfield,
            grid.coarse,
            batch.origins,
            batch.directions,
            batch.target,
            batch.background,
            march,
            loss,
            samples_per_ray=method.training.n_samples / batch.n_rays,
        )
        if not report.is_finite:
            return StepResult(math.nan, report.squared_error, report.n_rays_used, report.n_samples)
        optimizer.step_count += 1
        optimizer.apply("density_network.params", workspace.grad_density, learning_rate)
        optimizer.apply("color_network.params", workspace.grad_color, learning_rate)
        ops.fused_table_adam(
            workspace,
            table.exp_avg,
            table.exp_avg_sq,
            table.steps,
            step=optimizer.step_count,
            learning_rate=learning_rate,
            beta1=constants.beta1,
            beta2=constants.beta2,
            epsilon=constants.epsilon,
        )
        return StepResult(report.loss, report.squared_error, report.n_rays_used, report.n_samples)

    return step


def _fused_loss(method: MethodConfig) -> ops.FusedLoss | None:
    """The loss in the form of the fused step, or None where that has no such loss."""
    loss = method.loss
    kinds = {"L2": None, "Huber": loss.color.get("alpha", 0.1)}
    if loss.color.get("otype") not in kinds:
        return None
    return ops.FusedLoss(kinds[loss.color["otype"]], loss.opacity_entropy, loss.distortion)
