# SPDX-License-Identifier: Apache-2.0
"""One training step of a signal's field: by autograd, or with the grid's gradient and update in one native pass.

The step by autograd is one function of tensors that waits for no device; on CUDA, where all fields take it, its numbers
are read two steps later. The native pass is for grids on the CPU. Both make the same of a grid.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from neurfield import losses, ops
from neurfield.encodings import Grid
from neurfield.fields.signal_field import SignalField
from neurfield.losses import Loss
from neurfield.training.device import why_not_graph
from neurfield.training.graph import Delayed, learner
from neurfield.training.guard import non_finite
from neurfield.training.optimizer import Adam, copied, step_if_finite
from neurfield.training.task import StepFn, StepResult

POOL_STEP = (1 << 32) - 1  # of random numbers that are drawn before the first step, as that of no step
BatchFn = Callable[[int], tuple[Tensor, Tensor]]  # step -> positions [n, d], targets [n, c], where the field lies


def make_step(
    field: SignalField, optimizer: Adam, loss: Mapping[str, Any], batch: BatchFn, has_psnr: bool = True
) -> StepFn:
    """The fastest step for the field; a loss or gradient that is not finite changes nothing.

    Args:
        loss: block of the loss registry.
        has_psnr: values are in 0 ... 1, so that their squared error is worth reporting.
    """
    make = _grid_step if isinstance(field.encoding, Grid) and field.device.type == "cpu" else _composed_step
    return make(field, optimizer, losses.create(loss), batch, has_psnr)


def _composed_step(field: SignalField, optimizer: Adam, loss_fn: Loss, batch: BatchFn, has_psnr: bool) -> StepFn:
    """By autograd. On CUDA a graph, unless the encoding opens by the losses, for which the host chooses the blocks."""
    is_cuda, wants_losses = field.device.type == "cuda", field.encoding.wants_losses
    learn = _learning(field, optimizer, loss_fn, has_psnr)
    run = learner(learn, list(field.parameters()), is_cuda and not wants_losses and why_not_graph() is None)
    late = Delayed() if is_cuda else None

    def step(number: int, learning_rate: float, progress: float) -> StepResult:
        x, target = batch(number)
        rate = torch.full((), learning_rate, dtype=torch.float64, device=x.device)
        numbers = run(x, target, rate, progress) if wants_losses else run(x, target, rate)
        value, error = late.exchange(numbers) if late else numbers.tolist()
        return StepResult(value, error, 0, len(x))

    return step


def _learning(field: SignalField, optimizer: Adam, loss_fn: Loss, has_psnr: bool) -> Callable[..., Tensor]:
    """What a step does with positions, targets and the learning rate (float64 `[]`); capturable in a CUDA graph.

    Gives float64 `[2]`: the loss, NaN where nothing was changed, and the squared error. An encoding that wants losses
    gets them where the progress, a number, is given as well.
    """

    def learn(x: Tensor, target: Tensor, learning_rate: Tensor, progress: float | None = None) -> Tensor:
        y = field(x)
        terms = loss_fn(y, target)
        value = terms.mean()
        value.backward()
        value = step_if_finite(optimizer, field.parameters(), value.detach(), learning_rate)
        if progress is not None:
            field.encoding.after_step(x, terms.detach().mean(dim=1), progress)
        error = (y.detach() - target).square().mean() if has_psnr else torch.full_like(value, math.nan)
        return torch.stack([value, error]).double()

    return learn


def _grid_step(field: SignalField, optimizer: Adam, loss_fn: Loss, batch: BatchFn, has_psnr: bool) -> StepFn:
    update, parameters = _grid_update(field, optimizer), dict(field.network.named_parameters(prefix="network"))

    def step(number: int, learning_rate: float, progress: float) -> StepResult:
        x, target = batch(number)
        with torch.no_grad():
            features = field.encoding(x)
        features.requires_grad_(True)
        y = field.decode(features, x)
        value = loss_fn(y, target).mean()
        grad_features, *grads = torch.autograd.grad(value, (features, *parameters.values()))
        by_name, loss = dict(zip(parameters, grads, strict=True)), float(value.detach())
        error = float((y.detach() - target).square().mean()) if has_psnr else math.nan
        if not math.isfinite(loss) or non_finite({"features": grad_features, **by_name}):
            return StepResult(math.nan, error, 0, len(x))
        optimizer.step_count += 1
        for name, grad in by_name.items():
            optimizer.apply(name, grad, learning_rate)
        update(x, grad_features, learning_rate)
        return StepResult(loss, error, 0, len(x))

    return step


def _grid_update(field: SignalField, optimizer: Adam) -> Callable[[Tensor, Tensor, float], None]:
    """Adam on the table from the gradient of its features, level by level."""
    grid, moments, constants = field.encoding.config, optimizer.moments["encoding.params"], optimizer.config
    largest = max(level.n_entries for level in grid.levels()) * grid.n_features_per_level
    scratch = torch.zeros(torch.get_num_threads(), largest)

    def update(x: Tensor, grad_features: Tensor, learning_rate: float) -> None:
        with copied(moments.param) as copy:
            ops.hash_grid_adam_step(
                x, grad_features, moments.param.detach(), moments.exp_avg, moments.exp_avg_sq, scratch, grid,
                step=optimizer.step_count, learning_rate=learning_rate, beta1=constants.beta1, beta2=constants.beta2,
                epsilon=constants.epsilon, steps=moments.steps, copy=copy,
            )  # fmt: skip

    return update
