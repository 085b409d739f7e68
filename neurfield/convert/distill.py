# SPDX-License-Identifier: Apache-2.0
"""Learning tiny networks from a teacher, all at once (Reiser et al. 2021, section 3.2).

They are to give the teacher's colour and opacity over a fixed step at two sorts of places, in turns: those that
training rays reach, seen as those rays see them, and random ones of their own cells, which also teaches what no ray
reaches.
"""

import torch
from torch import Tensor
from torch.nn import functional

from neurfield.convert.cells import CellPlan
from neurfield.fields.kilonerf import KiloNerf
from neurfield.fields.radiance_module import RadianceModule
from neurfield.rendering.volume import MarchOptions, march_visible, sample_positions
from neurfield.sampling.occupancy_grid import OccupancyGrid
from neurfield.sampling.pixels import PixelSampler
from neurfield.training.density import make_density
from neurfield.training.guard import non_finite
from neurfield.training.method import DistillConfig
from neurfield.training.optimizer import Adam
from neurfield.training.step_random import step_generator
from neurfield.training.task import NoState, StepFn, StepResult

_NEARBY = 8  # one position in so many is moved by up to half of _NEARBY_REACH, mostly into empty space
_NEARBY_REACH = 1 / 32
_DIRECTION_SPREAD = 0.3  # of directions around those from the cameras, per axis
_POOL, _REPEATS = 32, 4  # lessons that are kept, and how often each is used
_LEAK = 0.01  # slope of the student's density below zero, so that no network is stuck there
_COLOR_WEIGHT = 0.1  # of the colour of what is transparent; of opaque positions 1
_REACHED = 0.02  # a ray reaches places up to the one that leaves less of its light
_TRIAL_RAYS = 4096  # that tell how many places a ray reaches


class DistillTask(NoState):
    """A KiloNerf that is to learn a teacher.

    Args:
        student: its cells are those of the plan.
        teacher: density and colour, evaluated without gradient.
        plan: where random places are drawn.
        grid: the student's occupancy, which makes its checkpoints whole.
        pixels, march: the training rays in unit space, and where along them samples lie.
        config, seed: how, and of all random numbers.
    """

    def __init__(
        self,
        student: KiloNerf,
        teacher: RadianceModule,
        plan: CellPlan,
        grid: OccupancyGrid,
        pixels: PixelSampler,
        march: MarchOptions,
        config: DistillConfig,
        seed: int,
    ):
        self.field, self.teacher, self.plan, self.grid, self.pixels, self.march = (
            student, teacher, plan, grid, pixels, march,
        )  # fmt: skip
        self.config, self.seed = config, seed
        self._density, self._eyes = make_density(teacher), pixels.cameras.c2w[:, :3, 3].float().cpu()
        self._first, self._pool = -1, dict[int, tuple[Tensor, Tensor, Tensor, Tensor]]()
        self._parts = torch.cat([plan.low, plan.high - plan.low], dim=1)
        reached = len(self.draw_along_rays(0, _TRIAL_RAYS)[0])
        # of views that see next to nothing a lesson has fewer samples, rather than more rays than fit into memory
        self._n_rays = max(1, min(_TRIAL_RAYS * config.n_samples // max(reached, 1), config.n_samples))
        self._ray_share = config.ray_share if reached else 0.0

    @torch.no_grad()
    def draw_along_rays(self, number: int, n_rays: int) -> tuple[Tensor, Tensor]:
        """Positions and unit directions of the samples that random training rays reach in the teacher."""
        origins, directions, *_ = self.pixels.sample(n_rays, number, self.seed)
        samples = march_visible(
            self.grid, origins, directions, self.march, lambda x, _: self._density(x), _REACHED,
            jitter=(self.seed, number),
        )  # fmt: skip
        return sample_positions(samples, origins, directions)

    def draw_in_cells(self, number: int) -> tuple[Tensor, Tensor]:
        """Random positions and unit directions, in the order of the networks; those of the next number follow on.

        They are drawn on the CPU, so that they are the same on every device, and lie where the student does.
        """
        random = step_generator(self.seed, number)
        m, n = self.config.samples_per_network, self.plan.config.n_networks
        at_once = min(n, max(1, self.config.n_samples // m))
        network = ((number * at_once + torch.arange(at_once)) % n).sort().values
        starts, counts = self.plan.starts[network], self.plan.starts[network + 1] - self.plan.starts[network]
        chosen = starts[:, None] + (torch.rand(at_once, m, generator=random) * counts[:, None]).long()
        parts = self._parts[chosen.view(-1)]
        x = torch.addcmul(parts[:, :3], parts[:, 3:], torch.rand(at_once * m, 3, generator=random))
        nearby = x[::_NEARBY]
        nearby += _NEARBY_REACH * (torch.rand(nearby.shape, generator=random) - 0.5)
        eye = self._eyes[torch.randint(len(self._eyes), (at_once,), generator=random)]
        towards = functional.normalize((x.view(at_once, m, 3) - eye[:, None]).view(-1, 3), dim=1)
        spread = 2 * _DIRECTION_SPREAD * (torch.rand(towards.shape, generator=random) - 0.5)
        directions = functional.normalize(towards.add_(spread), dim=1)
        return x.to(self.field.params.device), directions.to(self.field.params.device)

    @torch.no_grad()
    def lesson(self, number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What a step learns: positions, directions, the teacher's colours and opacities over the reference step.

        The teacher costs more than a student, so its answers are used `_REPEATS` times, in turns with others.
        """
        first = number // (_POOL * _REPEATS) * _POOL
        if self._first != first:
            self._first, self._pool = first, {}
        turn = number % _POOL
        if turn not in self._pool:
            lesson, share = first + turn, self._ray_share
            n_before, n_after = int(lesson * share), int((lesson + 1) * share)  # lessons along rays
            if n_after > n_before:
                x, directions = self.draw_along_rays(lesson, self._n_rays)
            else:
                x, directions = self.draw_in_cells(lesson - n_after)
            sigma, rgb = self.teacher(x, directions)
            self._pool[turn] = (x, directions, rgb, -torch.expm1(-sigma * self.config.reference_step))
        return self._pool[turn]

    def start(self, optimizer: Adam) -> StepFn:
        field, delta = self.field, self.config.reference_step
        scale = field.config.density_scale

        def step(number: int, learning_rate: float, progress: float) -> StepResult:
            x, directions, rgb, alpha = self.lesson(number)
            weight = alpha.clamp_min(_COLOR_WEIGHT)[:, None]
            raw = field.raw(x, directions)
            opacity = -torch.expm1(-functional.leaky_relu(raw[:, 0], _LEAK) * (scale * delta))
            squared = torch.cat([weight * (raw[:, 1:] - rgb).square(), (opacity - alpha)[:, None].square()], dim=1)
            loss = squared.mean()
            loss.backward()
            value = loss.item()
            if value != value or (grad := field.params.grad) is None or non_finite({"params": grad}):
                field.zero_grad(set_to_none=True)
                value = float("nan")
            else:
                optimizer.step(learning_rate)
            return StepResult(value, value, 0, x.shape[0])

        return step

    def tensors(self) -> dict[str, Tensor]:
        return {f"occupancy.{name}": value for name, value in self.grid.state_dict().items()}
