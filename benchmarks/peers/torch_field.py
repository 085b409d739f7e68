# SPDX-License-Identifier: Apache-2.0
"""The benchmark's field in plain torch, the way a careful user would write it for a CPU: one gather per level through
`embedding_bag` (gather and weighted sum in one kernel), MLPs in chunks that stay in the cache, fused Adam.

Same conventions as neurfield (instant-ngp's model: hash grid, 32-64-16, spherical harmonics of degree 4, 32-64-64-3).
"""

import functools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PRIMES = (1, 2654435761, 805459861)


def level_shapes(n_levels: int, log2_size: int, base: int, scale: float) -> list[tuple[float, int, int]]:
    """(scale, resolution, entries) per level."""
    levels = []
    for level in range(n_levels):
        s = 2.0 ** (level * math.log2(scale)) * base - 1
        resolution = math.ceil(round(s, 6)) + 1
        levels.append((s, resolution, min(-(-(resolution**3) // 8) * 8, 1 << log2_size)))
    return levels


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
    """`embedding_bag=False` is the usual eager formulation: eight indexed reads and a weighted sum."""

    def __init__(self, n_levels=16, log2_size=19, base=16, scale=128 ** (1 / 15), embedding_bag=True, chunk=4096):
        super().__init__()
        self.levels = level_shapes(n_levels, log2_size, base, scale)
        self.tables = nn.ParameterList(
            [nn.Parameter(torch.empty(n, 2).uniform_(-1e-4, 1e-4)) for _, _, n in self.levels]
        )
        self.density_net = nn.Sequential(nn.Linear(2 * n_levels, 64, False), nn.ReLU(), nn.Linear(64, 16, False))
        self.color_net = nn.Sequential(
            nn.Linear(32, 64, False), nn.ReLU(), nn.Linear(64, 64, False), nn.ReLU(), nn.Linear(64, 3, False)
        )
        corners = torch.tensor([[k >> i & 1 for i in range(3)] for k in range(8)])
        self.register_buffer("corners", corners)
        self.embedding_bag, self.chunk = embedding_bag, chunk

    def encode(self, x: Tensor) -> Tensor:
        """x [n, 3] in [0, 1] -> [n, 2 * n_levels]."""
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
            if self.embedding_bag:
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
        return self.networks(self.encode(x), directions)


def composite(sigma: Tensor, rgb: Tensor, dt: float, n_rays: int) -> Tensor:
    """Rays with equally many samples: [n_rays * s] -> colours [n_rays, 3]."""
    alpha = 1 - torch.exp(-sigma.view(n_rays, -1) * dt)
    trans = torch.cumprod(torch.cat([torch.ones_like(alpha[:, :1]), 1 - alpha[:, :-1]], dim=1), dim=1)
    return ((trans * alpha)[..., None] * rgb.view(n_rays, -1, 3)).sum(1)


def steps(field: TorchField, x: Tensor, d: Tensor, dt: float, n_rays: int, target: Tensor, compiled: bool, bf16: bool):
    """Two callables, inference and a whole training step, for samples x, d [n, 3] of n_rays rays of equal length.

    Inference runs in chunks that stay in the cache. In training only the MLPs do: a chunk of the encoding would cost a
    dense gradient of all tables.
    """
    optimizer = torch.optim.Adam(field.parameters(), lr=1e-2, betas=(0.9, 0.99), eps=1e-15, fused=True)
    wrap: Callable = functools.partial(torch.compile, dynamic=False) if compiled else lambda fn: fn
    sample, encode, networks = wrap(field.sample), wrap(field.encode), wrap(field.networks)

    def chunked(fn: Callable, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        parts = [fn(*chunk) for chunk in zip(*(tensor.split(field.chunk) for tensor in inputs), strict=True)]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])

    def infer() -> Tensor:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            sigma, rgb = chunked(sample, x, d)
        return composite(sigma, rgb, dt, n_rays)

    def train() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            sigma, rgb = chunked(networks, encode(x), d)
        loss = F.mse_loss(composite(sigma, rgb, dt, n_rays), target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return infer, train
