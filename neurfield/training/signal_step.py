# SPDX-License-Identifier: Apache-2.0
"""One training step of a signal's field: by autograd, or with the grid's gradient and update in one native pass."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from neurfield import losses, ops
from neurfield.encodings import Grid
from neurfield.fields.signal_field import SignalField
from neurfield.training.guard import non_finite
from neurfield.training.optimizer import Adam
from neurfield.training.task import StepFn, StepResult

POOL_STEP = (1 << 32) - 1  # of random numbers that are drawn before the first step: no step has it
BatchFn = Callable[[int], tuple[Tensor, Tensor]]  # step -> positions [n, d], targets [n, c]


def step_generator(seed: int, step: int) -> torch.Generator:
    """Random numbers that are a function of seed and step alone."""
    return torch.Generator().manual_seed((seed << 32 ^ step) & (2**63 - 1))


def make_step(
    field: SignalField, optimizer: Adam, loss: Mapping[str, Any], batch: BatchFn, has_psnr: bool = True
) -> StepFn:
    """The fastest step for the field; a loss or gradient that is not finite changes nothing.

    Args:
        loss: block of the loss registry.
        has_psnr: values are in 0 ... 1, so that their squared error is worth reporting.
    """
    loss_fn = losses.create(loss)

    def outcome(value: Tensor, y: Tensor, target: Tensor) -> StepResult:
        error = float((y.detach() - target).square().mean()) if has_psnr else math.nan
        return StepResult(float(value), error, 0, y.shape[0])

    def composed(number: int, learning_rate: float, progress: float) -> StepResult:
        x, target = batch(number)
        y = field(x)
        losses_of_samples = loss_fn(y, target).mean(dim=1)
        value = losses_of_samples.mean()
        value.backward()
        result = outcome(value.detach(), y, target)
        grads = {name: p.grad for name, p in field.named_parameters() if p.grad is not None}
        if not math.isfinite(result.loss) or non_finite(grads):
            field.zero_grad(set_to_none=True)
            return _left_out(result)
        optimizer.step(learning_rate)
        field.encoding.after_step(x, losses_of_samples.detach(), progress)
        return result

    if not isinstance(field.encoding, Grid):
        return composed
    update, parameters = _grid_update(field, optimizer), dict(field.network.named_parameters(prefix="network"))

    def with_grid(number: int, learning_rate: float, progress: float) -> StepResult:
        x, target = batch(number)
        with torch.no_grad():
            features = field.features(x)
        features.requires_grad_(True)
        y = field.decode(features, x)
        value = loss_fn(y, target).mean()
        grad_features, *grads = torch.autograd.grad(value, (features, *parameters.values()))
        by_name = dict(zip(parameters, grads, strict=True))
        result = outcome(value.detach(), y, target)
        if not math.isfinite(result.loss) or non_finite({"features": grad_features, **by_name}):
            return _left_out(result)
        optimizer.step_count += 1
        for name, grad in by_name.items():
            optimizer.apply(name, grad, learning_rate)
        update(x, grad_features, learning_rate)
        return result

    return with_grid


def _left_out(result: StepResult) -> StepResult:
    return StepResult(math.nan, result.squared_error, 0, result.n_samples)


def _grid_update(field: SignalField, optimizer: Adam) -> Callable[[Tensor, Tensor, float], None]:
    """Adam on the table from the gradient of its features, level by level."""
    grid, moments, constants = field.encoding.config, optimizer.moments["encoding.params"], optimizer.config
    largest = max(level.n_entries for level in grid.levels()) * grid.n_features_per_level
    scratch = torch.zeros(torch.get_num_threads(), largest)

    def update(x: Tensor, grad_features: Tensor, learning_rate: float) -> None:
        ops.hash_grid_adam_step(
            x, grad_features, moments.param.detach(), moments.exp_avg, moments.exp_avg_sq, scratch, grid,
            step=optimizer.step_count, learning_rate=learning_rate, beta1=constants.beta1, beta2=constants.beta2,
            epsilon=constants.epsilon, steps=moments.steps, copy=field.half_table,
        )  # fmt: skip

    return update
