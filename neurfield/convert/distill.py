# SPDX-License-Identifier: Apache-2.0
"""Learning tiny networks from a teacher, all at once (Reiser et al. 2021, section 3.2).

Every network gets the same number of random positions of its own cell, most of them in the parts that are not empty,
seen from around the cameras, and is to give the teacher's colour and opacity over a fixed step.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from neurfield.convert.cells import CellPlan
from neurfield.fields.kilonerf import KiloNerf
from neurfield.fields.radiance_module import RadianceModule
from neurfield.training.guard import non_finite
from neurfield.training.method import DistillConfig
from neurfield.training.optimizer import Adam
from neurfield.training.task import StepFn, StepResult

_EMPTY_SHARE = 4  # one position in so many is anywhere in the cell
_DIRECTION_SPREAD = 0.2  # of directions around those to the cameras
_LEAK = 0.01  # slope of the student's density below zero, so that no network is stuck there
_COLOR_WEIGHT = 0.1  # of the colour of what is transparent; of opaque positions 1


class DistillTask:
    """A KiloNerf that is to learn a teacher.

    Args:
        student: its cells are those of the plan.
        teacher: density and colour, evaluated without gradient.
        plan: where samples are drawn.
        eyes: `[n_views, 3]` camera positions in unit space.
        config, seed: how, and of all random numbers.
    """

    def __init__(
        self,
        student: KiloNerf,
        teacher: RadianceModule,
        plan: CellPlan,
        eyes: Tensor,
        config: DistillConfig,
        seed: int,
    ):
        self.field, self.teacher, self.plan, self.eyes = student, teacher, plan, eyes
        self.config, self.seed = config, seed
        used = (plan.cells.view(-1) >= 0).nonzero()[:, 0]
        x, y = plan.config.cells[:2]
        self._cell = torch.stack([used % x, used // x % y, used // (x * y)], dim=1)[plan.cells.view(-1)[used].argsort()]

    def draw(self, number: int) -> tuple[Tensor, Tensor]:
        """Positions and unit directions of a step, in the order of the networks; those of the next step follow on."""
        random = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        per_network, n = self.config.samples_per_network, self.plan.config.n_networks
        at_once = min(n, max(1, self.config.n_samples // per_network))
        network = (number * at_once + torch.arange(at_once)) % n
        network = network.sort().values.repeat_interleave(per_network)
        starts = self.plan.starts
        counts = starts[network + 1] - starts[network]
        part = starts[network] + (torch.rand(len(network), generator=random) * counts).long().minimum(counts - 1)
        u = torch.rand(len(network), 3, generator=random)
        x = self.plan.low[part] + u * (self.plan.high[part] - self.plan.low[part])
        anywhere = torch.arange(len(network)) % _EMPTY_SHARE == 0
        x[anywhere] = self.field.low + (self._cell[network[anywhere]] + u[anywhere]) / self.field.inverse_size
        eye = self.eyes[torch.randint(len(self.eyes), (len(network),), generator=random)]
        towards = functional.normalize(x - eye, dim=1)
        noise = torch.randn(len(network), 3, generator=random)
        return x, functional.normalize(towards + _DIRECTION_SPREAD * noise, dim=1)

    def start(self, optimizer: Adam) -> StepFn:
        field, delta = self.field, self.config.reference_step
        scale = field.config.density_scale

        def step(number: int, learning_rate: float) -> StepResult:
            x, directions = self.draw(number)
            with torch.no_grad():
                sigma, rgb = self.teacher(x, directions)
                alpha = -torch.expm1(-sigma * delta)
                weight = alpha.clamp_min(_COLOR_WEIGHT)[:, None]
            raw = field.raw(x, directions)
            opacity = -torch.expm1(-functional.leaky_relu(raw[:, 0], _LEAK) * (scale * delta))
            squared = torch.cat([weight * (raw[:, 1:] - rgb).square(), (opacity - alpha)[:, None].square()], dim=1)
            loss = squared.mean()
            loss.backward()
            value = loss.item()
            if value != value or non_finite({"params": field.params.grad}):
                field.zero_grad(set_to_none=True)
                value = float("nan")
            else:
                optimizer.step(learning_rate)
            return StepResult(value, value, 0, x.shape[0])

        return step

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def counters(self) -> dict[str, Any]:
        return {}

    def restore(self, counters: dict[str, Any]) -> None:
        pass

    def refresh(self) -> None:
        pass
