# SPDX-License-Identifier: Apache-2.0
"""The original NeRF (Mildenhall et al. 2020, section 3 and appendix A): one wide network, no tables.

    e_x = [p, sin p, cos p, sin 2p, ... cos 2^9 p]    p = scale * (x - middle of the box), |p| of 1 to 4
    h   = 8 layers of 256, ReLU; the sixth reads [e_x || h]
    sigma = density_scale * softplus(linear(h) - 1)
    rgb = sigmoid(linear(relu(linear_128([linear_256(h) || e_d]))))

The softplus, shifted as in mip-NeRF (Barron et al. 2021), replaces a ReLU that can die before it has learned anything.
With `coarse` there are two such networks, and training draws its samples from the first (training.hierarchical_step).
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional

from neurfield import ops
from neurfield.config import Range
from neurfield.errors import UserError
from neurfield.fields.conditions import Conditions
from neurfield.fields.radiance_module import RadianceModule
from neurfield.networks import MLP, NetworkConfig

# positions at a time where no gradient is needed: on a CPU larger layers of activations leave the caches
_CPU_CHUNK, _CHUNK = 1 << 14, 1 << 18


@dataclass(frozen=True)
class NerfConfig:
    """Shape of the network.

    `skip` is the number of layers after which the encoded position is read again. `scale` is the extent of the box in
    the coordinates that are encoded, `density_scale` the density, per unit of unit space, of one unit of the output.
    `coarse` adds a second network of the same shape, which learns where the samples of the first are worth most.
    """

    otype: Literal["nerf"] = "nerf"
    width: Annotated[int, Range(16, 512)] = 256
    n_layers: Annotated[int, Range(1, 16)] = 8
    skip: Annotated[int, Range(0, 16)] = 5
    position_frequencies: Annotated[int, Range(1, 20)] = 10
    direction_frequencies: Annotated[int, Range(1, 20)] = 4
    scale: Annotated[float, Range(0.1, 100)] = 3.0
    density_scale: Annotated[float, Range(1e-3, 1e4)] = 30.0
    coarse: bool = False

    def __post_init__(self) -> None:
        if self.width % 16:
            raise UserError(f"field.width must be a multiple of 16, got {self.width}")

    def build(self, aabb: Sequence[float], n_views: int = 1) -> "Nerf":
        """The field for the box `aabb`, with random initial parameters (torch's generator)."""
        return Nerf(self, aabb)


class Nerf(RadianceModule):
    """Density and colour by one wide network; see NerfConfig.

    Attributes:
        start, trunk: the layers in front of the skip (None: there is none) and behind it, with sigma and features.
        color: the layers that read features and direction.
        coarse: the other network, or None.
    """

    middle: Tensor

    def __init__(self, config: NerfConfig, aabb: Sequence[float]):
        super().__init__()
        self.config = config
        self.step_bytes = 12 * config.width * (config.n_layers + 3)  # activations, their gradients, and copies
        low, high = torch.tensor(aabb[:3]), torch.tensor(aabb[3:])
        self.register_buffer("middle", (low + high) / 2, persistent=False)
        self.inverse_size = config.scale / (aabb[3] - aabb[0])
        n_position, width = 3 + 6 * config.position_frequencies, config.width
        n_direction = 3 + 6 * config.direction_frequencies
        n_start = config.skip if config.skip < config.n_layers else 0
        n_read = n_position + (width if n_start else 0)
        self.start = _network(n_position, width, width, n_start - 1, "ReLU") if n_start else None
        self.trunk = _network(n_read, 1 + width, width, config.n_layers - n_start, "None")
        self.color = _network(width + n_direction, 3, math.ceil(width / 32) * 16, 1, "Sigmoid")
        self.coarse = Nerf(dataclasses.replace(config, coarse=False), aabb) if config.coarse else None

    def companion(self) -> "Nerf | None":
        """See RadianceModule."""
        return self.coarse

    def density(self, x: Tensor, conditions: Conditions | None = None) -> tuple[Tensor, Tensor]:
        """sigma `[n]` and the features that feed the colour `[n, width]` at positions `[n, 3]` in unit space."""
        return self._chunked(self._density, x)

    def forward(self, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """sigma `[n]` and rgb `[n, 3]` of positions seen along unit `directions` `[n, 3]`."""
        return self._chunked(self._color, x, directions)

    def _chunked(self, evaluate: Callable[..., tuple[Tensor, Tensor]], *inputs: Tensor) -> tuple[Tensor, Tensor]:
        size = _CPU_CHUNK if inputs[0].device.type == "cpu" else _CHUNK
        if torch.is_grad_enabled() or inputs[0].shape[0] <= size:
            return evaluate(*inputs)
        parts = [evaluate(*chunk) for chunk in zip(*(t.split(size) for t in inputs), strict=True)]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])

    def _density(self, x: Tensor) -> tuple[Tensor, Tensor]:
        encoded = encode((x - self.middle) * self.inverse_size, self.config.position_frequencies)
        h = encoded if self.start is None else torch.cat([encoded, self.start(encoded)], dim=1)
        sigma, features = self.trunk(h).split([1, self.config.width], dim=1)
        return self.config.density_scale * functional.softplus(sigma[:, 0] - 1), features

    def _color(self, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        sigma, features = self._density(x)
        encoded = encode(directions, self.config.direction_frequencies)
        return sigma, self.color(torch.cat([features, encoded], dim=1))


def _network(n_inputs: int, n_outputs: int, width: int, n_hidden: int, output_activation: str) -> MLP:
    """Layers with biases, none hidden in the padding, which is idle; initial values by torch's generator."""
    keys = NetworkConfig("ReLU", output_activation, width, n_hidden, bias=True)
    return MLP(n_inputs, n_outputs, keys, int(torch.randint(1 << 31, (), device="cpu")), input_padding=0.0)


def encode(v: Tensor, n_frequencies: int) -> Tensor:
    """`v [n, 3]`, then `sin 2^k v, cos 2^k v` axis by axis: `[n, 3 + 6 n_frequencies]`; no pi, unlike ops.frequency."""
    return torch.cat([v, ops.frequency(v / math.pi, n_frequencies)], dim=1)
