# SPDX-License-Identifier: Apache-2.0
"""The original NeRF (Mildenhall et al. 2020, section 3 and appendix A): one wide network, no tables.

    e_x = [p, sin p, cos p, sin 2p, ... cos 2^9 p]    p = scale * (x - middle of the box), |p| of 1 to 4
    h   = 8 layers of 256, ReLU; the sixth reads [e_x || h]
    sigma = density_scale * softplus(linear(h) - 1)
    rgb = sigmoid(linear(relu(linear_128([linear_256(h) || e_d]))))

The softplus, shifted as in mip-NeRF (Barron et al. 2021), replaces a ReLU that can die before it has learned anything.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from neurfield import ops
from neurfield.config import Range
from neurfield.fields.radiance_module import RadianceModule

_CHUNK = 4096  # positions at a time where no gradient is needed: larger layers of activations leave the caches


@dataclass(frozen=True)
class NerfConfig:
    """Shape of the network.

    `skip` is the number of layers after which the encoded position is read again. `scale` is the extent of the box in
    the coordinates that are encoded, `density_scale` the density, per unit of unit space, of one unit of the output.
    """

    otype: Literal["nerf"] = "nerf"
    width: Annotated[int, Range(16, 1024)] = 256
    n_layers: Annotated[int, Range(1, 16)] = 8
    skip: Annotated[int, Range(0, 16)] = 5
    position_frequencies: Annotated[int, Range(1, 20)] = 10
    direction_frequencies: Annotated[int, Range(1, 20)] = 4
    scale: Annotated[float, Range(0.1, 100)] = 3.0
    density_scale: Annotated[float, Range(1e-3, 1e4)] = 30.0

    def build(self, aabb: Sequence[float], n_views: int = 1) -> "Nerf":
        """The field for the box `aabb`, with random initial parameters (torch's generator)."""
        return Nerf(self, aabb)


class Nerf(RadianceModule):
    """Density and colour by one wide network; see NerfConfig."""

    middle: Tensor

    def __init__(self, config: NerfConfig, aabb: Sequence[float]):
        super().__init__()
        self.config = config
        low, high = torch.tensor(aabb[:3]), torch.tensor(aabb[3:])
        self.register_buffer("middle", (low + high) / 2, persistent=False)
        self.inverse_size = config.scale / (aabb[3] - aabb[0])
        n_position = 3 + 6 * config.position_frequencies
        n_direction = 3 + 6 * config.direction_frequencies
        width = config.width
        reads = [n_position] + [width + n_position * (i == config.skip) for i in range(1, config.n_layers)]
        self.layers = nn.ModuleList(nn.Linear(n, width) for n in reads)
        self.density_layer = nn.Linear(width, 1)
        self.feature_layer = nn.Linear(width, width)
        self.direction_layer = nn.Linear(width + n_direction, width // 2)
        self.color_layer = nn.Linear(width // 2, 3)

    def density(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """sigma `[n]` and the last hidden layer `[n, width]` at positions `[n, 3]` in unit space."""
        return self._chunked(self._density, x)

    def forward(self, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """sigma `[n]` and rgb `[n, 3]` of positions seen along unit `directions` `[n, 3]`."""
        return self._chunked(self._color, x, directions)

    def _chunked(self, evaluate: Callable[..., tuple[Tensor, Tensor]], *inputs: Tensor) -> tuple[Tensor, Tensor]:
        if torch.is_grad_enabled() or inputs[0].shape[0] <= _CHUNK:
            return evaluate(*inputs)
        parts = [evaluate(*chunk) for chunk in zip(*(t.split(_CHUNK) for t in inputs), strict=True)]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])

    def _density(self, x: Tensor) -> tuple[Tensor, Tensor]:
        encoded = encode((x - self.middle) * self.inverse_size, self.config.position_frequencies)
        h = encoded
        for i, layer in enumerate(self.layers):
            if i == self.config.skip and i > 0:
                h = torch.cat([encoded, h], dim=1)
            h = torch.relu(layer(h))
        return self.config.density_scale * functional.softplus(self.density_layer(h)[:, 0] - 1), h

    def _color(self, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        sigma, h = self._density(x)
        encoded = encode(directions, self.config.direction_frequencies)
        h = torch.relu(self.direction_layer(torch.cat([self.feature_layer(h), encoded], dim=1)))
        return sigma, torch.sigmoid(self.color_layer(h))


def encode(v: Tensor, n_frequencies: int) -> Tensor:
    """`v [n, 3]`, then `sin 2^k v, cos 2^k v` axis by axis: `[n, 3 + 6 n_frequencies]`; no pi, unlike ops.frequency."""
    return torch.cat([v, ops.frequency(v / math.pi, n_frequencies)], dim=1)
