# SPDX-License-Identifier: Apache-2.0
"""Random points on a triangle mesh, evenly by area."""

import copy

import torch
from torch import Tensor

from neurfield.sampling.hand_over import hand_over


class SurfaceSampler:
    """Points on triangles, each triangle as often as its area says."""

    def __init__(self, vertices: Tensor, faces: Tensor):
        self._a, b, c = (vertices[faces[:, k]] for k in range(3))
        self._ab, self._ac = b - self._a, c - self._a
        areas = torch.linalg.cross(self._ab, self._ac).double().norm(dim=1)
        self._cumulative = areas.cumsum(0) / areas.sum()

    def to(self, device: torch.device) -> "SurfaceSampler":
        """The sampler there, of the same points."""
        moved = copy.copy(self)
        moved.__dict__.update({name: value.to(device) for name, value in vars(self).items()})
        return moved

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """float32 `[n, 3]`; the generator is the CPU's, whatever the device."""
        device = self._a.device
        pick = hand_over(torch.rand(n, dtype=torch.float64, generator=generator), device)
        triangle = torch.searchsorted(self._cumulative, pick).clamp_(max=len(self._a) - 1)
        u, v = hand_over(torch.rand(2, n, 1, generator=generator), device)
        root = u.sqrt()
        return self._a[triangle] + root * (1 - v) * self._ab[triangle] + root * v * self._ac[triangle]
