# SPDX-License-Identifier: Apache-2.0
"""Adam over a field's parameters as in instant-ngp: tables skip untouched entries, matrices are regularised."""

from dataclasses import dataclass

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
        steps: int16 updates of each value, for a table, whose untouched entries wait; None for matrices.
        l2_reg: weight of the L2 regularisation.
        rate: times the learning rate of the step.
    """

    param: nn.Parameter
    exp_avg: Tensor
    exp_avg_sq: Tensor
    steps: Tensor | None
    l2_reg: float
    rate: float


class Adam:
    """Holds moments of every parameter of a field.

    Args:
        field: the parameters that its `sparse_parameters` name are tables: entries without gradient keep value, moments
            and step count, and are not regularised.
        config: rates and constants.
    """

    def __init__(self, field: nn.Module, config: OptimizerConfig):
        self.config = config
        self.step_count = 0
        self.moments: dict[str, Moments] = {}
        sparse = getattr(field, "sparse_parameters", ())
        modulations = {id(module.values) for module in field.modules() if isinstance(module, Modulation)}
        for name, param in field.named_parameters():
            is_table = name.startswith(sparse)
            steps = torch.zeros(param.shape, dtype=torch.int16) if is_table else None
            l2_reg = 0.0 if is_table else config.l2_reg
            rate = config.modulation_rate if id(param) in modulations else 1.0
            self.moments[name] = Moments(param, torch.zeros_like(param), torch.zeros_like(param), steps, l2_reg, rate)

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """One step with the gradients in `.grad`, which are empty afterwards."""
        self.step_count += 1
        for name, m in self.moments.items():
            if m.param.grad is not None:
                self.apply(name, m.param.grad, learning_rate)
                m.param.grad = None

    def apply(self, name: str, grad: Tensor, learning_rate: float) -> None:
        """Updates one parameter with its gradient, as part of step `step_count`."""
        m, config = self.moments[name], self.config
        ops.adam_step(
            m.param.detach().view(-1),
            grad.reshape(-1),
            m.exp_avg.view(-1),
            m.exp_avg_sq.view(-1),
            step=self.step_count,
            steps=None if m.steps is None else m.steps.view(-1),
            learning_rate=learning_rate * m.rate,
            beta1=config.beta1,
            beta2=config.beta2,
            epsilon=config.epsilon,
            l2_reg=m.l2_reg,
            skip_zero=m.steps is not None,
        )

    def tensors(self) -> dict[str, Tensor]:
        """The state by name, for checkpoints."""
        state: dict[str, Tensor] = {}
        for name, m in self.moments.items():
            state |= {f"{name}.exp_avg": m.exp_avg, f"{name}.exp_avg_sq": m.exp_avg_sq}
            if m.steps is not None:
                state[f"{name}.steps"] = m.steps
        return state
