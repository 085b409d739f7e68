# SPDX-License-Identifier: Apache-2.0
"""Learning which points are inside of a mesh, from labelled points as the code of Hertz et al. 2021 (SAPE) draws them.

A third of the points lies close to the surface, a third around it (normal noise) and a third anywhere in the unit cube.
They are drawn and labelled once; batches are random parts of them.
"""

import torch
from torch import Tensor

from neurfield.data.signals.mesh import MeshSignal
from neurfield.progress import Progress, silent
from neurfield.sampling.evaluate import evaluate
from neurfield.sampling.hand_over import hand_over
from neurfield.sampling.surface import SurfaceSampler
from neurfield.training.optimizer import Adam
from neurfield.training.sdf_task import sdf_field
from neurfield.training.signal_method import SignalRunConfig
from neurfield.training.signal_step import POOL_STEP, make_step
from neurfield.training.step_random import step_generator
from neurfield.training.task import NoState, StepFn

N_POINTS = 3 << 18
NOISE = (0.005, 0.05)  # standard deviations in units of the cube; published: 0.01 and 0.1 of a cube of side 2


class OccupancyTask(NoState):
    """A MeshSignal, to be learned by a SignalField of one channel: logits, positive inside.

    Args:
        progress: called with the part of the points that is labelled.
        n_points: how many points are known.
    """

    def __init__(
        self,
        signal: MeshSignal,
        config: SignalRunConfig,
        progress: Progress = silent,
        n_points: int = N_POINTS,
    ):
        self.signal, self.config = signal, config
        device = torch.device(config.device)
        self.field = sdf_field(config.method.field, signal.info, config.seed).to(device)
        generator = step_generator(config.seed, POOL_STEP)
        surface = SurfaceSampler(signal.vertices, signal.faces)
        third = n_points // 3
        near = [surface.sample(third, generator) + s * torch.randn(third, 3, generator=generator) for s in NOISE]
        uniform = torch.rand(n_points - 2 * third, 3, generator=generator)
        self._positions = torch.cat([*near, uniform]).clamp_(0, 1).to(device)
        self._inside = evaluate(signal.to(device).inside, self._positions, progress)[:, None]

    def start(self, optimizer: Adam) -> StepFn:
        return make_step(self.field, optimizer, self.config.method.loss, self._batch, has_psnr=False)

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        n = self.config.method.training.n_samples
        drawn = torch.randint(len(self._positions), (n,), generator=step_generator(self.config.seed, step))
        index = hand_over(drawn, self.field.device)
        return self._positions[index], self._inside[index]
