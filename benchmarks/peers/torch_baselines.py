# SPDX-License-Identifier: Apache-2.0
"""Coordinate networks in plain torch, written from the formulas of their papers: what ours are compared with.

SIREN (Sitzmann et al. 2020), Gaussian activations (Ramasinghe and Lucey 2022), WIRE (Saragadam et al. 2023, with
complex numbers), FINER (Liu et al. 2024), and ReLU on octaves of sines and cosines (Mildenhall et al. 2020). Initial
values are the caller's to set.
"""

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

Activation = Callable[[Tensor], Tensor]


class Activated(nn.Module):
    """A layer and an activation of its output."""

    def __init__(self, layer: nn.Linear, activation: Activation) -> None:
        super().__init__()
        self.layer, self.activation = layer, activation

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.layer(x))


class Octaves(nn.Module):
    """`[x, y, ...]`, then per coordinate `sin 2^k pi x, cos 2^k pi x` for k below `n`."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def forward(self, x: Tensor) -> Tensor:
        turned = math.pi * x[:, :, None] * 2.0 ** torch.arange(self.n, device=x.device)
        return torch.cat([x, torch.stack([turned.sin(), turned.cos()], dim=-1).flatten(1)], dim=1)


class RealPart(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.real


def stack(activation: Activation, n_in: int = 2, width: int = 256, n_hidden: int = 4, n_out: int = 3) -> nn.Sequential:
    """Linear layers, and an activation after all but the last."""
    sizes = [n_in, *[width] * n_hidden]
    hidden = [Activated(nn.Linear(a, b), activation) for a, b in itertools.pairwise(sizes)]
    return nn.Sequential(*hidden, nn.Linear(width, n_out))


def siren(omega: float = 30.0) -> nn.Module:
    return stack(lambda z: torch.sin(omega * z))


def finer(omega: float = 30.0) -> nn.Module:
    """The factor |z| + 1 has no gradient, as in the released code."""
    return stack(lambda z: torch.sin(omega * (z.abs() + 1).detach() * z))


def gauss(scale: float = 30.0) -> nn.Module:
    return stack(lambda z: torch.exp(-((scale * z) ** 2)))


def relu_octaves(n: int = 5) -> nn.Module:
    return nn.Sequential(Octaves(n), *stack(torch.relu, 2 + 4 * n))


def wire(omega: float = 30.0, scale: float = 30.0, width: int = 212, n_hidden: int = 2) -> nn.Module:
    """exp(i omega u - |s u|^2): a real first layer, `n_hidden` complex ones, the real part of a complex last one."""

    def wavelet(u: Tensor) -> Tensor:
        return torch.exp(1j * omega * u - (scale * u).abs() ** 2)

    hidden = [Activated(nn.Linear(width, width, dtype=torch.complex64), wavelet) for _ in range(n_hidden)]
    first, last = Activated(nn.Linear(2, width), wavelet), nn.Linear(width, 3, dtype=torch.complex64)
    return nn.Sequential(first, *hidden, last, RealPart())
