# SPDX-License-Identifier: Apache-2.0
"""Adam over a field's parameters as in instant-ngp: tables skip untouched entries, matrices are regularised."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from neurfield import ops
from neurfield.networks import Modulation
from neurfield.training.method import OptimizerConfig


@dataclass(frozen=True)
class Moments:
    """State of one parameter.

    Attributes:
        param: the master values, changed in place.
        exp_avg, exp_avg_sq: first and second moment, same shape.
        steps: int16 updates of each value, for a table that counts them; None: all have seen every step.
        skip_zero: of a table, whose untouched entries wait.
        l2_reg: weight of the L2 regularisation.
        rate: times the learning rate of the step.
    """

    param: nn.Parameter
    exp_avg: Tensor
    exp_avg_sq: Tensor
    steps: Tensor | None
    skip_zero: bool
    l2_reg: float
    rate: float


def _arrays(m: Moments, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Flat parameters, gradient and moments."""
    return m.param.detach().view(-1), grad.reshape(-1), m.exp_avg.view(-1), m.exp_avg_sq.view(-1)


@contextmanager
def copied(param: nn.Parameter) -> Iterator[Tensor | None]:
    """The float16 copy of a table that Adam is to write as well, if somebody reads one."""
    copy = ops.current_half_copy(param)
    yield copy
    if copy is not None:
        ops.mark_half_copy_current(param)


def step_if_finite(
    optimizer: "Adam", parameters: Iterable[nn.Parameter], value: Tensor, learning_rate: Tensor
) -> Tensor:
    """`step_if` the loss `value` (`[]`) and all gradients are finite; gives the value, NaN where they are not."""
    # a sum is finite exactly when all terms are, unless it overflows, which is as bad
    sums = [param.grad.sum() for param in parameters if param.grad is not None]
    is_finite = torch.stack([value, *sums]).isfinite().all()
    optimizer.step_if(is_finite, learning_rate)
    return value.masked_fill(~is_finite, math.nan)


class Adam:
    """Holds moments of every parameter of a field.

    Args:
        field: the parameters that its `sparse_parameters` name are tables: entries without gradient keep value, moments
            and step count, and are not regularised. Entries of `skipping_parameters` do the same, but take the
            optimiser's step for their own.
        config: rates and constants.
    """

    def __init__(self, field: nn.Module, config: OptimizerConfig):
        self.config = config
        self.moments: dict[str, Moments] = {}
        sparse, skipping = getattr(field, "sparse_parameters", ()), getattr(field, "skipping_parameters", ())
        modulations = {id(module.values) for module in field.modules() if isinstance(module, Modulation)}
        for name, param in field.named_parameters():
            counts = name.startswith(sparse)
            is_table = counts or name.startswith(skipping)
            # zeros_like on the meta device would import symbolic mathematics
            zeros = partial(torch.zeros, param.shape, device=param.device)
            steps = zeros(dtype=torch.int16) if counts else None
            l2_reg = 0.0 if is_table else config.l2_reg
            rate = config.modulation_rate if id(param) in modulations else 1.0
            moments = zeros(dtype=param.dtype), zeros(dtype=param.dtype)
            self.moments[name] = Moments(param, *moments, steps, is_table, l2_reg, rate)
        device = next(field.parameters()).device
        self._count = torch.zeros((), dtype=torch.int64, device=device)

    @property
    def step_count(self) -> int:
        """Steps done; waits for the device of the field."""
        return int(self._count)

    @step_count.setter
    def step_count(self, n: int) -> None:
        self._count.fill_(n)

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """One step with the gradients in `.grad`, which are empty afterwards."""
        self.step_count += 1
        for name, m in self.moments.items():
            if m.param.grad is not None:
                self.apply(name, m.param.grad, learning_rate)
                m.param.grad = None

    @torch.no_grad()
    def step_if(self, condition: Tensor, learning_rate: Tensor) -> None:
        """The same where `condition` (bool `[]`) holds, and else nothing but empty gradients; waits for no device.

        `learning_rate` is float64 `[]`; both lie on the device of the field.
        """
        self._count += condition
        count = (self._count * condition).double()
        for m in self.moments.values():
            if m.param.grad is not None:
                clock = torch.stack([count, learning_rate * m.rate])
                with copied(m.param) as copy:
                    ops.adam_step_by_clock(clock, *_arrays(m, m.param.grad), copy=copy, **self._options(m))
                m.param.grad = None

    def apply(self, name: str, grad: Tensor, learning_rate: float) -> None:
        """Updates one parameter with its gradient, as part of step `step_count`."""
        m = self.moments[name]
        rate = learning_rate * m.rate
        with copied(m.param) as copy:
            ops.adam_step(*_arrays(m, grad), step=self.step_count, learning_rate=rate, copy=copy, **self._options(m))

    def _options(self, m: Moments) -> dict[str, Any]:
        config = self.config
        return {
            "steps": None if m.steps is None else m.steps.view(-1),
            "beta1": config.beta1,
            "beta2": config.beta2,
            "epsilon": config.epsilon,
            "l2_reg": m.l2_reg,
            "skip_zero": m.skip_zero,
        }

    def tensors(self) -> dict[str, Tensor]:
        """The state by name, for checkpoints."""
        state: dict[str, Tensor] = {}
        for name, m in self.moments.items():
            state |= {f"{name}.exp_avg": m.exp_avg, f"{name}.exp_avg_sq": m.exp_avg_sq}
            if m.steps is not None:
                state[f"{name}.steps"] = m.steps
        return state
