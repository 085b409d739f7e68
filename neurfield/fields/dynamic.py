# SPDX-License-Identifier: Apache-2.0
"""A radiance field of a scene that moves: what rests is kept apart from what moves.

    h     = density_network(encoding(x) || motion_encoding(x, s t))    [n, n_geo_features], t of 0 ... 1
    sigma = exp(h_0)
    rgb   = color_network(h || direction_encoding(d))

The first grid knows no time, so all photos teach it together what rests. The second is coarse, and coarser still in
time (s < 1), so that photos of neighbouring moments teach each other. Both networks may be modulated by time (Lee et
al. 2024). What the choice of grids rests on is in docs/methods/dynamic.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor

from neurfield import encodings, networks, ops
from neurfield.config import Block, Range
from neurfield.fields.conditions import Conditions
from neurfield.fields.radiance_field import (
    box_scaling,
    check_modulation,
    create_part,
    evaluate_part,
    with_per_level_scale,
)
from neurfield.fields.radiance_module import RadianceModule

_GRID = {"otype": "HashGrid", "n_features_per_level": 2, "base_resolution": 16}
_MLP = {"otype": "MLP", "activation": "ReLU", "n_neurons": 64, "n_hidden_layers": 1}


@dataclass(frozen=True)
class DynamicConfig:
    """Parts of the field; blocks use the names and defaults of tiny-cuda-nn.

    `max_resolution` and `motion_resolution` are the finest levels' resolutions per unit of unit space, as in
    FieldConfig; along the time, the motion grid has `time_scale` times as many nodes.
    """

    otype: Literal["dynamic"] = "dynamic"
    encoding: Block = field(default_factory=lambda: Block(_GRID, n_levels=12, log2_hashmap_size=18))
    max_resolution: Annotated[int, Range(2)] = 1024
    motion_encoding: Block = field(default_factory=lambda: Block(_GRID, n_levels=4, log2_hashmap_size=17))
    motion_resolution: Annotated[int, Range(2)] = 96
    time_scale: Annotated[float, Range(1e-3, 1)] = 0.1
    direction_encoding: Block = field(default_factory=lambda: Block(otype="SphericalHarmonics", degree=4))
    density_network: Block = field(default_factory=lambda: Block(_MLP, output_activation="None"))
    color_network: Block = field(default_factory=lambda: Block(_MLP, output_activation="Sigmoid"))
    n_geo_features: Annotated[int, Range(1, 64)] = 16

    def build(self, aabb: Sequence[float], n_views: int = 1) -> "DynamicField":
        """The field for the box `aabb`, with random initial parameters (torch's generator)."""
        return DynamicField(self, aabb)


class DynamicField(RadianceModule):
    """Density and colour in a box of unit space over time; see DynamicConfig.

    Raises:
        UserError: a block that its registry does not know, or that works for signals only; the message names the
            block's place in its file.
    """

    sparse_parameters: ClassVar[tuple[str, ...]] = ("encoding.", "motion_encoding.")
    needs: tuple[str, ...] = ("times",)
    low: Tensor
    inverse_size: Tensor
    encoding: Any  # modules of the registries: callables with n_output_dims
    motion_encoding: Any
    direction_encoding: Any
    density_network: Any
    color_network: Any

    def __init__(self, config: DynamicConfig, aabb: Sequence[float]):
        super().__init__()
        (low, inverse_size), side = box_scaling(aabb), aabb[3] - aabb[0]
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("inverse_size", inverse_size, persistent=False)
        self.time_scale = config.time_scale / side  # a larger box has more nodes, but the time does not grow
        rest = with_per_level_scale(config.encoding, config.max_resolution * side)
        motion = with_per_level_scale(config.motion_encoding, config.motion_resolution * side)
        self.encoding = create_part(encodings, rest, 3)
        self.motion_encoding = create_part(encodings, motion, 4)
        self.direction_encoding = create_part(encodings, config.direction_encoding, 3)
        n_features = self.encoding.n_output_dims + self.motion_encoding.n_output_dims
        self.density_network = create_part(networks, config.density_network, n_features, config.n_geo_features)
        n_color_inputs = config.n_geo_features + self.direction_encoding.n_output_dims
        self.color_network = create_part(networks, config.color_network, n_color_inputs, 3)
        check_modulation("density_network", config.density_network, self.density_network, ("Position", "Time"))
        check_modulation("color_network", config.color_network, self.color_network, ("Position", "Direction", "Time"))

    def density(self, x: Tensor, conditions: Conditions | None = None) -> tuple[Tensor, Tensor]:
        """Density and features of positions.

        Args:
            x: float32 `[n, 3]` in unit space; differentiable.
            conditions: `times` of all or of each; None: 0.

        Returns:
            sigma `[n]` per unit of unit space, features `[n, n_geo_features]`.
        """
        position, time = (x - self.low) * self.inverse_size, _times(x, conditions)
        moved = torch.cat([position, self.time_scale * time], dim=1)
        encoded = torch.cat([self.encoding(position), self.motion_encoding(moved)], dim=1)
        features = evaluate_part(self.density_network, encoded, Position=position, Time=time)
        return ops.trunc_exp(features[:, 0]), features

    def forward(self, x: Tensor, directions: Tensor, conditions: Conditions | None = None) -> tuple[Tensor, Tensor]:
        """sigma `[n]` and rgb `[n, 3]` of positions seen along unit `directions` `[n, 3]`."""
        sigma, features = self.density(x, conditions)
        encoded = self.direction_encoding((directions + 1) / 2)  # tiny-cuda-nn takes 0 ... 1
        position, time = (x - self.low) * self.inverse_size, _times(x, conditions)
        inputs = torch.cat([features, encoded], dim=1)
        return sigma, evaluate_part(self.color_network, inputs, Position=position, Direction=directions, Time=time)


def _times(x: Tensor, conditions: Conditions | None) -> Tensor:
    """`[n, 1]` for positions `[n, 3]`."""
    if conditions is None or conditions.times is None:
        return x.new_zeros(x.shape[0], 1)
    return conditions.times[:, None].expand(x.shape[0], 1)
