# SPDX-License-Identifier: Apache-2.0
"""Adam in one pass over memory, in place (csrc/math/adam.h)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from neurfield.ops._common import DEVICES, check_tensor, contiguous, native
from neurfield.ops._operator import operator
from neurfield.ops.hash_grid import GridConfig, hash_grid_backward_params


@torch.no_grad()
def adam_step(
    params: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    *,
    step: int,
    learning_rate: float,
    beta1: float = 0.9,
    beta2: float = 0.99,
    epsilon: float = 1e-15,
    l2_reg: float = 0.0,
    skip_zero: bool = False,
    steps: Tensor | None = None,
    copy: Tensor | None = None,
) -> None:
    """Updates parameters and moments in place, as tiny-cuda-nn does.

    `g += l2_reg * w; m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;`
    `w -= learning_rate sqrt(1 - beta2^k) / (1 - beta1^k) * m / (sqrt(v) + epsilon)` (Kingma and Ba 2015).

    Args:
        params: float32 or float64 `[n]`. All tensors that change must be contiguous.
        grad: `[n]`. A NaN reaches the parameter: check the loss before.
        exp_avg, exp_avg_sq: moments `[n]`, zero before the first step.
        step: number of this step, from 1; k for all parameters unless `steps` is given.
        epsilon: the default is tiny because gradients of table entries are: a usual one freezes them.
        l2_reg: for matrices of networks only; it destroys tables.
        skip_zero: leave a parameter, its moments and its count alone where its gradient is exactly zero. Tables need
            it: most entries are untouched in a step, and their decaying moments would move them.
        steps: int16 `[n]`, k - 1 of every parameter, zero at first; counts up to 32767, in place. Without it an entry
            that is first seen late takes up to twice too large steps in its first tens of updates.
        copy: float16 `[n]` that receives the new parameters, rounded.

    Raises:
        TypeError, ValueError: wrong dtype, shape, device, layout or rate.
    """
    op = "adam_step"
    check_tensor(op, "params", params, ("n",))
    _check_moments(op, params, grad, exp_avg, exp_avg_sq)
    _check_state(op, params, exp_avg, exp_avg_sq, steps, copy)
    rates = _rates(op, step, learning_rate, beta1, beta2, epsilon, l2_reg)
    _step(params, grad, exp_avg, exp_avg_sq, steps, copy, rates, step, skip_zero)


@torch.no_grad()
def adam_step_by_clock(
    clock: Tensor,
    params: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    *,
    beta1: float = 0.9,
    beta2: float = 0.99,
    epsilon: float = 1e-15,
    l2_reg: float = 0.0,
    skip_zero: bool = False,
    steps: Tensor | None = None,
    copy: Tensor | None = None,
) -> None:
    """`adam_step` whose step and learning rate lie on the device: nothing waits for them, and a graph can be replayed.

    Args:
        clock: float64 `[2]`: the number of this step, and the learning rate, at least 0. Where the number is below 1,
            nothing changes: the way to leave a step out that only the device knows to be bad.

    The others, and what it raises, are those of adam_step. On CUDA the rate of a step is computed in the precision of
    the parameters, 8 roundings from that of adam_step.
    """
    op = "adam_step_by_clock"
    check_tensor(op, "params", params, ("n",))
    check_tensor(op, "clock", clock, (2,), (torch.float64,), params.device)
    _check_moments(op, params, grad, exp_avg, exp_avg_sq)
    _check_state(op, params, exp_avg, exp_avg_sq, steps, copy)
    rates = _rates(op, 1, 0.0, beta1, beta2, epsilon, l2_reg)  # step and rate are the clock's
    _step(params, grad, exp_avg, exp_avg_sq, steps, copy, rates, 1, skip_zero, clock)


@torch.no_grad()
def hash_grid_adam_step(
    x: Tensor,
    grad_y: Tensor,
    params: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    grad_scratch: Tensor,
    config: GridConfig,
    *,
    step: int,
    learning_rate: float,
    beta1: float = 0.9,
    beta2: float = 0.99,
    epsilon: float = 1e-15,
    steps: Tensor | None = None,
    copy: Tensor | None = None,
) -> None:
    """The gradient of the table of `ops.hash_grid` and `adam_step` with `skip_zero` in one, level by level.

    Saves writing and reading a gradient of the table's size. Same numbers as the two operators.

    Args:
        x, grad_y: float32 `[n, n_input_dims]`, `[n, n_output_dims]`: positions, gradient of their features.
        params, exp_avg, exp_avg_sq, steps, copy: `[config.n_params]`, see adam_step.
        grad_scratch: float32 `[at least torch.get_num_threads(), values of the largest level]`, zero; left zero. Not
            used on CUDA, where it may have no rows.

    Raises:
        TypeError, ValueError: wrong dtype, shape, device, layout or rate.
    """
    op, single = "hash_grid_adam_step", (torch.float32,)
    check_tensor(op, "x", x, ("n", config.n_input_dims), single)
    check_tensor(op, "grad_y", grad_y, (x.shape[0], config.n_output_dims), single, x.device)
    for name, tensor in (("params", params), ("exp_avg", exp_avg), ("exp_avg_sq", exp_avg_sq)):
        check_tensor(op, name, tensor, (config.n_params,), single, x.device)
    largest = max(level.n_entries for level in config.levels()) * config.n_features_per_level
    check_tensor(op, "grad_scratch", grad_scratch, ("n_threads", largest), single, x.device)
    if not x.is_cuda and grad_scratch.shape[0] < torch.get_num_threads():
        raise ValueError(f"{op}: grad_scratch must have {torch.get_num_threads()} rows, got {grad_scratch.shape[0]}")
    _check_state(op, params, exp_avg, exp_avg_sq, steps, copy, grad_scratch)
    rates = _rates(op, step, learning_rate, beta1, beta2, epsilon, 0.0)
    _grid_step(
        x, grad_y, params, exp_avg, exp_avg_sq, steps, copy, grad_scratch, config.layout, config.per_level_scale,
        rates, step,
    )  # fmt: skip


def _check_moments(op: str, params: Tensor, grad: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor) -> None:
    size, dtype = (params.shape[0],), (params.dtype,)
    for name, tensor in (("grad", grad), ("exp_avg", exp_avg), ("exp_avg_sq", exp_avg_sq)):
        check_tensor(op, name, tensor, size, dtype, params.device)


def _check_state(
    op: str,
    params: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    steps: Tensor | None,
    copy: Tensor | None,
    grad_scratch: Tensor | None = None,
) -> None:
    if steps is not None:
        check_tensor(op, "steps", steps, params.shape, (torch.int16,), params.device)
    if copy is not None:
        check_tensor(op, "copy", copy, params.shape, (torch.float16,), params.device)
    changed = {"params": params, "exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq, "steps": steps, "copy": copy}
    for name, tensor in {**changed, "grad_scratch": grad_scratch}.items():
        if tensor is not None and not tensor.is_contiguous():
            raise ValueError(f"{op}: {name} changes in place and must be contiguous, got strides {tensor.stride()}")


def _rates(
    op: str, step: int, learning_rate: float, beta1: float, beta2: float, epsilon: float, l2_reg: float
) -> list[float]:
    """In the order of the native core, checked."""
    if step < 1:
        raise ValueError(f"{op}: step must be at least 1, got {step}")
    for name, value in (("learning_rate", learning_rate), ("epsilon", epsilon), ("l2_reg", l2_reg)):
        if not value >= 0:
            raise ValueError(f"{op}: {name} must be at least 0, got {value}")
    for name, value in (("beta1", beta1), ("beta2", beta2)):
        if not 0 <= value < 1:
            raise ValueError(f"{op}: {name} must be in [0, 1), got {value}")
    return [learning_rate, beta1, beta2, epsilon, l2_reg]


def _bits(copy: Tensor | None) -> Tensor | None:
    return None if copy is None else copy.view(torch.int16)


@operator("adam_step", mutates=("params", "exp_avg", "exp_avg_sq", "steps", "copy"), devices=DEVICES)
def _step(
    params: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    steps: Tensor | None,
    copy: Tensor | None,
    rates: Sequence[float],
    step: int,
    skip_zero: bool,
    clock: Tensor | None = None,
) -> None:
    lib = native(params)
    lib.adam_step(
        params.detach(), grad.detach().contiguous(), exp_avg, exp_avg_sq, steps, _bits(copy), list(rates), step,
        skip_zero, contiguous(clock),
    )  # fmt: skip


@_step.register_fake
def _(params, grad, exp_avg, exp_avg_sq, steps, copy, rates, step, skip_zero, clock=None):
    return None


@operator(
    "hash_grid_adam_step", mutates=("params", "exp_avg", "exp_avg_sq", "steps", "copy", "grad_scratch"), devices=DEVICES
)
def _grid_step(
    x: Tensor,
    grad_y: Tensor,
    params: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    steps: Tensor | None,
    copy: Tensor | None,
    grad_scratch: Tensor,
    layout: Sequence[int],
    per_level_scale: float,
    rates: Sequence[float],
    step: int,
) -> None:
    if x.is_cuda:  # a table in the cache of one core has no counterpart: the two operators
        grad = hash_grid_backward_params(x, grad_y, None, layout, per_level_scale)
        _step(params, grad, exp_avg, exp_avg_sq, steps, copy, rates, step, True)
        return
    lib = native(x)
    lib.hash_grid_backward_adam(
        list(layout), per_level_scale, x.detach().contiguous(), grad_y.detach().contiguous(), params.detach(),
        exp_avg, exp_avg_sq, steps, _bits(copy), grad_scratch, list(rates), step,
    )  # fmt: skip


@_grid_step.register_fake
def _(*args):
    return None
