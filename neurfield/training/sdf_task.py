# SPDX-License-Identifier: Apache-2.0
"""Learning the signed distance to a mesh, sampled as instant-ngp does (Mueller et al. 2022, appendix).

Of each batch 4/8 lie on the surface (triangles by area), 3/8 near it (logistic noise of scale r / 1024, r the radius of
the box) and 1/8 anywhere in the unit cube. Surface points are new in every step, their distance is 0; the others come
from a pool whose distances are computed once.
"""

from typing import Any

import torch
from torch import Tensor

from neurfield.data.signals.mesh import MeshSignal
from neurfield.fields.signal_field import SignalField, SignalFieldConfig
from neurfield.progress import Progress, silent
from neurfield.sampling.evaluate import evaluate
from neurfield.sampling.hand_over import hand_over
from neurfield.sampling.surface import SurfaceSampler
from neurfield.training.optimizer import Adam
from neurfield.training.signal_method import SignalRunConfig
from neurfield.training.signal_step import POOL_STEP, make_step
from neurfield.training.step_random import step_generator
from neurfield.training.task import NoState, StepFn

NEAR_POOL, UNIFORM_POOL = 3 << 18, 1 << 18
NOISE_SCALE = 1 / 1024


def sdf_field(config: SignalFieldConfig, info: Any, seed: int) -> SignalField:
    """The field of a mesh: positions in the unit cube to distances in its units."""
    return SignalField.from_config(config, 3, 1, config.max_resolution, seed)


class SdfTask(NoState):
    """A MeshSignal, to be learned by a SignalField of one channel.

    `progress` is called with the part of the points whose distance is known: of an open mesh they take half a minute.
    """

    def __init__(self, signal: MeshSignal, config: SignalRunConfig, progress: Progress = silent):
        self.signal, self.config = signal, config
        device = torch.device(config.device)
        self.field = sdf_field(config.method.field, signal.info, config.seed).to(device)
        surface, there = SurfaceSampler(signal.vertices, signal.faces), signal.to(device)
        generator = step_generator(config.seed, POOL_STEP)
        radius = float((signal.vertices.amax(0) - signal.vertices.amin(0)).norm()) / 2
        u = torch.rand(NEAR_POOL, 3, generator=generator, dtype=torch.float64).clamp_(1e-9, 1 - 1e-9)
        noise = (u.log() - (-u).log1p()).float() * (radius * NOISE_SCALE)
        near = (surface.sample(NEAR_POOL, generator) + noise).clamp_(0, 1)
        uniform = torch.rand(UNIFORM_POOL, 3, generator=generator)
        points = torch.cat([near, uniform]).to(device)
        distances = evaluate(there.distance, points, progress)[:, None]
        sizes = (NEAR_POOL, UNIFORM_POOL)
        self._pools = list(zip(points.split(sizes), distances.split(sizes), strict=True))
        self._surface = surface.to(device)

    def start(self, optimizer: Adam) -> StepFn:
        return make_step(self.field, optimizer, self.config.method.loss, self._batch, has_psnr=False)

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        n = self.config.method.training.n_samples
        generator = step_generator(self.config.seed, step)
        device = self.field.device
        positions, targets = [self._surface.sample(n // 2, generator)], [torch.zeros(n // 2, 1, device=device)]
        for (x, distance), count in zip(self._pools, (n * 3 // 8, n // 8), strict=True):
            index = hand_over(torch.randint(len(x), (count,), generator=generator), device)
            positions.append(x[index])
            targets.append(distance[index])
        return torch.cat(positions), torch.cat(targets)
