# SPDX-License-Identifier: Apache-2.0
"""Random points on a triangle mesh, evenly by area."""

import torch
from torch import Tensor


class SurfaceSampler:
    """Points on triangles, each triangle as often as its area says."""

    def __init__(self, vertices: Tensor, faces: Tensor):
        self._a, b, c = (vertices[faces[:, k]] for k in range(3))
        self._ab, self._ac = b - self._a, c - self._a
        areas = torch.linalg.cross(self._ab, self._ac).double().norm(dim=1)
        self._cumulative = areas.cumsum(0) / areas.sum()

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """float32 `[n, 3]`."""
        pick = torch.rand(n, dtype=torch.float64, generator=generator)
        triangle = torch.searchsorted(self._cumulative, pick).clamp_(max=len(self._a) - 1)
        u, v = torch.rand(2, n, 1, generator=generator)
        root = u.sqrt()
        return self._a[triangle] + root * (1 - v) * self._ab[triangle] + root * v * self._ac[triangle]
