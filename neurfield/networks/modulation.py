# SPDX-License-Identifier: Apache-2.0
"""Coordinate-aware modulation (Lee et al. 2024): coarse grids whose values scale and shift hidden features."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from neurfield import ops
from neurfield.config import Range
from neurfield.errors import UserError
from neurfield.ops.modulation import MAX_DIMS
from neurfield.quantization import dequantize, fake_quantize, quantize

MAX_NODES = 2**26


@dataclass(frozen=True)
class ModulationConfig:
    """Keys of the `modulation` of a network block.

    Attributes:
        resolution: nodes per axis, 1 ... 4 axes. Published: 64 in one dimension, 32 x 32 for images, 10 x 3 for view
            directions, 5 for the time of a moving scene.
        wraps: per axis whether it is periodic. Default: no axis, but the azimuth of directions.
        coordinates: "Position", in [0, 1] per axis; "Direction", unit vectors whose azimuth and elevation the two axes
            of the grid are; or "Time" in [0, 1], one axis.
        normalization: of the features before they are modulated: over those of each sample, or none.
        per_layer: whether each hidden layer has a grid of its own, or all share one.
        init_range: the grids start uniform within +-init_range around 1 (scale) and 0 (shift).
    """

    resolution: tuple[int, ...]
    wraps: tuple[bool, ...] | None = None
    coordinates: Literal["Position", "Direction", "Time"] = "Position"
    normalization: Literal["Features", "None"] = "Features"
    per_layer: bool = True
    init_range: Annotated[float, Range(0, 1)] = 0.0


def sphere_coordinates(directions: Tensor) -> Tensor:
    """Azimuth and elevation of directions `[n, 3]` as `[n, 2]` in [0, 1]: 1/2 is +x, the horizon.

    The whole sphere is covered, and the azimuth is periodic (the published grids hold the lower half only and do not
    wrap). At the poles and for zero vectors the azimuth is 1/2.
    """
    x, y, z = directions.unbind(-1)
    azimuth = torch.atan2(y, x) / (2 * math.pi) + 0.5
    elevation = torch.atan2(z, torch.hypot(x, y)) / math.pi + 0.5
    return torch.stack([azimuth, elevation], dim=-1)


class Modulation(nn.Module):
    """Coordinates `[n, n_dims]` to gamma and beta of every layer, `[n, 2 n_layers]`, as ops.fused_mlp takes them.

    Args:
        config: the keys.
        n_layers: hidden layers of the network.
        seed: of the initial values.
        bits: round the grids to so many bits, with gradients as if they were not; None: do not.

    Attributes:
        values: parameter `[n_nodes, 2 n_grids]`, gamma - 1 and beta in turn; zero at first, so that training begins
            with the plain (normalised) network. Its learning rate is usually ten times the network's.

    Raises:
        UserError: axes or sizes out of range.
    """

    def __init__(self, config: ModulationConfig, n_layers: int, seed: int = 1337, bits: int | None = None) -> None:
        super().__init__()
        n_dims, n_nodes = len(config.resolution), math.prod(config.resolution)
        is_direction = config.coordinates == "Direction"
        wraps = (is_direction, *(False,) * (n_dims - 1)) if config.wraps is None else config.wraps
        if not 1 <= n_dims <= MAX_DIMS or min(config.resolution) < 1 or n_nodes > MAX_NODES:
            raise UserError(
                f"network: modulation.resolution: expected 1 ... {MAX_DIMS} positive numbers with a product of at most "
                f"{MAX_NODES}, got {list(config.resolution)}"
            )
        if len(wraps) != n_dims:
            raise UserError(f"network: modulation.wraps: expected {n_dims} of them, got {list(wraps)}")
        if config.coordinates == "Time" and n_dims != 1:
            raise UserError(f"network: modulation.resolution: expected one axis for the time, got {n_dims}")
        if is_direction and n_dims != 2:
            raise UserError(f"network: modulation.resolution: expected azimuth and elevation, got {n_dims} axes")
        if n_layers < 1:
            raise UserError("network: modulation needs at least 1 hidden layer")
        self.config, self.wraps, self.seed, self.bits = config, wraps, seed, bits
        self.n_grids = n_layers if config.per_layer else 1
        self.values = nn.Parameter(torch.empty(n_nodes, 2 * self.n_grids))
        self.reset_parameters()

    @property
    def normalizes(self) -> bool:
        return self.config.normalization == "Features"

    @property
    def n_coordinates(self) -> int:
        """Columns of what forward takes."""
        return 3 if self.config.coordinates == "Direction" else len(self.config.resolution)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws the initial values again, from `seed`."""
        generator = torch.Generator().manual_seed(self.seed)
        spread = self.config.init_range
        self.values.copy_(spread * (2 * torch.rand(self.values.shape, generator=generator) - 1))

    def forward(self, coordinates: Tensor) -> Tensor:
        if self.config.coordinates == "Direction":
            coordinates = sphere_coordinates(coordinates)
        values = self.values if self.bits is None else fake_quantize(self.values, self.bits, per_column=True)
        identity = 1 - torch.arange(values.shape[1], device=values.device) % 2  # 1, 0, 1, 0, ...
        return ops.modulation(coordinates, values + identity, self.config.resolution, self.wraps)

    def packed(self, bits: int) -> dict[str, Tensor]:
        """The grids in few bits, one step per layer's scale or shift; see neurfield.quantization.pack."""
        return dict(zip(self.packed_names(), quantize(self.values, bits, per_column=True), strict=True))

    def packed_names(self) -> tuple[str, ...]:
        return "values.codes", "values.step"

    def load_packed(self, packed: Mapping[str, Tensor]) -> None:
        self.values.copy_(dequantize(*(packed[name] for name in self.packed_names())))

    def extra_repr(self) -> str:
        c = self.config
        return f"{c.coordinates} {' x '.join(map(str, c.resolution))}, {self.n_grids} grids, {c.normalization}"
