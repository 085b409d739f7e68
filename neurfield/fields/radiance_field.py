# SPDX-License-Identifier: Apache-2.0
"""The radiance field of instant-ngp (Mueller et al. 2022, section 5.4): density and view-dependent colour.

    h     = density_network(encoding(x))          [n, n_geo_features]
    sigma = exp(h_0)                               gradient clamped, see ops.trunc_exp
    rgb   = color_network(h || direction_encoding(d))

All features, the log-density among them, feed the colour network. Positions are mapped by the field's whole box to the
unit cube. With `appearance_channels`, the colour network also reads a learned vector of the photo that is looked at
(Martin-Brualla et al. 2021, section 4.1), so that light and exposure may differ between photos; the density cannot.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from neurfield import encodings, networks, ops
from neurfield.config import Block, Range
from neurfield.errors import UserError
from neurfield.fields.appearance import fold, look_of
from neurfield.fields.conditions import Conditions
from neurfield.fields.radiance_module import RadianceModule, RenderFn

_GRID = {"n_levels": 16, "n_features_per_level": 2, "log2_hashmap_size": 19, "base_resolution": 16}
_MLP = {"otype": "FullyFusedMLP", "activation": "ReLU", "n_neurons": 64}


def box_scaling(aabb: Sequence[float]) -> tuple[Tensor, Tensor]:
    """`low` and `inverse_size` of a box, `[3]` each: `(x - low) * inverse_size` is in [0, 1].

    In NumPy, since arithmetic on torch's meta device, which plans of memory build fields on, imports its compiler.
    """
    low, high = np.asarray(aabb, np.float32).reshape(2, 3)
    return torch.tensor(low), torch.tensor(1 / (high - low))


@dataclass(frozen=True)
class FieldConfig:
    """Parts of a radiance field; blocks use the names and defaults of tiny-cuda-nn.

    `max_resolution` is the finest level's resolution per unit of unit space. Together with the side of the box it
    decides `per_level_scale`, unless the encoding block gives that itself. `table_precision` is that of the copy which
    grid encodings are read from, `network_precision` that of the products in their networks where the
    machine has such products; masters and sums are float32. `appearance_channels` is the length of the vector that each
    training photo has for its look; 0: all have the same.
    """

    encoding: Block = field(default_factory=lambda: Block(otype="HashGrid", **_GRID))
    max_resolution: Annotated[int, Range(2)] = 2048
    direction_encoding: Block = field(default_factory=lambda: Block(otype="SphericalHarmonics", degree=4))
    density_network: Block = field(default_factory=lambda: Block(**_MLP, output_activation="None", n_hidden_layers=1))
    color_network: Block = field(default_factory=lambda: Block(_MLP, output_activation="Sigmoid", n_hidden_layers=2))
    n_geo_features: Annotated[int, Range(1, 64)] = 16
    appearance_channels: Annotated[int, Range(0, 64)] = 0
    table_precision: Literal["fp16", "fp32"] = "fp16"
    network_precision: Literal["bf16", "fp32"] = "bf16"
    otype: Literal["grid"] = "grid"

    def build(self, aabb: Sequence[float], n_views: int = 1) -> "RadianceField":
        """See RadianceField.from_config."""
        return RadianceField.from_config(self, aabb, n_views)


class RadianceField(RadianceModule):
    """Density and colour in a box of unit space.

    Args:
        aabb: `(min x, y, z, max x, y, z)` of the box.
        encoding, density_network, direction_encoding, color_network: tiny-cuda-nn style blocks.
        n_geo_features: outputs of the density network.
        table_precision: "fp16" lets grid encodings be read from a rounded copy.
        network_precision: "bf16" lets them round what the networks multiply, see ops.FusedField. On CUDA all networks
            do, to float16.
        appearance_shape: number of training photos and length of the vector of each; None: photos do not differ.

    Raises:
        UserError: a block that its registry does not know; the message names the block's place in its file.
    """

    sparse_parameters: ClassVar[tuple[str, ...]] = ("encoding.",)
    low: Tensor
    inverse_size: Tensor
    encoding: Any  # modules of the registries: callables with n_output_dims
    direction_encoding: Any
    density_network: Any
    color_network: Any

    def __init__(
        self,
        aabb: Sequence[float],
        encoding: dict[str, Any],
        density_network: dict[str, Any],
        direction_encoding: dict[str, Any],
        color_network: dict[str, Any],
        n_geo_features: int = 16,
        table_precision: str = "fp32",
        network_precision: str = "fp32",
        appearance_shape: tuple[int, int] | None = None,
    ):
        super().__init__()
        low, inverse_size = box_scaling(aabb)
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("inverse_size", inverse_size, persistent=False)
        self.encoding = create_part(encodings, encoding, 3)
        self.direction_encoding = create_part(encodings, direction_encoding, 3)
        self.density_network = create_part(networks, density_network, self.encoding.n_output_dims, n_geo_features)
        n_color_inputs = n_geo_features + self.direction_encoding.n_output_dims
        # zero, so that training begins as if all photos were alike
        self.appearance = None if appearance_shape is None else nn.Parameter(torch.zeros(appearance_shape))
        if appearance_shape is not None:
            self.needs, n_color_inputs = ("views",), n_color_inputs + appearance_shape[1]
        self.color_network = create_part(networks, color_network, n_color_inputs, 3)
        self.table_precision, self.network_precision = table_precision, network_precision
        for part in self.encoding.modules():
            if isinstance(part, encodings.Grid):
                part.reads_half = table_precision == "fp16"
        self.density_network.half_products = self.color_network.half_products = network_precision == "bf16"
        check_modulation("density_network", density_network, self.density_network, ("Position",))
        check_modulation("color_network", color_network, self.color_network, ("Position", "Direction"))

    @staticmethod
    def from_config(config: FieldConfig, aabb: Sequence[float], n_views: int = 1) -> "RadianceField":
        """The field that `config` describes, for a box `aabb`, with random initial parameters (torch's generator).

        `n_views`: training photos, whose looks it can have.
        """
        n_channels = config.appearance_channels
        return RadianceField(**parts_of(config, aabb), appearance_shape=(n_views, n_channels) if n_channels else None)

    def at(self, conditions: Conditions) -> RadianceModule:
        """See RadianceModule; a field without appearance where the look can be folded into the colour network."""
        if self.appearance is None:
            return self
        return fold(self, look_of(self.appearance.detach(), conditions)) or super().at(conditions)

    def fused(self) -> ops.FusedField | None:
        """What the fused operators take for this field, or None where they do not support it."""
        half, brief = self.table_precision == "fp16", self.network_precision == "bf16"
        if self.needs or not ops.fused_supported(self) or (self.encoding.params.is_cuda and not (half and brief)):
            return None  # fused on CUDA is never float32
        return ops.FusedField.of(self, half, brief)

    def fused_render(self) -> RenderFn | None:
        """See RadianceModule."""
        fused = self.fused()
        return None if fused is None else partial(ops.fused_render, fused)

    def density(self, x: Tensor, conditions: Conditions | None = None) -> tuple[Tensor, Tensor]:
        """Density and features of positions.

        Args:
            x: float32 `[n, 3]` in unit space; differentiable. Outside of the box the encoding's own rule applies.
            conditions: not read: no photo's look has a part in the density.

        Returns:
            sigma `[n]` per unit of unit space, features `[n, n_geo_features]`.
        """
        features = self.features(x)
        return ops.trunc_exp(features[:, 0]), features

    def features(self, x: Tensor, encode: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Outputs of the density network `[n, n_geo_features]` at positions `[n, 3]` in unit space.

        `encode` replaces the encoding: positions in the unit cube to what the network reads.
        """
        position = (x - self.low) * self.inverse_size
        encoded = (encode or self.encoding)(position)
        return evaluate_part(self.density_network, encoded, Position=position)

    def forward(self, x: Tensor, directions: Tensor, conditions: Conditions | None = None) -> tuple[Tensor, Tensor]:
        """sigma `[n]` and rgb `[n, 3]` of positions seen along unit `directions` `[n, 3]`."""
        sigma, features = self.density(x)
        parts = [features, self.direction_encoding((directions + 1) / 2)]  # tiny-cuda-nn takes 0 ... 1
        if self.appearance is not None:
            parts.append(look_of(self.appearance, conditions or Conditions()).expand(x.shape[0], -1))
        position = (x - self.low) * self.inverse_size
        return sigma, evaluate_part(
            self.color_network, torch.cat(parts, dim=1), Position=position, Direction=directions
        )


def parts_of(config: FieldConfig, aabb: Sequence[float]) -> dict[str, Any]:
    """The arguments of a RadianceField in the box `aabb` but the looks of photos."""
    return {
        "aabb": aabb,
        "encoding": with_per_level_scale(config.encoding, config.max_resolution * (aabb[3] - aabb[0])),
        "density_network": config.density_network,
        "direction_encoding": config.direction_encoding,
        "color_network": config.color_network,
        "n_geo_features": config.n_geo_features,
        "table_precision": config.table_precision,
        "network_precision": config.network_precision,
    }


def evaluate_part(network: Any, features: Tensor, **coordinates: Tensor) -> Tensor:
    """A network with what its modulation, if it has one, reads: one of `coordinates`, by the names of
    ModulationConfig, positions in the unit cube."""
    modulation = getattr(network, "modulation", None)
    return network(features) if modulation is None else network(features, coordinates[modulation.config.coordinates])


def check_modulation(name: str, block: dict[str, Any], network: Any, kinds: Sequence[str]) -> None:
    """UserError for a modulation that a radiance field cannot feed: the density is the same from every direction."""
    modulation = getattr(network, "modulation", None)
    if modulation is None:
        return
    found, n_dims = modulation.config.coordinates, {"Time": 1}.get(modulation.config.coordinates, 3)
    if found not in kinds or modulation.n_coordinates != n_dims:
        raise UserError(
            f"{getattr(block, 'where', name)}: modulation: expected {' or '.join(kinds)} in 3 dimensions, "
            f"got {found} in {modulation.n_coordinates}"
        )


def with_per_level_scale(encoding: dict[str, Any], max_resolution: float) -> dict[str, Any]:
    """The grid block with the `per_level_scale` that reaches `max_resolution` at its last level, if it gives none."""
    n_levels, lowest = encoding.get("n_levels", 16), encoding.get("base_resolution", 16)
    is_grid = "Grid" in str(encoding.get("otype"))
    if not is_grid or "per_level_scale" in encoding or not isinstance(n_levels, int) or n_levels < 2:
        return encoding
    if not isinstance(lowest, int | float) or not lowest > 0:
        return encoding  # the registry refuses it
    block = Block(encoding, per_level_scale=math.exp(math.log(max_resolution / lowest) / (n_levels - 1)))
    block.where = getattr(encoding, "where", Block.where)
    return block


def create_part(registry: Any, block: dict[str, Any], *dims: int) -> Any:
    """What the block describes; UserError, which names its place in its file, also for what works for signals only."""
    where = getattr(block, "where", Block.where)
    try:
        part = registry.create(*dims, block)
    except (UserError, ValueError, TypeError) as error:
        raise UserError(f"{where}: {error}") from None
    if getattr(part, "wants_losses", False):
        raise UserError(
            f"{where}: SAPE opens by the losses of samples, which views do not have; "
            "it is for images, shapes, videos and volumes"
        )
    return part
