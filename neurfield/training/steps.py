# SPDX-License-Identifier: Apache-2.0
"""Which step trains a field: fused where that is supported, else composed of operators; the numbers agree."""

import math

from neurfield import ops
from neurfield.data.scene import box
from neurfield.fields.radiance_module import RadianceModule
from neurfield.fields.surface import SurfaceField
from neurfield.rendering.volume import MarchOptions
from neurfield.sampling.occupancy_grid import OccupancyGrid
from neurfield.training.composed_step import RayBatch, RayStepFn, capacity_step, composed_step
from neurfield.training.estimators import RayEstimator
from neurfield.training.hierarchical_step import hierarchical_step
from neurfield.training.method import MethodConfig
from neurfield.training.optimizer import Adam
from neurfield.training.sampler import SamplerConfig
from neurfield.training.shape_step import ShapeStep
from neurfield.training.task import StepResult


def make_step(
    field: RadianceModule,
    grid: OccupancyGrid,
    optimizer: Adam,
    options: MarchOptions,
    method: MethodConfig,
    seed: int,
    estimator: RayEstimator | None = None,
) -> RayStepFn:
    """The fastest step that supports field and loss; on CUDA the one that drops rays beyond a capacity.

    A field with a coarse one has its samples drawn by that, and not by the grid; so has one with an estimator.
    """
    if estimator is not None:
        return composed_step(field, grid, optimizer, options, method, seed, estimator)
    coarse = field.companion()
    if coarse is not None:
        sampler = method.sampler
        assert isinstance(sampler, SamplerConfig)
        return hierarchical_step(field, coarse, optimizer, method, sampler, seed, box(grid.aabb_scale))
    if grid.bitfield.is_cuda:
        return capacity_step(field, grid, optimizer, options, method, seed)
    fused, loss = field.fused(), _fused_loss(method)
    if fused is not None and loss is not None:
        return fused_step(fused, grid, optimizer, options, method, seed, loss, field)
    assert not isinstance(field, SurfaceField), "only the fused step has its shape loss"
    return composed_step(field, grid, optimizer, options, method, seed)


def fused_step(
    field: ops.FusedField,
    grid: OccupancyGrid,
    optimizer: Adam,
    options: MarchOptions,
    method: MethodConfig,
    seed: int,
    loss: ops.FusedLoss,
    module: RadianceModule,
) -> RayStepFn:
    """A step in native code, tile by tile; a loss or gradient that is not finite changes nothing.

    `module` is what `field` is of; its shape loss, if it has one, is added.
    """
    # rays are uneven, and their number follows the samples of the step before
    capacity = 4 * method.training.n_samples + module.extra_rows
    workspace = ops.FusedWorkspace(field, capacity, options.max_samples)
    shape = ShapeStep(module, workspace, seed) if isinstance(module, SurfaceField) else None
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
            distances=batch.distances,
        )
        value = report.loss if report.is_finite else math.nan
        if shape is not None and report.is_finite:
            value += shape.add(number)
        if not math.isfinite(value):
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
        return StepResult(value, report.squared_error, report.n_rays_used, report.n_samples)

    return step


def why_no_shape_loss(field: RadianceModule, method: MethodConfig, device: str) -> str | None:
    """Why a field with a shape loss cannot be trained: the fused step alone adds it; None if it can."""
    if device != "cpu":
        return "is trained on the CPU only: use --device cpu"
    if not isinstance(method.sampler, SamplerConfig):
        return f"is trained with sampler grid, not {method.sampler.otype}"
    if _fused_loss(method) is None:
        return f"is trained with the colour losses L2 and Huber, not {method.loss.color['otype']}"
    reason = ops.fused_reason(field)
    return None if reason is None else f"is trained by the fused step, which does not take it: {reason}"


def _fused_loss(method: MethodConfig) -> ops.FusedLoss | None:
    """The loss in the form of the fused step, or None where that has no such loss."""
    loss = method.loss
    kinds = {"L2": None, "Huber": loss.color.get("alpha", 0.1)}
    if loss.color.get("otype") not in kinds:
        return None
    return ops.FusedLoss(kinds[loss.color["otype"]], loss.opacity_entropy, loss.distortion)
