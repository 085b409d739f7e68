# SPDX-License-Identifier: Apache-2.0
"""The benchmark's field in plain torch, the way a careful user would write it for a CPU.

Inference gathers and sums through `embedding_bag`, one kernel per level. Its backward pass is slow, so training indexes
the tables: compiled, that is five times as fast. Chunks of samples that stay in the cache help only where memory that
is freed returns to the system at every step.
"""

import functools
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.peers.field import BETAS, EPSILON, LEARNING_RATE, Problem, Steps

PRIMES = (1, 2654435761, 805459861)


def sh4(d: Tensor) -> Tensor:
    """Spherical harmonics of degree 4, d [n, 3] -> [n, 16]."""
    x, y, z = d.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    terms = [
        torch.full_like(x, 0.28209479), -0.48860251 * y, 0.48860251 * z, -0.48860251 * x,
        1.09254843 * x * y, -1.09254843 * y * z, 0.94617470 * zz - 0.31539157, -1.09254843 * x * z,
        0.54627422 * (xx - yy), 0.59004359 * y * (yy - 3 * xx), 2.89061144 * x * y * z, 0.45704580 * y * (1 - 5 * zz),
        0.37317633 * z * (5 * zz - 3), 0.45704580 * x * (1 - 5 * zz), 1.44530572 * z * (xx - yy),
        0.59004359 * x * (3 * yy - xx),
    ]  # fmt: skip
    return torch.stack(terms, dim=-1)


class TorchField(nn.Module):
    """Hash grid, 32-64-16, spherical harmonics of degree 4, 32-64-64-3, with the conventions of neurfield."""

    def __init__(self, problem: Problem):
        super().__init__()
        self.levels = problem.levels
        tables = torch.from_numpy(problem.table).split([n for _, _, n in self.levels])
        self.tables = nn.ParameterList([table.clone() for table in tables])

        def linear(weight: np.ndarray) -> nn.Linear:
            layer = nn.Linear(*weight.shape[::-1], bias=False)
            layer.weight.data = torch.from_numpy(weight).clone()
            return layer

        d0, d1, c0, c1, c2 = (linear(weight) for weight in problem.weights.values())
        self.density_net = nn.Sequential(d0, nn.ReLU(), d1)
        self.color_net = nn.Sequential(c0, nn.ReLU(), c1, nn.ReLU(), c2)
        corners = torch.tensor([[k >> i & 1 for i in range(3)] for k in range(8)])
        self.register_buffer("corners", corners)

    def encode(self, x: Tensor, bag: bool = False) -> Tensor:
        """x [n, 3] in [0, 1] -> [n, 2 * n_levels], through embedding_bag or by indexing."""
        features = []
        for (scale, resolution, n_entries), table in zip(self.levels, self.tables, strict=True):
            position = torch.addcmul(x.new_tensor(0.5), x, x.new_tensor(scale))
            cell = position.floor()
            fraction = (position - cell)[:, None]  # [n, 1, 3]
            vertex = cell.long()[:, None] + self.corners  # [n, 8, 3]
            if resolution**3 <= n_entries:
                index = vertex[..., 0] + resolution * (vertex[..., 1] + resolution * vertex[..., 2])
                index = torch.where(index >= n_entries, index - n_entries, index)
            else:
                index = vertex[..., 0] ^ (vertex[..., 1] * PRIMES[1]) ^ (vertex[..., 2] * PRIMES[2])
                index = index & (n_entries - 1)
            weight = torch.where(self.corners.bool(), fraction, 1 - fraction).prod(-1)  # [n, 8]
            if bag:
                features.append(F.embedding_bag(index, table, per_sample_weights=weight, mode="sum"))
            else:
                features.append((table[index] * weight[..., None]).sum(1))
        return torch.cat(features, dim=-1)

    def networks(self, features: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """features [n, 2 * n_levels], directions [n, 3] -> sigma [n], rgb [n, 3]."""
        latent = self.density_net(features)
        rgb = self.color_net(torch.cat([latent, sh4(directions).to(latent.dtype)], dim=-1))
        return latent[:, 0].float().exp(), rgb.float().sigmoid()

    def sample(self, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        return self.networks(self.encode(x, bag=True), directions)


def composite(sigma: Tensor, rgb: Tensor, dt: float, n_rays: int) -> Tensor:
    """Rays with equally many samples: [n_rays * s] -> colours [n_rays, 3]."""
    alpha = 1 - torch.exp(-sigma.view(n_rays, -1) * dt)
    trans = torch.cumprod(torch.cat([torch.ones_like(alpha[:, :1]), 1 - alpha[:, :-1]], dim=1), dim=1)
    return ((trans * alpha)[..., None] * rgb.view(n_rays, -1, 3)).sum(1)


def steps(problem: Problem, compiled: bool, bf16: bool) -> Steps:
    field = TorchField(problem)
    x, d = torch.from_numpy(problem.positions), torch.from_numpy(problem.sample_directions)
    target, dt, n_rays = torch.from_numpy(problem.target), problem.spacing, problem.n_rays
    optimizer = torch.optim.Adam(field.parameters(), lr=LEARNING_RATE, betas=BETAS, eps=EPSILON, fused=True)
    wrap: Callable = functools.partial(torch.compile, dynamic=False) if compiled else lambda fn: fn
    sample, encode, networks = wrap(field.sample), wrap(field.encode), wrap(field.networks)

    def infer() -> Tensor:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            sigma, rgb = sample(x, d)
        return composite(sigma, rgb, dt, n_rays)

    def train() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            sigma, rgb = networks(encode(x), d)
        loss = F.mse_loss(composite(sigma, rgb, dt, n_rays), target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return Steps(infer, train, lambda: infer().numpy())
